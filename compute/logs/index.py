"""The sparse index of a log: how many line ends lie before every 64 KiB boundary.

Kept beside the log as ``<name>.idx``: 8 bytes per boundary. The log is append-only, so what was counted once stays
true; several processes may extend the index at once, since all write the same numbers at the same places.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from array import array
from bisect import bisect_left
from pathlib import Path

from studio.lib import beneath

BLOCK = 64 * 1024
_MAGIC = b"ATLRLI1\n"
_RECORD = 8
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LineIndex:
    """``counts[k]`` is the number of line ends in the first ``k`` blocks; ``counts[0]`` is 0."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.path = log.with_name(log.name + ".idx")
        self.counts = array("Q", [0])

    def load(self, size: int) -> None:
        """Read what is on disk and count the rest of ``size`` bytes. 2 GB take about a second, once."""
        blocks = size // BLOCK
        with contextlib.suppress(OSError):
            raw = beneath.read_small(self.path, len(_MAGIC) + (blocks + 1) * _RECORD)
            if raw.startswith(_MAGIC):
                usable = min((len(raw) - len(_MAGIC)) // _RECORD, blocks)
                stored = array("Q")
                stored.frombytes(raw[len(_MAGIC) : len(_MAGIC) + usable * _RECORD])
                if sys.byteorder == "big":
                    stored.byteswap()
                # A hole left by a writer that died reads as zeros: what comes after it is not to be trusted.
                sound = next((n for n in range(1, usable) if stored[n] < stored[n - 1]), usable)
                self.counts = array("Q", [0]) + stored[:sound]
        if len(self.counts) - 1 < blocks:
            self._extend(blocks)

    def _extend(self, blocks: int) -> None:
        first = len(self.counts)
        with self.log.open("rb", buffering=0) as handle:
            handle.seek((first - 1) * BLOCK)
            total = self.counts[-1]
            for _block in range(first, blocks + 1):
                piece = handle.read(BLOCK)
                if len(piece) < BLOCK:
                    break
                total += piece.count(b"\n")
                self.counts.append(total)
        fresh = self.counts[first:]
        if sys.byteorder == "big":
            fresh.byteswap()
        # Without the right to write beside the log it is counted again the next time.
        with contextlib.suppress(OSError):
            # What runs there may have put a link or a pipe in its place.
            descriptor = os.open(self.path, _WRITE, 0o600)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return
                os.pwrite(descriptor, fresh.tobytes(), len(_MAGIC) + (first - 1) * _RECORD)
                os.pwrite(descriptor, _MAGIC, 0)
            finally:
                os.close(descriptor)

    def before(self, offset: int) -> tuple[int, int]:
        """(boundary, line ends before it) of the last indexed boundary at or before ``offset``."""
        block = min(offset // BLOCK, len(self.counts) - 1)
        return block * BLOCK, self.counts[block]

    def block_of(self, ends: int) -> tuple[int, int]:
        """(boundary, line ends before it) of the last boundary with fewer than ``ends`` line ends before it."""
        block = max(bisect_left(self.counts, ends) - 1, 0)
        return block * BLOCK, self.counts[block]
