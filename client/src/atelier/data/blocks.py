"""A delimited file as blocks of whole records, each looked over with numpy: whether a fast parser may have it.

A block is regular where every record has as many fields as there are columns and every quote opens or closes a field;
pandas and the reference reader then see the same fields. Anything else is for the reference reader: that block alone
where its end is surely the end of a record, else the rest of the file.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO

from .delimited import FIELD, MARK

FIRST, LARGEST = 1 << 18, 1 << 21  # bytes; the first block is small, as few rows may be wanted
LONGEST = 1 << 25  # bytes without the end of a record: a quote was never closed
PIECE = 1 << 17  # bytes
NEWLINE, RETURN = 10, 13
_UTF8 = ("utf8", "utf-8-sig", "ascii", "us-ascii")
# Every byte below 128 is the ASCII character, and none is part of another character.
_SINGLE = ("latin-1", "latin1", "iso-8859-1", "iso-8859-15", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1257")


@dataclass
class Block:
    """``raw``: the bytes as they lie; ``passed``: lines of the file before them; ``ends``: (rows, columns) places in
    ``raw`` where each field ends, None: irregular; ``rest``: with everything after it for the reference reader;
    ``lines`` in it, as the reference reader counts them."""

    raw: bytes
    passed: int
    text: bytes = b""  # UTF-8, each record ended
    ends: Any = None
    rest: bool = False
    lines: int = 0

    def fields(self, place: int) -> tuple[Any, Any]:
        """``(begins, ends)`` of a column's fields."""
        import numpy as np

        ends = self.ends[:, place]
        if place:
            return self.ends[:, place - 1] + 1, ends
        begins = np.empty_like(ends)
        begins[:1] = 0
        begins[1:] = self.ends[:-1, -1] + 1
        return begins, ends

    def line(self, row: int) -> int:
        """The line that a row begins on."""
        begin = int(self.ends[row - 1, -1]) + 1 if row else 0
        return self.passed + 1 + self.raw.count(b"\n", 0, begin)


def readable(options: dict[str, Any]) -> bool:
    """Whether files of these options can be cut into blocks at all."""
    marks = options["separator"] + options["quote"]
    return options["encoding"].lower() in _UTF8 + _SINGLE and marks.isascii() and not set(marks) & set("\r\n\0")


def line_ends(data: bytes) -> int:
    """Lines as the reference reader counts them: "\\r" alone ends one."""
    found = data.count(b"\n")
    return found + data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else found


def begin(stream: BinaryIO, lines: int, encoding: str) -> tuple[bytes, bool]:
    """Passes the header: ``(what was read after it, whether the lines were plain ones)``."""
    data = stream.read(FIRST)
    if encoding in ("utf8", "utf-8-sig") and data.startswith(codecs.BOM_UTF8):
        data = data[3:]
    at = 0
    for _ in range(lines):
        found = data.find(b"\n", at)
        if found < 0:
            whole = len(data) < FIRST and not stream.read(1)
            return b"", whole and b"\r" not in data
        at = found + 1
    head = data[:at]
    return data[at:], head.count(b"\r") == head.count(b"\r\n")


def blocks(stream: BinaryIO, held: bytes, passed: int, columns: int, options: dict[str, Any]) -> Iterator[Block]:
    """The blocks of a stream that follow ``held``; after one with ``rest`` the stream is the consumer's."""
    size = FIRST
    while True:
        piece = stream.read(size)
        data = held + piece
        if not data:
            return
        block, held = _cut(data, not piece, passed, columns, options)
        if block is not None:
            passed += block.lines
            yield block
            if block.rest or not piece:
                if held:
                    yield Block(held, passed, rest=True)
                return
        size = min(size * 4, LARGEST)


def ahead(found: Iterator[Block]) -> Iterator[Block]:
    """The blocks, each made ready in a thread while its consumer has the one before."""
    with ThreadPoolExecutor(1, "atelier-blocks") as pool:
        waiting = pool.submit(next, found, None)
        while True:
            block = waiting.result()
            if block is None:
                return
            if not block.rest:
                waiting = pool.submit(next, found, None)
            yield block
            if block.rest:
                return


