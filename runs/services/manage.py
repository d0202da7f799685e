"""What people do to runs after the submit: tags, notes, cancel, archive, delete."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from compute import services as compute_services
from runs.models import Blob, Experiment, Run, RunProperty, RunTag, Snapshot
from runs.services import blobs, places
from runs.services.checks import run_name, tag_values
from runs.services.interactive import ENDED, run_cancel_interactive
from studio.accounts.models import User, Workspace
from studio.accounts.services import audit
from studio.lib.errors import Conflict, Invalid
from studio.lib.names import clean_text

NOTES_MAX = 100_000


def _noted(run: Run, action: str, user: User | None, request: HttpRequest | None, **detail: Any) -> None:
    audit(user, action, workspace=run.workspace, object=run, label=run.run_id, detail=detail, request=request)


@transaction.atomic
def run_cancel(run: Run, *, user: User | None, force: bool = False, request: HttpRequest | None = None) -> bool:
    """Ask a run to end: SIGTERM, and SIGKILL after a grace; ``force``: at once. Raises Conflict where it has ended.

    Runs that its script reported as children end with it.
    """
    if run.unit is not None:
        done = compute_services.unit_cancel(run.unit, force=force)
    elif run.type == "interactive":
        done = run_cancel_interactive(run)
    else:
        done = False
    run.refresh_from_db(fields=["status", "ended_at"])
    if not done:
        raise Conflict(_("%(run)s has already ended: %(status)s.") % {"run": run.run_id, "status": run.status})
    _noted(run, "run.cancel", user, request, force=force)
    return True


@transaction.atomic
def run_archive(run: Run, *, user: User | None, request: HttpRequest | None = None) -> None:
    """Lists leave it out; nothing of it is deleted."""
    run.archived_at = run.archived_at or timezone.now()
    run.save(update_fields=["archived_at"])
    _noted(run, "run.archive", user, request)


@transaction.atomic
def run_unarchive(run: Run, *, user: User | None, request: HttpRequest | None = None) -> None:
    run.archived_at = None
    run.save(update_fields=["archived_at"])
    _noted(run, "run.unarchive", user, request)


def run_tag(
    run: Run, key: str, value: Any = None, *, user: User | None = None, request: HttpRequest | None = None
) -> None:
    """Set one tag; None is a tag without a value."""
    run_tags_set(run, {key: value}, user=user, request=request)


@transaction.atomic
def run_tags_set(run: Run, tags: Any, *, user: User | None = None, request: HttpRequest | None = None) -> None:
    """Set tags; those that are there get the new value."""
    cleaned = tag_values(tags)
    RunTag.objects.bulk_create(
        [RunTag(run=run, key=key, value=value) for key, value in cleaned.items()],
        update_conflicts=True,
        unique_fields=["run", "key"],
        update_fields=["value"],
    )
    _noted(run, "run.tag", user, request, tags=cleaned)


@transaction.atomic
def run_untag(run: Run, key: str, *, user: User | None = None, request: HttpRequest | None = None) -> None:
    """Take a tag off; one that is not there is no error."""
    if RunTag.objects.filter(run=run, key=key).delete()[0]:
        _noted(run, "run.untag", user, request, key=key)


@transaction.atomic
def run_add_properties(
    run: Run, properties: Any, *, user: User | None = None, request: HttpRequest | None = None
) -> None:
    """Properties are written once. Raises Conflict for a key that is there, and then writes none."""
    cleaned = {key: value or "" for key, value in tag_values(properties, field="properties").items()}
    have = set(RunProperty.objects.filter(run=run).values_list("key", flat=True))
    if taken := sorted(have & cleaned.keys()):
        raise Conflict(
            _("A property cannot be changed once it is written: %(names)s.") % {"names": ", ".join(taken)},
            field="properties",
        )
    RunProperty.objects.bulk_create(RunProperty(run=run, key=key, value=value) for key, value in cleaned.items())
    _noted(run, "run.properties", user, request, properties=cleaned)


@transaction.atomic
def run_set_notes(run: Run, notes: str, *, user: User | None = None, request: HttpRequest | None = None) -> None:
    notes = clean_text(notes, field="notes")
    if len(notes) > NOTES_MAX:
        raise Invalid(_("Notes have at most %(most)s characters.") % {"most": NOTES_MAX}, field="notes")
    run.notes = notes
    run.save(update_fields=["notes"])
    _noted(run, "run.notes", user, request)


@transaction.atomic
def run_rename(run: Run, name: str, *, user: User | None = None, request: HttpRequest | None = None) -> None:
    """The name that people gave it; empty takes it away. The run's id never changes."""
    name = run_name(name)
    run.name = name
    run.save(update_fields=["name"])
    _noted(run, "run.rename", user, request, name=name)


def _experiment_noted(experiment: Experiment, action: str, user: User | None, request: HttpRequest | None) -> None:
    audit(user, action, workspace=experiment.workspace, object=experiment, label=experiment.name, request=request)


@transaction.atomic
def experiment_archive(experiment: Experiment, *, user: User | None, request: HttpRequest | None = None) -> None:
    """Lists leave it out until somebody brings it back or submits to it again."""
    experiment.archived_at = experiment.archived_at or timezone.now()
    experiment.save(update_fields=["archived_at"])
    _experiment_noted(experiment, "experiment.archive", user, request)


