"""Endpoints: deploy a model, call it, its keys, its log."""

from __future__ import annotations

from typing import Annotated, Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router, Status

from compute.logs.store import LogFile
from compute.models import LogStream
from models_registry import selectors, services
from models_registry.models import Deployment, Endpoint
from models_registry.services.scoring import base_url
from studio.accounts.models import Workspace
from studio.accounts.policy import Right
from studio.api.access import Ws, user_of, workspace_of
from studio.api.v1.models import version_find
from studio.api.v1.paging import Cursor, Limit
from studio.api.v1.schemas import PageOf
from studio.api.v1.schemas_models import EndpointIn, EndpointOut, KeysOut, RotateIn
from studio.api.v1.submit import target_find
from studio.lib.errors import Conflict, Invalid, NotFound
from studio.lib.responses import harden

router = Router(tags=["Endpoints"])

LOG_BYTES = 4 << 20


def endpoint_out(endpoint: Endpoint, workspace: str) -> dict[str, Any]:
    deployment: Deployment | None = endpoint.deployments.all()[0] if endpoint.deployments.all() else None
    unit = deployment.unit if deployment else None
    own = base_url(endpoint)
    base = f"{settings.ATELIER_URL}/api/v1/workspaces/{workspace}/endpoints/{endpoint.name}"
    return {
        "name": endpoint.name,
        "state": deployment.state if deployment else "Stopped",
        "scoring_uri": f"{own}/score" if own else f"{base}/score",
        "swagger_uri": f"{own}/swagger.json" if own else f"{base}/swagger.json",
        "model": str(deployment.version) if deployment else None,
        "auth_enabled": endpoint.auth_enabled,
        "description": endpoint.description,
        "tags": endpoint.tags or {},
        "error": deployment.error if deployment else None,
        "warnings": (deployment.warnings or []) if deployment else [],
        "created_at": endpoint.created_at,
        "updated_at": deployment.updated_at if deployment else endpoint.updated_at,
        "restarts": deployment.restarts if deployment else 0,
        "url": f"{settings.ATELIER_URL}/w/{workspace}/endpoints/{endpoint.name}/",
        "log_stream": unit.key if unit is not None else None,
    }


def _rows(workspace: Workspace) -> Any:
    related = ("deployments__version__model", "deployments__unit")
    return Endpoint.objects.select_related("workspace").filter(workspace=workspace).prefetch_related(*related)


def _endpoint(workspace: Workspace, name: str) -> Endpoint:
    found: Endpoint | None = _rows(workspace).filter(name=name).first()
    if found is None:
        raise NotFound(_("There is no endpoint %(name)s in this workspace.") % {"name": name[:100]})
    return found


def _model_of(place: Workspace, text: str) -> Any:
    """``name:version``, or a name for its newest version."""
    name, colon, version = text.rpartition(":")
    if not colon:
        return version_find(place, text)
    if not version.isdigit() or len(version) > 9:
        raise Invalid(_("%(text)s is not name:version.") % {"text": text[:100]}, field="model")
    return version_find(place, name, int(version))


@router.get("/endpoints", response=PageOf[EndpointOut])
def endpoint_list(request: HttpRequest, workspace: Ws, cursor: Cursor = None, limit: Limit = 50) -> Any:
    """Endpoints of the workspace."""
    place = workspace_of(request, workspace)
    page = selectors.endpoints_page(place, cursor=cursor, limit=limit)
    ids = [row.endpoint.pk for row in page.items]
    found = {row.pk: row for row in _rows(place).filter(pk__in=ids)}
    return {"items": [endpoint_out(found[pk], place.name) for pk in ids if pk in found], "next": page.next}


@router.post("/endpoints", response={201: EndpointOut})
def endpoint_deploy(request: HttpRequest, workspace: Ws, data: EndpointIn) -> Any:
    """Serve a model version behind an endpoint, with no code."""
    place = workspace_of(request, workspace, Right.WRITE)
    target = None
    if data.target:
        target = target_find(place, data.target)
        if target is None:
            raise Invalid(_("There is no compute target %(name)s.") % {"name": data.target[:100]}, field="target")
    deployment = services.deploy(
        workspace=place,
        user=user_of(request),
        name=data.name,
        version=_model_of(place, data.model),
        target=target,
        auth_enabled=data.auth_enabled,
        overwrite=data.overwrite,
        description=data.description,
        tags=data.tags,
        request=request,
    )
    return Status(201, endpoint_out(_endpoint(place, deployment.endpoint.name), place.name))


@router.get("/endpoints/{name}", response=EndpointOut)
def endpoint_get(request: HttpRequest, workspace: Ws, name: str) -> Any:
    """One endpoint."""
    place = workspace_of(request, workspace)
    return endpoint_out(_endpoint(place, name), place.name)


