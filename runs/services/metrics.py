"""Points and records of metrics into their rows: thousands of series and points with few statements."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.utils import timezone

from runs import packing
from runs.models import MetricChunk, MetricRecord, MetricSeries, Run

# In ``Points.steps``: this point was logged without a step and gets its index in the series. A NaN is no step.
NO_STEP = math.nan
MANY = 400

# (kind, step, unix seconds, payload)
Record = tuple[str, float | None, float, Any]


@dataclass
class Points:
    """New points of one series, three columns of the same length."""

    steps: array[float]
    times: array[float]
    values: array[float]
    is_list: bool = False

    def __post_init__(self) -> None:
        # Bound once: this is the innermost call of the ingest.
        step, time, value = self.steps.append, self.times.append, self.values.append

        def add(at_step: float, at: float, number: float) -> None:
            step(at_step)
            time(at)
            value(number)

        self.add = add


def _known(run: Run, names: list[str]) -> dict[str, MetricSeries]:
    rows = MetricSeries.objects.filter(run=run)
    if len(names) <= MANY:
        rows = rows.filter(name__in=names)
    wanted = set(names)
    return {row.name: row for row in rows if row.name in wanted}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _lower(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _higher(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)


def _summarise(row: MetricSeries, points: Points) -> int:
    """Put new points into the series' summary; the index of the first of them."""
    first = row.count
    if not math.isfinite(sum(points.steps)):
        for offset, step in enumerate(points.steps):
            if step != step:
                points.steps[offset] = float(first + offset)
    low, high = packing.extremes(points.values)
    row.count = first + len(points.values)
    row.minimum, row.maximum = _lower(row.minimum, low), _higher(row.maximum, high)
    row.last, row.last_step = _finite(points.values[-1]), _finite(points.steps[-1])
    if points.is_list:
        row.kind = "list"
    return first


def _refused(row: MetricSeries, kind: str) -> str | None:
    """A series holds either points or records, of one kind."""
    pointlike = ("scalar", "list")
    if row.count and not (row.kind == kind or (row.kind in pointlike and kind in pointlike)):
        return f"the metric {row.name!r} is a {row.kind}; a {kind} of the same name was not kept"
    return None


def write(
    run: Run, points: dict[str, Points], records: dict[str, list[Record]], descriptions: dict[str, str]
) -> list[str]:
    """Append to the run's series; what could not be kept, in words. Inside a transaction that holds the run."""
    names = list({**points, **records, **descriptions})
    rows = _known(run, names)
    complaints: list[str] = []
    starts: dict[str, int] = {}
    kept: dict[str, list[tuple[int, Record]]] = {}
    for name in names:
        if name not in rows:
            if name not in points and name not in records:
                continue  # a description of a metric that was never logged
            rows[name] = MetricSeries(
                run=run, workspace_id=run.workspace_id, experiment_id=run.experiment_id, name=name
            )
        row = rows[name]
        if name in points:
            if why := _refused(row, "list" if points[name].is_list else "scalar"):
                complaints.append(why)
            else:
                starts[name] = _summarise(row, points[name])
        for record in records.get(name, ()):
            if why := _refused(row, record[0]):
                complaints.append(why)
                continue
            kept.setdefault(name, []).append((row.count, record))
            row.kind, row.count, row.last_step = record[0], row.count + 1, record[1]
        if name in descriptions:
            row.description = descriptions[name]
    ids = _save(rows.values())
    _write_chunks(points, starts, ids)
    MetricRecord.objects.bulk_create(
        [
            MetricRecord(series_id=ids[name], index=index, step=step, at=at, payload=payload)
            for name, entries in kept.items()
            for index, (_kind, step, at, payload) in entries
        ]
    )
    return complaints


def _save(rows: Iterable[MetricSeries]) -> dict[str, int]:
    """New and changed series by upsert; name -> id."""
    now = timezone.now()
    fresh = [
        MetricSeries(
            run_id=row.run_id, workspace_id=row.workspace_id, experiment_id=row.experiment_id, name=row.name,
            kind=row.kind, description=row.description, count=row.count, last=row.last, minimum=row.minimum,
            maximum=row.maximum, last_step=row.last_step, updated_at=now,
        )
        for row in rows
    ]  # fmt: skip
    MetricSeries.objects.bulk_create(
        fresh,
        update_conflicts=True,
        unique_fields=["run", "name"],
        update_fields=["kind", "description", "count", "last", "minimum", "maximum", "last_step", "updated_at"],
    )
    return {row.name: row.pk for row in fresh}


def _tails(starts: dict[str, int], ids: dict[str, int]) -> dict[int, MetricChunk]:
    """The last chunk of each series that has room in it; by series id."""
    begun = {
        ids[name]: start - start % packing.CHUNK_POINTS
        for name, start in starts.items()
        if start % packing.CHUNK_POINTS
    }
    found: dict[int, MetricChunk] = {}
    waiting = list(begun)
    for at in range(0, len(waiting), MANY):
        some = waiting[at : at + MANY]
        firsts = {begun[series] for series in some}
        query = Q(series_id__in=some, first__in=firsts) if len(firsts) <= MANY else Q(series_id__in=some)
        for chunk in MetricChunk.objects.filter(query):
            if chunk.first == begun[chunk.series_id]:
                found[chunk.series_id] = chunk
    return found


def _write_chunks(points: dict[str, Points], starts: dict[str, int], ids: dict[str, int]) -> None:
    """Fill each series' last chunk, then begin new ones; every chunk but the last of a series is full."""
    tails = _tails(starts, ids)
    changed: list[MetricChunk] = []
    for name, start in starts.items():
        new, series_id = points[name], ids[name]
        steps, times, values = new.steps, new.times, new.values
        first = start
        if tail := tails.get(series_id):
            columns = [packing.unpack(tail.data, tail.count, column) for column in range(3)]
            steps, times, values = columns[0] + steps, columns[1] + times, columns[2] + values
            first = tail.first
        for at in range(0, len(values), packing.CHUNK_POINTS):
            part = slice(at, at + packing.CHUNK_POINTS)
            changed.append(
                MetricChunk(
                    series_id=series_id,
                    first=first + at,
                    count=len(values[part]),
                    data=packing.pack(steps[part], times[part], values[part]),
                )
            )
    for at in range(0, len(changed), MANY):
        MetricChunk.objects.bulk_create(
            changed[at : at + MANY],
            update_conflicts=True,
            unique_fields=["series", "first"],
            update_fields=["count", "data"],
        )
