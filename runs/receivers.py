"""What compute announces becomes what people see of a run. Inside the transaction that made the change."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from compute import states
from compute.data.selectors import transfer_result
from compute.models import Unit, UnitKind
from compute.signals import unit_changed, unit_events
from runs.models import Run
from runs.services import artifacts, data, events
from runs.services.interactive import ENDED

_COLUMNS = ("status", "started_at", "ended_at", "duration_s", "error", "warnings", "output_bytes")


@receiver(unit_changed, dispatch_uid="runs.unit_changed")
def follow_unit(sender: Any, unit: Unit, old: str, **_kwargs: Any) -> None:
    """Status, times, error and warnings of the run as its unit has them now."""
    if unit.kind != UnitKind.COMMAND:
        return
    run = Run.objects.filter(unit_id=unit.pk).first()
    if run is None:
        return
    before = [getattr(run, name) for name in _COLUMNS]
    ended = unit.state in states.TERMINAL
    run.status = states.status(
        unit.state,
        cancel_requested=unit.cancel_requested_at is not None,
        unreachable=unit.unreachable_since is not None,
    )
    run.started_at, run.ended_at = unit.started_at, unit.ended_at if ended else None
    if unit.error:
        run.error = unit.error
    # Bad events are noted on the run, the rest on the unit: keep both.
    run.warnings = [*unit.warnings, *(warning for warning in run.warnings if warning not in unit.warnings)]
    if ended:
        if unit.state == states.COMPLETED and run.error:
            run.status = "Failed"  # the script said run.fail() and then ended well
        if run.status == "Completed" and unit.spec.get("outputs"):
            run.warnings = [*run.warnings, *data.outputs_saved(run, transfer_result(unit, "out"))]
        if run.started_at and run.ended_at:
            run.duration_s = (run.ended_at - run.started_at).total_seconds()
        run.output_bytes = artifacts.run_bytes(run)
    if before != [getattr(run, name) for name in _COLUMNS]:
        Run.objects.filter(pk=run.pk).update(**{name: getattr(run, name) for name in _COLUMNS})
    if unit.state == states.QUEUED and old != unit.state and unit.spec.get("inputs"):
        data.staged(run, unit.spec)
    if ended:
        _end_children(run)


def _end_children(run: Run) -> None:
    """Child runs that the script reported and never ended: nobody is left to end them."""
    parents = [run.pk]
    while parents:
        alive = Run.objects.filter(parent_id__in=parents, type="interactive").exclude(status__in=ENDED)
        parents = list(alive.values_list("pk", flat=True))[:900]
        if parents:
            Run.objects.filter(pk__in=parents).update(status=run.status, ended_at=run.ended_at)


@receiver(unit_events, dispatch_uid="runs.unit_events")
def take_events(sender: Any, unit: Unit, lines: list[bytes], **_kwargs: Any) -> None:
    """Lines of a unit's events.jsonl, each exactly once."""
    run = Run.objects.filter(unit_id=unit.pk).first()
    if run is not None:
        events.ingest_lines(run, lines)
