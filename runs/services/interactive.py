"""Runs that a script reports itself: ``experiment.start_logging()``, child runs."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from runs.models import Experiment, Run
from runs.services.checks import run_name, tag_values
from runs.services.submit import experiment_number, new_run_id, write_attributes
from studio.accounts.models import User, Workspace
from studio.accounts.services import audit
from studio.lib.errors import Conflict, Invalid

ENDED = frozenset({"Completed", "Failed", "Canceled"})
MAX_CHILDREN = 10_000


@transaction.atomic
def run_start_interactive(
    workspace: Workspace,
    user: User | None,
    experiment: str,
    name: str = "",
    parent: Run | None = None,
    tags: Any = None,
    *,
    request: HttpRequest | None = None,
) -> Run:
    """A run without a unit, running from now on until it says complete or fail."""
    name = run_name(name)
    if parent is not None and parent.workspace_id != workspace.pk:
        raise Invalid(_("There is no such run in this workspace."), field="parent")
    row, number = experiment_number(workspace, experiment)
    now = timezone.now()
    run = Run.objects.create(
        run_id=new_run_id(row.name),
        key=uuid.uuid4().hex,
        workspace=workspace,
        experiment=row,
        number=number,
        name=name,
        type="interactive",
        parent=parent,
        status="Running",
        created_by=user,
        started_at=now,
    )
    write_attributes(run, parameters={}, tags=tag_values(tags), properties={})
    audit(user, "run.start", workspace=workspace, object=run, label=run.run_id, request=request)
    return run


@transaction.atomic
def create_children(run: Run, *, user: User | None, count: int = 1, name: str = "", tags: Any = None) -> list[Run]:
    """``count`` child runs of ``run``, numbered in its experiment, with few statements whatever the count."""
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_CHILDREN:
        raise Invalid(_("The number of child runs is between 1 and %(most)s.") % {"most": MAX_CHILDREN}, field="count")
    name = run_name(name)
    experiment, first = experiment_number(run.workspace, run.experiment.name)
    if count > 1 and not _take(experiment, count - 1):
        raise Conflict(_("The experiment got other runs at the same moment: try again."))
    now = timezone.now()
    labels = tag_values(tags)
    made = Run.objects.bulk_create(
        Run(
            run_id=new_run_id(experiment.name),
            key=uuid.uuid4().hex,
            workspace=run.workspace,
            experiment=experiment,
            number=first + index,
            name=name if count == 1 else (f"{name} {index + 1}" if name else ""),
            type="interactive",
            parent=run,
            status="Running",
            created_by=user,
            started_at=now,
        )
        for index in range(count)
    )
    for child in made if labels else ():
        write_attributes(child, parameters={}, tags=labels, properties={})
    audit(user, "run.children", workspace=run.workspace, object=run, label=run.run_id, detail={"count": count})
    return made


def _take(experiment: Experiment, more: int) -> bool:
    """Numbers for ``more`` runs after the one that was just taken."""
    taken = Experiment.objects.filter(pk=experiment.pk, run_count=experiment.run_count).update(
        run_count=experiment.run_count + more
    )
    return bool(taken)


def _end(run: Run, status: str, error: dict[str, Any] | None) -> Run:
    """Conditional on the run being alive: the first word wins."""
    changed = (
        Run.objects.filter(pk=run.pk)
        .exclude(status__in=ENDED)
        .update(status=status, error=error, ended_at=timezone.now(), output_bytes=_size(run))
    )
    run.refresh_from_db(fields=["status", "error", "ended_at", "output_bytes"])
    if not changed and run.status != status:
        raise Conflict(_("%(run)s has already ended: %(status)s.") % {"run": run.run_id, "status": run.status})
    return run


def _size(run: Run) -> int:
    from runs.services.artifacts import run_bytes

    return run_bytes(run)


def error_record(error: Any) -> dict[str, Any]:
    """An error in one shape: {"message", "code"?, ...}, from text, from a record, from nothing."""
    if isinstance(error, dict):
        return error if error.get("message") else {"message": _("The run failed."), **error}
    return {"message": str(error) if error else _("The run failed.")}


def run_complete(run: Run, *, user: User | None = None, request: HttpRequest | None = None) -> Run:
    """Ends an interactive run well. Again on a completed run: nothing changes. Conflict where it ended otherwise.

    Scripts that were submitted say ``run.complete()`` too; there the end of the command counts, and this does nothing.
    """
    if run.type != "interactive":
        return run
    with transaction.atomic():
        _end(run, "Completed", None)
        audit(user, "run.complete", workspace=run.workspace, object=run, label=run.run_id, request=request)
    return run


def run_fail(run: Run, error: Any = None, *, user: User | None = None, request: HttpRequest | None = None) -> Run:
    """Ends an interactive run with an error: text or {"message", "code"}.

    A run on a target may fail itself too (``run.fail()`` in its script): the error is kept, and the run ends as failed
    when its command ends.
    """
    record = error_record(error)
    with transaction.atomic():
        if run.type == "interactive":
            _end(run, "Failed", record)
        elif not Run.objects.filter(pk=run.pk).exclude(status__in=ENDED).update(error=record):
            raise Conflict(_("%(run)s has already ended: %(status)s.") % {"run": run.run_id, "status": run.status})
        audit(user, "run.fail", workspace=run.workspace, object=run, label=run.run_id, request=request)
    return run


def run_cancel_interactive(run: Run) -> bool:
    """Ends an interactive run and its children as canceled; False where it has already ended."""
    return bool(
        Run.objects.filter(Q(pk=run.pk) | Q(parent=run, type="interactive"))
        .exclude(status__in=ENDED)
        .update(status="Canceled", ended_at=timezone.now())
    )
