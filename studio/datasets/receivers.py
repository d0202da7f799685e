"""What datasets do when something happens elsewhere."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver

from studio.accounts.models import Workspace
from studio.datasets.services.datastores import ensure_workspace_store


@receiver(post_save, sender=Workspace, dispatch_uid="datasets.new_workspace")
def new_workspace(instance: Workspace, created: bool, raw: bool = False, **_rest: Any) -> None:
    """Every new workspace has a place for data at once."""
    if created and not raw:
        ensure_workspace_store(instance)
