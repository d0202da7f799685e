"""pandas without DuckDB: columns piece by piece, delimited files through pandas' own parser (``chunks``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import chunks, frame_types, tables
from . import definition as definitions
from .errors import Problems
from .sources import Source
from .vectors import Chunk, Column, Steps, nothing


def to_pandas(definition: dict[str, Any], source: Source, problems: Problems) -> Any:
    import pandas as pd

    definition, steps, found = _prepared(definition, source, problems)
    pieces: dict[str, list[Column]] = {name: [] for name in steps.names}
    for chunk in found:
        for name, kept in pieces.items():
            kept.append(chunk.columns[name])
    columns = definitions.columns(definition) or []
    made = {one["name"]: _series(pieces.pop(one["name"]), one["type"]) for one in columns}
    return frame_types.finished(pd.DataFrame(made, columns=list(made)), columns)


def count(definition: dict[str, Any], source: Source, problems: Problems) -> int:
    _, _, found = _prepared(definition, source, problems)
    return sum(chunk.count for chunk in found)


def _prepared(
    definition: dict[str, Any], source: Source, problems: Problems
) -> tuple[dict[str, Any], Steps, Iterator[Chunk]]:
    """``(the definition settled, its steps, the rows after them)``."""
    files = list(tables.files_of(definition, source))
    definition = tables.settled(definition, source, Problems(), files=files)
    steps = Steps(definition)
    return definition, steps, _rows(steps, chunks.of_files(definition, source, files, problems, steps.used))


def _rows(steps: Steps, found: Iterator[Chunk]) -> Iterator[Chunk]:
    while not steps.done:
        chunk = next(found, None)
        if chunk is None:
            return
        chunk = steps.apply(chunk)
        if chunk.count:
            yield chunk


def _series(pieces: list[Column], kind: str) -> Any:
    """A column of the frame; integers and truth values have no place for a missing one in their own type."""
    import numpy as np
    import pandas as pd

    values, missing = (np.concatenate(parts) for parts in zip(*(pieces or [nothing(0, kind)])))
    pieces.clear()
    if kind == "integer" and missing.any():
        values = np.where(missing, np.nan, values)
    elif kind == "boolean" and missing.any():
        values = values.astype(object)
        values[missing] = None
    elif kind == "float":
        values[missing] = np.nan
    elif kind == "datetime":
        values[missing] = np.datetime64("NaT")
        try:
            return pd.Series(values)
        except pd.errors.OutOfBoundsDatetime:  # old versions know nanoseconds only
            return pd.Series(values.tolist(), dtype=object)
    return pd.Series(values, dtype=values.dtype)
