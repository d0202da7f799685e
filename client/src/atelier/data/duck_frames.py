"""A definition through DuckDB: as a pandas frame, or counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import definition as definitions
from . import duck, frame_types, tables
from .errors import DataError, Problems
from .parts import Scratch, ready
from .sources import DataFile, Source

PATIENCE = 5.0  # seconds spent on finding the lines of values that do not fit


def evaluate(
    definition: dict[str, Any],
    source: Source,
    problems: Problems,
    use: Callable[[duck.Query], Any],
    memory_limit: str | None = None,
) -> Any:
    """``use(query)`` over the whole of the definition's data."""
    files = list(tables.files_of(definition, source))
    definition = tables.settled(definition, source, Problems(), files=files)
    with Scratch() as scratch:
        temp = scratch.folder if memory_limit else None
        connection = duck.connect(memory_limit, temp)
        try:

            def prepare(anew: bool) -> Any:
                return ready(definition, source, files, scratch, problems, anew)

            found, misfits = duck.attempt(definition, prepare, connection, use)
            if misfits:
                _locate(definition, source, files, misfits, problems)
            return found
        except duck.Misfit:
            for _ in tables.typed_rows(definition, source, Problems(), files):
                pass  # the reference reader stops at the value, and knows its line
            raise DataError("A value does not fit its column's type.", "type") from None
        finally:
            connection.close()


def _locate(
    definition: dict[str, Any], source: Source, files: list[DataFile], misfits: dict[str, int], problems: Problems
) -> None:
    """Adds a problem per column with misfits. The first of each is looked for by the reference reader, for a while."""
    seen, until = Problems(), time.monotonic() + PATIENCE
    found: dict[str, dict[str, Any]] = {}
    for at, _ in enumerate(tables.typed_rows(definition, source, seen, files)):
        if len(seen.list()) > len(found):
            for one in seen.list():
                if one["kind"] == "type":
                    found.setdefault(one["column"], one)
        if len(found) >= len(misfits) or (not at & 1023 and time.monotonic() > until):
            break
    for one in seen.list():
        if one["kind"] == "type":
            found.setdefault(one["column"], one)
    for column in definition["schema"]:
        count = misfits.get(column["name"])
        if count:
            first = found.get(column["name"], {})
            text = first.get("text") or f"Values are no {column['type']}."
            problems.add(
                "type", text, file=first.get("file"), line=first.get("line"), column=column["name"], count=count
            )


def to_pandas(definition: dict[str, Any], source: Source, problems: Problems) -> Any:
    found: list[Any] = []

    def use(query: duck.Query) -> Any:
        found[:] = [query.definition]
        return query.connection.execute(query.sql()).df()

    frame = evaluate(definition, source, problems, use)
    return frame_types.finished(frame, definitions.columns(found[0]) or [])


def count(definition: dict[str, Any], source: Source, problems: Problems) -> int:
    def use(query: duck.Query) -> int:
        found = query.connection.execute(f"SELECT count(*) FROM ({query.sql()}) AS q").fetchone()  # noqa: S608 - ours
        if found is None:  # pragma: no cover - an aggregate has a row
            raise DataError("DuckDB gave no answer.", "engine")
        return int(found[0])

    return int(evaluate(definition, source, problems, use))
