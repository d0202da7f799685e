"""What compute does when something happens elsewhere."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver

from compute import states
from compute.models import EnvironmentBuild, Unit
from compute.publish import publish
from compute.services.targets import ensure_local_target, target_gone
from compute.signals import build_finished, unit_changed
from studio.accounts.models import Workspace


@receiver(post_save, sender=Workspace, dispatch_uid="compute.new_workspace")
def new_workspace(instance: Workspace, created: bool, raw: bool = False, **_rest: Any) -> None:
    """Every new workspace can run something at once: this machine, and the curated environments."""
    if created and not raw:
        from compute import env_services

        ensure_local_target(instance)
        env_services.ensure_curated(instance)


@receiver(build_finished, dispatch_uid="compute.wake_waiting")
def wake_waiting(build: EnvironmentBuild, **_rest: Any) -> None:
    """Units that wait for this build go on at once."""
    waiting = Unit.objects.filter(target=build.target, state=states.PREPARING).values_list("pk", "spec")
    for unit_id, spec in waiting:
        if spec.get("environment", build.content_hash) == build.content_hash:  # without one: perhaps the base image
            publish("compute.advance", unit_id)


@receiver(unit_changed, dispatch_uid="compute.detach")
def last_unit_ended(unit: Unit, old: str, **_rest: Any) -> None:
    """A target that is being detached goes with the last of its units."""
    if (
        unit.state in states.TERMINAL
        and old not in states.TERMINAL
        and unit.target.state == states.TargetState.DETACHING
    ):
        target_gone(unit.target)