@transaction.atomic
def experiment_unarchive(experiment: Experiment, *, user: User | None, request: HttpRequest | None = None) -> None:
    experiment.archived_at = None
    experiment.save(update_fields=["archived_at"])
    _experiment_noted(experiment, "experiment.unarchive", user, request)


@transaction.atomic
def experiment_update(
    experiment: Experiment,
    *,
    user: User | None,
    description: str | None = None,
    tags: Any = None,
    request: HttpRequest | None = None,
) -> None:
    """``tags`` replaces all of them; None leaves what is there."""
    if description is not None:
        experiment.description = clean_text(description, field="description")[:NOTES_MAX]
    if tags is not None:
        experiment.tags = tag_values(tags)
    experiment.save(update_fields=["description", "tags"])
    _experiment_noted(experiment, "experiment.update", user, request)


@dataclass(frozen=True)
class DeletePreview:
    """What a delete takes: the runs with all their children; ``bytes`` in their folders, ``snapshot_bytes`` of source
    files that nothing else holds; ``blockers`` in words, why it cannot be done now."""

    runs: list[Run]
    bytes: int
    snapshot_bytes: int
    blockers: list[str] = field(default_factory=list)


def _with_children(runs: Iterable[Run]) -> list[Run]:
    """The runs and everything below them."""
    found = {run.pk: run for run in runs}
    level = list(found)
    while level:
        children: list[Run] = []
        for at in range(0, len(level), 900):
            children += Run.objects.filter(parent_id__in=level[at : at + 900]).select_related("unit", "workspace")
        level = [child.pk for child in children if child.pk not in found]
        found.update({child.pk: child for child in children})
    return list(found.values())


def _lonely(runs: Sequence[Run]) -> list[Snapshot]:
    """Snapshots that no other run uses."""
    snapshots = {run.snapshot_id for run in runs if run.snapshot_id}
    mine = {run.pk for run in runs}
    shared = {
        snapshot
        for snapshot, run in Run.objects.filter(snapshot_id__in=snapshots).values_list("snapshot_id", "pk")
        if run not in mine
    }
    return list(Snapshot.objects.filter(pk__in=snapshots - shared))


def _freed(workspace: Workspace, snapshots: list[Snapshot]) -> int:
    """Bytes of the blobs that only these snapshots hold."""
    holds = Counter(sha256 for snapshot in snapshots for sha256 in {file["sha256"] for file in snapshot.files})
    total = 0
    for some in blobs.batches(holds):
        rows = Blob.objects.filter(workspace=workspace, sha256__in=some).values_list("sha256", "size", "references")
        total += sum(size for sha256, size, references in rows if references <= holds[sha256])
    return total


def run_delete_preview(runs: Iterable[Run]) -> DeletePreview:
    """What deleting these runs of one workspace would free."""
    every = _with_children(runs)
    if not every:
        return DeletePreview([], 0, 0)
    blockers = [
        _("%(run)s has not ended: cancel it first.") % {"run": run.run_id} for run in every if run.status not in ENDED
    ]
    size = sum(places.tree_bytes(places.directory(run)) for run in every)
    return DeletePreview(every, size, _freed(every[0].workspace, _lonely(every)), blockers)


def run_delete(runs: Iterable[Run], *, user: User | None, request: HttpRequest | None = None) -> int:
    """Delete runs of one workspace with their children, for good: rows, folders, and source files that nothing else
    holds. Registered models keep their own copies. How many runs went. Raises Conflict where one has not ended."""
    every = _with_children(runs)
    if not every:
        return 0
    workspace = every[0].workspace
    with transaction.atomic():
        blobs.lock(workspace)
        fresh = dict(Run.objects.filter(pk__in=[run.pk for run in every]).values_list("pk", "status"))
        alive = [run.run_id for run in every if fresh.get(run.pk, "Completed") not in ENDED]
        if alive:
            raise Conflict(_("Not ended yet: %(runs)s. Cancel them first.") % {"runs": ", ".join(alive[:5])})
        lonely = _lonely(every)
        for run in every:
            _noted(run, "run.delete", user, request)
        units = [run.unit for run in every if run.unit is not None]
        Run.objects.filter(pk__in=[run.pk for run in every]).delete()
        for unit in units:
            compute_services.unit_delete(unit)
        snapshots_delete(workspace, lonely)
        folders = [places.directory(run) for run in every]
        for folder in folders:
            transaction.on_commit(partial(shutil.rmtree, folder, ignore_errors=True))
    return len(every)


def snapshots_delete(workspace: Workspace, snapshots: list[Snapshot]) -> None:
    """Snapshots that no run uses, and the blobs that nothing holds then. Inside a transaction with the blobs' lock."""
    gone: set[str] = set()
    for snapshot in snapshots:
        held = {file["sha256"] for file in snapshot.files}
        blobs.refer(workspace, held, -1)
        gone |= held
        snapshot.delete()
    if gone:
        blobs.drop_unreferenced(workspace, among=gone)
