"""Points of a scalar metric as bytes: all steps, then all times, then all values, little-endian float64. Pure."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable

CHUNK_POINTS = 4096
_ITEM = 8
STEPS, TIMES, VALUES = 0, 1, 2


def _swapped(values: array[float]) -> array[float]:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values


def pack(steps: Iterable[float], times: Iterable[float], values: Iterable[float]) -> bytes:
    """Three sequences of the same length n -> 24 n bytes."""
    return b"".join(_swapped(array("d", column)).tobytes() for column in (steps, times, values))


def unpack(data: bytes | memoryview, count: int, column: int) -> array[float]:
    """One of the three columns (STEPS, TIMES, VALUES) of a chunk of ``count`` points."""
    view = memoryview(data)
    if len(view) != 3 * count * _ITEM:
        raise ValueError(f"A chunk of {count} points has {3 * count * _ITEM} bytes, not {len(view)}.")
    found = array("d")
    found.frombytes(view[column * count * _ITEM : (column + 1) * count * _ITEM])
    return _swapped(found)


def extremes(values: array[float] | list[float]) -> tuple[float | None, float | None]:
    """Minimum and maximum of the finite values; (None, None) where there is none."""
    if not len(values):
        return None, None
    if math.isfinite(sum(values)):  # no NaN and no infinity among them: two passes in C
        return min(values), max(values)
    finite = [value for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (None, None)
