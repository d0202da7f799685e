"""Upkeep: what nobody refers to any more."""

from __future__ import annotations

import time
from datetime import timedelta

from celery import shared_task
from django.db import transaction
from django.utils import timezone

from runs.models import Snapshot
from runs.services import blobs
from runs.services.manage import snapshots_delete
from studio.accounts.models import Workspace
from studio.lib import storage

# Long enough for the slowest upload between sending files and submitting the run that uses them.
GRACE_S = 24 * 3600


@shared_task(name="runs.housekeeping")
def housekeeping() -> int:
    """Drop snapshots that were never submitted, files that no snapshot holds, parts of uploads; bytes freed."""
    freed = 0
    for workspace in Workspace.objects.iterator():
        with transaction.atomic():
            blobs.lock(workspace)
            old = timezone.now() - timedelta(seconds=GRACE_S)
            snapshots_delete(
                workspace, list(Snapshot.objects.filter(workspace=workspace, runs=None, created_at__lt=old)[:500])
            )
            freed += blobs.drop_unreferenced(workspace, older_than_s=GRACE_S)
        for path in storage.data("blobs", str(workspace.pk), "tmp").glob("*"):
            if time.time() - path.stat().st_mtime > GRACE_S:
                freed += path.stat().st_size
                path.unlink(missing_ok=True)
    return freed
