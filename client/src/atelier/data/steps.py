"""The steps of a definition: their constructors, their normal form, and what they do to the columns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from . import expressions
from .errors import DataError

TYPES = ("string", "integer", "float", "boolean", "datetime")
MOST_STEPS = 200
MOST_ROWS = 1 << 62
ROW_STEPS = ("take", "skip", "sample", "split")
DATED = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2})?)?\Z")
STEPS: dict[str, dict[str, Any]] = {  # op -> {key: default}; ... where it must be given
    "take": {"count": ...},
    "skip": {"count": ...},
    "sample": {"probability": ..., "seed": ...},
    "split": {"percentage": ..., "seed": ..., "part": ...},
    "keep": {"columns": ...},
    "drop": {"columns": ...},
    "filter": {"expression": ...},
    "timestamps": {"timestamp": None, "partition": None},
    "time": {"start": None, "end": None, "include_start": True, "include_end": True},
    "recent": {"seconds": ..., "include_boundary": True},
}


def take(count: int) -> dict[str, Any]:
    return {"op": "take", "count": count}


def skip(count: int) -> dict[str, Any]:
    return {"op": "skip", "count": count}


def sample(probability: float, seed: int) -> dict[str, Any]:
    return {"op": "sample", "probability": probability, "seed": seed}


def split(percentage: float, seed: int, part: int) -> dict[str, Any]:
    """``part`` 0 has about ``percentage`` of the rows, 1 all others."""
    return {"op": "split", "percentage": percentage, "seed": seed, "part": part}


def keep(names: Iterable[str]) -> dict[str, Any]:
    return {"op": "keep", "columns": [names] if isinstance(names, str) else list(names)}


def drop(names: Iterable[str]) -> dict[str, Any]:
    return {"op": "drop", "columns": [names] if isinstance(names, str) else list(names)}


def filtered(expression: Any) -> dict[str, Any]:
    """``expression``: an ``expressions.Expression`` or its JSON."""
    return {"op": "filter", "expression": expressions.to_json(expression)}


def timestamp_columns(timestamp: str | None, partition: str | None = None) -> dict[str, Any]:
    return {"op": "timestamps", "timestamp": timestamp, "partition": partition}


def between(start: Any = None, end: Any = None, include_start: bool = True, include_end: bool = True) -> dict[str, Any]:
    """Moments as datetime objects or ISO text; those with an offset are taken as UTC."""
    return {
        "op": "time",
        "start": expressions.moment_text(start),
        "end": expressions.moment_text(end),
        "include_start": include_start,
        "include_end": include_end,
    }


def recent(seconds: float, include_boundary: bool = True) -> dict[str, Any]:
    return {"op": "recent", "seconds": seconds, "include_boundary": include_boundary}


def columns(definition: dict[str, Any]) -> list[dict[str, Any]] | None:
    """``[{"name", "type"}]`` after all steps, or None where the columns are not settled."""
    if definition["schema"] is None:
        return None
    found = [{"name": one["name"], "type": one["type"]} for one in definition["schema"]]
    for step in definition["steps"]:
        if step["op"] == "keep":
            by_name = {one["name"]: one for one in found}
            found = [by_name[name] for name in step["columns"]]
        elif step["op"] == "drop":
            found = [one for one in found if one["name"] not in step["columns"]]
    return found


def timestamps(definition: dict[str, Any]) -> tuple[str | None, str | None]:
    """The column of the moment and that of the partition's moment; None where it was never named or was dropped."""
    moment: str | None = None
    partition: str | None = None
    for step in definition["steps"]:
        if step["op"] == "timestamps":
            moment, partition = step["timestamp"], step["partition"]
        elif step["op"] in ("keep", "drop"):
            kept = step["op"] == "keep"
            moment = moment if moment and (moment in step["columns"]) == kept else None
            partition = partition if partition and (partition in step["columns"]) == kept else None
    return moment, partition


def _wrong(key: str, value: Any, wanted: str) -> DataError:
    shown = repr(value)
    return DataError(f"{key} is {shown[:80]}; it must be {wanted}.", "definition", field=key)


def _known(value: dict[str, Any], keys: Iterable[str], where: str) -> None:
    allowed = list(keys)
    for key in value:
        if key not in allowed:
            raise DataError(f"{where}{key} is not known; there are {', '.join(allowed)}.", "definition", field=key)


