"""What environments do when a unit changes. Connected by ``ComputeConfig.ready``."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from compute import states
from compute.models import Unit, UnitKind
from compute.signals import unit_changed


@receiver(unit_changed, dispatch_uid="environment-build-end")
def build_unit_changed(unit: Unit, old: str, **_rest: Any) -> None:
    if unit.kind == UnitKind.BUILD and unit.state in states.TERMINAL and old not in states.TERMINAL:
        from compute.env_services import build_end

        build_end(unit)
