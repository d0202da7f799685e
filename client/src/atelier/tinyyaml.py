"""The YAML of run configurations and conda files: block maps and lists, plain and quoted scalars, flow lists and maps,
literal and folded texts, comments. Anchors, tags, and several documents are refused with the number of the line.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict

from atelier.exceptions import UserErrorException

_INT = re.compile(r"[-+]?[0-9]+$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS.update({word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")})
_KEY = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s#\[\]{},'"&*!|>%@`-][^#]*?|-[^\s#][^#]*?)\s*:(?=\s|$)""")
_PLAIN = re.compile(r"[A-Za-z0-9_./<>=+~^*()@-][A-Za-z0-9_ ./<>=+~^*()@\[\];,-]*$")


class YamlError(UserErrorException):
    """The text is not YAML of this kind; the message has the number of the line."""


def load(text: str) -> Any:
    """The value of a document. Raises YamlError."""
    return _Reader(text).document()


class Block(Dict[str, Any]):
    """A mapping that knows where it stands: ``lines`` has the number of the line of each key, ``quoted`` the keys that
    were written in quotes, ``line`` where it begins."""

    def __init__(self, line: int = 0) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}
        self.quoted: set[str] = set()


def load_marked(text: str) -> Any:
    """As ``load``, with every mapping in block style a ``Block``. A key that is there twice is refused."""
    return _Reader(text, marked=True).document()


class _Line:
    def __init__(self, number: int, raw: str) -> None:
        self.number = number
        self.raw = raw
        self.text = raw.strip()
        self.indent = len(raw) - len(raw.lstrip(" "))


class _Reader:
    def __init__(self, text: str, marked: bool = False) -> None:
        self.marked = marked
        self.lines = [
            _Line(number, raw.rstrip("\r")) for number, raw in enumerate(text.lstrip("\ufeff").split("\n"), 1)
        ]
        self.at = 0

    def document(self) -> Any:
        line = self._peek()
        if line is not None and line.text == "---":
            self.at += 1
            line = self._peek()
        if line is None:
            return None
        value = self._block(line.indent)
        rest = self._peek()
        if rest is not None and rest.text != "...":
            raise self._wrong(rest, "this does not belong to what stands above it (look at its indentation)")
        return value

    def _wrong(self, line: _Line, why: str) -> YamlError:
        return YamlError(f"Line {line.number}: {why}: {line.text[:80]!r}")

    def _peek(self) -> _Line | None:
        """The next line with content."""
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.text and not line.text.startswith("#"):
                if line.raw[: len(line.raw) - len(line.raw.lstrip())].count("\t"):
                    raise self._wrong(line, "tabs cannot indent")
                return line
            self.at += 1
        return None

    def _block(self, indent: int) -> Any:
        line = self._peek()
        assert line is not None  # noqa: S101 - callers have looked
        if line.text == "-" or line.text.startswith("- "):
            return self._sequence(indent)
        if _KEY.match(line.text):
            return self._mapping(indent)
        self.at += 1
        return self._value(line, line.text, indent)

    def _sequence(self, indent: int) -> list[Any]:
        found: list[Any] = []
        while True:
            line = self._peek()
            if line is None or line.indent != indent or not (line.text == "-" or line.text.startswith("- ")):
                return found
            rest = line.text[1:].lstrip()
            if not rest or rest.startswith("#"):
                self.at += 1
                found.append(self._below(indent + 1))
            elif _KEY.match(rest) or rest.startswith("- "):  # "- key: value": a block that begins on this line
                inner = line.indent + len(line.text) - len(rest)
                line.text, line.indent = rest, inner
                line.raw = " " * inner + rest
                found.append(self._block(inner))
            else:
                self.at += 1
                found.append(self._value(line, rest, indent))

    def _mapping(self, indent: int) -> dict[str, Any]:
        first = self._peek()
        found: dict[str, Any] = Block(first.number if first is not None else 0) if self.marked else {}
        while True:
            line = self._peek()
            if line is None or line.indent != indent:
                return found
            match = _KEY.match(line.text)
            if not match:
                return found
            key = str(self._plain_key(line, match.group(1)))
            if isinstance(found, Block):
                if key in found:
                    raise self._wrong(line, f"{key} is there already, on line {found.lines[key]}")
                found.lines[key] = line.number
                if match.group(1)[0] in "\"'":
                    found.quoted.add(key)
            rest = line.text[match.end() :].strip()
            self.at += 1
            if not rest or rest.startswith("#"):
                after = self._peek()
                listed = after is not None and after.indent == indent and (after.text == "-" or after.text[:2] == "- ")
                found[key] = self._sequence(indent) if listed else self._below(indent + 1)
            else:
                found[key] = self._value(line, rest, indent)

    def _plain_key(self, line: _Line, text: str) -> Any:
        return _Flow(text, line.number).value() if text[0] in "\"'" else text

    def _below(self, least: int) -> Any:
        """The block that is indented at least so far, or None."""
        line = self._peek()
        return self._block(line.indent) if line is not None and line.indent >= least else None

    def _value(self, line: _Line, text: str, indent: int) -> Any:
        if text[0] in "|>":
            return self._literal(text, indent)
        if text[0] in "&*!%@`":
            raise self._wrong(line, "anchors, aliases and tags are not read")
        if text[0] in "[{\"'":
            while not _Flow.closed(text):
                if self.at >= len(self.lines):
                    raise self._wrong(line, "what opens here is not closed")
                text += " " + self.lines[self.at].text
                self.at += 1
            return _Flow(text, line.number).whole()
        text = re.split(r"\s#", text, maxsplit=1)[0].rstrip()
        after = self._peek()
        while after is not None and after.indent > indent:  # a plain text goes on, indented further
            text += " " + re.split(r"\s#", after.text, maxsplit=1)[0].rstrip()
            self.at += 1
            after = self._peek()
        return scalar(text)

    def _literal(self, mark: str, indent: int) -> str:
        kept: list[str] = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.text and line.indent <= indent:
                break
            kept.append(line.raw)
            self.at += 1
        while kept and not kept[-1].strip():
            kept.pop()
        inner = min((len(raw) - len(raw.lstrip(" ")) for raw in kept if raw.strip()), default=0)
        joined = (" " if mark[0] == ">" else "\n").join(
            raw[inner:].rstrip() if mark[0] == ">" else raw[inner:] for raw in kept
        )
        return joined if "-" in mark else joined + "\n"


