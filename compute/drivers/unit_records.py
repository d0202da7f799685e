"""The records that a unit leaves (``exit.json``, ``beat.json``), read as what anybody may have written. Pure.

In a container its own user can write them: too much of it, nested without an end, other kinds of values, texts that no
database takes. What is handed on has known names and kinds alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

LIMIT = 1 << 16  # bytes of a record
LONGEST = 4000  # characters of a message
_LATEST = 253_402_300_000.0  # seconds since 1970 that a date can still be made of
_TIMES = ("started", "ended", "at")
_NUMBERS = ("code", "signal", "attempt", "oom_kills", "pid", "child", "restarts")
_TEXTS = {"reason": 40, "message": LONGEST, "start_time": 40}


def plain_text(value: Any, longest: int = LONGEST) -> str:
    """A text that every database takes, cut where it is too long."""
    text = value if isinstance(value, str) else ""
    return text[:longest].replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _time(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < _LATEST and math.isfinite(value) and value >= 0 else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53 else None


def clean(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a record what has a known name, None where its value is of another kind."""
    found: dict[str, Any] = {name: _time(record[name]) for name in _TIMES if name in record}
    found.update({name: _number(record[name]) for name in _NUMBERS if name in record})
    found.update({name: plain_text(record[name], most) for name, most in _TEXTS.items() if name in record})
    return found


def parsed(content: bytes) -> dict[str, Any] | None:
    """The record in a file's content; None for what is none."""
    try:
        found = json.loads(content) if len(content) <= LIMIT else None
    except (ValueError, RecursionError):
        return None
    return clean(found) if isinstance(found, dict) else None
