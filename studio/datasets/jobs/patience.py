"""How long a moving of data waits for a store that is away, or that crawls; and how its end is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from studio.datasets.jobs import setting_up
from studio.datasets.jobs.progress import Course, Progress

T = TypeVar("T")

PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
PATIENCE_S = 900.0  # how long a store may be away, or crawl
LEAST = 100.0  # new bytes of a file in a second, below which its store crawls: as with a stall
TRIES = 4  # for files whose bytes come wrong


class Failed(Exception):
    """It cannot be done: a sentence for a person, with the code and the file."""

    def __init__(self, message: str, *, code: str = "failed", file: str = "", later: bool = False) -> None:
        super().__init__(message)
        self.code, self.file, self.later = code, file, later


class Patience:
    """Tries again, with pauses, what may work later; as long as enough new bytes come."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.stop = threading.Event()

    def call(self, what: str, do: Callable[[], T], course: Course | None = None) -> T:
        """``do()``; errors that may pass are waited out, others are raised as Failed with ``what`` before them.

        ``course``: of the file that ``do`` moves. Its store has PATIENCE_S for each ``LEAST * PATIENCE_S`` new bytes,
        and its pauses grow while it gives no more than a minute's share of them at a time.
        """
        course = course or Course(self.progress)
        tries, wrong, since, then = 0, 0, time.monotonic(), 0
        while True:
            before = course.new
            try:
                result = do()
            except Exception as error:  # noqa: BLE001 - told to a person, by its kind
                if self.stop.is_set():
                    raise Failed("", code="stopped") from error
                if course.new - before >= LEAST * 60:
                    tries = 0
                if course.new - then >= LEAST * PATIENCE_S:
                    since, then = time.monotonic(), course.new
                told = setting_up.explain(error, what)
                wrong += told["kind"] in ("incomplete", "changed")
                again = bool(getattr(error, "retry", False)) and wrong < TRIES
                if not again or time.monotonic() - since > PATIENCE_S:
                    raise Failed(sentence(told), code=told["kind"], file=told["file"] or what, later=again) from error
                self._pause(what, told, PAUSES_S[min(tries, len(PAUSES_S) - 1)])
                tries += 1
            else:
                self.progress.waits("")
                return result

    def _pause(self, what: str, told: dict[str, Any], seconds: float) -> None:
        self.progress.waits(told["message"])
        say(f"{what}: {told['message']} Trying again in {seconds:g} s.")
        self.stop.wait(seconds)


def say(text: str) -> None:
    print(text, flush=True)


def sentence(told: dict[str, Any]) -> str:
    return f"{told['message']} {told.get('hint') or ''}".strip()