@router.delete("/endpoints/{name}", response={204: None})
def endpoint_delete(request: HttpRequest, workspace: Ws, name: str) -> Any:
    """Stop the service and delete the endpoint with its keys."""
    place = workspace_of(request, workspace, Right.WRITE)
    services.endpoint_delete(_endpoint(place, name), user=user_of(request), request=request)
    return Status(204, None)


def _changed(request: HttpRequest, workspace: Ws, name: str, change: Any) -> Any:
    place = workspace_of(request, workspace, Right.WRITE)
    change(_endpoint(place, name), user=user_of(request), request=request)
    return Status(202, endpoint_out(_endpoint(place, name), place.name))


@router.post("/endpoints/{name}/stop", response={202: EndpointOut})
def endpoint_stop(request: HttpRequest, workspace: Ws, name: str) -> Any:
    """Stop the service; name, address and keys stay."""
    return _changed(request, workspace, name, services.endpoint_stop)


@router.post("/endpoints/{name}/start", response={202: EndpointOut})
def endpoint_start(request: HttpRequest, workspace: Ws, name: str) -> Any:
    """Start a stopped service."""
    return _changed(request, workspace, name, services.endpoint_start)


_SCORE = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {}, "example": {"data": [[5.1, 3.5, 1.4, 0.2]]}}},
    },
    "responses": {
        200: {"description": "What the service answers.", "content": {"application/json": {"schema": {}}}},
        502: {"description": "The service gave no answer."},
        503: {"description": "The service is not running."},
    },
}


@router.post("/endpoints/{name}/score", openapi_extra=_SCORE)
def endpoint_score(request: HttpRequest, workspace: Ws, name: str) -> Any:
    """Call the model as a member of the workspace; the service's own address takes the endpoint's key instead."""
    place = workspace_of(request, workspace)
    endpoint = _endpoint(place, name)
    status, body, headers = services.score(endpoint, request.body, request.content_type or "application/json")
    response = HttpResponse(body, status=status, content_type=headers.get("content-type", "application/json"))
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox"
    return response


@router.get("/endpoints/{name}/keys", response=KeysOut)
def endpoint_keys(request: HttpRequest, workspace: Ws, name: str) -> Any:
    """The two keys that callers of the service send. Contributors and owners."""
    place = workspace_of(request, workspace, Right.WRITE)
    return services.keys(_endpoint(place, name), user=user_of(request), request=request)


@router.post("/endpoints/{name}/keys/rotate", response=KeysOut)
def endpoint_key_rotate(request: HttpRequest, workspace: Ws, name: str, data: RotateIn | None = None) -> Any:
    """A fresh key in the place of one of the two; callers move to the other one first."""
    place = workspace_of(request, workspace, Right.WRITE)
    endpoint = _endpoint(place, name)
    which = data.which if data else "primary"
    if which not in {"primary", "secondary"}:
        raise Invalid(_("Rotate primary or secondary."), field="which")
    return services.key_rotate(endpoint, which, user=user_of(request), request=request)


@router.get(
    "/endpoints/{name}/logs", openapi_extra={"responses": {200: {"description": "Bytes of the service's output."}}}
)
def endpoint_logs(
    request: HttpRequest,
    workspace: Ws,
    name: str,
    start: Annotated[
        int | None, Query(None, alias="from", ge=0, le=1 << 62, description="The last lines where it is not given.")
    ] = None,
    limit: Annotated[int, Query(256 << 10, ge=1, le=LOG_BYTES)] = 256 << 10,
) -> Any:
    """The service's output from a byte on, or its last lines. Headers as for a run's log."""
    place = workspace_of(request, workspace)
    deployment = _endpoint(place, name).deployments.select_related("unit").first()
    unit = deployment.unit if deployment else None
    log = LogFile(unit.key) if unit is not None else None
    offset = (log.tail_start(limit) if log else 0) if start is None else start
    response = HttpResponse(log.read(offset, limit) if log else b"", content_type="text/plain; charset=utf-8")
    harden(response, "service.log", attachment=False)
    sealed = unit is None or LogStream.objects.filter(unit=unit, name="stdout", sealed=True).exists()
    response.headers["X-Atelier-Offset"] = str(offset)
    response.headers["X-Atelier-Size"] = str(log.size() if log else 0)
    response.headers["X-Atelier-Sealed"] = "true" if sealed else "false"
    return response


@router.get("/endpoints/{name}/swagger.json", response=dict[str, Any])
def endpoint_swagger(request: HttpRequest, workspace: Ws, name: str) -> Any:
    """The OpenAPI description of the service."""
    place = workspace_of(request, workspace)
    document = services.describe(_endpoint(place, name))
    if document is None:
        raise Conflict(
            _("The service does not answer: it is starting, has stopped or has crashed. Its log says which.")
        )
    return document
