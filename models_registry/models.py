"""Registered models with their versions; endpoints and the deployments behind them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models

from compute.models import Environment, Target, Unit
from runs.models import Run
from studio.accounts.models import Workspace


class RegisteredModel(models.Model):
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="registered_models")
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    latest = models.PositiveIntegerField(default=0)  # also gives the next version its number
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="model_name_once")]

    def __str__(self) -> str:
        return self.name


class ModelVersion(models.Model):
    """``files``: [{"path", "size", "sha256"}] below ``storage.model_directory(key)``. Public id: ``name:version``."""

    model = models.ForeignKey(RegisteredModel, on_delete=models.CASCADE, related_name="versions")
    version = models.PositiveIntegerField()
    key = models.CharField(max_length=32, unique=True)
    description = models.TextField(blank=True)
    framework = models.CharField(max_length=64, blank=True)  # ScikitLearn, Onnx, TensorFlow, Custom...
    framework_version = models.CharField(max_length=64, blank=True)
    resource_configuration: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, blank=True
    )
    tags = models.JSONField(default=dict, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    sample_input: models.JSONField[Any, Any] = models.JSONField(null=True, blank=True)
    files: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(default=list)
    size = models.BigIntegerField(default=0)
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.SET_NULL, related_name="model_versions")
    environment = models.ForeignKey(Environment, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    source_path = models.CharField(max_length=1000, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "version"], name="model_version_once")]

    def __str__(self) -> str:
        return f"{self.model.name}:{self.version}"


class Endpoint(models.Model):
    """A service with a stable name, address and keys. ``keys`` is a JSON object {"primary", "secondary"}, encrypted."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="endpoints")
    name = models.CharField(max_length=64)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    auth_enabled = models.BooleanField(default=True)
    keys = models.TextField(blank=True)
    port = models.PositiveIntegerField(null=True, blank=True, unique=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="endpoint_name_once")]

    def __str__(self) -> str:
        return self.name


class Deployment(models.Model):
    """A model version served behind an endpoint by a unit of the service kind.

    ``desired`` is what people asked for (running, stopped); ``state`` is what is: Transitioning, Healthy, Unhealthy,
    Failed, Stopped.
    """

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="deployments")
    name = models.CharField(max_length=64, default="default")
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="deployments")
    target = models.ForeignKey(Target, null=True, on_delete=models.SET_NULL, related_name="+")
    unit = models.ForeignKey(Unit, null=True, on_delete=models.SET_NULL, related_name="deployments")
    desired = models.CharField(max_length=16, default="running")
    state = models.CharField(max_length=16, default="Transitioning")
    error: models.JSONField[dict[str, Any] | None, dict[str, Any] | None] = models.JSONField(null=True, blank=True)
    warnings: models.JSONField[list[str], list[str]] = models.JSONField(default=list, blank=True)
    restarts = models.PositiveIntegerField(default=0)
    health: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, blank=True
    )  # last answer of /healthz
    next_start_at = models.DateTimeField(null=True, blank=True)  # a unit that ended is replaced at this time
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["endpoint", "name"], name="deployment_name_once")]

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.name}"
