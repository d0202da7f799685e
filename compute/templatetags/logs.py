"""What the log view needs to be drawn: the end of the log as text, and where that end begins."""

from __future__ import annotations

import re
from typing import Any

from django import template

from compute import states
from compute.logs.store import LogFile
from compute.models import Unit

register = template.Library()

TAIL = 64 * 1024
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_REDRAWN = re.compile(r"[^\n]*\r(?=[^\n\r])")


def plain(raw: bytes) -> str:
    """Output as a terminal without colours would have left it."""
    text = _ESCAPES.sub("", raw.decode("utf-8", "replace")).replace("\r\n", "\n")
    return _REDRAWN.sub("", text)


@register.simple_tag
def log_tail(unit: Unit) -> dict[str, Any]:
    """``text`` of the last 64 KiB, ``offset`` and ``line`` where it begins, its ``size``, whether it is ``live``."""
    file = LogFile(unit.key)
    size = file.size()
    offset = file.tail_start(TAIL)
    return {
        "text": plain(file.read(offset, size - offset)),
        "offset": offset,
        "line": file.offset_to_line(offset) if offset else 1,
        "size": size,
        "live": unit.state in states.LIVE,
    }
