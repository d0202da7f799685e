"""What the program that builds images says: lines of its log, without secrets."""

from __future__ import annotations

import threading
import time

_SHORT = 6  # what is shorter cannot be told from other text
_hidden: set[str] = set()
_last = time.monotonic()


def hide(*secrets: str) -> None:
    _hidden.update(secret for secret in secrets if len(secret) >= _SHORT)


def scrub(text: str) -> str:
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def say(text: str = "") -> None:
    global _last
    _last = time.monotonic()
    print(scrub(text), flush=True)


def human(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


class Patience:
    """Says where a build is when the engine has said nothing for a while."""

    def __init__(self, every_s: float = 60.0) -> None:
        self.every_s, self.where = every_s, ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Patience:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()

    def _watch(self) -> None:
        since, seen = time.monotonic(), _last
        while not self._stop.wait(min(5.0, self.every_s)):
            if _last != seen:
                since, seen = _last, _last
            elif time.monotonic() - since >= self.every_s and self.where:
                waited = time.monotonic() - seen
                print(scrub(f"  ... {waited:.0f} s without a word at {self.where}"), flush=True)
                since = time.monotonic()
