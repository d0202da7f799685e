"""The figures of a tabular dataset's columns, by DuckDB, on data larger than memory.

One scan gives counts, extremes, means, quantiles (t-digest) and numbers of distinct values (HyperLogLog; exact up to
``EXACT`` rows); histograms and the most frequent values take a second look at the columns that have them.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from . import casts, duck, duck_frames
from . import definition as definitions
from .engine import _plain, _tabular
from .errors import Problems
from .predicates import identifier, literal
from .sources import Source

QUANTILES = {"p1": 0.01, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}
BINS = 20
TOP = 10
EXACT = 200_000  # rows up to which distinct values are counted exactly
FEW = 10_000  # distinct values up to which the most frequent ones are counted exactly
WIDE = 500  # columns of one scan, and the first ones that get more than their figures
ROOMY = 25  # columns whose distinct values or histograms are held in memory at once: each takes some MB
POLL = 0.1  # seconds


def compute(
    definition: dict[str, Any],
    source: Source,
    progress: Callable[[float, str], None] | None = None,
    memory_limit: str = "512MB",
) -> dict[str, Any]:
    """``{"rows", "bytes", "files", "columns": [...], "problems", "engine", "seconds"}``.

    A column: ``{"name", "type", "count", "missing", "distinct", "exact", "min", "max", "mean", "std", "quantiles",
    "top": [[value, count]], "histogram": {"edges", "counts"} | None, "lengths": {"min", "max", "mean"} (texts)}``;
    moments are ISO text. ``progress(part done from 0 to 1, what)`` may raise to stop it. Needs duckdb.
    """
    _tabular(definition, "profile")
    begun = time.monotonic()
    problems = Problems()

    def use(query: duck.Query) -> dict[str, Any]:
        return _Profile(query, progress or (lambda done, what: None)).run()

    found: dict[str, Any] = duck_frames.evaluate(definition, source, problems, use, memory_limit)
    import duckdb

    return {
        **found,
        "problems": problems.list(),
        "engine": f"duckdb {duckdb.__version__}",
        "seconds": round(time.monotonic() - begun, 3),
    }


class _Profile:
    def __init__(self, query: duck.Query, progress: Callable[[float, str], None]) -> None:
        self.query, self.progress = query, progress
        self.connection = query.connection
        self.columns = definitions.columns(query.definition) or []
        for setting in ("enable_progress_bar = true", "enable_progress_bar_print = false"):
            with contextlib.suppress(Exception):  # only how far it is, for DuckDBs that tell
                self.connection.execute(f"SET {setting}")
        if not any(step["op"] in definitions.ROW_STEPS for step in query.definition["steps"]):
            self.connection.execute("SET preserve_insertion_order = false")

    def run(self) -> dict[str, Any]:
        parts = self.query.parts
        self.progress(0.0, "reading")
        rows, made = self._figures()
        full = made[:WIDE]
        if rows <= EXACT:
            self._exact(full)
        self._top(full)
        self._histograms(full)
        self.progress(1.0, "done")
        for one in made:
            for key in ("min", "max"):
                one[key] = _plain(one[key])
        return {
            "rows": rows,
            "bytes": sum(part.file.size or 0 for part in parts),
            "files": len(parts),
            "columns": made,
        }

    # ------------------------------------------------------------------------------------------- one scan

    def _figures(self) -> tuple[int, list[dict[str, Any]]]:
        made: list[dict[str, Any]] = []
        rows = 0
        for group in self._groups(len(self.columns), WIDE):
            shown = ["count(*)"]
            places = []
            for at in group:
                wanted = _aggregates(f"c{at}", self.columns[at]["type"])
                places.append({key: len(shown) + number for number, key in enumerate(wanted)})
                shown.extend(wanted.values())
            begun, ended = (0.7 * at / max(len(self.columns), 1) for at in (group.start, group.stop))
            row = self._one(f"SELECT {', '.join(shown)} FROM ({self._inner(group)}) AS p", begun, ended, "figures")
            rows = int(row[0])
            made += [self._column(self.columns[at], row, place, rows) for at, place in zip(group, places)]
        return rows, made

    @staticmethod
    def _groups(count: int, most: int) -> list[range]:
        return [range(at, min(at + most, count)) for at in range(0, max(count, 1), most)]

    def _inner(self, only: Collection[int]) -> str:
        """The dataset with these columns as c0, c1...; "nan" is missing."""
        shown = []
        for at in only:
            column = self.columns[at]
            name = identifier(column["name"])
            made = casts.from_double(name, "float", "") if column["type"] == "float" else name
            shown.append(f"{made} AS c{at}")
        return f"SELECT {', '.join(shown)} FROM ({self.query.sql()}) AS d"

    @staticmethod
    def _column(column: dict[str, Any], row: Any, place: dict[str, int], rows: int) -> dict[str, Any]:
        found = {key: row[at] for key, at in place.items()}
        count = int(found["count"])
        quantiles = found.get("quantiles")
        if quantiles is not None and column["type"] == "datetime":
            quantiles = [None if one is None else EPOCH + datetime.timedelta(microseconds=one) for one in quantiles]
        out = {
            "name": column["name"],
            "type": column["type"],
            "count": count,
            "missing": rows - count,
            "distinct": min(int(found["distinct"]), count),
            "exact": False,
            "min": found["min"],
            "max": found["max"],
            "mean": _figure(found.get("mean")),
            "std": _figure(found.get("std")),
            "quantiles": None if quantiles is None else dict(zip(QUANTILES, map(_figure, quantiles))),
            "top": [],
            "histogram": None,
        }
        if "shortest" in found:
            mean = _figure(found["length"])
            out["lengths"] = {"min": found["shortest"], "max": found["longest"], "mean": mean}
        return out

    # --------------------------------------------------------------------------------------- second looks

    def _exact(self, made: list[dict[str, Any]]) -> None:
        for group in self._groups(len(made), ROOMY):
            shown = ", ".join(f"count(DISTINCT c{at})" for at in group)
            begun, ended = (0.7 + 0.05 * at / max(len(made), 1) for at in (group.start, group.stop))
            row = self._one(f"SELECT {shown} FROM ({self._inner(group)}) AS p", begun, ended, "distinct values")
            for at, number in zip(group, row):
                made[at].update(distinct=int(number), exact=True)

    def _top(self, made: list[dict[str, Any]]) -> None:
        """Of columns with few values exactly; of texts with many approximately, where DuckDB can."""
        for at, one in enumerate(made):
            if not one["count"] or one["distinct"] == one["count"] > TOP:
                continue
            done = 0.75 + 0.15 * at / len(made)
            if one["distinct"] <= FEW:
                text = (
                    f"SELECT c{at}, count(*), count(*) OVER () FROM ({self._inner([at])}) AS p WHERE c{at} IS NOT NULL "
                    f"GROUP BY c{at} ORDER BY count(*) DESC, c{at} LIMIT {TOP}"
                )
                found = self._all(text, done, done, "frequent values")
                one["top"] = [[_plain(value), int(number)] for value, number, _ in found]
                one.update(distinct=int(found[0][2]), exact=True)
            elif one["type"] == "string":
                self._approximate_top(one, at, done)

    def _approximate_top(self, one: dict[str, Any], at: int, done: float) -> None:
        import duckdb

        inner = self._inner([at])
        try:
            row = self._one(f"SELECT approx_top_k(c{at}, {TOP}) FROM ({inner}) AS p", done, done, "frequent values")
        except duckdb.CatalogException:  # older than 1.1
            return
        listed = ", ".join(literal(value) for value in row[0] or () if value is not None)
        if listed:
            text = f"SELECT c{at}, count(*) FROM ({inner}) AS p WHERE c{at} IN ({listed}) GROUP BY 1 ORDER BY 2 DESC, 1"
            found = self._all(text, done, done, "frequent values")
            one["top"] = [[value, int(number)] for value, number in found if number > 1]

    def _histograms(self, made: list[dict[str, Any]]) -> None:
        """Parquet: a column at a time, which reads nothing else; other files: many in one scan."""
        wanted = {at: bins for at, one in enumerate(made) if (bins := _bins(one)) is not None}
        alone = self.query.options["kind"] in ("parquet", "sql")
        places, most = list(wanted), 1 if alone else ROOMY
        for first in range(0, len(places), most):
            group = places[first : first + most]
            begun, ended = (0.9 + 0.1 * number / len(places) for number in (first, first + len(group)))
            if alone:
                at = group[0]
                text = f"SELECT {wanted[at].place(f'c{at}')} AS b, count(*) FROM ({self._inner([at])}) AS p GROUP BY 1"
                counts = [dict(self._all(text, begun, begun, "histograms"))]
            else:
                shown = ", ".join(f"histogram({wanted[at].place(f'c{at}')})" for at in group)
                row = self._one(f"SELECT {shown} FROM ({self._inner(group)}) AS p", begun, ended, "histograms")
                counts = [_as_dict(found) for found in row]
            for at, found in zip(group, counts):
                made[at]["histogram"] = wanted[at].made(found)

    # ------------------------------------------------------------------------------------------- running

    def _one(self, text: str, begun: float, ended: float, what: str) -> Any:
        return self._all(text, begun, ended, what)[0]

    def _all(self, text: str, begun: float, ended: float, what: str) -> list[Any]:
        """Runs a query in a thread of its own and tells how far it is; interrupts it when telling raises."""
        found: list[Any] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                found.extend(self.connection.execute(text).fetchall())
            except BaseException as error:  # noqa: BLE001 - raised again below, in the caller's thread
                failed.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        part = getattr(self.connection, "query_progress", None)
        try:
            while thread.is_alive():
                thread.join(POLL)
                done = part() if part is not None else -1
                self.progress(begun + (ended - begun) * max(0.0, min(done, 100.0)) / 100, what)
        except BaseException:
            self.connection.interrupt()
            thread.join()
            raise
        if failed:
            raise failed[0]
        return found


class _Bins:
    """Equal bins between two ends; moments in microseconds."""

    def __init__(self, low: float, high: float, count: int, moments: bool) -> None:
        self.low, self.high, self.count, self.moments = low, high, count, moments
        self.width = (high - low) / count

    def place(self, name: str) -> str:
        value = f"epoch_us({name})" if self.moments else name
        scaled = f"(CAST({value} AS DOUBLE) - {literal(float(self.low))}) / {literal(float(self.width))}"
        finite = f"isfinite(CAST({value} AS DOUBLE))"
        at = f"CAST(greatest(0, least({self.count - 1}, floor({scaled}))) AS INTEGER)"
        return f"CASE WHEN {finite} THEN {at} END"

    def made(self, found: dict[Any, Any]) -> dict[str, Any]:
        edges: list[Any] = [self.low + self.width * at for at in range(self.count)] + [self.high]
        if self.moments:
            edges = [(EPOCH + datetime.timedelta(microseconds=round(edge))).isoformat() for edge in edges]
        return {"edges": edges, "counts": [int(found.get(at, 0)) for at in range(self.count)]}


EPOCH = datetime.datetime(1970, 1, 1)


def _bins(one: dict[str, Any]) -> _Bins | None:
    low, high = one["min"], one["max"]
    if low is None or one["type"] not in ("integer", "float", "datetime"):
        return None
    moments = one["type"] == "datetime"
    if moments:
        low, high = ((moment - EPOCH) // datetime.timedelta(microseconds=1) for moment in (low, high))
    if high in (float("inf"), float("-inf")) or low in (float("inf"), float("-inf")):
        quantiles = one["quantiles"] or {}
        low, high = quantiles.get("p1"), quantiles.get("p99")
        if low is None or high is None:
            return None
    if not high > low:
        high = low + 1
        return _Bins(low, high, 1, moments)
    count = min(BINS, high - low + 1) if one["type"] == "integer" else BINS
    whole = one["type"] == "integer" and count < BINS
    found = _Bins(low, high + 1 if whole else high, count, moments)
    return found if found.width > 0 and found.width < float("inf") else None


def _aggregates(name: str, kind: str) -> dict[str, str]:
    """key -> SQL."""
    out = {
        "count": f"count({name})",
        "distinct": f"approx_count_distinct({name})",
        "min": f"min({name})",
        "max": f"max({name})",
    }
    if kind in ("integer", "float"):
        # What is not finite has no mean; DuckDB would stop at it.
        value = f"CASE WHEN isfinite({name}) THEN {name} END" if kind == "float" else name
        out["mean"] = f"avg({value})"
        out["std"] = f"stddev_samp({value})"
        out["quantiles"] = f"approx_quantile(CAST({value} AS DOUBLE), [{', '.join(map(str, QUANTILES.values()))}])"
    elif kind == "datetime":
        out["quantiles"] = (
            f"approx_quantile(CAST(epoch_us({name}) AS DOUBLE), [{', '.join(map(str, QUANTILES.values()))}])"
        )
    elif kind == "boolean":
        out["mean"] = f"avg(CAST({name} AS INTEGER))"
    else:
        out.update(shortest=f"min(length({name}))", longest=f"max(length({name}))", length=f"avg(length({name}))")
    return out


def _figure(value: Any) -> Any:
    if value is None or isinstance(value, datetime.datetime):
        return _plain(value)
    return None if value != value or value in (float("inf"), float("-inf")) else float(value)  # noqa: PLR0124


def _as_dict(found: Any) -> dict[Any, Any]:
    """A MAP as older DuckDB gives it, {"key": [...], "value": [...]}, or as newer ones do."""
    if isinstance(found, dict) and set(found) == {"key", "value"} and isinstance(found["key"], list):
        return dict(zip(found["key"], found["value"]))
    return dict(found or {})
