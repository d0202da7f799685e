"""Events of a run coming in, its metrics going out, experiments, and runs side by side."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import orjson
from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Router

from runs import charts, selectors
from runs.models import Experiment
from runs.services import events, manage
from studio.accounts.policy import Right
from studio.api.access import Ws, run_of, user_of, workspace_of
from studio.api.auth import UNITS_TOO
from studio.api.v1.paging import Cursor, Limit
from studio.api.v1.run_json import runs_out, with_related
from studio.api.v1.runs import RunId, _runs_of
from studio.api.v1.schemas import PageOf
from studio.api.v1.schemas_runs import EventsAccepted, ExperimentOut, ExperimentPatch
from studio.lib.errors import Invalid

router = Router(tags=["Metrics and experiments"])

_EVENTS = {
    "requestBody": {
        "required": True,
        "description": "Lines of JSON, or an object with a list of them. Kinds: metric, metrics, row, table, image, "
        "confusion_matrix, accuracy_table, predictions, residuals, tag, property, param, description, status.",
        "content": {
            "application/x-ndjson": {
                "schema": {"type": "string"},
                "example": '{"k":"metric","n":"loss","v":0.5,"s":1,"t":1760000000.0}\n{"k":"tag","n":"a","v":"b"}\n',
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["events"],
                    "properties": {"events": {"type": "array", "items": {"type": "object"}}},
                },
                "example": {"events": [{"k": "metric", "n": "loss", "v": 0.5, "s": 1}]},
            },
        },
    }
}


@router.post("/runs/{run_id}/events", response=EventsAccepted, auth=UNITS_TOO, openapi_extra=_EVENTS)
def run_events(request: HttpRequest, workspace: Ws, run_id: RunId) -> Any:
    """Write metrics, tags, properties and parameters of a run, as many at a time as you like (up to 64 MB).

    The body is not validated field by field: an event that cannot be used is counted, noted on the run, and does not
    stop the others. Batches of 1,000 reach far more points per second than single ones.
    """
    run = run_of(request, workspace, run_id, Right.WRITE, related=False)
    body = request.body
    if (request.content_type or "").startswith("application/json"):
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Invalid(_("The body is not JSON: %(why)s") % {"why": error}, field="body") from None
        objects = found.get("events") if isinstance(found, dict) else found
        if not isinstance(objects, list):
            raise Invalid(_('Send {"events": [...]}.'), field="events")
        total, refused = len(objects), events.ingest_objects(run, objects)
    else:
        lines = body.split(b"\n")
        total = sum(1 for line in lines if line.strip())
        refused = events.ingest_lines(run, lines) or 0  # type: ignore[func-returns-value]
    return {"accepted": total - refused, "refused": refused}


@router.get("/runs/{run_id}/metrics", response=dict[str, Any], auth=UNITS_TOO)
def run_metrics(request: HttpRequest, workspace: Ws, run_id: RunId) -> Any:
    """Every metric as `Run.get_metrics()` of the v1 SDK gives it: a number, a list, a row, a table..."""
    return selectors.run_metrics(run_of(request, workspace, run_id))


@router.get("/runs/{run_id}/metrics/{path:name}", response=dict[str, Any], auth=UNITS_TOO)
def run_metric_series(
    request: HttpRequest,
    workspace: Ws,
    run_id: RunId,
    name: str,
    points: Annotated[int, Query(1000, ge=2, le=20_000, description="About how many points to return.")] = 1000,
    axis: Literal["step", "time"] = "step",
    since: Annotated[int | None, Query(None, ge=0, le=1 << 62, description="Index of the first point wanted.")] = None,
) -> Any:
    """One scalar metric for a chart, downsampled so that no extreme is lost: {"x": [...], "y": [...], ...}."""
    return charts.series(run_of(request, workspace, run_id, related=False), name, points=points, axis=axis, since=since)


def experiment_out(experiment: Experiment, workspace: str) -> dict[str, Any]:
    return {
        "name": experiment.name,
        "description": experiment.description,
        "tags": experiment.tags or {},
        "run_count": experiment.run_count,
        "last_run_at": experiment.last_run_at,
        "created_at": experiment.created_at,
        "archived": experiment.archived_at is not None,
        "url": f"{settings.ATELIER_URL}/w/{workspace}/experiments/{experiment.name}/",
    }


@router.get("/experiments", response=PageOf[ExperimentOut])
def experiment_list(
    request: HttpRequest,
    workspace: Ws,
    search: str = "",
    archived: bool = False,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Any:
    """Experiments, the most recently used first."""
    place = workspace_of(request, workspace)
    page = selectors.experiments_page(place, search=search, archived=archived, cursor=cursor, limit=limit)
    return {"items": [experiment_out(row.experiment, place.name) for row in page.items], "next": page.next}


@router.get("/experiments/{name}", response=ExperimentOut)
def experiment_get(request: HttpRequest, workspace: Ws, name: str) -> Any:
    """One experiment."""
    place = workspace_of(request, workspace)
    return experiment_out(selectors.experiment_get(place, name), place.name)


@router.patch("/experiments/{name}", response=ExperimentOut)
def experiment_update(request: HttpRequest, workspace: Ws, name: str, data: ExperimentPatch) -> Any:
    """Archive an experiment or bring it back; change its description and tags."""
    place = workspace_of(request, workspace, Right.WRITE)
    experiment = selectors.experiment_get(place, name)
    user = user_of(request)
    if data.archived is not None:
        change = manage.experiment_archive if data.archived else manage.experiment_unarchive
        change(experiment, user=user, request=request)
    if data.description is not None or data.tags is not None:
        manage.experiment_update(experiment, user=user, description=data.description, tags=data.tags, request=request)
    return experiment_out(experiment, place.name)


def _plain(value: Any) -> Any:
    """A selector's answer as JSON: dataclasses become objects, runs their ids."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(one) for one in value]
    return getattr(value, "run_id", None) or (str(value) if hasattr(value, "_meta") else value)


@router.get("/compare", response=dict[str, Any])
def run_compare(
    request: HttpRequest, workspace: Ws, runs: Annotated[str, Query(..., description="Ids of runs, comma-separated.")]
) -> Any:
    """Runs side by side, also of different experiments: what differs and what is the same."""
    place = workspace_of(request, workspace)
    found = with_related(_runs_of(place, runs))
    return {"runs": runs_out(place, found), "comparison": _plain(selectors.compare(found))}
