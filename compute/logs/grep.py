"""Searching a log line by line. Standard library only: regular expressions run as a program of their own.

Python's ``re`` cannot be interrupted, so a pattern that explodes would stop a whole web process; here it only ends
this one. ``python -I -S grep.py`` reads one JSON request on its input and answers one JSON object.
"""

from __future__ import annotations

import json
import re
import sys
import time

TYPE_CHECKING = False  # as typing has it, whose import would cost this program more than its start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

CHUNK = 1 << 20
# A line longer than this is searched in pieces that overlap by OVERLAP, so that no match at a border is missed.
LONGEST = 4 << 20
OVERLAP = 64 << 10
TEXT = 400
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]")


def shown(text: str, start: int, end: int) -> str:
    """The part of a line around a match, as a terminal would have left it: without escapes, after the last redraw."""
    left = max(text.rfind("\r", 0, start) + 1, start - TEXT // 2, 0)
    right = text.find("\r", end)
    right = min(right if right >= 0 else len(text), left + TEXT)
    return _ESCAPES.sub("", text[left:right])


class Plain:
    """Finds a text; ASCII case is folded by bytes, which is some ten times faster than decoding first."""

    def __init__(self, text: str, ignore_case: bool) -> None:
        self.fold = ignore_case
        self.wide = ignore_case and not text.isascii()
        self.needle = text.lower() if ignore_case else text
        self.raw = self.needle.encode("utf-8", "surrogatepass")

    def lines(self, block: bytes) -> Iterator[tuple[int, str]]:
        """(start of the line in the block, its text around the match) of every line with a match, in order."""
        if self.wide:
            yield from _by_line(block, self._find_wide)
            return
        hay = block.lower() if self.fold else block
        at = hay.find(self.raw)
        while at >= 0:
            start = block.rfind(b"\n", 0, at) + 1
            end = block.find(b"\n", at)
            end = len(block) if end < 0 else end
            before = block[max(start, at - 4 * TEXT) : at].decode("utf-8", "replace")
            text = before + block[at : min(end, at + len(self.raw) + 4 * TEXT)].decode("utf-8", "replace")
            yield start, shown(text, len(before), len(before) + len(self.needle))
            at = hay.find(self.raw, end) if end < len(block) else -1

    def _find_wide(self, text: str) -> tuple[int, int] | None:
        at = text.lower().find(self.needle)
        return (at, at + len(self.needle)) if at >= 0 else None


class Pattern:
    """Finds a regular expression inside single lines. Raises re.error."""

    def __init__(self, text: str, ignore_case: bool) -> None:
        self.compiled = re.compile(text, re.IGNORECASE if ignore_case else 0)

    def lines(self, block: bytes) -> Iterator[tuple[int, str]]:
        yield from _by_line(block, self._find)

    def _find(self, text: str) -> tuple[int, int] | None:
        match = self.compiled.search(text)
        return match.span() if match else None


def _by_line(block: bytes, find: Callable[[str], tuple[int, int] | None]) -> Iterator[tuple[int, str]]:
    start = 0
    for raw in block.split(b"\n"):
        text = raw.decode("utf-8", "replace").rstrip("\r")
        span = find(text) if text or start < len(block) else None
        if span:
            yield start, shown(text, *span)
        start += len(raw) + 1


def scan(
    handle: IO[bytes], matcher: Plain | Pattern, *, after: int, line: int, size: int, limit: int, seconds: float
) -> tuple[list[tuple[int, int, str]], int | None, int]:
    """(hits, next offset or None, scanned bytes). ``after`` is where a line starts and ``line`` its number.

    A hit is (line number, offset of the line, text). Stops after ``limit`` hits or ``seconds``; ``next`` is then
    where to go on. Holds one line or 1 MiB at a time, whichever is more, and never more than LONGEST.
    """
    hits: list[tuple[int, int, str]] = []
    end = time.monotonic() + seconds
    position = line_start = after
    rest = b""
    handle.seek(after)
    while position < size:
        block = rest + handle.read(min(CHUNK, size - position))
        if len(block) == len(rest):
            break
        position += len(block) - len(rest)
        base = position - len(block)
        cut = block.rfind(b"\n") + 1
        whole = position >= size
        if whole:
            cut = len(block)
        elif not cut and len(block) < LONGEST:
            rest = block
            continue
        searched = block[:cut] if cut else block
        counted = 0
        for start, text in matcher.lines(searched):
            line += block.count(b"\n", counted, start)
            counted = start
            here = line_start if start == 0 else base + start
            if hits and hits[-1][1] == here:
                continue  # the same endless line, in its next piece
            if len(hits) >= limit:
                return hits, here, here - after
            hits.append((line, here, text))
        line += block.count(b"\n", counted, len(searched))
        if cut:
            line_start, rest = base + cut, block[cut:]
        else:
            rest = block[-OVERLAP:]
        # Inside one endless line there is no start to go on from, so time is only looked at where a line starts.
        if cut and not whole and time.monotonic() > end:
            return hits, line_start, line_start - after
    return hits, None, position - after


def main() -> int:
    request = json.load(sys.stdin)
    matcher = Pattern(request["text"], request["ignore_case"])
    with open(request["path"], "rb", buffering=0) as handle:  # noqa: PTH123 - starts faster without pathlib
        hits, following, scanned = scan(
            handle,
            matcher,
            after=request["after"],
            line=request["line"],
            size=request["size"],
            limit=request["limit"],
            seconds=request["seconds"],
        )
    json.dump({"hits": hits, "next": following, "scanned": scanned}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
