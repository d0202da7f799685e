"""The reference evaluator: rows as plain tuples, one at a time, with the standard library alone.

It reads no further than its consumer does, so previews and inference use it on files of any size; the fast engines
must give what it gives. Values are str, int, float, bool, datetime (without offset) or None.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

from . import expressions, predicates
from .definition import timestamps

Row = tuple  # of values, in the order of the columns
MASK = 0xFFFFFFFF
FACTOR = 0x45D9F3B


def seed_of(seed: int) -> int:
    """32 bits of a seed of any size."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "little")


def mixed(number: int) -> int:
    """A 32-bit hash of a 32-bit number; all products stay below 2**63 so that every engine can compute it."""
    number = (((number >> 16) ^ number) * FACTOR) & MASK
    number = (((number >> 16) ^ number) * FACTOR) & MASK
    return (number >> 16) ^ number


def limit_of(probability: float) -> int:
    return int(probability * (MASK + 1))


def chosen(ordinals: Iterable[int], probability: float, seed: int) -> Iterator[bool]:
    """Whether the row at each place belongs to a sample; the same for the same seed, everywhere."""
    salt, limit = seed_of(seed), limit_of(probability)
    for ordinal in ordinals:
        yield mixed(mixed(ordinal & MASK) ^ salt) < limit


def time_filter(step: dict[str, Any], definition_before: dict[str, Any], now: float | None = None) -> dict[str, Any]:
    """A ``time`` or ``recent`` step as a filter's expression. A row's moment is that of the timestamp column, or of
    the partition's column where there is no other."""
    moment, partition = timestamps(definition_before)
    column = moment or partition
    parts = []
    if step["op"] == "recent":
        least = datetime.datetime.fromtimestamp(now or time.time(), datetime.timezone.utc).replace(tzinfo=None)
        start = (least - datetime.timedelta(seconds=step["seconds"])).isoformat()
        parts.append((">=" if step["include_boundary"] else ">", start))
    else:
        for key, sign in (("start", ">"), ("end", "<")):
            if step[key] is not None:
                parts.append((sign + ("=" if step[f"include_{key}"] else ""), step[key]))
    nodes = [{"op": op, "args": [{"col": column}, {"value": text, "type": "datetime"}]} for op, text in parts]
    return expressions.check({"op": "&", "args": nodes}) if nodes else {"value": True}


def plan(definition: dict[str, Any], now: float | None = None) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """``(op, step, columns after it)``: the steps with moments turned into filters and drops into keeps."""
    names = [one["name"] for one in definition["schema"]]
    for at, step in enumerate(definition["steps"]):
        op = step["op"]
        if op in ("keep", "drop"):
            named = step["columns"]
            names = [name for name in names if name not in named] if op == "drop" else list(named)
            yield "keep", {"op": "keep", "columns": names}, names
        elif op in ("time", "recent"):
            before = {**definition, "steps": definition["steps"][:at]}
            yield "filter", {"op": "filter", "expression": time_filter(step, before, now)}, names
        elif op != "timestamps":
            yield op, step, names


def apply(definition: dict[str, Any], rows: Iterator[Row]) -> Iterator[Row]:
    """The steps of a definition whose columns are settled, on its rows."""
    names = [one["name"] for one in definition["schema"]]
    types = {one["name"]: one["type"] for one in definition["schema"]}
    for op, step, after in plan(definition):
        if op == "keep":
            places = [names.index(name) for name in after]
            rows = _kept(rows, places)
        elif op == "filter":
            known = {name: types[name] for name in names}
            node = predicates.condition(step["expression"], known)
            rows = _filtered(rows, predicates.to_function(node, {name: at for at, name in enumerate(names)}))
        else:
            rows = row_step(rows, step)
        names = after
    return rows


def _kept(rows: Iterator[Row], places: list[int]) -> Iterator[Row]:
    for row in rows:
        yield tuple([row[at] for at in places])


def _filtered(rows: Iterator[Row], test: Any) -> Iterator[Row]:
    for row in rows:
        if test(row):
            yield row


def row_step(items: Iterator[Any], step: dict[str, Any]) -> Iterator[Any]:
    """take, skip, sample or split of any items: rows, or the files of a file dataset. ``take`` reads no item more."""
    op = step["op"]
    if op == "take":
        left = step["count"]
        while left > 0:
            left -= 1
            try:
                yield next(items)
            except StopIteration:
                return
        return
    if op == "skip":
        for at, item in enumerate(items):
            if at >= step["count"]:
                yield item
        return
    part = bool(step.get("part", 0))
    probability = step["probability"] if op == "sample" else step["percentage"]
    salt, limit = seed_of(step["seed"]), limit_of(probability)
    for at, item in enumerate(items):
        if (mixed(mixed(at & MASK) ^ salt) < limit) != part:
            yield item
