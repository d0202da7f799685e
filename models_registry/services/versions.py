"""What happens to models after they were registered: words, archive, deletion, download."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from zipstream import ZipStream

from models_registry.models import Deployment, ModelVersion, RegisteredModel
from models_registry.services import files as model_files
from models_registry.services.registration import (
    check_framework,
    check_framework_version,
    check_labels,
    check_resources,
)
from studio.accounts.models import User
from studio.accounts.services import audit
from studio.lib import storage
from studio.lib.errors import Conflict
from studio.lib.names import clean_json, clean_text

ORPHAN_S = 86_400.0


@dataclass(frozen=True)
class DeletePreview:
    """What deleting would do: ``bytes`` and ``files`` that go, and the sentences of what stands against it."""

    bytes: int
    files: int
    versions: list[str] = field(default_factory=list)
    blockers: list[str] = field(default_factory=list)


@transaction.atomic
def model_update(
    model: RegisteredModel,
    *,
    user: User,
    description: str | None = None,
    tags: Any = None,
    request: HttpRequest | None = None,
) -> None:
    changes: dict[str, Any] = {}
    if description is not None:
        changes["description"] = clean_text(description, field="description")
    if tags is not None:
        changes["tags"] = check_labels(tags, "tags")
    RegisteredModel.objects.filter(pk=model.pk).update(updated_at=timezone.now(), **changes)
    model.refresh_from_db()
    audit(
        user,
        "model.update",
        workspace=model.workspace,
        object=model,
        detail={"fields": sorted(changes)},
        request=request,
    )


@transaction.atomic
def version_update(version: ModelVersion, *, user: User, request: HttpRequest | None = None, **changes: Any) -> None:
    """Change some columns; those that are there already in ``properties`` stay as they are."""
    checks: dict[str, Callable[[Any], Any]] = {
        "description": lambda value: clean_text(str(value), field="description"),
        "tags": lambda value: check_labels(value, "tags"),
        "framework": check_framework,
        "framework_version": check_framework_version,
        "resource_configuration": check_resources,
        "sample_input": lambda value: clean_json(value, field="sample_input"),
        "properties": lambda value: {**check_labels(value, "properties"), **version.properties},
    }
    for name, value in changes.items():
        setattr(version, name, checks[name](value))
    version.save(update_fields=list(changes))
    audit(
        user, "model.update", workspace=version.model.workspace, object=version,
        detail={"fields": sorted(changes)}, request=request,
    )  # fmt: skip


@transaction.atomic
def model_archive(
    model: RegisteredModel, *, user: User, archived: bool = True, request: HttpRequest | None = None
) -> None:
    """Out of the lists, or back into them; what serves goes on."""
    RegisteredModel.objects.filter(pk=model.pk).update(archived_at=timezone.now() if archived else None)
    model.refresh_from_db()
    action = "model.archive" if archived else "model.unarchive"
    audit(user, action, workspace=model.workspace, object=model, request=request)


def version_delete_preview(version: ModelVersion) -> DeletePreview:
    """The bytes that deleting frees, and the endpoints that forbid it."""
    names = list(
        Deployment.objects.filter(version=version).order_by("endpoint__name").values_list("endpoint__name", flat=True)
    )
    blockers = [
        _("The endpoint %(name)s serves this version: delete the endpoint or deploy another version to it first.")
        % {"name": name}
        for name in names
    ]
    return DeletePreview(version.size, len(version.files), [str(version)], blockers)


@transaction.atomic
def version_delete(version: ModelVersion, *, user: User, request: HttpRequest | None = None) -> int:
    """Remove a version for good; the bytes that this freed. Raises Conflict while an endpoint uses it.

    Its number is never given again. A model that lost its last version is archived.
    """
    preview = version_delete_preview(version)
    if preview.blockers:
        raise Conflict(" ".join(preview.blockers))
    model, key, label = version.model, version.key, str(version)
    audit(
        user, "model.delete", workspace=model.workspace, object=version, label=label,
        detail={"bytes": preview.bytes}, request=request,
    )  # fmt: skip
    version.delete()
    if not model.versions.exists():
        RegisteredModel.objects.filter(pk=model.pk).update(archived_at=timezone.now())
    transaction.on_commit(lambda: model_files.discard(key))
    return preview.bytes


def version_zip(version: ModelVersion) -> Iterator[bytes]:
    """All files of a version as a zip that is made while it is sent, not compressed."""
    archive = ZipStream(sized=False)
    root = storage.model_directory(version.key)
    for file in version.files:
        archive.add_path(str(root / file["path"]), arcname=file["path"])
    return iter(archive)


def remove_orphans() -> int:
    """Folders that no version names, older than a day: a process died before the row. The number removed."""
    removed = 0
    known = set(ModelVersion.objects.values_list("key", flat=True))
    for key, folder in list(model_files.folders()):
        partial = folder.name.startswith(".")
        if (partial or key not in known) and time.time() - folder.stat().st_mtime > ORPHAN_S:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed
