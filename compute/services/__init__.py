"""What others may ask of ``compute``: units, targets and environments."""

from __future__ import annotations

from typing import Any

from compute.services.advance import unit_advance
from compute.services.targets import (
    ensure_local_target,
    target_check,
    target_confirm_key,
    target_create,
    target_delete,
    target_driver,
    target_update,
)
from compute.services.units import (
    unit_by_token,
    unit_bytes,
    unit_cancel,
    unit_create,
    unit_delete,
    unit_move,
    unit_touch,
)

__all__ = [
    "ensure_local_target",
    "target_check",
    "target_confirm_key",
    "target_create",
    "target_delete",
    "target_driver",
    "target_update",
    "unit_advance",
    "unit_by_token",
    "unit_bytes",
    "unit_cancel",
    "unit_create",
    "unit_delete",
    "unit_move",
    "unit_touch",
]

ENVIRONMENTS = frozenset({"environment_register", "environment_prepare", "environment_rebuild", "ensure_curated"})


def __getattr__(name: str) -> Any:
    """Environments are built by units, so ``env_services`` is imported only when somebody asks for it."""
    if name in ENVIRONMENTS:
        from compute import env_services

        return getattr(env_services, name)
    raise AttributeError(name)
