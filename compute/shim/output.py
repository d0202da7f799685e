"""What the command writes, on its way into ``stdout.log``.

Part of the shim: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from typing import Iterable, List, Optional

SECRET_MIN = 6


class Scrubber:
    """Takes secret values out of a stream of bytes, across the borders of chunks.

    Bytes are held back only while they could be the beginning of a secret.
    """

    def __init__(self, values: Iterable[str]) -> None:
        raw = {value.encode("utf-8") for value in values if len(value) >= SECRET_MIN}
        self.values = sorted(raw, key=len, reverse=True)
        self.pattern = re.compile(b"|".join(re.escape(value) for value in self.values)) if raw else None
        self.held = b""

    def _open_end(self, data: bytes, start: int) -> int:
        """Where the longest suffix of ``data`` from ``start`` begins that could grow into a secret, else len(data)."""
        best = len(data)
        for value in self.values:
            at = data.find(value[:1], max(start, len(data) - len(value) + 1))
            while at != -1 and at < best:
                if value.startswith(data[at:]):
                    best = at
                    break
                at = data.find(value[:1], at + 1)
        return best

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that may be written now."""
        if self.pattern is None:
            return chunk
        data = self.held + chunk
        done = 0
        out: List[bytes] = []
        end = self._open_end(data, 0)
        for match in self.pattern.finditer(data):
            if match.start() >= end:
                break
            out += [data[done : match.start()], b"***"]
            done = match.end()
            if done > end:
                end = self._open_end(data, done)
        out.append(data[done:end])
        self.held = data[end:]
        return b"".join(out)

    def finish(self) -> bytes:
        """What was held back, scrubbed."""
        data, self.held = self.held, b""
        return self.pattern.sub(b"***", data) if self.pattern is not None else data


class Log:
    """The append-only ``stdout.log``. Keeps what a full disk refused and says since when."""

    def __init__(self, path: str, scrubber: Scrubber) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.scrubber = scrubber
        self.pending = b""
        self.full_since: Optional[float] = None

    def write(self, data: bytes) -> None:
        self.pending += data
        while self.pending:
            try:
                written = os.write(self.descriptor, self.pending)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self.full_since = self.full_since or time.monotonic()
                return
            self.pending = self.pending[written:]
            self.full_since = None

    def feed(self, chunk: bytes) -> None:
        self.write(self.scrubber.feed(chunk))

    def close(self) -> None:
        self.write(self.scrubber.finish())
        with contextlib.suppress(OSError):
            os.fsync(self.descriptor)
        os.close(self.descriptor)
