"""Registered models and their versions."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Router, Status

from models_registry import selectors, services
from models_registry.models import ModelVersion, RegisteredModel
from runs.models import Run
from studio.accounts.models import Workspace
from studio.accounts.policy import Right
from studio.api.access import Ws, own_or_forbidden, user_of, workspace_of
from studio.api.auth import UNITS_TOO
from studio.api.binary import binary_response
from studio.api.v1.paging import Cursor, Limit
from studio.api.v1.schemas import PageOf
from studio.api.v1.schemas_models import ModelChange, ModelDetail, ModelIn, ModelOut, ModelVersionOut, VersionChange
from studio.lib import storage
from studio.lib.errors import Invalid, NotFound
from studio.lib.responses import file_response, zip_response

router = Router(tags=["Models"])


def version_out(version: ModelVersion, workspace: str) -> dict[str, Any]:
    name = version.model.name
    return {
        "id": f"{name}:{version.version}",
        "name": name,
        "version": version.version,
        "framework": version.framework,
        "framework_version": version.framework_version,
        "description": version.description,
        "tags": version.tags or {},
        "properties": version.properties or {},
        "resource_configuration": version.resource_configuration or {},
        "sample_input": version.sample_input,
        "run_id": version.run.run_id if version.run is not None else None,
        "size": version.size,
        "files": version.files or [],
        "created_at": version.created_at,
        "created_by": version.created_by.label if version.created_by is not None else None,
        "archived": version.archived_at is not None,
        "url": f"{settings.ATELIER_URL}/w/{workspace}/models/{name}/{version.version}/",
    }


def model_out(model: RegisteredModel, workspace: str) -> dict[str, Any]:
    return {
        "name": model.name,
        "description": model.description,
        "tags": model.tags or {},
        "latest": model.latest,
        "archived": model.archived_at is not None,
        "created_at": model.created_at,
        "updated_at": model.updated_at,
        "url": f"{settings.ATELIER_URL}/w/{workspace}/models/{model.name}/",
    }


def model_find(workspace: Workspace, name: str) -> RegisteredModel:
    found = RegisteredModel.objects.filter(workspace=workspace, name=name).first()
    if found is None:
        raise NotFound(_("There is no model %(name)s in this workspace.") % {"name": name[:100]})
    return found


def version_find(workspace: Workspace, name: str, version: int | None = None) -> ModelVersion:
    """The version, or the newest one of the name; NotFound where there is none."""
    rows = ModelVersion.objects.filter(model__workspace=workspace, model__name=name)
    if version is not None:
        rows = rows.filter(version=version)
    found = (
        rows.select_related("model", "model__workspace", "run", "created_by", "environment")
        .order_by("-version")
        .first()
    )
    if found is None:
        which = f"{name[:100]}:{version}" if version is not None else name[:100]
        raise NotFound(_("There is no model %(which)s in this workspace.") % {"which": which})
    return found


@router.get("/models", response=PageOf[ModelOut])
def model_list(
    request: HttpRequest,
    workspace: Ws,
    search: str = "",
    archived: bool = False,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Any:
    """Registered models."""
    place = workspace_of(request, workspace)
    page = selectors.models_page(place, search=search, archived=archived, cursor=cursor, limit=limit)
    return {"items": [model_out(row.model, place.name) for row in page.items], "next": page.next}


@router.post("/models", response={201: ModelVersionOut}, auth=UNITS_TOO)
def model_register(request: HttpRequest, workspace: Ws, data: ModelIn) -> Any:
    """Register files of a run as the next version of a model, with its lineage."""
    place = workspace_of(request, workspace, Right.WRITE)
    run = (
        Run.objects.select_related("workspace", "unit", "environment")
        .filter(workspace=place, run_id=data.run_id)
        .first()
    )
    own_or_forbidden(request, run)
    if run is None:
        raise NotFound(_("There is no run %(run)s in this workspace.") % {"run": data.run_id[:300]})
    resources = data.resource_configuration.dict(exclude_none=True) if data.resource_configuration else {}
    version = services.model_register(
        workspace=place,
        user=user_of(request),
        name=data.name,
        run=run,
        path=data.path,
        description=data.description,
        tags=data.tags,
        properties=data.properties,
        framework=data.framework,
        framework_version=data.framework_version,
        resource_configuration=resources,
        sample_input=data.sample_input,
        request=request,
    )
    return Status(201, version_out(version, place.name))


_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "files"],
                    "properties": {
                        "name": {"type": "string"},
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "paths": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "Path of each of the files.",
                        },
                        "description": {"type": "string"},
                        "framework": {"type": "string"},
                        "framework_version": {"type": "string"},
                        "tags": {"type": "string", "description": "A JSON object."},
                        "properties": {"type": "string", "description": "A JSON object."},
                        "resource_configuration": {"type": "string", "description": "A JSON object."},
                        "sample_input": {"type": "string", "description": "JSON."},
                    },
                }
            }
        },
    }
}


def _json(request: HttpRequest, name: str, otherwise: Any, kind: type | None = dict) -> Any:
    text = request.POST.get(name)
    if not text:
        return otherwise
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Invalid(_("%(name)s is not JSON: %(why)s") % {"name": name, "why": error}, field=name) from None
    if kind is not None and not isinstance(value, kind):
        raise Invalid(_("%(name)s is a JSON object.") % {"name": name}, field=name)
    return value


@router.post("/models/upload", response={201: ModelVersionOut}, openapi_extra=_UPLOAD)
def model_upload(request: HttpRequest, workspace: Ws) -> Any:
    """Register files from the caller's machine as the next version of a model."""
    place = workspace_of(request, workspace, Right.WRITE)
    if not (request.content_type or "").startswith("multipart/form-data"):
        raise Invalid(_("Send a form of the type multipart/form-data."), field="files")
    files, paths = request.FILES.getlist("files"), request.POST.getlist("paths")
    if not files:
        raise Invalid(_("There are no files in the form."), field="files")
    if paths and len(paths) != len(files):
        raise Invalid(_("There are not as many paths as files."), field="paths")
    named = list(zip(paths or [file.name or "" for file in files], files, strict=True))
    version = services.model_register(
        workspace=place,
        user=user_of(request),
        name=request.POST.get("name", ""),
        files=named,
        description=request.POST.get("description", ""),
        tags=_json(request, "tags", {}),
        properties=_json(request, "properties", {}),
        framework=request.POST.get("framework", ""),
        framework_version=request.POST.get("framework_version", ""),
        resource_configuration=_json(request, "resource_configuration", {}),
        sample_input=_json(request, "sample_input", None, None),
        request=request,
    )
    return Status(201, version_out(version, place.name))


