"""What a text in a file means as a value of a type: the one rule that every engine keeps.

integer: a number without a fraction that fits 64 bits ("12", " +12 ", "1.0", "1e3"); float: what Python reads as a
number, ASCII only, "nan" is missing; boolean: true/t/yes/y/1 and false/f/no/n/0 in any case; datetime: ISO dates and
moments with "-" or "/", an offset is turned to UTC, or the column's own strptime formats. Anything else does not fit.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable
from typing import Any

TRUE = ("true", "t", "yes", "y", "1")
FALSE = ("false", "f", "no", "n", "0")
SPACES = " \t\n\r\v\f"
MISSING_WORDS = frozenset(("na", "n/a", "nan", "null", "none", "?", "-", "#n/a"))
INTEGER = r"[+-]?[0-9]+(_[0-9]+)*"
NUMBER = r"[+-]?([0-9]+(_[0-9]+)*\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
SPECIAL = r"[+-]?(?i:inf|infinity|nan)"
MOMENT = (
    r"([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})"
    r"([ T]([01]?[0-9]|2[0-3]):([0-5][0-9])(:([0-5][0-9])(\.[0-9]{1,9})?)? ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2})?)?"
)
EXACT = 1 << 53  # up to here a float holds every integer
FORMATS = (  # tried in this order where a column is not ISO
    "%m/%d/%Y",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p",
    "%d/%m/%Y",
    "%d/%m/%Y %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M:%S",
)
_integer = re.compile(INTEGER)
_number = re.compile(NUMBER)
_special = re.compile(SPECIAL)
_moment = re.compile(MOMENT)


def to_integer(text: str) -> int | None:
    text = text.strip(SPACES)
    if _integer.fullmatch(text):
        value = int(text)
        return value if -(1 << 63) <= value < 1 << 63 else None
    if _number.fullmatch(text):
        number = float(text)
        if abs(number) < EXACT and number == int(number):
            return int(number)
    return None


def to_float(text: str) -> float | None:
    text = text.strip(SPACES)
    return float(text) if _number.fullmatch(text) or _special.fullmatch(text) else None


def to_boolean(text: str) -> bool | None:
    text = text.strip(SPACES).lower()
    return True if text in TRUE else False if text in FALSE else None


def to_moment(text: str) -> datetime.datetime | None:
    """Without offset, microseconds."""
    found = _moment.fullmatch(text.strip(SPACES))
    if not found:
        return None
    year, month, day, clock, hour, minute, _, second, part, offset = found.groups()
    try:
        micro = int((part or ".0")[1:7].ljust(6, "0"))
        moment = datetime.datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micro
        )
        if clock and offset and offset[0] in "+-":
            away = datetime.timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:]))
            moment = moment - away if offset[0] == "+" else moment + away
        return moment
    except (ValueError, OverflowError):
        return None


def moment_reader(formats: Iterable[str] | None) -> Callable[[str], datetime.datetime | None]:
    if not formats:
        return to_moment
    wanted = list(formats)

    def read(text: str) -> datetime.datetime | None:
        for one in wanted:
            try:
                moment = datetime.datetime.strptime(text.strip(SPACES), one)
            except ValueError:
                continue
            if moment.tzinfo is not None:
                moment = moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)
            return moment
        return None

    return read


def reader(column: dict[str, Any]) -> Callable[[str], Any] | None:
    """The function that gives a text's value, None for what does not fit; None for string columns."""
    if column["type"] == "datetime":
        return moment_reader(column.get("formats"))
    return {"integer": to_integer, "float": to_float, "boolean": to_boolean}.get(column["type"])


def infer(texts: Iterable[str | None]) -> dict[str, Any]:
    """``{"type", "formats"?}`` that all of the texts fit; empty ones and words for "missing" count for nothing."""
    seen = list(dict.fromkeys(t for t in texts if t is not None and t.strip(SPACES)))
    said = [t for t in seen if t.strip(SPACES).lower() not in MISSING_WORDS]
    if not said:
        return {"type": "string"}
    if all(t.strip(SPACES).lower() in ("true", "false") for t in said):
        return {"type": "boolean"}
    if all(to_float(t) is not None for t in said):
        if any(_coded(t) for t in said):
            return {"type": "string"}  # leading zeros are codes, not numbers: a postcode must keep them
        if all(_integer.fullmatch(t.strip(SPACES)) and to_integer(t) is not None for t in said):
            return {"type": "integer"}
        return {"type": "float"}
    if all(to_moment(t) is not None for t in said):
        return {"type": "datetime"}
    for one in FORMATS:
        read = moment_reader([one])
        if all(read(t) is not None for t in said):
            return {"type": "datetime", "formats": [one]}
    return {"type": "string"}


def _coded(text: str) -> bool:
    text = text.strip(SPACES).lstrip("+-")
    return len(text) > 1 and text[0] == "0" and text.isdigit()
