"""Names and texts that people type, and how what scripts name is drawn: no character may hide or reorder what is read.

``clean_name`` and ``clean_text`` are for what people type: they raise Invalid for characters that cannot be seen.
``visible`` is for what is there already (a file, a metric): such a character is drawn as ``⟦U+202E⟧``.
"""

from __future__ import annotations

import re
from typing import Any

from django.utils.translation import gettext as _

from studio.lib.errors import Invalid

# U+202A to U+202E and U+2066 to U+2069 turn the direction of what follows: "\u202egnp.exe" is read as "exe.png".
_DIRECTION = "\u202a-\u202e\u2066-\u2069"
_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_IN_TEXT = re.compile(f"[{_CONTROLS}{_DIRECTION}]")
_IN_NAME = re.compile(f"[{_CONTROLS}\\t\\n\\r{_DIRECTION}]")
_DIRECTIONS = re.compile(f"[{_DIRECTION}]")
_HIDDEN = re.compile(f"[{_CONTROLS}\\t\\n\\r{_DIRECTION}\u2028\u2029\ud800-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]")
_BYTE_MARK = re.compile("⟦0x([89A-F][0-9A-F])⟧")


def _refuse(pattern: re.Pattern[str], text: str, field: str) -> None:
    if found := pattern.search(text):
        raise Invalid(
            _("%(field)s holds the control character U+%(code)s, which nobody can see: take it out.")
            % {"field": field, "code": f"{ord(found[0]):04X}"},
            field=field,
        )


def clean_name(raw: str, *, field: str = "name") -> str:
    """One line that a person typed, without space around it; raises Invalid for a control character in it."""
    text = raw.strip(" \t\r\n")
    _refuse(_IN_NAME, text, field)
    return text


def clean_text(raw: str, *, field: str) -> str:
    """Text of several lines as it was typed; raises Invalid for a control character but newline and tab."""
    _refuse(_IN_TEXT, raw, field)
    return raw


def clean_json(value: Any, *, field: str) -> Any:
    """A JSON value as it is; raises Invalid for a NUL in one of its texts, which PostgreSQL does not store."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str) and "\x00" in one:
            _refuse(_IN_TEXT, "\x00", field)
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, (list, tuple)):
            waiting += one
    return value


def _mark(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"⟦0x{code - 0xDC00:02X}⟧" if 0xDC80 <= code <= 0xDCFF else f"⟦U+{code:04X}⟧"


def visible(text: str) -> str:
    """``text`` with a mark for each character that cannot be seen or reorders others, and for bytes that are no
    UTF-8."""
    return _HIDDEN.sub(_mark, text)


def visible_text(text: str) -> str:
    """Text of several lines with a mark for each character that reorders what is read; the rest stays as it is."""
    return _DIRECTIONS.sub(_mark, text)


def from_disk(name: str) -> str:
    """A file's name as it can be said in JSON and in a page: each byte of it that is no UTF-8 as ``⟦0xE9⟧``."""
    return name if name.isascii() else _BYTES.sub(_mark, name)


def to_disk(name: str) -> str:
    """The name on the disk that ``from_disk`` made ``name`` of."""
    return _BYTE_MARK.sub(lambda found: chr(0xDC00 + int(found[1], 16)), name)
