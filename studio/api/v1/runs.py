"""Runs: submit, list, look at, change, cancel, delete, and their children."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Header, Path, Query, Router, Status

from runs import selectors
from runs.models import Experiment, Run
from runs.services import interactive, manage
from runs.services import submit as submits
from studio.accounts.models import User
from studio.accounts.policy import Right
from studio.api.access import Ws, own_or_forbidden, run_of, user_of, workspace_of
from studio.api.auth import UNITS_TOO, actor_of
from studio.api.v1.paging import Cursor, Limit
from studio.api.v1.run_json import run_out, runs_out, with_related
from studio.api.v1.schemas import PageOf
from studio.api.v1.schemas_runs import CancelIn, ChildrenIn, FailIn, PreviewOut, RunChanges, RunIn, RunOut, RunPatch
from studio.api.v1.submit import parent_find, resubmit_changes, submit_arguments
from studio.lib.errors import Forbidden, Invalid, NotFound

router = Router(tags=["Runs"])

RunId = Annotated[str, Path(..., description="Id of the run.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        None,
        alias="Idempotency-Key",
        description="The same key with the same body gives the same run again.",
        max_length=200,
    ),
]


@router.post("/runs", response={201: RunOut}, auth=UNITS_TOO)
def run_submit(request: HttpRequest, workspace: Ws, data: RunIn, idempotency_key: IdempotencyKey = None) -> Any:
    """Submit a run, or start an interactive one that the caller reports itself."""
    place, user = workspace_of(request, workspace, Right.WRITE), user_of(request)
    if actor_of(request).run is not None and not (data.interactive and data.parent):
        raise Forbidden(
            _("A running unit may only start children of its own run: interactive, with its run as the parent.")
        )
    if data.interactive:
        parent = parent_find(place, data.parent)
        own_or_forbidden(request, parent)
        run = interactive.run_start_interactive(
            place, user, data.experiment, name=data.name, parent=parent, tags=data.tags, request=request
        )
        if data.properties:
            manage.run_add_properties(run, data.properties, user=user)
    else:
        run = submits.run_submit(
            workspace=place,
            user=user,
            idempotency_key=idempotency_key or None,
            request=request,
            **submit_arguments(place, user, data),
        )
    return Status(201, run_out(place, with_related([run])[0]))


def _author(username: str | None) -> int | None:
    """The id of a user, or one that nobody has: runs of somebody unknown are none."""
    if not username:
        return None
    return User.objects.filter(username=username).values_list("pk", flat=True).first() or 0


Sort = Annotated[
    str,
    Query(
        "-created",
        description="created, name, status, duration, metric:<name> or param:<name>; a minus before it: descending.",
    ),
]


@router.get("/runs", response=PageOf[RunOut])
def run_list(
    request: HttpRequest,
    workspace: Ws,
    experiment: str | None = None,
    status: Annotated[str | None, Query(None, description="One status, or several with commas between.")] = None,
    search: Annotated[str, Query("", max_length=500, description="In name, id, experiment, notes and tags.")] = "",
    tag: Annotated[str | None, Query(None, description="A tag's name, or name=value.")] = None,
    created_by: Annotated[str | None, Query(None, description="A username.")] = None,
    archived: bool = False,
    sort: Sort = "-created",
    parent: Annotated[str | None, Query(None, description="Only children of this run.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Any:
    """Runs of the workspace: filtered, sorted by anything, paged by key."""
    place = workspace_of(request, workspace)
    key, equals, value = (tag or "").partition("=")
    series = Experiment.objects.filter(workspace=place, name=experiment).first() if experiment else None
    if experiment and series is None:
        return {"items": [], "next": None}
    page = selectors.runs_page(
        place,
        experiment=series,
        status=[one for one in status.split(",") if one] if status else None,
        search=search,
        tag=((key, value) if equals else key) or None,
        created_by=_author(created_by),
        archived=archived,
        sort=sort,
        parent=parent_find(place, parent),
        cursor=cursor,
        limit=limit,
    )
    return {"items": runs_out(place, with_related([row.run for row in page.items])), "next": page.next}


def _runs_of(place: Any, ids: str) -> list[Run]:
    """The runs that a comma-separated list names, in its order; NotFound naming those that are not there."""
    wanted = [one for one in dict.fromkeys(ids.split(",")) if one]
    if not wanted:
        raise Invalid(_("Name the runs."), field="ids")
    if len(wanted) > 500:
        raise Invalid(_("At most 500 runs at a time."), field="ids")
    found = {
        run.run_id: run
        for run in Run.objects.select_related("workspace", "experiment").filter(workspace=place, run_id__in=wanted)
    }
    if missing := [one for one in wanted if one not in found]:
        raise NotFound(_("There is no run %(runs)s in this workspace.") % {"runs": ", ".join(missing)[:300]})
    return [found[one] for one in wanted]


@router.get("/runs/delete-preview", response=PreviewOut)
def run_delete_preview(
    request: HttpRequest, workspace: Ws, ids: Annotated[str, Query(..., description="Ids of runs, comma-separated.")]
) -> Any:
    """What deleting these runs would free, and what stands in the way."""
    place = workspace_of(request, workspace, Right.WRITE)
    preview = manage.run_delete_preview(_runs_of(place, ids))
    return {
        "runs": [run.run_id for run in preview.runs],
        "bytes": preview.bytes,
        "snapshot_bytes": preview.snapshot_bytes,
        "blockers": [str(one) for one in preview.blockers],
    }


@router.get("/runs/{run_id}", response=RunOut, auth=UNITS_TOO)
def run_get(request: HttpRequest, workspace: Ws, run_id: RunId) -> Any:
    """One run."""
    run = run_of(request, workspace, run_id)
    return run_out(run.workspace, run)


@router.patch("/runs/{run_id}", response=RunOut, auth=UNITS_TOO)
def run_update(request: HttpRequest, workspace: Ws, run_id: RunId, data: RunPatch) -> Any:
    """Change name, notes, tags or whether it is archived; add properties."""
    run = run_of(request, workspace, run_id, Right.WRITE)
    user = user_of(request)
    if data.archived is not None and actor_of(request).run is not None:
        raise Forbidden(_("A running unit cannot archive its run."))
    if data.properties:
        manage.run_add_properties(run, data.properties, user=user, request=request)
    if data.tags:
        manage.run_tags_set(run, data.tags, user=user, request=request)
    for key in data.tags_remove or []:
        manage.run_untag(run, key, user=user, request=request)
    if data.name is not None:
        manage.run_rename(run, data.name, user=user, request=request)
    if data.notes is not None:
        manage.run_set_notes(run, data.notes, user=user, request=request)
    if data.archived is not None:
        (manage.run_archive if data.archived else manage.run_unarchive)(run, user=user, request=request)
    return run_out(run.workspace, with_related([run])[0])


@router.delete("/runs/{run_id}", response={204: None})
def run_delete(request: HttpRequest, workspace: Ws, run_id: RunId) -> Any:
    """Delete an ended run with its outputs, logs and metrics. See `runs/delete-preview` first."""
    run = run_of(request, workspace, run_id, Right.WRITE)
    manage.run_delete([run], user=user_of(request), request=request)
    return Status(204, None)


@router.get("/runs/{run_id}/details", auth=UNITS_TOO, response=dict[str, Any])
def run_details(request: HttpRequest, workspace: Ws, run_id: RunId) -> Any:
    """Everything about a run under the keys of `Run.get_details()` of the v1 SDK."""
    return selectors.run_details(run_of(request, workspace, run_id))


@router.post("/runs/{run_id}/cancel", response={202: RunOut})
def run_cancel(request: HttpRequest, workspace: Ws, run_id: RunId, data: CancelIn | None = None) -> Any:
    """Ask a run to end: SIGTERM, then SIGKILL after its grace."""
    run = run_of(request, workspace, run_id, Right.WRITE)
    manage.run_cancel(run, user=user_of(request), force=bool(data and data.force), request=request)
    return Status(202, run_out(run.workspace, with_related([run])[0]))


@router.post("/runs/{run_id}/resubmit", response={201: RunOut})
def run_resubmit(
    request: HttpRequest,
    workspace: Ws,
    run_id: RunId,
    data: RunChanges | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Submit a run again, with changes."""
    run = run_of(request, workspace, run_id, Right.WRITE)
    user = user_of(request)
    changes = resubmit_changes(run.workspace, user, data.dict(exclude_unset=True) if data else {})
    again = submits.run_resubmit(run, user=user, idempotency_key=idempotency_key or None, request=request, **changes)
    return Status(201, run_out(run.workspace, with_related([again])[0]))