def _step(step: Any, where: str, before: _Before) -> dict[str, Any]:
    if not isinstance(step, dict) or step.get("op") not in STEPS:
        raise _wrong(where, step, "an object whose op is one of " + ", ".join(STEPS))
    op = step["op"]
    if before.type == "file" and op not in ROW_STEPS:
        raise DataError(f"{where}.op is {op!r}, which works on columns; a file dataset has none.", "definition")
    keys = STEPS[op]
    _known(step, ["op", *keys], where + ".")
    out = {"op": op, **{key: step.get(key, default) for key, default in keys.items()}}
    for key, value in out.items():
        if value is ...:
            raise DataError(f"{where}.{key} is missing.", "definition", field=key)
        out[key] = _step_value(op, key, value, f"{where}.{key}")
    before.check(out, where)
    before.take(out)
    return out


def _step_value(op: str, key: str, value: Any, where: str) -> Any:
    good, wanted = True, ""
    if key == "count":
        good, wanted = _whole(value, 0) and value < MOST_ROWS, "a whole number, 0 or more, below 2**62"
    elif key in ("probability", "percentage"):
        good, wanted = _number(value) and 0 <= value <= 1, "a number from 0 to 1"
    elif key == "seed":
        good, wanted = _whole(value, None), "a whole number"
    elif key == "part":
        good, wanted = value in (0, 1) and not isinstance(value, bool), "0 or 1"
    elif key == "columns":
        good, wanted = isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value), "a list of names"
        value = list(value) if good else value
        if good and len(set(value)) < len(value):
            raise _wrong(where, value, "a list in which no column comes twice")
    elif key == "expression":
        return expressions.check(value, where)
    elif key in ("timestamp", "partition"):
        good, wanted = value is None or isinstance(value, str), "a column's name or null"
    elif key in ("start", "end"):
        good = value is None or (isinstance(value, str) and bool(DATED.match(value)))
        wanted = "a moment such as 2020-01-31T12:00:00, or null"
        value = expressions.moment_text(value) if good else value
    elif key == "seconds":
        good, wanted = _number(value) and value >= 0, "seconds, 0 or more"
    elif key.startswith("include"):
        good, wanted = isinstance(value, bool), "true or false"
    if not good:
        raise _wrong(where, value, wanted)
    return value


class _Before:
    """The columns and timestamps that a step finds, carried from step to step: a definition of many columns and steps
    is checked in the time that its length takes."""

    def __init__(self, definition: dict[str, Any]) -> None:
        self.type: str = definition["type"]
        found = columns({**definition, "steps": []})
        self.names = None if found is None else {one["name"]: None for one in found}  # a set that keeps their order
        self.moments: list[str | None] = [None, None]

    def take(self, step: dict[str, Any]) -> None:
        """What the next step finds."""
        if step["op"] == "timestamps":
            self.moments = [step["timestamp"], step["partition"]]
        elif step["op"] in ("keep", "drop"):
            kept, named = step["op"] == "keep", set(step["columns"])
            self.moments = [one if one and (one in named) == kept else None for one in self.moments]
            if self.names is not None and kept:
                self.names = dict.fromkeys(step["columns"])
            elif self.names is not None:
                for name in named:
                    del self.names[name]

    def check(self, step: dict[str, Any], where: str) -> None:
        """Columns that a step names must be there, where the columns are known."""
        op = step["op"]
        if op in ("time", "recent") and not any(self.moments):
            from atelier.exceptions import DatasetTimestampMissingError

            raise DatasetTimestampMissingError(
                "The dataset has no timestamp column; call with_timestamp_columns(timestamp='...') first."
            )
        if op == "keep" and not step["columns"]:
            raise _wrong(where + ".columns", [], "a list of at least one column")
        used = list(step.get("columns") or ())
        if op == "filter":
            used = sorted(expressions.names(step["expression"]))
        elif op == "timestamps":
            used = [name for name in (step["timestamp"], step["partition"]) if name]
        if self.names is not None:
            for name in used:
                if name not in self.names:
                    raise DataError(
                        f"There is no column {name!r}; there are {_listed(list(self.names))}.", "no-such-column"
                    )
            if op == "drop" and len(used) == len(self.names):
                raise _wrong(where + ".columns", used, "fewer than all columns")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _whole(value: Any, least: int | None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
