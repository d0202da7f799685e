"""What is to be known about targets and units."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.utils.translation import gettext as _

from compute import states
from compute.drivers import registry, unit_records
from compute.drivers.base import DriverError
from compute.models import Target, Unit, UnitKind
from compute.spec import Capacity, Handle


def handle_of(unit: Unit) -> Handle:
    return Handle(unit.key, (unit.handle or {}).get("data", {}))


def unit_beat(unit: Unit) -> dict[str, Any]:
    """What the unit's supervisor last said of itself: child, at, restarts; empty when nothing is to be had.

    Asks the target. ``restarts`` counts how often a service was started again after it ended by itself.
    """
    from compute.services.targets import target_driver

    try:
        return unit_records.parsed(target_driver(unit.target).read(handle_of(unit), "beat.json", 0, 1 << 16)) or {}
    except DriverError:
        return {}


def pool(target: Target) -> list[int]:
    """The ids of the targets that share this one's slots.

    Targets of one machine without a number of slots of their own are the same processors under different names.
    """
    if target.driver != "local" or target.config.get("slots"):
        return [target.pk]
    rows = Target.everything.filter(driver=target.driver).only("pk", "config")
    return [row.pk for row in rows if not row.config.get("slots")]


def target_checks(target: Target) -> list[dict[str, Any]]:
    """What the target's test looks at, in its order: code, label, state (ok, bad, unknown), message, hint.

    What comes after something that stops everything is unknown, as is all of it before the first test.
    """
    problems = {problem["code"]: problem for problem in target.problems or []}
    known = registry.driver_class(target.driver).checks
    if "host-key" in dict(known) and "host-key-changed" in problems:
        problems["host-key"] = problems.pop("host-key-changed")  # which of the two, the line need not tell
    rows = []
    stopped = target.checked_at is None or any(
        problem.get("stops") for code, problem in problems.items() if code not in dict(known)
    )
    for code, label in known:
        problem = problems.pop(code, None)
        state = "bad" if problem else "unknown" if stopped else "ok"
        rows.append(
            {"code": code, "label": label, "state": state, "message": (problem or {}).get("message", ""),
             "hint": (problem or {}).get("hint", "")}
        )  # fmt: skip
        stopped = stopped or bool(problem and problem.get("stops"))
    others = [
        {"code": code, "label": "", "state": "bad", "message": problem["message"], "hint": problem.get("hint", "")}
        for code, problem in problems.items()
    ]
    return others + rows


def slots(target: Target) -> int | None:
    """How many runs the target takes at once; None without a limit. Needs no answer from the target."""
    return registry.make(target.driver, target.config, {}).slots()


def slots_used(target: Target) -> int:
    """Commands that hold a slot. Services and environment builds take none."""
    return Unit.objects.filter(
        target__in=pool(target), state__in=list(states.HOLDS_SLOT), kind=UnitKind.COMMAND
    ).count()


def capacity(target: Target) -> Capacity:
    """Slots in all and used; ``detail`` {"queued": units that wait for one}."""
    return Capacity(slots(target), slots_used(target), {"queued": units_waiting(target).count()})


def capacities(targets: Iterable[Target]) -> dict[int, Capacity]:
    """``capacity`` of many targets by id, in one query; those that share the machine's slots cost three more."""
    counted = {"kind": UnitKind.COMMAND, "target__in": [target.pk for target in targets]}
    used, waiting = Q(state__in=list(states.HOLDS_SLOT)), Q(state=states.QUEUED)
    rows = Unit.objects.filter(used | waiting, **counted).values("target_id")
    numbers = {
        row["target_id"]: row
        for row in rows.annotate(used=Count("pk", filter=used), queued=Count("pk", filter=waiting))
    }
    found, shared = {}, None
    for target in targets:
        if target.driver == "local" and not target.config.get("slots"):
            found[target.pk] = shared = shared or capacity(target)
            continue
        row = numbers.get(target.pk, {"used": 0, "queued": 0})
        found[target.pk] = Capacity(slots(target), row["used"], {"queued": row["queued"]})
    return found


def units_waiting(target: Target) -> QuerySet[Unit]:
    """Units that wait for a slot, first come first."""
    return Unit.objects.filter(target__in=pool(target), state=states.QUEUED, kind=UnitKind.COMMAND).order_by(
        "queued_at", "pk"
    )


def units_active(target: Target) -> QuerySet[Unit]:
    """The living units of a target, oldest first."""
    return Unit.objects.filter(target=target, state__in=list(states.LIVE)).order_by("pk")


def queue_position(unit: Unit) -> int | None:
    """1 for the unit that gets the next free slot; None when it does not wait for one."""
    if unit.state != states.QUEUED or unit.kind != UnitKind.COMMAND or unit.queued_at is None:
        return None
    earlier = Q(queued_at__lt=unit.queued_at) | Q(queued_at=unit.queued_at, pk__lt=unit.pk)
    return units_waiting(unit.target).filter(earlier).count() + 1


# The stages of the timeline, each with the states that it stands for.
RUNNING = "Running"
STAGES = (
    ("Not started", (states.CREATED,)),
    ("Preparing", (states.PREPARING,)),
    ("Queued", (states.QUEUED,)),
    (RUNNING, (states.SUBMITTING, states.STARTING, states.RUNNING)),
    ("Finalizing", (states.FINALIZING,)),
)
END_STAGE = {states.COMPLETED: "Completed", states.CANCELED: "Canceled", states.FAILED: "Failed", states.LOST: "Failed"}


def _spans(unit: Unit) -> dict[str, tuple[float, float | None, str]]:
    """state -> (entered, left or None, note), of the last time that the unit was in it."""
    spans = {}
    for index, (state, at, note) in enumerate(unit.history):
        left = unit.history[index + 1][1] if index + 1 < len(unit.history) else None
        spans[state] = (at, left, note)
    return spans


def unit_timeline(unit: Unit) -> list[dict[str, Any]]:
    """The stages of a unit in order.

    Each: stage, started_at and ended_at (unix seconds or None), seconds (or None), note, and state: done, active,
    pending, or skipped (the unit ended before it).
    """
    spans = _spans(unit)
    ended = unit.state in states.TERMINAL
    timeline = []
    for stage, members in STAGES:
        entered = [spans[member] for member in members if member in spans]
        if not entered:
            entry = _entry(stage, None, None, "skipped" if ended else "pending", "")
        else:
            active = unit.state in members
            notes = [note for _at, _left, note in entered if note]
            begun, left = entered[0][0], None if active else entered[-1][1]
            if stage == RUNNING and unit.started_at is not None:
                # The command's own time, as the run's duration is: not until somebody noticed.
                begun = unit.started_at.timestamp()
                left = unit.ended_at.timestamp() if unit.ended_at is not None else left
            entry = _entry(stage, begun, left, "active" if active else "done", " ".join(notes))
        timeline.append(entry)
    if ended:
        at, _left, note = spans[unit.state]
        timeline.append({**_entry(END_STAGE[unit.state], at, at, "done", note), "seconds": None})
    else:
        timeline.append(_entry("Completed", None, None, "pending", ""))
    return timeline


def _entry(stage: str, started: float | None, ended: float | None, state: str, note: str) -> dict[str, Any]:
    seconds = None if started is None else max(0.0, (ended if ended is not None else time.time()) - started)
    return {
        "stage": _(stage),
        "key": stage.lower().replace(" ", "-"),
        "started_at": started,
        "ended_at": ended,
        "seconds": seconds,
        "state": state,
        "note": note,
    }
