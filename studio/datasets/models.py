"""Datastores, datasets with their versions, profiles, and uploads under way.

A datastore says where bytes lie and how to reach them; a dataset version is a definition (stored JSON, see
``atelier.data.definition``) that says which of those bytes, and what is made of them. Neither holds bytes itself.
"""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

from atelier.data import definition as form
from django.conf import settings
from django.db import models

from studio.accounts.models import Workspace


class DatastoreManager(models.Manager["Datastore"]):
    """The datastores that people see; those that were removed stay as rows for the datasets that name them."""

    def get_queryset(self) -> models.QuerySet[Datastore]:
        return super().get_queryset().filter(deleted_at=None)


class Datastore(models.Model):
    """A place for data. ``kind`` is a key of ``studio.datasets.backends.registry``."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="datastores")
    name = models.CharField(max_length=64)
    kind = models.CharField(max_length=32)
    description = models.TextField(blank=True)
    config: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    secrets = models.TextField(blank=True)  # a JSON object, encrypted as a whole
    is_default = models.BooleanField(default=False)
    builtin = models.BooleanField(default=False)  # the workspace's own store: it cannot be edited or removed
    problems: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(default=list, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = DatastoreManager()
    everything: models.Manager[Datastore] = models.Manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "name"], name="datastore_name_once", condition=models.Q(deleted_at=None)
            ),
            models.UniqueConstraint(
                fields=["workspace"], name="datastore_default_once", condition=models.Q(is_default=True)
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return f"/w/{self.workspace.name}/datastores/{self.name}/"


class Dataset(models.Model):
    """A name for a series of versions."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="datasets")
    name = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    latest_version = models.PositiveIntegerField(default=0)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="dataset_name_once")]
        indexes = [models.Index(fields=["workspace", "-updated_at"], name="dataset_newest")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return f"/w/{self.workspace.name}/datasets/{quote(self.name, safe='')}/"


class DatasetVersion(models.Model):
    """One definition. Without ``dataset`` it was used and never named (v1's saved dataset): one per workspace and
    content. Definitions never change; description and tags may.

    ``secrets`` holds what must not be shown of the definition (the signatures of blob URLs): a JSON object of
    ``{"<index of the path>": "<query string>"}``, encrypted as a whole.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="dataset_versions")
    dataset = models.ForeignKey(Dataset, null=True, blank=True, on_delete=models.CASCADE, related_name="versions")
    version = models.PositiveIntegerField(default=0)
    type = models.CharField(max_length=16)  # tabular, file
    definition: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField()
    digest = models.CharField(max_length=64, db_index=True)  # of the definition with its secrets
    secrets = models.TextField(blank=True)
    description = models.TextField(blank=True)
    tags: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["dataset", "version"], name="dataset_version_once"),
            models.UniqueConstraint(
                fields=["workspace", "digest"], name="dataset_unnamed_once", condition=models.Q(dataset=None)
            ),
        ]

    def __str__(self) -> str:
        return self.label

    def get_absolute_url(self) -> str:
        if self.dataset is None:
            return f"/w/{self.workspace.name}/data/{self.pk}/"
        return f"/w/{self.workspace.name}/datasets/{quote(self.dataset.name, safe='')}/?version={self.version}"

    @property
    def label(self) -> str:
        """``titanic:3``; for one that nobody named what it reads: ``Titanic.csv``, ``raw/**/*.csv``."""
        if self.dataset_id:
            return f"{self.dataset}:{self.version}"
        return form.label(self.definition)

    @property
    def place(self) -> str:
        """The datastore or the server that it reads from."""
        return form.place(self.definition)


class DatasetProfile(models.Model):
    """The figures of a version's columns, computed by a unit of work (``unit_key``).

    ``state``: running, ready, failed. ``result`` is what ``atelier.data.profile.compute`` gives; ``progress`` is
    0 to 1.
    """

    version = models.OneToOneField(DatasetVersion, on_delete=models.CASCADE, related_name="profile")
    unit_key = models.CharField(max_length=32, blank=True, db_index=True)
    state = models.CharField(max_length=16, default="running")
    progress = models.FloatField(default=0.0)
    result: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    error: models.JSONField[dict[str, Any] | None, dict[str, Any] | None] = models.JSONField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"profile of {self.version}"


class Upload(models.Model):
    """A file on its way into a datastore, piece by piece. ``state`` is the backend's own (parts, block ids)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    datastore = models.ForeignKey(Datastore, on_delete=models.CASCADE, related_name="uploads")
    path = models.CharField(max_length=1000)
    size = models.BigIntegerField()
    offset = models.BigIntegerField(default=0)
    state: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict)
    busy_until = models.DateTimeField(null=True, blank=True)  # one request at a time sends; it renews this
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["datastore", "path", "created_by"], name="upload_once_per_user")]

    def __str__(self) -> str:
        return f"{self.path} ({self.offset} of {self.size})"


class DatasetDraft(models.Model):
    """A dataset that somebody is describing in the wizard. ``state`` is a JSON object, encrypted as a whole: a web
    address in it may be signed."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="dataset_drafts")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    state = models.TextField(blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"draft {self.pk}"