def _cut(data: bytes, last: bool, passed: int, columns: int, options: dict[str, Any]) -> tuple[Block | None, bytes]:
    """``(the whole records, what is left)``; None where more must be read."""
    import numpy as np

    ended = data if not last or data.endswith(b"\n") else data + b"\n"
    units = np.frombuffer(ended, np.uint8)
    marks = _marks(units, ord(options["separator"]))
    quote = options["quote"].encode()
    quotes = np.flatnonzero(units == quote[0]) if quote and quote in ended else None
    if quotes is not None:
        marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    lines = np.flatnonzero(units[marks] == NEWLINE)
    if not len(lines):
        return (Block(data, passed, rest=True), b"") if last or len(data) > LONGEST else (None, data)
    marks = marks[: lines[-1] + 1]
    end = int(marks[-1]) + 1
    block = Block(data[:end], passed)
    text = ended[:end]
    if quotes is not None and not _matching(units, quotes[quotes < end], options):
        return Block(data, passed, rest=True), b""
    plain = b"\r" not in text or text.count(b"\r") == text.count(b"\r\n")
    if plain and _regular(units, marks, columns) and b"\0" not in text:
        longest = int(np.diff(marks).max()) if len(marks) > 1 else 0
        if max(longest, int(marks[0])) > FIELD:
            return Block(data, passed, rest=True), b""
        block.text, good = _as_utf8(text, options["encoding"].lower())
        block.ends = marks.reshape(-1, columns) if good else None
    if columns == 1 and block.ends is not None and not _filled(units, block, quotes is not None):
        block.ends = None
    block.lines = line_ends(block.raw) if quotes is not None or block.ends is None else len(block.ends)
    return block, data[end:]


def _marks(units: Any, separator: int) -> Any:
    """The places of separators and ends of lines; in pieces that stay in the processor's cache, in half the time."""
    import numpy as np

    found = [np.empty(0, np.int64)]
    for at in range(0, len(units), PIECE):
        piece = units[at : at + PIECE]
        those = piece == separator
        those |= piece == NEWLINE
        places = np.flatnonzero(those)
        places += at
        found.append(places)
    return np.concatenate(found)


def _matching(units: Any, quotes: Any, options: dict[str, Any]) -> bool:
    """Whether every quote opens a field, closes one, or stands doubled within one."""
    import numpy as np

    quote, separator = ord(options["quote"]), ord(options["separator"])
    opening, closing = quotes[0::2], quotes[1::2]
    before = units[np.maximum(opening - 1, 0)]
    opens = (opening == 0) | (before == separator) | (before == NEWLINE) | (before == quote)
    after = units[closing + 1]  # an ended record follows
    closes = (after == separator) | (after == NEWLINE) | (after == RETURN) | (after == quote)
    return bool(opens.all() and closes.all())


def _regular(units: Any, marks: Any, columns: int) -> bool:
    if len(marks) % columns:
        return False
    ends = (units[marks] == NEWLINE).reshape(-1, columns)
    return bool(ends[:, -1].all() and not ends[:, :-1].any())


def _filled(units: Any, block: Block, quoted: bool) -> bool:
    """Of a single column, empty lines are left out: the reference reader does that."""
    begins, ends = block.fields(0)
    lengths = ends - begins - (units[ends - 1] == RETURN)
    return not ((lengths <= 0) | ((lengths == 2) & quoted)).any()


def _as_utf8(text: bytes, encoding: str) -> tuple[bytes, bool]:
    """``(UTF-8, whether all bytes are of the encoding)``."""
    if text.isascii():
        return text, True
    if encoding in ("ascii", "us-ascii"):
        return b"", False
    try:
        read = text.decode("utf-8" if encoding in _UTF8 else encoding)
    except UnicodeDecodeError:
        return b"", False
    if MARK in read:
        return b"", False
    return (text, True) if encoding in _UTF8 else (read.encode(), True)


class Rest(io.RawIOBase):
    """Bytes that were read already, then the stream that they are from."""

    def __init__(self, held: bytes, stream: BinaryIO) -> None:
        self._held, self._stream = memoryview(held), stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._held[: len(buffer)] or self._stream.read(len(buffer))
        self._held = self._held[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)
