"""What a chart draws: a metric's points, brought down to what a screen can show without losing an extreme."""

from __future__ import annotations

import math
from array import array
from itertools import islice
from operator import le
from typing import Any

from runs import packing
from runs.models import MetricChunk, MetricSeries, Run
from studio.lib.errors import Invalid, NotFound

MAX_POINTS = 20_000


def _sorted(xs: array[float], ys: array[float]) -> tuple[array[float], array[float]]:
    """By x, as charts need them. Points nearly always come in order; that is seen in one pass."""
    if all(map(le, xs, islice(xs, 1, None))):
        return xs, ys
    order = sorted(range(len(xs)), key=lambda index: xs[index] if xs[index] == xs[index] else math.inf)
    return array("d", [xs[index] for index in order]), array("d", [ys[index] for index in order])


def _bucket(ys: array[float], start: int, stop: int) -> list[int]:
    """The indices to keep of one bucket, ascending: its lowest, its highest, and one that is not finite, if any."""
    part = ys[start:stop]
    if math.isfinite(sum(part)):
        return sorted({start + part.index(min(part)), start + part.index(max(part))})
    low, high, hole = None, None, None
    for index, value in enumerate(part, start):
        if not math.isfinite(value):
            hole = index if hole is None else hole
        else:
            low = index if low is None or value < ys[low] else low
            high = index if high is None or value > ys[high] else high
    return sorted({index for index in (low, high, hole) if index is not None})


def downsample(xs: array[float], ys: array[float], points: int) -> tuple[list[float], list[float | None]]:
    """At most about ``points`` points of the curve, x ascending: buckets of equal numbers of points, of each the
    lowest and the highest, and always the first and the last point.

    The lowest and the highest value of every stretch stay, whatever the number of points. A value that is not finite
    comes as None (a gap), and a bucket that holds one keeps it.
    """
    xs, ys = _sorted(xs, ys)
    total = len(xs)
    if total <= points:
        kept: Any = range(total)
    else:
        buckets = max(1, (points - 2) // 2)
        kept = [0]
        inner = total - 2
        for bucket in range(buckets):
            start, stop = 1 + bucket * inner // buckets, 1 + (bucket + 1) * inner // buckets
            if stop > start:
                kept.extend(_bucket(ys, start, stop))
        kept.append(total - 1)
    return [xs[index] for index in kept], [ys[index] if math.isfinite(ys[index]) else None for index in kept]


def load(series_id: int, column: int, *, since: int = 0) -> tuple[array[float], array[float]]:
    """(x, y) of a series from the point with index ``since`` on; ``column`` is packing.STEPS or packing.TIMES."""
    xs, ys = array("d"), array("d")
    start = since - since % packing.CHUNK_POINTS
    chunks = MetricChunk.objects.filter(series_id=series_id, first__gte=start).order_by("first")
    for first, count, data in chunks.values_list("first", "count", "data").iterator(chunk_size=64):
        skip = max(0, since - first)
        xs.extend(packing.unpack(data, count, column)[skip:])
        ys.extend(packing.unpack(data, count, packing.VALUES)[skip:])
    return xs, ys


def series(run: Run, name: str, *, points: int = 1000, axis: str = "step", since: int | None = None) -> dict[str, Any]:
    """A scalar metric for a chart.

    ``axis``: "step", or "time" (unix seconds). ``since``: the index of the first point wanted, for increments; the
    answer's ``next`` is what to ask for the next time. Raises NotFound where the run has no such metric.
    """
    if axis not in ("step", "time"):
        raise Invalid(f"The axis is step or time, not {axis!r}.", field="axis")
    if since is not None and since < 0:
        raise Invalid("since is the index of a point: 0 or more.", field="since")
    points = max(4, min(points, MAX_POINTS))
    row = MetricSeries.objects.filter(run=run, name=name).first()
    if row is None:
        raise NotFound(f"The run has no metric named {name!r}.")
    xs, ys = load(row.pk, packing.STEPS if axis == "step" else packing.TIMES, since=since or 0)
    drawn_x, drawn_y = downsample(xs, ys, points)
    return {
        "name": name,
        "kind": row.kind,
        "description": row.description,
        "axis": axis,
        "x": [value if math.isfinite(value) else None for value in drawn_x],
        "y": drawn_y,
        "min": row.minimum,
        "max": row.maximum,
        "last": row.last,
        "count": row.count,
        "since": since or 0,
        "next": (since or 0) + len(ys),
        "downsampled": len(drawn_y) < len(ys),
    }
