"""The events file of a run: one JSON object per line, each written by one append.

Imported by every script that logs, so it imports next to nothing.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_INFINITY = float("inf")


def number(value: Any) -> Any:
    """A float or int as it goes into an event: NaN and the infinities become words. Not a number: None."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str) or value is None:
        return None
    try:
        real = float(value)
    except (TypeError, ValueError):
        return None
    if real != real:
        return "NaN"
    if real in (_INFINITY, -_INFINITY):
        return "Infinity" if real > 0 else "-Infinity"
    return real


def clean(value: Any) -> Any:
    """``value`` as plain JSON. Arrays and scalars of numpy and its like are read by their methods, not by their
    type."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy arrays and scalars, pandas columns, tensors
        return clean_plain(value.tolist())
    if hasattr(value, "__iter__"):
        return [clean(item) for item in value]
    found = number(value)
    return str(value) if found is None else found


def clean_plain(value: Any) -> Any:
    """As ``clean``, for what ``tolist()`` gave (nested lists, or one scalar)."""
    if isinstance(value, list):
        return [clean_plain(item) for item in value]
    return clean(value) if not hasattr(value, "tolist") else str(value)


def scalar(value: Any) -> Any:
    """One value out of a number, a numpy scalar or an array with one element."""
    if isinstance(value, (int, float, str)):
        return value
    item = getattr(value, "item", None)
    if item is not None:
        try:
            return item()
        except (TypeError, ValueError, RuntimeError):  # more than one element
            return value
    return value


def encode(event: dict[str, Any]) -> bytes:
    """One line, with its end. Raises ValueError where a NaN was left inside (``clean`` removes them)."""
    return (_encode(event) + "\n").encode("ascii")


class EventFile:
    """Appends to ``path``. Never raises: a run must not fail because a metric could not be noted.

    The descriptor is opened with O_APPEND and kept; each event is one ``write``, so that threads and forked children
    never mix their lines and no lock is needed. A forked child opens its own: in a child that closed its descriptors
    the number may belong to another file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._pid = 0
        self._torn = False
        self._complained = False

    def write(self, line: bytes) -> None:
        try:
            if self._pid != os.getpid():
                self._open()
            if self._torn:
                line = b"\n" + line
            self._torn = os.write(self._fd, line) != len(line)
        except OSError as error:
            self._complain(error)

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._pid = os.getpid()

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            sys.stderr.write(f"atelier: metrics of this run cannot be written to {self.path}: {error}\n")
