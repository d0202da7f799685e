"""The reference reading of delimited text and JSON lines: exact line numbers, every problem named, bounded memory.

Fast engines read clean files themselves, in a mode in which they stop at anything irregular; then this module writes
the file anew, regular, and counts what it had to do. So every engine gives the same rows for the same file.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from .definition import unique_names
from .errors import DataError, Problems

NULL = "\x1aN"  # a missing value in a file written anew; an empty text stays an empty text
MARK = "\U0010fffe"  # no character: stands for bytes that the encoding cannot hold until the line is known
FIELD = 2 << 20  # a quoted field longer than this was never closed
SHOWN = 80

csv.field_size_limit(max(csv.field_size_limit(), FIELD))
codecs.register_error("atelier.mark", lambda error: (MARK, error.end))  # type: ignore[attr-defined]


class _Lines:
    """Text lines that remember those of the record under way, and take lines back."""

    def __init__(self, text: Iterator[str]) -> None:
        self._text = text
        self._back: list[str] = []
        self.number = 0  # lines given out
        self.held: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._back.pop() if self._back else next(self._text)
        self.number += 1
        self.held.append(line)
        return line.replace("\0", "") if "\0" in line else line

    def back_to_first(self) -> str:
        """The first line of the record; those after it will come again."""
        first, rest = self.held[0], self.held[1:]
        self._back.extend(reversed(rest))
        self.number -= len(rest)
        self.held = [first]
        return first


class Delimited:
    """One delimited file. ``names``: its columns, unique; ``header_line``: the last line of its header (0: none);
    ``newline``: how its first line ends. With ``names`` given the stream begins with a record, after ``passed`` lines
    of the file."""

    def __init__(
        self,
        stream: BinaryIO,
        shown: str,
        options: dict[str, Any],
        problems: Problems,
        names: list[str] | None = None,
        passed: int = 0,
    ) -> None:
        self.shown, self.options, self.problems = shown, options, problems
        encoding = options["encoding"]
        if names is not None and encoding in ("utf8", "utf-8-sig"):
            encoding = "utf-8"  # a file has its mark at its beginning only
        self._lines = _Lines(_text(stream, encoding, shown))
        self._lines.number = passed
        self._first: list[str] | None = None
        self._first_line = 0
        self.header_line = 0
        self.newline = "\n"
        for _ in range(options["skip_rows"] if names is None else 0):
            next(self._lines, None)
        self._reader = self._new_reader()
        self.names = self._header() if names is None else names

    def _new_reader(self) -> Any:
        quote = self.options["quote"]
        return csv.reader(
            self._lines,
            delimiter=self.options["separator"],
            quotechar=quote or None,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            doublequote=True,
            strict=True,
        )

    def _header(self) -> list[str]:
        row = self._next()
        if self._lines.held:
            line = self._lines.held[0]
            self.newline = "\r\n" if line.endswith("\r\n") else "\r" if line.endswith("\r") else "\n"
        if row is None:
            return []
        if not self.options["header"]:
            self._first, self._first_line = row, self._lines.number
            return [f"Column{at + 1}" for at in range(len(row))]
        self.header_line = self._lines.number
        names, doubled = unique_names([name.replace(MARK, "\ufffd") for name in row])
        for name in doubled:
            text = f"The column name {name!r} comes more than once; the later ones have a number."
            self.problems.add("duplicate", text, file=self.shown, line=self.header_line, column=name)
        return names

    def _next(self) -> list[str] | None:
        """The next record that is not an empty line; None at the end."""
        while True:
            self._lines.held = []
            try:
                row = next(self._reader)
            except StopIteration:
                return None
            except csv.Error:
                row = self._mend()
            if len(row) > 1 or (row and row[0]):
                return row  # type: ignore[no-any-return]

    def _mend(self) -> list[str]:
        """Quotes that do not close, or close too early: the record is its first line, read as it stands."""
        line = self._lines.back_to_first()
        shown = line.rstrip("\r\n")
        text = f"Quotes do not match: {shown[:SHOWN]!r}; the field ends with its line."
        self.problems.add("quote", text, file=self.shown, line=self._lines.number)
        quote = self.options["quote"]
        plain = csv.reader(
            [shown.replace("\0", "")], delimiter=self.options["separator"], quotechar=quote or None, strict=False
        )
        self._reader = self._new_reader()
        try:
            return next(plain, [])
        except csv.Error:  # a line without an end: hardly a table
            raise DataError(
                f"{self.shown}, line {self._lines.number}: a value is longer than {FIELD >> 20} MiB. "
                "Is it a text file? If not, leave it out.",
                "format",
                self.shown,
                self._lines.number,
            ) from None

    def rows(self) -> Iterator[tuple[int, list[str | None]]]:
        """``(line, values)``: the line a record ends on, and as many values as there are names; None is missing."""
        wanted, single = len(self.names), len(self.names) == 1
        blank_is_none = not self.options["empty_as_string"]
        while True:
            if self._first is not None:
                row, line, self._first = self._first, self._first_line, None
            else:
                found = self._next()
                if found is None:
                    return
                row, line = found, self._lines.number - len(self._lines.held) + 1
            if any(MARK in held for held in self._lines.held) and not self._bytes(row, line):
                continue
            values: list[str | None] = list(row)
            if len(row) != wanted and not self._ragged(values, wanted, line):
                continue
            if blank_is_none:
                values = [value or None for value in values]
            if not single or values[0]:
                yield line, values

    def _bytes(self, row: list[str], line: int) -> bool:
        choice = self.options["on_bytes"]
        count = sum(value.count(MARK) for value in row)
        text = f"Bytes that are not {self.options['encoding']}" + (
            "; the row is left out." if choice == "skip" else "; shown as \ufffd."
        )
        if choice == "fail":
            raise DataError(
                f"{self.shown}, line {line}: bytes that are not {self.options['encoding']}. Set the file's encoding, "
                "or let such bytes be replaced or their rows left out.",
                "bytes",
                self.shown,
                line,
            )
        self.problems.add("bytes", text, file=self.shown, line=line, count=max(count, 1))
        for at, value in enumerate(row):
            row[at] = value.replace(MARK, "\ufffd")
        return bool(choice == "replace")

    def _ragged(self, values: list[str | None], wanted: int, line: int) -> bool:
        """Brings a row to its length; False: it is left out."""
        count = len(values)
        if count > wanted and not any(values[wanted:]):
            del values[wanted:]  # separators at the end of the line
            return True
        if count == 1 and wanted > 1 and not (values[0] or "").strip():
            return False  # a line of spaces
        choice = self.options["on_ragged"]
        there = "is 1 column" if wanted == 1 else f"are {wanted} columns"
        what = f"{count} {'field' if count == 1 else 'fields'} where there {there}"
        if choice == "fail":
            raise DataError(
                f"{self.shown}, line {line}: {what}. Let such rows be filled up or left out, or check the separator.",
                "ragged",
                self.shown,
                line,
            )
        done = "the row is left out" if choice == "skip" else "the rest is missing" if count < wanted else "cut off"
        self.problems.add("ragged", f"A row has {what}; {done}.", file=self.shown, line=line)
        values[wanted:] = []
        values.extend([None] * (wanted - len(values)))
        return bool(choice == "fill")


class JsonLines:
    """One file of JSON objects, one per line. ``names`` grow while reading: those of all objects seen."""

    def __init__(self, stream: BinaryIO, shown: str, options: dict[str, Any], problems: Problems) -> None:
        self.shown, self.options, self.problems = shown, options, problems
        self._text = _text(stream, options["encoding"], shown)
        self.names: list[str] = []

    def rows(self) -> Iterator[tuple[int, dict[str, str | None]]]:
        """``(line, {name: text})``; nested values as JSON text."""
        for line, text in enumerate(self._text, 1):
            if not text.strip():
                continue
            if MARK in text:
                choice = self.options["on_bytes"]
                what = f"bytes that are not {self.options['encoding']}"
                if choice == "fail":
                    raise DataError(f"{self.shown}, line {line}: {what}.", "bytes", self.shown, line)
                self.problems.add("bytes", what.capitalize() + ".", file=self.shown, line=line, count=text.count(MARK))
                if choice == "skip":
                    continue
                text = text.replace(MARK, "\ufffd")
            found = self._object(text, line)
            if found is not None:
                yield line, found

    def _object(self, text: str, line: int) -> dict[str, str | None] | None:
        try:
            value = json.loads(text)
            wrong = "" if isinstance(value, dict) else f"is no JSON object: {text.strip()[:SHOWN]!r}"
        except (ValueError, RecursionError):
            wrong = f"is no JSON: {text.strip()[:SHOWN]!r}"
        if not wrong:
            return {name: json_text(one) for name, one in value.items()}
        if self.options["on_ragged"] == "fail":
            raise DataError(f"{self.shown}, line {line} {wrong}.", "ragged", self.shown, line)
        self.problems.add("ragged", f"A line {wrong}; it is left out.", file=self.shown, line=line)
        return None


def json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def unpacked(stream: BinaryIO, name: str) -> BinaryIO:
    """The stream itself, or what is in it where the name says that it is compressed."""
    return gzip.open(stream) if name.lower().endswith(".gz") else stream  # type: ignore[return-value]


def _text(stream: BinaryIO, encoding: str, shown: str) -> Iterator[str]:
    """Lines with their ends; what cannot be decoded is marked."""
    wrapper = io.TextIOWrapper(
        stream, encoding="utf-8-sig" if encoding == "utf8" else encoding, errors="atelier.mark", newline=""
    )
    try:
        yield from wrapper
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{shown} is not a whole gzip file: {error}.", "incomplete", shown) from error
    except UnicodeError as error:
        raise DataError(f"{shown} is not {encoding}: {error}. Set the file's encoding.", "bytes", shown) from error


def valid_text(stream: BinaryIO) -> bool:
    """Whether all of it is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while True:
            piece = stream.read(1 << 20)
            decoder.decode(piece, final=not piece)
            if not piece:
                return True
    except UnicodeDecodeError:
        return False