class _Flow:
    """``[a, b]``, ``{a: b}``, ``"text"`` and ``'text'`` on one line."""

    def __init__(self, text: str, number: int) -> None:
        self.text, self.number, self.at = text, number, 0

    @staticmethod
    def closed(text: str) -> bool:
        depth, quote, index = 0, "", 0
        while index < len(text):
            char = text[index]
            if quote:
                if char == "\\" and quote == '"':
                    index += 1
                elif char == quote:
                    quote = ""
            elif char in "\"'":
                quote = char
            else:
                depth += (char in "[{") - (char in "]}")
            index += 1
        return not quote and depth <= 0

    def whole(self) -> Any:
        value = self.value()
        rest = self.text[self.at :].strip()
        if rest and not rest.startswith("#"):
            raise YamlError(f"Line {self.number}: {rest[:40]!r} stands after the value")
        return value

    def _space(self) -> None:
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1

    def value(self) -> Any:
        self._space()
        char = self.text[self.at : self.at + 1]
        if char in ("[", "{"):
            self.at += 1
            return self._list() if char == "[" else self._map()
        if char == '"':
            match = re.compile(r'"(?:[^"\\]|\\.)*"').match(self.text, self.at)
        elif char == "'":
            match = re.compile(r"'(?:[^']|'')*'").match(self.text, self.at)
        else:
            match = re.compile(r"[^,\[\]{}]*?(?=\s*(?:[,\]}]|:\s|$))").match(self.text, self.at)
        if match is None:
            raise YamlError(f"Line {self.number}: a quote is not closed: {self.text[self.at : self.at + 40]!r}")
        self.at = match.end()
        if char == '"':
            try:
                return json.loads(match.group())
            except ValueError as error:
                raise YamlError(f"Line {self.number}: {match.group()[:40]} cannot be read: {error}") from error
        return match.group()[1:-1].replace("''", "'") if char == "'" else scalar(match.group().strip())

    def _ends(self, close: str) -> bool:
        """At an end or a comma; moves past it. True at the end."""
        self._space()
        char = self.text[self.at : self.at + 1]
        if char not in (close, ",") or not char:
            raise YamlError(f"Line {self.number}: a comma or {close} is missing: {self.text[self.at : self.at + 40]!r}")
        self.at += 1
        return char == close

    def _list(self) -> list[Any]:
        found: list[Any] = []
        self._space()
        while self.text[self.at : self.at + 1] != "]":
            found.append(self.value())
            if self._ends("]"):
                return found
            self._space()
        self.at += 1
        return found

    def _map(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._space()
        while self.text[self.at : self.at + 1] != "}":
            key = str(self.value())
            self._space()
            if self.text[self.at : self.at + 1] != ":":
                raise YamlError(f"Line {self.number}: {key!r} has no value")
            self.at += 1
            found[key] = self.value()
            if self._ends("}"):
                return found
            self._space()
        self.at += 1
        return found


def scalar(text: str) -> Any:
    """A plain scalar: null, true, false, a number, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def dump(value: Any) -> str:
    """``value`` (dictionaries with text keys, lists, texts, numbers, booleans, None) as YAML that any reader takes."""
    return "\n".join(_lines(value, 0)) + "\n"


def _lines(value: Any, indent: int) -> list[str]:
    space = " " * indent
    if isinstance(value, dict) and value:
        found = []
        for key, item in value.items():
            nested = isinstance(item, (dict, list)) and item
            step = indent if isinstance(item, list) else indent + 2
            found += (
                [f"{space}{_one(str(key))}:", *_lines(item, step)]
                if nested
                else [f"{space}{_one(str(key))}: {_one(item)}"]
            )
        return found
    if isinstance(value, list) and value:
        found = []
        for item in value:
            if isinstance(item, (dict, list)) and item:
                inner = _lines(item, indent + 2)
                found += [f"{space}- {inner[0].lstrip()}", *inner[1:]]
            else:
                found.append(f"{space}- {_one(item)}")
        return found
    return [space + _one(value)]


def _one(value: Any) -> str:
    if isinstance(value, str):
        plain = _PLAIN.match(value) and not value.startswith(("- ", "@", "*", ">", "~", "=")) and value == value.strip()
        return value if plain and value != "-" and isinstance(scalar(value), str) else json.dumps(value)
    return json.dumps(value)