@router.get("/models/{name}", response=ModelDetail)
def model_get(request: HttpRequest, workspace: Ws, name: str) -> Any:
    """A model with its versions, the newest first."""
    place = workspace_of(request, workspace)
    model = model_find(place, name)
    versions = model.versions.select_related("model", "run", "created_by").order_by("-version")[:1000]
    return {**model_out(model, place.name), "versions": [version_out(one, place.name) for one in versions]}


@router.patch("/models/{name}", response=ModelOut)
def model_update(request: HttpRequest, workspace: Ws, name: str, data: ModelChange) -> Any:
    """Archive a model or bring it back; change its description and tags."""
    place = workspace_of(request, workspace, Right.WRITE)
    model, user = model_find(place, name), user_of(request)
    if data.archived is not None:
        services.model_archive(model, archived=data.archived, user=user, request=request)
    if data.description is not None or data.tags is not None:
        services.model_update(model, user=user, description=data.description, tags=data.tags, request=request)
    return model_out(model, place.name)


@router.get("/models/{name}/versions/{int:version}", response=ModelVersionOut)
def model_version_get(request: HttpRequest, workspace: Ws, name: str, version: int) -> Any:
    """One version of a model."""
    place = workspace_of(request, workspace)
    return version_out(version_find(place, name, version), place.name)


@router.patch("/models/{name}/versions/{int:version}", response=ModelVersionOut)
def model_version_update(request: HttpRequest, workspace: Ws, name: str, version: int, data: VersionChange) -> Any:
    """Change what is said about a version."""
    place = workspace_of(request, workspace, Right.WRITE)
    found = version_find(place, name, version)
    changes = {key: value for key, value in data.dict(exclude_unset=True).items() if value is not None}
    services.version_update(found, user=user_of(request), request=request, **changes)
    return version_out(version_find(place, name, version), place.name)


@router.delete("/models/{name}/versions/{int:version}", response={204: None})
def model_version_delete(request: HttpRequest, workspace: Ws, name: str, version: int) -> Any:
    """Delete a version and its files. One that is deployed is refused."""
    place = workspace_of(request, workspace, Right.WRITE)
    services.version_delete(version_find(place, name, version), user=user_of(request), request=request)
    return Status(204, None)


@router.api_operation(
    ["GET", "HEAD"],
    "/models/{name}/versions/{int:version}/files/{file:path}",
    openapi_extra=binary_response(ranges=True),
)
def model_version_file(request: HttpRequest, workspace: Ws, name: str, version: int, path: str) -> Any:
    """The content of one file of a version."""
    found = version_find(workspace_of(request, workspace), name, version)
    root = storage.model_directory(found.key)
    return file_response(request, storage.safe_join(root, path), name=path.rpartition("/")[2])


@router.get("/models/{name}/versions/{int:version}/zip", openapi_extra=binary_response("application/zip"))
def model_version_zip(request: HttpRequest, workspace: Ws, name: str, version: int) -> Any:
    """All files of a version as a zip stream."""
    found = version_find(workspace_of(request, workspace), name, version)
    return zip_response(services.version_zip(found), f"{name}-{version}.zip")
