"""Events of a run into the database: lines of events.jsonl, or the same objects by REST.

Called inside the transaction that moves the offset in the file, so each line counts exactly once. A line that cannot
be read is counted and noted on the run, and never stops the ones after it.
"""

from __future__ import annotations

import re
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.db import connection, transaction

from runs.models import Run, RunParameter, RunProperty, RunTag
from runs.services import metrics
from runs.services.submit import parameter_rows

RECORD_KINDS = frozenset({"row", "table", "image", "confusion_matrix", "accuracy_table", "predictions", "residuals"})
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf"), "nan": float("nan"),
            "inf": float("inf"), "-inf": float("-inf")}  # fmt: skip
_NOTED = re.compile(r"(\d+) events could not be used")
NAME_MAX = 255
LARGEST_PAYLOAD = 4 * 1024 * 1024


class BadEvent(Exception):
    """An event that cannot be used; the message says why."""


@dataclass
class Collected:
    """What a batch of events asks for, by kind, in the order in which it came."""

    points: dict[str, metrics.Points] = field(default_factory=dict)
    records: dict[str, list[metrics.Record]] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str | None] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    status: tuple[str, Any] | None = None
    bad: int = 0
    first_bad: str = ""

    def note(self, why: str) -> None:
        self.bad += 1
        self.first_bad = self.first_bad or why


def _text(value: Any) -> str:
    """Any JSON value as text without NUL, which PostgreSQL does not store."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text.replace("\x00", "") if "\x00" in text else text


def _name(event: dict[str, Any]) -> str:
    """The event's name without NUL and without space around it, which would be a title that nobody sees."""
    given = event.get("n")
    name = given.replace("\x00", "").strip() if isinstance(given, str) else ""
    if not name or len(name) > NAME_MAX:
        raise BadEvent(f"a name has 1 to {NAME_MAX} characters that can be seen, not {str(given)[:40]!r}")
    return name


def _number(value: Any) -> float:
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    if isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    raise BadEvent(f"{str(value)[:40]!r} is not a number")


