"""Targets, environments, units of work and their log streams.

``compute`` knows nothing of runs or models: whoever wants a unit run creates one through
``compute.services`` and listens to ``compute.signals``.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from compute.states import TargetState
from studio.accounts.models import Workspace


class TargetManager(models.Manager["Target"]):
    """The targets that people see; those that were deleted stay as rows for the history of their units."""

    def get_queryset(self) -> models.QuerySet[Target]:
        return super().get_queryset().filter(deleted_at=None)


class Target(models.Model):
    """A compute target: where units run. ``driver`` is a key of ``compute.drivers.registry``."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="targets")
    name = models.SlugField(max_length=64)
    driver = models.CharField(max_length=32)
    description = models.TextField(blank=True)
    config: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    secrets = models.TextField(blank=True)  # a JSON object, encrypted as a whole
    host_key = models.TextField(blank=True)  # of a machine behind SSH, as it was confirmed: "ssh-ed25519 AAAA..."
    offered_key = models.TextField(blank=True)  # what it showed last, where that is not the confirmed one
    state = models.CharField(max_length=16, default=TargetState.SUCCEEDED)
    # What it said of itself at its last test: engine, system, cpus, memory_bytes, gpus, ... (``Driver.facts``)
    facts: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    problems: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(default=list, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = TargetManager()
    everything: models.Manager[Target] = models.Manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "name"], name="target_name_once", condition=models.Q(deleted_at=None)
            )
        ]

    def __str__(self) -> str:
        return self.name


class ContainerRegistry(models.Model):
    """Credentials of a registry of images. From the one with ``push`` images are pulled before they are built, and what
    is built is sent there. ``address``: host, with a port or a prefix where there is one."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="container_registries")
    address = models.CharField(max_length=255)
    username = models.CharField(max_length=255, blank=True)
    password = models.TextField(blank=True)  # encrypted
    push = models.BooleanField(default=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "address"], name="registry_address_once"),
            models.UniqueConstraint(fields=["workspace"], name="registry_push_once", condition=models.Q(push=True)),
        ]

    def __str__(self) -> str:
        return self.address


class Environment(models.Model):
    """A named, versioned recipe. ``content_hash`` is of the normalised recipe: equal recipes share one build."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="environments")
    name = models.CharField(max_length=128)
    version = models.PositiveIntegerField()
    recipe: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField()  # compute.environments.Recipe
    content_hash = models.CharField(max_length=64, db_index=True)
    curated = models.BooleanField(default=False)
    anonymous = models.BooleanField(default=False)  # made by a submit that named no environment; hidden from the list
    description = models.TextField(blank=True)
    tags: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name", "version"], name="environment_version_once")
        ]

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


class UnitKind(models.TextChoices):
    COMMAND = "command", _("Command")
    BUILD = "build", _("Environment build")
    SERVICE = "service", _("Service")
    TRANSFER = "transfer", _("Data transfer")
    PROFILE = "profile", _("Dataset profile")


