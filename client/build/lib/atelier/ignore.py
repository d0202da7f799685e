"""Which files of a source folder are sent: the rules of ``.amlignore``, else of ``.gitignore``, as git reads them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Iterator

NAMES = (".amlignore", ".gitignore")


class Rule:
    """One line of an ignore file that lies in ``base`` ("" or "folder/")."""

    def __init__(self, line: str, base: str) -> None:
        self.negated = line.startswith("!")
        pattern = line[1:] if self.negated else line
        self.folders_only = pattern.endswith("/")
        pattern = pattern.rstrip("/") if self.folders_only else pattern
        self._anchored = "/" in pattern
        self._base = base
        self._expression = re.compile(translate(pattern.lstrip("/") if pattern.startswith("/") else pattern), re.DOTALL)

    def matches(self, path: str, is_folder: bool) -> bool:
        """``path`` is relative to the root, with slashes."""
        if (self.folders_only and not is_folder) or not path.startswith(self._base):
            return False
        inner = path[len(self._base) :]
        return bool(self._expression.match(inner if self._anchored else inner.rpartition("/")[2]))


def parse(text: str, base: str = "") -> list[Rule]:
    """The rules of an ignore file, first to last."""
    rules = []
    for line in text.split("\n"):
        line = _trim(line.rstrip("\r"))
        if line and not line.startswith("#") and line.strip("!/"):
            try:
                rules.append(Rule(line, base))
            except re.error:  # a range such as [z-a] matches nothing
                continue
    return rules


def _trim(line: str) -> str:
    """Without trailing spaces, but for the one that a backslash keeps."""
    while line.endswith(" ") and not re.search(r"(?<!\\)(\\\\)*\\ $", line):
        line = line[:-1]
    return line


def translate(pattern: str) -> str:
    """A regular expression for a pattern: ``*`` and ``?`` stay in one folder, ``**`` crosses them."""
    out, at, end = "", 0, len(pattern)
    while at < end:
        char = pattern[at]
        if pattern.startswith("**/", at) and (at == 0 or pattern[at - 1] == "/"):
            out, at = out + "(?:[^/]+/)*", at + 3
        elif pattern.startswith("**", at) and at + 2 == end and at and pattern[at - 1] == "/":
            out, at = out + ".+", at + 2
        elif char == "*":
            while at < end and pattern[at] == "*":
                at += 1
            out += "[^/]*"
        elif char == "?":
            out, at = out + "[^/]", at + 1
        elif char == "[":
            found = _range(pattern, at)
            if found is None:
                return "(?!)"  # git matches nothing with a bracket that is never closed
            out, at = out + found[0], found[1]
        elif char == "\\":
            if at + 1 == end:
                return "(?!)"
            out, at = out + re.escape(pattern[at + 1]), at + 2
        else:
            out, at = out + re.escape(char), at + 1
    return out + r"\Z"


_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "space": r"\s",
    "xdigit": "0-9a-fA-F",
}


def _range(pattern: str, at: int) -> tuple[str, int] | None:
    """(expression, index after it) of the bracket at ``at``; None where it is not closed."""
    at += 1
    negated = at < len(pattern) and pattern[at] in "!^"
    at += negated
    inside, first = "", True
    while at < len(pattern) and (pattern[at] != "]" or first):
        first = False
        named = re.compile(r"\[:(\w+):\]").match(pattern, at)
        if named:
            if named.group(1) not in _CLASSES:
                return None
            inside, at = inside + _CLASSES[named.group(1)], named.end()
            continue
        if pattern[at] == "\\" and at + 1 < len(pattern):
            at += 1
            inside += re.escape(pattern[at])
        elif pattern[at] == "-" and inside:
            inside += "-" if at + 1 < len(pattern) and pattern[at + 1] != "]" else r"\-"
        else:
            inside += re.escape(pattern[at])
        at += 1
    if at >= len(pattern):
        return None
    return f"(?!/)[{'^' if negated else ''}{inside}]", at + 1


class Rules:
    """The ignore files of a tree. An ``.amlignore`` at the root stands alone; without it each ``.gitignore`` counts for
    its folder and below, the deeper one and the later line winning."""

    def __init__(self, root: Path) -> None:
        self._rules: list[Rule] = []
        self._root = root
        own = root / NAMES[0]
        self.source = NAMES[0] if own.is_file() else NAMES[1]
        if self.source == NAMES[0]:
            self._rules = parse(_read(own))

    def enter(self, folder: str) -> int:
        """Take in the ignore file of ``folder`` ("" or "a/b/"); gives what ``leave`` takes."""
        before = len(self._rules)
        if self.source != NAMES[0]:
            file = self._root / folder / NAMES[1]
            if file.is_file():
                self._rules += parse(_read(file), folder)
        return before

    def leave(self, before: int) -> None:
        del self._rules[before:]

    def ignores(self, path: str, is_folder: bool) -> bool:
        for rule in reversed(self._rules):
            if rule.matches(path, is_folder):
                return not rule.negated
        return False


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8-sig", errors="surrogateescape")


def walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(path with slashes, entry) of every file to send, in order of the path. ``.git`` is never sent; a folder that is
    ignored is not entered, as git does; links to folders are not followed."""
    rules = Rules(root)

    def folder(prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        before = rules.enter(prefix)
        with os.scandir(root / prefix) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            path = prefix + entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name == ".git" or rules.ignores(path, is_folder):
                continue
            if is_folder:
                yield from folder(path + "/")
            elif entry.is_file():
                yield path, entry
        rules.leave(before)

    return folder("")
