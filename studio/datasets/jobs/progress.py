"""How far a transfer is: counted by several threads, said twice a second as events of its unit."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

EVERY_S = 0.5


class Progress:
    """``cached`` are bytes that were here before."""

    def __init__(self, events: Path) -> None:
        self.events = events
        self.lock = threading.Lock()
        self.files_done = self.files_total = 0
        self.done = self.total = self.cached = 0
        self.current = self.note = ""
        self.said = 0.0

    def more(self, files: int, size: int) -> None:
        """So much more is to be done."""
        with self.lock:
            self.files_total += files
            self.total += size
        self.say(now=True)

    def did(self, size: int) -> None:
        """Bytes that came, or that have to come again (less than 0)."""
        with self.lock:
            self.done += size
        self.say()

    def had(self, size: int) -> None:
        with self.lock:
            self.done += size
            self.cached += size
        self.say()

    def file(self, name: str) -> None:
        with self.lock:
            self.files_done += 1
            self.current = name
        self.say()

    def waits(self, note: str) -> None:
        """Why nothing comes just now; "" when it does again."""
        if self.note != note:
            self.note = note
            self.say(now=True)

    def say(self, *, now: bool = False) -> None:
        with self.lock:
            moment = time.monotonic()
            if not now and moment - self.said < EVERY_S:
                return
            self.said = moment
            event = {
                "k": "progress",
                "files": [self.files_done, self.files_total],
                "bytes": [self.done, max(self.total, self.done)],
                "cached": self.cached,
                "current": self.current,
                "note": self.note,
            }
            with self.events.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(event) + "\n")


class Course:
    """One file on its way: each of its bytes is counted once, however often it was asked for.

    ``new``: bytes that never came before; those that are gone on with, or come a second time, are none of them.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.at = self.furthest = self.new = 0

    def resumed(self, offset: int) -> None:
        """What comes next begins at ``offset``."""
        self.progress.did(offset - self.at)
        self.at = offset
        self.furthest = max(self.furthest, offset)

    def did(self, size: int) -> None:
        self.progress.did(size)
        self.at += size
        self.new += max(0, self.at - self.furthest)
        self.furthest = max(self.furthest, self.at)
