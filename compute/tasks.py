"""Celery tasks: short, idempotent, and given ids. Each may be delivered twice, or never."""

from __future__ import annotations

from celery import shared_task

from compute import reconcile
from compute.models import Target
from compute.publish import publish
from compute.services import advance, targets


@shared_task(name="compute.advance")
def advance_unit(unit_id: int) -> None:
    advance.unit_advance(unit_id)


@shared_task(name="compute.cancel")
def cancel_unit(unit_id: int) -> None:
    advance.send_cancel(unit_id)


@shared_task(name="compute.finish")
def finish_unit(unit_id: int) -> None:
    advance.unit_finish(unit_id)


@shared_task(name="compute.queue")
def fill_queue(target_id: int) -> None:
    """A slot may be free: the units that have waited longest start."""
    target = Target.everything.filter(pk=target_id).first()
    if target is not None:
        for unit_id in advance.queue_fill(target):
            publish("compute.advance", unit_id)


@shared_task(name="compute.check")
def check_target(target_id: int) -> None:
    """Test a target that was attached."""
    target = Target.objects.filter(pk=target_id).first()
    if target is not None:
        targets.target_check(target)


@shared_task(name="compute.tick")
def tick() -> None:
    reconcile.tick()


@shared_task(name="compute.orphans")
def look_for_orphans(target_id: int) -> None:
    """What runs on a target without a row."""
    target = Target.objects.filter(pk=target_id).first()
    if target is not None:
        reconcile.orphans(target)


@shared_task(name="compute.housekeeping")
def housekeeping() -> None:
    reconcile.housekeeping()