@router.post("/runs/{run_id}/complete", response=RunOut, auth=UNITS_TOO)
def run_complete(request: HttpRequest, workspace: Ws, run_id: RunId) -> Any:
    """End an interactive run well."""
    run = run_of(request, workspace, run_id, Right.WRITE)
    interactive.run_complete(run, user=user_of(request), request=request)
    return run_out(run.workspace, with_related([run])[0])


@router.post("/runs/{run_id}/fail", response=RunOut, auth=UNITS_TOO)
def run_fail(request: HttpRequest, workspace: Ws, run_id: RunId, data: FailIn | None = None) -> Any:
    """End an interactive run with an error."""
    run = run_of(request, workspace, run_id, Right.WRITE)
    interactive.run_fail(run, data.error if data else None, user=user_of(request), request=request)
    return run_out(run.workspace, with_related([run])[0])


@router.get("/runs/{run_id}/children", response=PageOf[RunOut], auth=UNITS_TOO)
def run_children(request: HttpRequest, workspace: Ws, run_id: RunId, cursor: Cursor = None, limit: Limit = 50) -> Any:
    """Child runs, the newest first."""
    run = run_of(request, workspace, run_id)
    page = selectors.runs_page(run.workspace, parent=run, cursor=cursor, limit=limit)
    return {"items": runs_out(run.workspace, with_related([row.run for row in page.items])), "next": page.next}


@router.post("/runs/{run_id}/children", response={201: list[RunOut]}, auth=UNITS_TOO)
def run_children_create(request: HttpRequest, workspace: Ws, run_id: RunId, data: ChildrenIn) -> Any:
    """Start interactive child runs."""
    run = run_of(request, workspace, run_id, Right.WRITE)
    made = interactive.create_children(run, user=user_of(request), count=data.count, name=data.name, tags=data.tags)
    return Status(201, runs_out(run.workspace, with_related(made)))
