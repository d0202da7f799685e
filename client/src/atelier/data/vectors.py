"""The evaluator's steps on columns of numpy instead of rows of Python; the results are those of ``rows``.

A column is ``(values, missing)``: int64, float64, bool, datetime64[us] or objects (texts), and a mask. What is below
the mask has no meaning, so integers stay exact where some are missing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import predicates, rows, values
from .expressions import ARITHMETIC, COMPARE

Column = tuple  # (values, missing), both numpy arrays of one length; scalars within expressions
DTYPES = {"integer": "int64", "float": "float64", "boolean": "bool", "datetime": "datetime64[us]", "string": "O"}
FEW = 16  # constants of "in" that are compared one by one


@dataclass
class Chunk:
    """Some rows, their columns by name."""

    count: int
    columns: dict[str, Column]

    def at(self, places: Any, count: int) -> Chunk:
        """Rows by a mask or a slice."""
        return Chunk(count, {name: (one[places], gone[places]) for name, (one, gone) in self.columns.items()})


def column(listed: list[Any], kind: str) -> Column:
    """Values of Python, None where they are missing."""
    import numpy as np

    missing = np.fromiter((value is None for value in listed), bool, len(listed))
    if kind == "string":
        made = np.empty(len(listed), object)
        made[:] = listed
        return made, missing
    empty: Any = "NaT" if kind == "datetime" else False if kind == "boolean" else 0
    return np.array([empty if value is None else value for value in listed], DTYPES[kind]), missing


def nothing(count: int, kind: str) -> Column:
    """A column without a value."""
    import numpy as np

    return np.full(count, None) if kind == "string" else np.zeros(count, DTYPES[kind]), np.ones(count, bool)


def constant(value: Any, count: int, kind: str) -> Column:
    return column([value], kind)[0].repeat(count), column([value], kind)[1].repeat(count)


# ----------------------------------------------------------------------------------------------------- steps


class Steps:
    """The steps of a settled definition, carried from chunk to chunk. ``done``: no row will come any more."""

    def __init__(self, definition: dict[str, Any]) -> None:
        types = {one["name"]: one["type"] for one in definition["schema"]}
        self.done = False
        self.used: set[str] = set()
        self._work: list[Callable[[Chunk], Chunk]] = []
        names = list(types)
        for op, step, after in rows.plan(definition):
            if op == "filter":
                node = predicates.condition(step["expression"], {name: types[name] for name in names})
                self.used |= predicates.expressions.names(step["expression"])
                self._work.append(_filter(node))
            elif op == "take":
                self._work.append(self._take(step["count"]))
            elif op == "skip":
                self._work.append(_skip(step["count"]))
            elif op != "keep":
                self._work.append(_sample(step))
            names = after
        self.names = names
        self.used |= set(names)

    def apply(self, chunk: Chunk) -> Chunk:
        for work in self._work:
            chunk = work(chunk)
        return chunk

    def _take(self, count: int) -> Callable[[Chunk], Chunk]:
        left = count
        self.done = self.done or not left

        def work(chunk: Chunk) -> Chunk:
            nonlocal left
            took = min(left, chunk.count)
            left -= took
            self.done = self.done or not left
            return chunk if took == chunk.count else chunk.at(slice(0, took), took)

        return work


def _skip(count: int) -> Callable[[Chunk], Chunk]:
    left = count

    def work(chunk: Chunk) -> Chunk:
        nonlocal left
        passed = min(left, chunk.count)
        left -= passed
        return chunk.at(slice(passed, None), chunk.count - passed) if passed else chunk

    return work


def _sample(step: dict[str, Any]) -> Callable[[Chunk], Chunk]:
    salt = rows.seed_of(step["seed"])
    limit = rows.limit_of(step["probability"] if step["op"] == "sample" else step["percentage"])
    part, seen = bool(step.get("part", 0)), 0

    def work(chunk: Chunk) -> Chunk:
        import numpy as np

        nonlocal seen
        ordinals = np.arange(seen, seen + chunk.count, dtype=np.int64) & rows.MASK
        seen += chunk.count
        kept = (_mixed(_mixed(ordinals) ^ salt) < limit) != part
        return chunk.at(kept, int(kept.sum()))

    return work


def _mixed(numbers: Any) -> Any:
    """``rows.mixed`` of int64; no product reaches 2**63."""
    numbers = (((numbers >> 16) ^ numbers) * rows.FACTOR) & rows.MASK
    numbers = (((numbers >> 16) ^ numbers) * rows.FACTOR) & rows.MASK
    return (numbers >> 16) ^ numbers


def _filter(node: dict[str, Any]) -> Callable[[Chunk], Chunk]:
    def work(chunk: Chunk) -> Chunk:
        import numpy as np

        found, missing = evaluate(node, chunk)
        kept = np.broadcast_to(np.asarray(found).astype(bool) & ~missing, (chunk.count,))
        count = int(kept.sum())
        return chunk if count == chunk.count else chunk.at(kept, count)

    return work


# ----------------------------------------------------------------------------------------------- expressions


def evaluate(node: dict[str, Any], chunk: Chunk) -> Column:
    """``predicates.typed`` -> ``(values, missing)``."""
    import numpy as np

    if "col" in node:
        return chunk.columns[node["col"]]
    if "value" in node:
        value = node["value"]
        if value is None:
            return np.zeros((), bool), np.ones((), bool)
        return np.array(value, DTYPES[node["as"]]), np.zeros((), bool)
    op, args = node["op"], [evaluate(arg, chunk) for arg in node["args"]]
    first, gone = args[0]
    if op == "is_null":
        return gone, np.zeros((), bool)
    if op == "~":
        return ~first.astype(bool), gone
    if op in "&|":
        return _joined(args, op == "|")
    if op == "in":
        return _among(node, first, gone)
    second, missing = args[1]
    missing = gone | missing
    if any(arg["as"] == predicates.ANY for arg in node["args"]):
        return np.zeros_like(missing), np.ones_like(missing)
    if op in ARITHMETIC:
        return _arithmetic(op, first, second, missing)
    if op in COMPARE:
        return _compared(predicates.COMPARISONS[op], first, second, missing), missing
    return _each(predicates.TEXTS[op], first, second, missing), missing


def _joined(args: list[Column], ends: bool) -> Column:
    """All must be true, or (``ends`` True) one of them."""
    import numpy as np

    unknown = settled = np.zeros((), bool)
    for found, missing in args:
        unknown = unknown | missing
        settled = settled | (~missing & (found.astype(bool) == ends))
    return np.where(settled, ends, not ends), unknown & ~settled


def _among(node: dict[str, Any], first: Any, missing: Any) -> Column:
    import numpy as np

    listed = {arg["value"] for arg in node["args"][1:]} - {None}
    if node["args"][0]["as"] == predicates.ANY:
        return np.zeros_like(missing), np.ones_like(missing)
    if first.dtype == object or len(listed) > FEW:
        shape, whole = np.shape(missing), np.broadcast_to(first, np.shape(missing))
        return np.fromiter((one in listed for one in whole.ravel().tolist()), bool, whole.size).reshape(shape), missing
    found = np.zeros(np.shape(missing), bool)
    for value in listed:
        kind = "datetime64[us]" if first.dtype.kind == "M" else None
        found = found | _compared(operator.eq, first, np.array(value, kind), missing)
    return found, missing


def _compared(work: Callable[[Any, Any], Any], first: Any, second: Any, missing: Any) -> Any:
    if object in (first.dtype, second.dtype):
        return _each(work, first, second, missing)
    kinds = {first.dtype.kind, second.dtype.kind}
    if kinds == {"i", "f"} and not (_exact(first) and _exact(second)):
        return _each(work, first, second, missing)  # Python compares them exactly, numpy as floats
    return work(first, second)


def _exact(numbers: Any) -> bool:
    """Whether all of them stay what they are as floats."""
    if numbers.dtype.kind != "i" or not numbers.size:
        return True
    return bool(numbers.max() < values.EXACT and numbers.min() > -values.EXACT)


def _each(work: Callable[[Any, Any], Any], first: Any, second: Any, missing: Any) -> Any:
    """One by one, where both are there."""
    import numpy as np

    found = np.zeros(np.shape(missing), bool)
    there = ~missing
    left, right = (np.broadcast_to(one, np.shape(missing))[there] for one in (first, second))
    found[there] = [bool(work(one, other)) for one, other in zip(left.tolist(), right.tolist())]
    return found


def _arithmetic(op: str, first: Any, second: Any, missing: Any) -> Column:
    import numpy as np

    left, right = first.astype("float64"), second.astype("float64")
    work = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.fmod}[op]
    with np.errstate(all="ignore"):
        found = work(left, right)
    missing = missing | np.isnan(found)
    return found, (missing | (right == 0) if op in "/%" else missing)
