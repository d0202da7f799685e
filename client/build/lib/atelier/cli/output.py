"""What commands print."""

from __future__ import annotations

import json
import sys
from typing import Any, Callable, Iterable, Sequence


def show_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def show_table(
    items: Iterable[dict[str, Any]], columns: Sequence[tuple[str, Callable[[dict[str, Any]], Any]]], empty: str
) -> None:
    """Columns as wide as their content. Without rows ``empty`` goes to standard error, so that pipes stay clean."""
    rows = [["" if (value := get(item)) is None else str(value) for _title, get in columns] for item in items]
    if not rows:
        print(empty, file=sys.stderr)
        return
    titles = [title for title, _get in columns]
    widths = [max(len(row[index]) for row in [titles, *rows]) for index in range(len(titles))]
    for row in [titles, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def show_fields(item: dict[str, Any], names: Sequence[str]) -> None:
    width = max(len(name) for name in names)
    for name in names:
        value = item.get(name)
        if value not in (None, "", [], {}):
            print(f"{name.ljust(width)}  {json.dumps(value) if isinstance(value, (dict, list)) else value}")


def moment(value: Any) -> str:
    """A time of the studio (ISO, UTC) to the second."""
    return str(value or "").replace("T", " ")[:19]


def pairs(words: Iterable[str]) -> dict[str, str | None]:
    """``KEY=VALUE`` and ``KEY`` as a dictionary."""
    found: dict[str, str | None] = {}
    for word in words:
        key, equals, value = word.partition("=")
        found[key] = value if equals else None
    return found


def size(count: Any) -> str:
    """Bytes for people."""
    value = float(count or 0)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1024 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return ""
