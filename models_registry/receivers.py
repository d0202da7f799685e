"""What deployments do when ``compute`` announces a change."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from compute import states
from compute.models import Unit, UnitKind
from compute.publish import publish
from compute.signals import unit_changed
from models_registry.models import Deployment


@receiver(unit_changed, dispatch_uid="models_registry.unit_changed")
def deployment_follow(sender: Any, unit: Unit, old: str, **kwargs: Any) -> None:
    """A service that started or ended is looked at now and not at the next beat."""
    if unit.kind != UnitKind.SERVICE or unit.state == old:
        return
    served = Deployment.objects.filter(unit=unit)
    if unit.state in states.TERMINAL:
        served.filter(desired="stopped").update(state="Stopped", error=None)
    if unit.state in states.TERMINAL or unit.state == states.RUNNING:
        publish("models_registry.health")
