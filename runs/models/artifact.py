from __future__ import annotations

from typing import Any

from django.db import models

from studio.accounts.models import Workspace


class Blob(models.Model):
    """One file's content, kept once per workspace; ``references`` counts the snapshots that hold it."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="blobs")
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField()
    references = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "sha256"], name="blob_once")]

    def __str__(self) -> str:
        return self.sha256


class Snapshot(models.Model):
    """A source folder as it was at submit. ``files``: [{"path", "sha256", "size", "mode"}], sorted by path;
    ``digest`` is of that list, so the same folder is one snapshot."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="snapshots")
    digest = models.CharField(max_length=64)
    files: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField()
    size = models.BigIntegerField()
    count = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "digest"], name="snapshot_once")]

    def __str__(self) -> str:
        return self.digest
