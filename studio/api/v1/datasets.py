"""Datasets: names for series of definitions."""

from __future__ import annotations

from typing import Annotated, Any

from django.conf import settings
from django.http import HttpRequest
from ninja import Path, Query, Router, Status

from studio.accounts.policy import Right
from studio.api.access import Ws, workspace_of
from studio.api.auth import DATA_PEOPLE, UNITS_TOO, actor_of
from studio.api.v1.paging import Cursor, Limit
from studio.api.v1.schemas import PageOf
from studio.api.v1.schemas_data import DatasetIn, DatasetOut, DatasetPatch, DatasetUsesOut, VersionOut, VersionPatch
from studio.datasets import selectors
from studio.datasets.models import DatasetVersion
from studio.datasets.selectors import DatasetRow
from studio.datasets.services import datasets

router = Router(tags=["Datasets"], auth=DATA_PEOPLE)

Name = Annotated[str, Path(..., description="Name of the dataset.", examples=["titanic"])]
Number = Annotated[str, Path(..., description="Number of the version, or latest.", examples=["latest", "1"])]


def version_out(version: DatasetVersion) -> dict[str, Any]:
    """No query: the row comes with its dataset, workspace and author."""
    dataset = version.dataset
    return {
        "id": version.pk,
        "name": dataset.name if dataset is not None else None,
        "version": version.version if dataset is not None else None,
        "type": version.type,
        "definition": version.definition,
        "schema": version.definition.get("schema"),
        "description": version.description,
        "tags": version.tags,
        "created_by": version.created_by.label if version.created_by is not None else None,
        "created_at": version.created_at,
        "latest": dataset is not None and version.version == dataset.latest_version,
        "registered": dataset is not None,
        "url": f"{settings.ATELIER_URL}{version.get_absolute_url()}",
    }


def dataset_out(row: DatasetRow) -> dict[str, Any]:
    dataset = row.dataset
    return {
        "name": dataset.name,
        "description": dataset.description,
        "type": row.latest.type,
        "tags": row.latest.tags,
        "versions": row.versions,
        "latest": version_out(row.latest),
        "archived": dataset.archived_at is not None,
        "created_by": dataset.created_by.label if dataset.created_by is not None else None,
        "created_at": dataset.created_at,
        "updated_at": dataset.updated_at,
        "url": f"{settings.ATELIER_URL}{row.latest.get_absolute_url()}",
    }


@router.get("/datasets", response=PageOf[DatasetOut], auth=UNITS_TOO, by_alias=True)
def dataset_list(
    request: HttpRequest,
    workspace: Ws,
    search: Annotated[str, Query("", max_length=500, description="In names, descriptions and tags.")] = "",
    tag: Annotated[str | None, Query(None, max_length=500, description="A tag's name, or name=value.")] = None,
    type: Annotated[str | None, Query(None, max_length=16, description="tabular or file.")] = None,  # noqa: A002
    archived: bool = False,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Any:
    """Datasets with their newest versions, the last changed first."""
    page = selectors.datasets_page(
        workspace_of(request, workspace),
        search=search,
        tag=tag,
        type=type,
        archived=archived,
        cursor=cursor,
        limit=limit,
    )
    return {"items": [dataset_out(row) for row in page.items], "next": page.next}


@router.post("/datasets", response={200: VersionOut, 201: VersionOut}, auth=UNITS_TOO, by_alias=True)
def dataset_register(request: HttpRequest, workspace: Ws, data: DatasetIn) -> Any:
    """Give a definition a name. 200 where it is the name's newest version already."""
    place, actor = workspace_of(request, workspace, Right.WRITE), actor_of(request)
    before = selectors.latest_id(place, data.name)
    version = datasets.dataset_register(
        workspace=place, user=actor.user, by_person=actor.run is None, request=request, **data.dict()
    )
    return Status(200 if version.pk == before else 201, version_out(version))


@router.get("/datasets/{name}", response=DatasetOut, auth=UNITS_TOO, by_alias=True)
def dataset_get(request: HttpRequest, workspace: Ws, name: Name) -> Any:
    """A dataset with its newest version."""
    return dataset_out(selectors.dataset_row(selectors.dataset_get(workspace_of(request, workspace), name)))


@router.patch("/datasets/{name}", response=DatasetOut, by_alias=True)
def dataset_update(request: HttpRequest, workspace: Ws, name: Name, data: DatasetPatch) -> Any:
    """Change a dataset's description; archive it or bring it back."""
    dataset = selectors.dataset_get(workspace_of(request, workspace, Right.WRITE), name)
    user = actor_of(request).user
    if data.description is not None:
        datasets.dataset_update(dataset, user=user, description=data.description, request=request)
    if data.archived is not None:
        datasets.dataset_archive(dataset, user=user, archived=data.archived, request=request)
    return dataset_out(selectors.dataset_row(dataset))


@router.delete("/datasets/{name}", response={204: None})
def dataset_delete(request: HttpRequest, workspace: Ws, name: Name) -> Any:
    """Delete a dataset with all its versions. The files stay where they lie; runs keep its name."""
    dataset = selectors.dataset_get(workspace_of(request, workspace, Right.WRITE), name)
    datasets.dataset_delete(dataset, user=actor_of(request).user, request=request)
    return Status(204, None)


@router.get("/datasets/{name}/delete-preview", response=DatasetUsesOut)
def dataset_delete_preview(request: HttpRequest, workspace: Ws, name: Name) -> Any:
    """What deleting the dataset would take away, and which runs had it."""
    uses = selectors.dataset_uses(selectors.dataset_get(workspace_of(request, workspace, Right.WRITE), name))
    return {"versions": uses.versions, "runs": uses.runs, "newest_runs": uses.names}


@router.get("/datasets/{name}/versions", response=PageOf[VersionOut], auth=UNITS_TOO, by_alias=True)
def dataset_versions(request: HttpRequest, workspace: Ws, name: Name, cursor: Cursor = None, limit: Limit = 50) -> Any:
    """Versions of a dataset, the newest first."""
    dataset = selectors.dataset_get(workspace_of(request, workspace), name)
    page = selectors.versions_page(dataset, cursor=cursor, limit=limit)
    return {"items": [version_out(one) for one in page.items], "next": page.next}


@router.get("/datasets/{name}/versions/{version}", response=VersionOut, auth=UNITS_TOO, by_alias=True)
def dataset_version_get(request: HttpRequest, workspace: Ws, name: Name, version: Number) -> Any:
    """One version of a dataset."""
    return version_out(selectors.version_get(workspace_of(request, workspace), name, version))


@router.patch("/datasets/{name}/versions/{version}", response=VersionOut, by_alias=True)
def dataset_version_update(request: HttpRequest, workspace: Ws, name: Name, version: Number, data: VersionPatch) -> Any:
    """Change what is said about a version. What it is never changes."""
    found = selectors.version_get(workspace_of(request, workspace, Right.WRITE), name, version)
    changed = datasets.version_update(found, user=actor_of(request).user, request=request, **data.dict())
    return version_out(changed)