class Unit(models.Model):
    """One unit of work: a directory somewhere, and this row. See ``compute.states`` for how ``state`` may change.

    Every change of state is one conditional UPDATE on (id, state, version); see ``compute.services.unit_move``.
    """

    key = models.CharField(max_length=32, unique=True)  # uuid4 hex; names the directory and the backend's label
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="units")
    target = models.ForeignKey(Target, on_delete=models.PROTECT, related_name="units")
    kind = models.CharField(max_length=16, choices=UnitKind, default=UnitKind.COMMAND)
    label = models.CharField(max_length=300, blank=True)  # what people see in a queue: the run's id, the environment
    spec: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField()  # compute.spec.UnitSpec without secrets
    secrets = models.TextField(blank=True)  # environment variables that are secret: a JSON object, encrypted
    token_digest = models.CharField(max_length=64, blank=True, db_index=True)  # the unit's own bearer token

    state = models.CharField(max_length=16, default="created")
    version = models.PositiveIntegerField(default=0)
    attempt = models.PositiveSmallIntegerField(default=1)
    # [[state, unix seconds, note], ...]
    history: models.JSONField[list[Any], list[Any]] = models.JSONField(default=list)
    handle: models.JSONField[dict[str, Any] | None, dict[str, Any] | None] = models.JSONField(null=True, blank=True)
    exit: models.JSONField[dict[str, Any] | None, dict[str, Any] | None] = models.JSONField(null=True, blank=True)
    error: models.JSONField[dict[str, Any] | None, dict[str, Any] | None] = models.JSONField(null=True, blank=True)
    warnings: models.JSONField[list[str], list[str]] = models.JSONField(default=list, blank=True)

    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_forced = models.BooleanField(default=False)
    unreachable_since = models.DateTimeField(null=True, blank=True)
    deadline_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_owner = models.CharField(max_length=64, blank=True)
    next_check_at = models.DateTimeField(null=True, blank=True)
    events_offset = models.BigIntegerField(default=0)
    released = models.BooleanField(default=False)

    created_at = models.DateTimeField(auto_now_add=True)
    queued_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["target", "state", "queued_at"], name="unit_queue"),
            # Ended units are never due, so the index stays small with 100,000 of them. The condition is one that
            # both databases can prove from ``next_check_at <= x``.
            models.Index(fields=["next_check_at"], name="unit_due", condition=models.Q(next_check_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.label or self.key


class EnvironmentBuild(models.Model):
    """The one build of a recipe on a target: a venv (or later an image) that later units share."""

    content_hash = models.CharField(max_length=64)
    target = models.ForeignKey(Target, on_delete=models.CASCADE, related_name="builds")
    unit = models.ForeignKey(Unit, null=True, on_delete=models.SET_NULL, related_name="builds")
    state = models.CharField(max_length=16, default="building")  # building, ready, failed
    detail: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict)  # python, packages, error
    size = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    ready_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["content_hash", "target"], name="build_once_per_target")]

    def __str__(self) -> str:
        return f"{self.content_hash[:12]} on {self.target}"


class LogStream(models.Model):
    """One append-only stream of a unit. The bytes are a file in the unit's directory.

    This row is touched at most once a second.
    """

    unit = models.ForeignKey(Unit, on_delete=models.CASCADE, related_name="streams")
    name = models.CharField(max_length=64, default="stdout")
    size = models.BigIntegerField(default=0)
    lines = models.BigIntegerField(default=0)
    sealed = models.BooleanField(default=False)
    sha256 = models.CharField(max_length=64, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["unit", "name"], name="stream_once")]

    def __str__(self) -> str:
        return f"{self.name} of {self.unit}"


class Transfer(models.Model):
    """Data on its way into a unit's directory (``in``) or out of it (``out``), one row per direction.

    ``plan``: [{"name", "mode", "datastore", ...}], see ``compute.data.inputs``. ``carrier`` is the unit of work that
    moves the bytes; none where links were enough. ``state``: waiting, moving, done, failed.
    """

    unit = models.ForeignKey(Unit, on_delete=models.CASCADE, related_name="transfers")
    direction = models.CharField(max_length=3)  # in, out
    carrier = models.OneToOneField(
        Unit, null=True, blank=True, on_delete=models.SET_NULL, related_name="transfer_carried"
    )
    state = models.CharField(max_length=16, default="waiting")
    plan: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(default=list)
    # Per name: {"files", "bytes", "cached_bytes", "path", "error"}
    result: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    files_done = models.PositiveIntegerField(default=0)
    files_total = models.PositiveIntegerField(null=True, blank=True)
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(null=True, blank=True)
    current = models.CharField(max_length=1000, blank=True)  # the file that is being moved
    cached_bytes = models.BigIntegerField(default=0)  # of bytes_done, what an earlier run had fetched already
    attempts = models.PositiveSmallIntegerField(default=0)  # carriers that were started
    note = models.CharField(max_length=1000, blank=True)  # why nothing moves just now; empty while it does
    noted_at = models.DateTimeField(null=True, blank=True)
    error: models.JSONField[dict[str, Any] | None, dict[str, Any] | None] = models.JSONField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["unit", "direction"], name="transfer_once_per_direction")]

    def __str__(self) -> str:
        return f"{self.direction} of {self.unit}"