def _clean(value: Any) -> Any:
    """A payload as both databases store it: no NUL in texts, numbers that JSON knows."""
    if isinstance(value, str):
        return value.replace("\x00", "") if "\x00" in value else value
    if isinstance(value, float):
        return value if value - value == 0 else str(value).replace("inf", "Infinity").replace("nan", "NaN")
    if isinstance(value, dict):
        return {_clean(str(key)): _clean(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return value


def _record(found: Collected, name: str, kind: str, event: dict[str, Any], now: float) -> None:
    payload = _clean(event.get("v"))
    if len(orjson.dumps(payload)) > LARGEST_PAYLOAD:
        raise BadEvent(f"{name!r} is larger than {LARGEST_PAYLOAD} bytes: write it to a file in outputs/")
    step = event.get("s")
    at = event.get("t")
    found.records.setdefault(name, []).append(
        (kind, None if step is None else _number(step), now if at is None else _number(at), payload)
    )


def _points(found: Collected, name: str) -> metrics.Points:
    points = found.points.get(name)
    if points is None:
        points = found.points[name] = metrics.Points(array("d"), array("d"), array("d"))
    return points


def _metric(found: Collected, event: dict[str, Any], now: float) -> None:
    name, value = _name(event), event.get("v")
    if isinstance(value, str) and value not in _SPECIAL:
        _record(found, name, "text", event, now)
    else:
        number, step, at = _number(value), event.get("s"), event.get("t")
        step = metrics.NO_STEP if step is None else _number(step)
        at = now if at is None else _number(at)
        _points(found, name).add(step, at, number)
    if event.get("d"):
        found.descriptions[name] = _text(event["d"])


def _metrics(found: Collected, event: dict[str, Any], now: float) -> None:
    name, values = _name(event), event.get("v")
    if not isinstance(values, list):
        raise BadEvent(f"{name!r} is logged as a list and has none")
    try:
        numbers = [_number(value) for value in values]
    except BadEvent:
        _record(found, name, "text", event, now)
    else:
        at = now if event.get("t") is None else _number(event["t"])
        points = _points(found, name)
        points.is_list = True
        for number in numbers:
            points.add(metrics.NO_STEP, at, number)
    if event.get("d"):
        found.descriptions[name] = _text(event["d"])


def _other(found: Collected, kind: Any, event: dict[str, Any], now: float) -> None:
    """Every kind of event but the scalar metric, which has the fast way."""
    if kind == "metrics":
        _metrics(found, event, now)
    elif kind in RECORD_KINDS:
        name = _name(event)
        _record(found, name, kind, event, now)
        if event.get("d"):
            found.descriptions[name] = _text(event["d"])
    elif kind == "tag":
        value = event.get("v")
        found.tags[_name(event)] = None if value is None else _text(value)
    elif kind == "property":
        found.properties.setdefault(_name(event), _text(event.get("v", "")))
    elif kind == "param":
        found.parameters[_name(event)] = _text(event.get("v", ""))
    elif kind == "description":
        found.descriptions[_name(event)] = _text(event.get("v", ""))
    elif kind == "status":
        found.status = (str(event.get("v", "")), event.get("error"))
    else:
        raise BadEvent(f"{str(kind)[:40]!r} is no kind of event")


def _take(found: Collected, event: Any, now: float) -> None:
    try:
        if not isinstance(event, dict):
            raise BadEvent("an event is a JSON object")
        kind = event.get("k")
        if kind == "metric":
            _metric(found, event, now)
        else:
            _other(found, kind, event, now)
    except (BadEvent, TypeError, ValueError, RecursionError) as error:
        found.note(str(error))


def collect_lines(lines: Iterable[bytes]) -> Collected:
    """Lines of events.jsonl, parsed and grouped. Pure. What ``run.log`` writes most takes the short way through."""
    found, now, loads = Collected(), time.time(), orjson.loads
    points: dict[str, Callable[[float, float, float], None]] = {}
    for line in lines:
        try:
            event = loads(line)
        except ValueError:
            if line.strip():
                found.note("not JSON: " + line[:60].decode("utf-8", "replace"))
            continue
        try:
            if event["k"] == "metric" and type(value := event["v"]) is float and type(at := event["t"]) is float:
                step = event.get("s")
                add = points.get(event["n"])
                if add is not None and "d" not in event and (step is None or type(step) is int):
                    add(metrics.NO_STEP if step is None else step, at, value)
                    continue
        except (KeyError, TypeError, OverflowError):
            pass
        _take(found, event, now)
        if len(points) != len(found.points):
            points = {name: series.add for name, series in found.points.items()}
    return found


def collect_objects(objects: Iterable[Any]) -> Collected:
    """The same for objects that are parsed already. Pure."""
    found, now = Collected(), time.time()
    for event in objects:
        _take(found, event, now)
    return found


def ingest_lines(run: Run, lines: Iterable[bytes]) -> int:
    """Complete lines of events.jsonl into the database; how many could not be used. Nothing in a line raises."""
    found = collect_lines(lines)
    _write(run, found)
    return found.bad


def ingest_objects(run: Run, objects: Iterable[Any]) -> int:
    """Parsed events into the database; how many of them could not be used."""
    found = collect_objects(objects)
    _write(run, found)
    return found.bad


def _write(run: Run, found: Collected) -> None:
    """One transaction, few statements whatever the number of events."""
    with transaction.atomic():
        if connection.features.has_select_for_update:
            # Two batches of one run at the same moment would read the same tail of a series.
            list(Run.objects.select_for_update(no_key=True).filter(pk=run.pk).values_list("pk"))
        if found.points or found.records or found.descriptions:
            for why in metrics.write(run, found.points, found.records, found.descriptions):
                found.note(why)
        if found.tags:
            RunTag.objects.bulk_create(
                [RunTag(run=run, key=key, value=value) for key, value in found.tags.items()],
                update_conflicts=True,
                unique_fields=["run", "key"],
                update_fields=["value"],
            )
        if found.properties:
            _write_properties(run, found)
        if found.parameters:
            write_parameters(run, found.parameters)
        if found.status is not None:
            _write_status(run, found)
        if found.bad:
            _warn(run, found)


def write_parameters(run: Run, parameters: dict[str, str]) -> None:
    """Set parameters; one that is there gets the new value."""
    RunParameter.objects.bulk_create(
        parameter_rows(run, parameters),
        update_conflicts=True,
        unique_fields=["run", "name"],
        update_fields=["value", "number"],
    )


def _write_properties(run: Run, found: Collected) -> None:
    """A property is written once; another value for it is noted."""
    have = dict(RunProperty.objects.filter(run=run, key__in=list(found.properties)[:900]).values_list("key", "value"))
    for key, value in found.properties.items():
        if key in have and have[key] != value:
            found.note(f"the property {key!r} is set already and cannot be changed")
    RunProperty.objects.bulk_create(
        [RunProperty(run=run, key=key, value=value) for key, value in found.properties.items() if key not in have],
        ignore_conflicts=True,
    )


def _write_status(run: Run, found: Collected) -> None:
    from runs.services import interactive
    from studio.lib.errors import Conflict

    assert found.status is not None  # noqa: S101 - the caller has looked
    word, error = found.status
    try:
        if word.lower() == "completed":
            interactive.run_complete(run)
        elif word.lower() == "failed":
            interactive.run_fail(run, _clean(error))
        else:
            found.note(f"{word[:40]!r} is no status that a script can set")
    except Conflict as conflict:
        found.note(conflict.detail)


def _warn(run: Run, found: Collected) -> None:
    """One warning for all bad events of a run, with their number and the first one's reason."""
    warnings = list(Run.objects.values_list("warnings", flat=True).get(pk=run.pk))
    for index, warning in enumerate(warnings):
        if noted := _NOTED.match(warning):
            count = int(noted.group(1)) + found.bad
            warnings[index] = f"{count}{warning[noted.end(1) :]}"
            break
    else:
        reason = _text(found.first_bad)[:300]
        warnings.append(f"{found.bad} events could not be used; the first: {reason}")
    run.warnings = warnings
    Run.objects.filter(pk=run.pk).update(warnings=warnings)
