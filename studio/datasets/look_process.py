"""Running ``studio.datasets.jobs.look`` and watching over it: its time, its memory, its end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from studio.datasets import programs
from studio.lib.errors import AtelierError, TooManyRequests

log = logging.getLogger(__name__)

SECONDS = 15.0
MEMORY_BYTES = 300 << 20
AT_ONCE = 4  # looks of this web process; who comes fifth waits
LOOK_S = 0.03
_places = threading.BoundedSemaphore(AT_ONCE)


class Unreadable(AtelierError):
    """Data cannot be looked into. ``kind``: slow, memory, or what the reader said; ``file`` and ``line`` where it is
    known; ``hint``: what to do."""

    status = 422
    code = "unreadable"

    def __init__(
        self,
        detail: str,
        *,
        kind: str = "failed",
        file: str = "",
        line: int | None = None,
        hint: str = "",
        field: str | None = None,
    ) -> None:
        super().__init__(detail, field=field)
        self.kind, self.file, self.line, self.hint = kind, file, line, hint


@dataclass
class _Look:
    """A process that looks, and what it has said."""

    process: subprocess.Popen[bytes]
    seconds: float
    memory: int
    said: bytearray = field(default_factory=bytearray)
    reading: str = ""
    answer: dict[str, Any] | None = None

    def hear(self, data: bytes) -> None:
        self.said += data
        while self.answer is None and (end := self.said.find(b"\n")) >= 0:
            line = json.loads(self.said[:end])
            del self.said[: end + 1]
            if line.get("k") == "at":
                self.reading = str(line["file"])
            else:
                self.answer = line

    def watch(self) -> dict[str, Any]:
        """The answer. Raises Unreadable when there is none in time, or too much memory was taken."""
        assert self.process.stdout is not None  # noqa: S101 - it was opened with a pipe
        end = time.monotonic() + self.seconds
        os.set_blocking(self.process.stdout.fileno(), False)
        with selectors.DefaultSelector() as poll:
            poll.register(self.process.stdout, selectors.EVENT_READ)
            while self.answer is None:
                for _key, _events in poll.select(LOOK_S):
                    data = os.read(self.process.stdout.fileno(), 1 << 18)
                    if not data:
                        raise self.ended()
                    self.hear(data)
                if self.answer is None and time.monotonic() > end:
                    raise self.slow()
                if used_memory(self.process.pid) > self.memory:
                    raise self.greedy()
        return self.answer

    def slow(self) -> Unreadable:
        what = self.reading or _("the data")
        text = _("Reading %(file)s took longer than %(seconds)d s.") % {"file": what, "seconds": self.seconds}
        hint = _("Choose fewer or smaller files, or look at it again later: the place it lies in may be busy.")
        return Unreadable(text, kind="slow", file=self.reading, hint=hint)

    def greedy(self) -> Unreadable:
        what = self.reading or _("The data")
        limit = self.memory >> 20
        text = _("Looking into %(file)s took more than %(limit)d MB of memory.") % {"file": what, "limit": limit}
        hint = _("Is a line, or a row group, far larger than usual? Check the separator, the quotes and the kind.")
        return Unreadable(text, kind="memory", file=self.reading, hint=hint)

    def ended(self) -> Unreadable:
        code = self.process.wait(5)
        log.warning("a look at %r ended without an answer: %s", self.reading, code)
        what = self.reading or _("The data")
        text = _("%(file)s could not be read: the reader gave up (%(code)s).") % {"file": what, "code": code}
        hint = _("The file may be damaged, or be of another kind than was chosen.")
        return Unreadable(text, kind="failed", file=self.reading, hint=hint)


def used_memory(pid: int) -> int:
    """Bytes of memory that are a process's own; 0 where /proc is absent."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        resident, shared = Path(f"/proc/{pid}/statm").read_bytes().split()[1:3]
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    return 0


def run_look(job: dict[str, Any]) -> dict[str, Any]:
    """What the program answers: {"k": "result", ...} or {"k": "same"}. It has SECONDS and MEMORY_BYTES.

    Raises Unreadable for everything that is wrong with the data, TooManyRequests when others look for too long.
    """
    if not _places.acquire(timeout=SECONDS):
        raise TooManyRequests(_("Others are looking into large data right now. Try again in a moment."))
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "studio.datasets.jobs.look"],
            env=programs.process_environment(),
            cwd=settings.BASE_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            answer = _asked(process, {**job, "seconds": SECONDS})
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
    finally:
        _places.release()
    if answer["k"] == "error":
        log.info("a look failed: %s", answer.get("where"))
        raise Unreadable(
            answer["message"],
            kind=answer["kind"],
            file=answer["file"],
            line=answer["line"],
            hint=answer["hint"],
            field=answer["field"] or None,
        )
    return answer


def _asked(process: subprocess.Popen[bytes], job: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None  # noqa: S101 - it was opened with a pipe
    with contextlib.suppress(BrokenPipeError):  # it ended at once: ``watch`` says so
        process.stdin.write(json.dumps(job, default=str).encode())
        process.stdin.close()
    return _Look(process, SECONDS, MEMORY_BYTES).watch()
