"""The types of a frame's columns, the same whoever made it: those that v1 gave.

string: object (or pandas' own text type), integer: int64, with missing values float64; float: float64; boolean: bool,
with missing values object; datetime: datetime64[ns] (coarser where a moment lies outside its years).
"""

from __future__ import annotations

from typing import Any


def finished(frame: Any, columns: list[dict[str, Any]]) -> Any:
    """The frame with its columns' types; changes it in place where it can."""
    for column in columns:
        name, kind = column["name"], column["type"]
        series = frame[name]
        wanted = _wanted(series, kind)
        if wanted is not None and (str(series.dtype) != wanted or wanted == "object"):
            frame[name] = _cast(series, wanted)
    return frame


def _wanted(series: Any, kind: str) -> str | None:
    if kind == "integer":
        return "float64" if series.hasnans else "int64"
    if kind == "float":
        return "float64"
    if kind == "boolean":
        return "object" if series.isna().any() else "bool"
    return "datetime64[ns]" if kind == "datetime" else None


def _cast(series: Any, wanted: str) -> Any:
    import pandas as pd

    if wanted == "datetime64[ns]":
        try:
            return series.astype(wanted)
        except (pd.errors.OutOfBoundsDatetime, OverflowError):
            return series
    if wanted == "object":
        return series.astype(object).where(series.notna(), None)
    if wanted == "float64":
        return (
            pd.to_numeric(series, errors="coerce").astype("float64")
            if series.dtype == object
            else series.astype("float64")
        )
    return series.astype(wanted)
