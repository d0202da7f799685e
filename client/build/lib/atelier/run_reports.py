"""Events of a run that is reported over REST, sent in batches by a thread."""

from __future__ import annotations

import atexit
import threading
from typing import Any, Callable

_MOST = 1000  # events in one request
_EVERY = 1.0  # seconds


class Reports:
    """``add`` returns at once. ``flush`` sends what waits, and raises what the studio answered to it."""

    def __init__(self, send: Callable[[list[dict[str, Any]]], Any]) -> None:
        self._send = send
        self._waiting: list[dict[str, Any]] = []
        self._lock = threading.Lock()  # of the list
        self._sending = threading.Lock()  # of the order
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        atexit.register(self._last)

    def add(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._waiting.append(event)
            many = len(self._waiting) >= _MOST
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="atelier-reports", daemon=True)
                self._thread.start()
        if many:
            self._wake.set()

    def flush(self) -> None:
        with self._sending:
            while True:
                with self._lock:
                    batch = self._waiting[:_MOST]
                if not batch:
                    return
                self._send(batch)
                with self._lock:
                    del self._waiting[: len(batch)]

    def _work(self) -> None:
        while True:
            self._wake.wait(_EVERY)
            self._wake.clear()
            try:
                self.flush()
            except Exception:  # noqa: BLE001, S112 - the events stay, and flush() in the caller's thread raises it
                continue

    def _last(self) -> None:
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001 - the interpreter ends; nobody could catch it
            print(f"atelier: {len(self._waiting)} events of the run could not be sent: {error}")
