from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models

from compute.models import Environment, Target, Unit
from runs.models.artifact import Snapshot
from runs.models.experiment import Experiment
from studio.accounts.models import Workspace


class Run(models.Model):
    """One run of an experiment. With a unit it was submitted; without one a script reports it (interactive).

    ``run_id`` is the public id, ``<experiment>_<unix seconds>_<8 hex>``. ``key`` names the directory that holds its
    bytes (``studio.lib.storage.unit_directory``); a submitted run shares it with its unit. ``status`` repeats the
    unit's state in the words that people see, for lists.
    """

    run_id = models.CharField(max_length=300, unique=True)
    key = models.CharField(max_length=32, unique=True)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="runs")
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="runs")
    number = models.PositiveIntegerField()
    name = models.CharField(max_length=255, blank=True)
    type = models.CharField(max_length=32, default="script")  # script, interactive
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.CASCADE, related_name="children")
    unit = models.OneToOneField(Unit, null=True, blank=True, on_delete=models.SET_NULL, related_name="run")
    target = models.ForeignKey(Target, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs")
    environment = models.ForeignKey(Environment, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs")
    snapshot = models.ForeignKey(Snapshot, null=True, blank=True, on_delete=models.PROTECT, related_name="runs")

    script = models.CharField(max_length=1000, blank=True)
    arguments: models.JSONField[list[str], list[str]] = models.JSONField(default=list, blank=True)
    command: models.JSONField[list[str], list[str]] = models.JSONField(default=list, blank=True)
    environment_variables: models.JSONField[dict[str, str], dict[str, str]] = models.JSONField(default=dict, blank=True)
    time_limit_s = models.PositiveIntegerField(null=True, blank=True)

    status = models.CharField(max_length=16, default="NotStarted")
    error: models.JSONField[dict[str, Any] | None, dict[str, Any] | None] = models.JSONField(null=True, blank=True)
    warnings: models.JSONField[list[str], list[str]] = models.JSONField(default=list, blank=True)
    notes = models.TextField(blank=True)
    output_bytes = models.BigIntegerField(default=0)
    duration_s = models.FloatField(null=True, blank=True)  # written at the end, so that lists sort by it
    idempotency_key = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001 - NULL is never a duplicate
    request_digest = models.CharField(max_length=64, blank=True)

    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["experiment", "number"], name="run_number_once"),
            models.UniqueConstraint(fields=["workspace", "created_by", "idempotency_key"], name="run_idempotency_once"),
        ]
        indexes = [
            models.Index(fields=["workspace", "-id"], name="run_workspace_newest"),
            models.Index(fields=["experiment", "-id"], name="run_experiment_newest"),
            models.Index(fields=["workspace", "status", "-id"], name="run_workspace_status"),
            models.Index(fields=["workspace", "duration_s"], name="run_workspace_duration"),
            models.Index(fields=["workspace", "name"], name="run_workspace_name"),
        ]

    def __str__(self) -> str:
        return self.run_id

    def get_absolute_url(self) -> str:
        return f"/w/{self.workspace.name}/runs/{self.run_id}/"


class RunTag(models.Model):
    """A tag may be set again; its value may be None."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="tag_rows")
    key = models.CharField(max_length=255)
    value = models.TextField(null=True, blank=True)  # noqa: DJ001 - a tag without a value is None in the v1 SDK

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "key"], name="tag_once")]

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


class RunProperty(models.Model):
    """A property is written once: setting it again is refused."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="property_rows")
    key = models.CharField(max_length=255)
    value = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "key"], name="property_once")]

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


class RunParameter(models.Model):
    """A parameter of a run, read from its arguments (``--lr 0.1``) or logged. ``number`` when it is one, for sorting.

    workspace and experiment are repeated from the run so that a list of 100,000 runs sorts from the index alone.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="parameters")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=255)
    value = models.TextField(blank=True)
    number = models.FloatField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="parameter_once")]
        indexes = [
            models.Index(fields=["workspace", "name", "number", "run"], name="parameter_ws_sort"),
            models.Index(fields=["experiment", "name", "number", "run"], name="parameter_exp_sort"),
        ]

    def __str__(self) -> str:
        return f"{self.name}={self.value}"
