"""pandas without DuckDB: rows of the reference evaluator, gathered into columns piece by piece."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from . import definition as definitions
from . import frame_types, tables
from . import rows as evaluator
from .errors import Problems
from .sources import Source

PIECE = 100_000  # rows turned into columns at a time: the tuples of the whole would take several times the frame


def to_pandas(definition: dict[str, Any], source: Source, problems: Problems) -> Any:
    import pandas as pd

    files = list(tables.files_of(definition, source))
    definition = tables.settled(definition, source, Problems(), files=files)
    found = evaluator.apply(definition, tables.typed_rows(definition, source, problems, files))
    columns = definitions.columns(definition) or []
    pieces = [_frame(piece, columns) for piece in _pieces(found)]
    if not pieces:
        return frame_types.finished(_frame([], columns), columns)
    frame = pieces[0] if len(pieces) == 1 else pd.concat(pieces, ignore_index=True)
    return frame_types.finished(frame, columns)


def _pieces(found: Iterator[Any]) -> Iterator[list[Any]]:
    while True:
        piece = list(itertools.islice(found, PIECE))
        if not piece:
            return
        yield piece


def _frame(piece: list[Any], columns: list[dict[str, Any]]) -> Any:
    import pandas as pd

    lists = list(zip(*piece)) if piece else [()] * len(columns)
    made = {one["name"]: _series(list(values), one["type"]) for one, values in zip(columns, lists)}
    return pd.DataFrame(made, columns=[one["name"] for one in columns])


def _series(values: list[Any], kind: str) -> Any:
    import pandas as pd

    missing = any(value is None for value in values)
    if kind == "integer":
        return pd.Series(values, dtype="float64" if missing else "int64")
    if kind == "float":
        return pd.Series(values, dtype="float64")
    if kind == "boolean":
        return pd.Series(values, dtype=object if missing else bool)
    if kind == "datetime":
        import numpy as np

        return pd.Series(np.array(values, dtype="datetime64[us]"))
    return pd.Series(values, dtype=object) if not values or missing else pd.Series(values)
