from __future__ import annotations

from django.db import models

from studio.accounts.models import Workspace


class Experiment(models.Model):
    """A named series of runs. Made by the first submit to it."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="experiments")
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    run_count = models.PositiveIntegerField(default=0)  # also gives the next run its number
    last_run_at = models.DateTimeField(null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="experiment_name_once")]
        indexes = [models.Index(fields=["workspace", "-last_run_at", "-id"], name="experiment_recent")]

    def __str__(self) -> str:
        return self.name
