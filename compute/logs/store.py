"""The bytes of one log stream: reading by offset, lines, search and the seal.

A log is a file in its unit's directory that only ever grows. Nothing here reads it whole into memory.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from django.utils.translation import gettext as _

from compute.logs import grep
from compute.logs.index import BLOCK, LineIndex
from studio.lib import storage
from studio.lib.errors import Invalid, NotFound

STDOUT = "stdout"
# What users call the stream, Azure ML's older names among them.
ALIASES = ("user_logs/std_log.txt", "azureml-logs/70_driver_log.txt", "logs/azureml/stdoutlogs.txt")
SEARCH_S = 2.0
REGEX_S = 5.0
MAX_QUERY = 1000
_KEY = re.compile(r"^[0-9a-f]{32}$")
_STREAM = re.compile(r"^[a-z0-9_]{1,64}$")


@dataclass(frozen=True)
class SearchPage:
    """``hits``: (line number from 1, byte offset of the line, text around the match), one per line.

    ``next``: where to go on, None at the end. ``scanned``: bytes looked at for this page.
    """

    hits: list[tuple[int, int, str]] = field(default_factory=list)
    next: int | None = None
    scanned: int = 0


class LogFile:
    """One stream of one unit; its file may be absent yet. Raises NotFound for a key or name that no stream can have."""

    def __init__(self, unit_key: str, name: str = STDOUT) -> None:
        if not _KEY.match(unit_key) or not _STREAM.match(name):
            raise NotFound(_("There is no such stream."))
        self.unit_key = unit_key
        self.name = name
        self.path: Path = storage.unit_directory(unit_key) / f"{name}.log"

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def read(self, offset: int, limit: int) -> bytes:
        """At most ``limit`` bytes from ``offset``; empty at or after the end."""
        if offset < 0 or limit <= 0:
            return b""
        try:
            with self.path.open("rb", buffering=0) as handle:
                handle.seek(offset)
                return handle.read(limit)
        except FileNotFoundError:
            return b""

    def chunks(self, start: int = 0, end: int | None = None, size: int = 1 << 20) -> Iterator[bytes]:
        """The bytes [start, end) in pieces; ``end`` None is the size at the first read."""
        stop = self.size() if end is None else end
        if start >= stop:
            return
        with self.path.open("rb", buffering=0) as handle:
            handle.seek(start)
            while start < stop:
                piece = handle.read(min(size, stop - start))
                if not piece:
                    return
                start += len(piece)
                yield piece

    def tail_start(self, limit: int) -> int:
        """Where the last lines begin that fit into ``limit`` bytes: 0, a line's start, or inside one endless line."""
        size = self.size()
        start = max(size - limit, 0)
        if start == 0:
            return 0
        end = self.read(start - 1, limit + 1).find(b"\n")
        return start + end if 0 <= end < size - start else start

    # Lines.

    def _index(self, size: int) -> LineIndex:
        index = LineIndex(self.path)
        index.load(size)
        return index

    def lines(self) -> int:
        """How many lines there are; one without its end yet counts too."""
        size = self.size()
        if not size:
            return 0
        ends = self._ends_before(self._index(size), size)
        return ends + (self.read(size - 1, 1) != b"\n")

    def _ends_before(self, index: LineIndex, offset: int) -> int:
        boundary, ends = index.before(offset)
        return ends + sum(piece.count(b"\n") for piece in self.chunks(boundary, offset))

    def offset_to_line(self, offset: int) -> int:
        """The number, from 1, of the line that the byte at ``offset`` belongs to."""
        size = self.size()
        return self._ends_before(self._index(size), max(min(offset, size), 0)) + 1

    def line_to_offset(self, line: int) -> int:
        """Where a line (from 1) starts; for a line after the last one, where the last one starts."""
        size = self.size()
        line = min(line, self.lines())
        if line <= 1:
            return 0
        boundary, ends = self._index(size).block_of(line - 1)
        wanted = line - 1 - ends
        for piece in self.chunks(boundary, size):
            found = piece.count(b"\n")
            if found < wanted:
                wanted -= found
                boundary += len(piece)
                continue
            at = -1
            for _number in range(wanted):
                at = piece.find(b"\n", at + 1)
            return boundary + at + 1
        return boundary

    def line_start(self, offset: int) -> int:
        """Where the line of the byte at ``offset`` starts. Reads backwards, block by block."""
        end = min(offset, self.size())
        while end > 0:
            start = max(end - BLOCK, 0)
            at = self.read(start, end - start).rfind(b"\n")
            if at >= 0:
                return start + at + 1
            end = start
        return 0

    # Search.

    def search(
        self, text: str, *, regex: bool = False, ignore_case: bool = True, after: int = 0, limit: int = 200
    ) -> SearchPage:
        """Lines with ``text`` from the offset ``after`` on. A page ends after ``limit`` hits or 2 s; go on at ``next``.

        Raises Invalid for an unusable text or pattern, and for a pattern that takes longer than 5 s.
        """
        if not text or len(text) > MAX_QUERY or "\n" in text or "\r" in text:
            raise Invalid(_("Search for 1 to %(most)d characters of one line.") % {"most": MAX_QUERY}, field="q")
        size = self.size()
        start = self.line_start(after) if after > 0 else 0
        if start >= size:
            return SearchPage()
        line = self.offset_to_line(start)
        if regex:
            return self._search_regex(text, ignore_case, start, line, size, limit)
        with self.path.open("rb", buffering=0) as handle:
            hits, following, scanned = grep.scan(
                handle, grep.Plain(text, ignore_case), after=start, line=line, size=size, limit=limit, seconds=SEARCH_S
            )
        return SearchPage(hits, following, scanned)

    def _search_regex(self, text: str, ignore_case: bool, after: int, line: int, size: int, limit: int) -> SearchPage:
        try:
            re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            raise Invalid(_("The pattern cannot be read: %(why)s.") % {"why": error}, field="q") from None
        request = {"path": str(self.path), "text": text, "ignore_case": ignore_case, "after": after, "line": line}
        request |= {"size": size, "limit": limit, "seconds": SEARCH_S}
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(Path(grep.__file__))],
                input=json.dumps(request).encode(),
                capture_output=True,
                timeout=REGEX_S,
                check=True,
            )
        except subprocess.TimeoutExpired:
            why = _("The pattern takes too long. Make it simpler: avoid nested repeats such as (a+)+.")
            raise Invalid(why, field="q") from None
        answer = json.loads(done.stdout)
        return SearchPage([tuple(hit) for hit in answer["hits"]], answer["next"], answer["scanned"])

    # The end.

    def seal(self) -> dict[str, int | str]:
        """Record size, lines and SHA-256 on the stream's row: nothing will be appended any more. Idempotent."""
        from compute.models import LogStream, Unit

        digest = hashlib.sha256()
        size = ends = 0
        last = b""
        for piece in self.chunks():
            digest.update(piece)
            ends += piece.count(b"\n")
            size += len(piece)
            last = piece[-1:]
        facts: dict[str, int | str] = {
            "size": size,
            "lines": ends + (1 if last not in (b"", b"\n") else 0),
            "sha256": digest.hexdigest(),
        }
        unit = Unit.objects.filter(key=self.unit_key).first()
        if unit is not None:
            LogStream.objects.update_or_create(unit=unit, name=self.name, defaults={**facts, "sealed": True})
        return facts
