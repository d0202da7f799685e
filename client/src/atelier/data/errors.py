"""What can go wrong with data: one exception, one record of a problem, one warning."""

from __future__ import annotations

from typing import Any

from atelier.exceptions import UserErrorException


class DataError(UserErrorException):
    """Data cannot be read as asked; the message says where and what would help.

    ``kind``: definition, no-such-file, no-such-column, ragged, bytes, type, quote, duplicate, format, engine,
    incomplete, expression, timestamp, source. ``file`` as shown to people, ``line`` counted from 1; None: not known.
    """

    def __init__(
        self, message: str, kind: str = "data", file: str | None = None, line: int | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.kind, self.file, self.line = kind, file, line


class DataWarning(UserWarning):
    """Values or rows were changed on the way in, as the dataset's settings allow."""


def problem(
    kind: str, text: str, *, file: str | None = None, line: int | None = None, column: str | None = None, count: int = 1
) -> dict[str, Any]:
    """One record of a problem; ``line`` is that of its first appearance, ``count`` how often it was seen."""
    return {"file": file, "line": line, "column": column, "kind": kind, "text": text, "count": count}


def told(problem: dict[str, Any]) -> str:
    """A record in words: where it was first seen, and what it is."""
    line = f"line {problem['line']}" if problem.get("line") else ""
    where = ", ".join(str(one) for one in (problem.get("file"), line, problem.get("column")) if one)
    return f"{where}: {problem['text']}" if where else str(problem["text"])


class Problems:
    """Gathers problems: the same kind in the same file and column is one record with a count."""

    LIMIT = 200  # records kept; counts go on

    def __init__(self) -> None:
        self._records: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.total = 0

    def add(self, kind: str, text: str, *, count: int = 1, **where: Any) -> None:
        self.total += count
        key = (kind, where.get("file"), where.get("column"))
        known = self._records.get(key)
        if known is not None:
            known["count"] += count
        elif len(self._records) < self.LIMIT:
            self._records[key] = problem(kind, text, count=count, **where)

    def list(self) -> list[dict[str, Any]]:
        return list(self._records.values())
