"""Columns that come from a file's path: ``Path`` and those of a partition format."""

from __future__ import annotations

import datetime
import re
from typing import Any

from .sources import DataFile

PATH = "Path"
PARTS = {"yyyy": 4, "MM": 2, "dd": 2, "HH": 2, "mm": 2, "ss": 2}
_TOKEN = re.compile("|".join(PARTS))


class Partitions:
    """``{name}`` is a text without "/", ``{name:yyyy/MM/dd}`` a moment; ``*`` matches within a folder's name. The
    format fits the end of the path, as v1 has it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.include_path = bool(options.get("include_path"))
        self.columns: list[dict[str, str]] = []
        self._moments: dict[str, list[str]] = {}
        self._pattern: re.Pattern[str] | None = None
        form = options.get("partition_format")
        if form:
            out, at = [], 0
            for match in re.finditer(r"\{(\w+)(?::([^{}]*))?\}", form):
                out.append(self._plain(form[at : match.start()]))
                out.append(self._key(match[1], match[2]))
                at = match.end()
            out.append(self._plain(form[at:]))
            self._pattern = re.compile("".join(out) + r"\Z")

    @staticmethod
    def _plain(text: str) -> str:
        return re.escape(text).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")

    def _key(self, name: str, form: str | None) -> str:
        if not form:
            self.columns.append({"name": name, "type": "string"})
            return f"(?P<{name}>[^/]+)"
        self.columns.append({"name": name, "type": "datetime"})
        self._moments[name] = _TOKEN.findall(form)
        out, at = [], 0
        for number, match in enumerate(_TOKEN.finditer(form)):
            out.append(re.escape(form[at : match.start()]))
            out.append(f"(?P<{name}__{number}>[0-9]{{{PARTS[match[0]]}}})")
            at = match.end()
        return "".join(out) + re.escape(form[at:])

    def names(self) -> list[dict[str, str]]:
        """The columns, ``Path`` first."""
        return [{"name": PATH, "type": "string"}] * self.include_path + self.columns

    def values(self, file: DataFile) -> list[Any]:
        """In the order of ``names``; all missing where the path does not fit the format."""
        shown = file.inner
        found = self._pattern.search(shown) if self._pattern else None
        out: list[Any] = [shown] * self.include_path
        for column in self.columns:
            out.append(None if found is None else self._value(column["name"], found))
        return out

    def _value(self, name: str, found: re.Match[str]) -> Any:
        if name not in self._moments:
            return found[name]
        given = {token: int(found[f"{name}__{at}"]) for at, token in enumerate(self._moments[name])}
        try:
            day = (given.get("yyyy", 0), given.get("MM", 1), given.get("dd", 1))
            return datetime.datetime(*day, given.get("HH", 0), given.get("mm", 0), given.get("ss", 0))
        except ValueError:
            return None
