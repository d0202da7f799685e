"""One hub per web process: it watches files that grow and shares what it reads among their viewers.

A watch polls its file's size: every 5 ms while bytes come, slower the longer nothing does (at most 200 ms), and
slower again in a burst, so that a frame is worth its cost. It asks no broker: who has the data folder has the log. A
frame that several viewers need is read and framed once; frames are dropped as soon as nothing new has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path

from compute.logs.store import LogFile

FRAME = 64 * 1024
POLL_FAST_S = 0.005
POLL_BURST_S = 0.04
POLL_IDLE_S = 0.2
FRAMES_KEPT = 16
# Bytes this near to the end were just written and lie in memory; what is older is read in a thread.
RECENT = 4 << 20


class Watch:
    """One file that somebody looks at. ``size`` is what viewers may read up to; it only grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.viewers = 0
        self.changed_at = time.monotonic()
        self._descriptor: int | None = None
        self._frames: OrderedDict[int, bytes] = OrderedDict()
        self._waiters: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.look()
        self._task = asyncio.ensure_future(self._poll())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._frames.clear()

    def look(self) -> int:
        """How many bytes have come since the last look."""
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return 0
        grown = os.fstat(self._descriptor).st_size - self.size
        if grown <= 0:
            return 0
        self.size += grown
        self.changed_at = time.monotonic()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        return grown

    async def _poll(self) -> None:
        pause, looked = POLL_FAST_S, time.monotonic()
        while True:
            await asyncio.sleep(pause)
            grown, now = self.look(), time.monotonic()
            if grown > 8192:  # a burst: as long as it takes to fill a frame, within bounds
                pause = min(max((now - looked) * FRAME / grown, POLL_FAST_S), POLL_BURST_S)
            elif grown:
                pause = POLL_FAST_S
            elif now - self.changed_at > 0.25:
                pause = min(pause * 1.2, POLL_IDLE_S)
                self._frames.clear()
            looked = now

    async def wait(self, position: int, timeout: float) -> bool:
        """Whether there is something after ``position``; waits for it for at most ``timeout`` seconds."""
        if self.size > position:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            return self.size > position
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        return self.size > position

    async def frame(self, position: int) -> bytes:
        """The frame at ``position``: 8 bytes of offset, then up to 64 KiB; without content when there is none."""
        found = self._frames.get(position)
        if found is not None:
            return found
        length = min(FRAME, self.size - position)
        if length <= 0 or self._descriptor is None:
            return struct.pack(">Q", position)
        if self.size - position > RECENT:
            piece = await asyncio.to_thread(os.pread, self._descriptor, length, position)
        else:
            piece = os.pread(self._descriptor, length, position)
        framed = struct.pack(">Q", position) + piece
        if self.viewers > 1:
            self._frames[position] = framed
            while len(self._frames) > FRAMES_KEPT:
                self._frames.popitem(last=False)
        return framed


class Hub:
    """The watches of one process, by path. All methods belong to the event loop's thread."""

    def __init__(self) -> None:
        self._watches: dict[Path, Watch] = {}

    @contextlib.asynccontextmanager
    async def watching(self, file: LogFile) -> AsyncIterator[Watch]:
        """The shared watch of a file, for one viewer."""
        watch = self._watches.get(file.path)
        if watch is None:
            watch = self._watches[file.path] = Watch(file.path)
            watch.start()
        watch.viewers += 1
        try:
            yield watch
        finally:
            watch.viewers -= 1
            if not watch.viewers:
                watch.stop()
                self._watches.pop(file.path, None)


hub = Hub()
