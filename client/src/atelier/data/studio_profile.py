"""The figures of a dataset's columns, as the studio computes them."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, Mapping

from atelier.exceptions import ServiceException, UserErrorException


class ColumnProfile(SimpleNamespace):
    """``name type count missing_count distinct min max mean std quantiles top histogram``; what a column's type does
    not have is None."""

    def __init__(self, column: Mapping[str, Any]) -> None:
        figures: dict[str, Any] = dict.fromkeys(
            ("name", "type", "count", "distinct", "min", "max", "mean", "std", "quantiles", "top", "histogram")
        )
        figures.update(column)
        figures["missing_count"] = figures.pop("missing", None)
        quantiles = figures["quantiles"] or {}
        figures.update(
            column_name=figures["name"],
            lower_quartile=quantiles.get("p25"),
            median=quantiles.get("p50"),
            upper_quartile=quantiles.get("p75"),
        )
        super().__init__(**figures)


class DatasetProfile:
    """``columns`` by name, ``row_count``, and ``data`` as the studio gives it."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = dict(data)
        self.row_count = data.get("rows")
        self.columns = {column["name"]: ColumnProfile(column) for column in data.get("columns") or ()}

    def __getitem__(self, column: str) -> ColumnProfile:
        return self.columns[column]

    def __repr__(self) -> str:
        return f"DatasetProfile(rows={self.row_count}, columns={list(self.columns)})"


def profile_get(workspace: Any, version: str, generate: bool, timeout: float) -> Any:
    """Wait for the profile of a version; None where there is none and none is to be made. Raises UserErrorException
    with the studio's reason when it cannot be computed."""
    path, asked, end, pause = f"data/{version}/profile", False, time.monotonic() + timeout, 0.2
    while time.monotonic() < end:
        try:
            found = workspace._call("GET", path) or {}
        except ServiceException as error:
            if error.status_code != 404:
                raise
            found = {}
        state = found.get("state")
        if state == "ready":
            return DatasetProfile(found["result"])
        if state == "failed" and asked:
            raise UserErrorException(f"The profile could not be computed: {_reason(found.get('error'))}")
        if state in (None, "failed") and not asked:
            if not generate:
                return None
            workspace._call("POST", path)
            asked = True
        asked = asked or state == "running"
        time.sleep(pause)
        pause = min(pause * 1.5, 2.0)
    raise UserErrorException(f"The profile was not ready within {timeout:.0f} seconds; get_profile() waits on.")


def _reason(error: Any) -> str:
    return str(error.get("message") or error) if isinstance(error, dict) else str(error or "no reason was given")
