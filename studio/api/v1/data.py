"""What is behind a definition: its files, its first rows, its figures, and the runs and datasets around it."""

from __future__ import annotations

import ipaddress
from itertools import islice
from typing import Annotated, Any
from urllib.parse import quote

from atelier.data.sources import DataFile
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from ninja import Path, Query, Router, Status

from studio.accounts.models import Workspace
from studio.accounts.policy import Right
from studio.api.access import Ws, user_of, workspace_of
from studio.api.auth import UNITS_TOO
from studio.api.binary import binary_response
from studio.api.content import query_response, source_response
from studio.api.v1.datasets import version_out
from studio.api.v1.schemas_data import (
    DataFilesOut,
    DefinitionIn,
    InspectIn,
    LineageOut,
    LookOut,
    ProfileOut,
    VersionOut,
)
from studio.datasets import selectors
from studio.datasets.models import DatasetProfile, DatasetVersion
from studio.datasets.services import datasets
from studio.lib.errors import Invalid, NotFound

router = Router(tags=["Data"])

PAGE = 1000  # files
_FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-IP", "Via")
Id = Annotated[str, Path(..., description="Id of a version or of a saved definition.")]
After = Annotated[str | None, Query(None, max_length=20, description="`next` of the page before.")]
Most = Annotated[int | None, Query(None, ge=1, description="At most so many files; 1,000 are the most of a page.")]


def version_of(request: HttpRequest, workspace: str, key: str, right: Right = Right.READ) -> DatasetVersion:
    return selectors.version_by_id(workspace_of(request, workspace, right), key)


def _is_here(request: HttpRequest) -> bool:
    """Whether the caller is on this machine: its connection comes from here, and through no proxy that says so."""
    if settings.ALLAUTH_TRUSTED_PROXY_COUNT or any(request.headers.get(name) for name in _FORWARDED):
        return False
    try:
        peer = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return (getattr(peer, "ipv4_mapped", None) or peer).is_loopback


def _file_out(file: DataFile, *, here: bool, href: str | None) -> dict[str, Any]:
    """``href`` is where a file is that is in no datastore; None for an address that needs no key."""
    store, url = file.ref.get("datastore"), file.ref.get("url")
    if store is not None:
        href = f"datastores/{quote(store, safe='')}/content/{quote(file.ref['path'], safe='/')}"
    return {
        "path": file.path,
        "store": file.store or None,
        "name": file.name,
        "size": file.size,
        "etag": file.etag,
        "local": file.local if here and store is not None else None,
        "href": href,
        "url": url if href is None else None,
    }


def _listed(
    request: HttpRequest,
    workspace: Workspace,
    opened: dict[str, Any],
    after: str | None,
    limit: int | None,
    version: Any,
) -> dict[str, Any]:
    """A page of the files of an opened definition, without its steps. ``version``: the row that it is of, if any."""
    if after is not None and not (after.isascii() and after.isdigit() and len(after) < 10):
        raise Invalid(_("after is the next of the page before."), field="after")
    source = datasets.source_of(workspace, opened)
    start, most = int(after or 0), min(limit or PAGE, PAGE)
    if version is None and datasets.split(opened)[1]:
        raise Invalid(
            _("An address of the definition needs a key: save it (data/definitions), and list the files of that."),
            field="definition",
        )
    found = list(islice(source.files(opened, limit=start + most + 1), start, start + most + 1))
    here = _is_here(request)
    files = []
    for index, file in enumerate(found[:most], start):
        hidden = datasets.has_key(file.ref.get("url", ""))
        files.append(_file_out(file, here=here, href=f"data/{version.pk}/content/{index}" if hidden else None))
    return {"files": files, "next": str(start + most) if len(found) > most else None}


def _asked(version: DatasetVersion, limit: int | None) -> dict[str, Any]:
    """The one file of a query: its result, made when it is asked for."""
    more = f"?limit={limit}" if limit else ""
    href = f"data/{version.pk}/content/0{more}"
    one = {"path": "query.parquet", "name": "query.parquet", "size": None, "etag": "", "href": href}
    return {"files": [one], "next": None}


def _opened(request: HttpRequest, workspace: str, definition: Any) -> tuple[Workspace, dict[str, Any]]:
    """(workspace, opened definition) of a request's body. Files of datastores are for everybody who may read; an
    address or a query of one's own makes the studio ask somebody else, and needs the right to write."""
    place = workspace_of(request, workspace)
    opened = datasets.definition_check(place, definition)
    if not all("datastore" in path for path in opened["source"].get("paths") or [{}]):
        workspace_of(request, workspace, Right.WRITE)
    return place, opened


@router.post("/data/inspect", response=LookOut, auth=UNITS_TOO)
def data_inspect(request: HttpRequest, workspace: Ws, data: InspectIn) -> Any:
    """The first rows of a definition that is being made, with its columns settled and everything that is wrong."""
    from studio.datasets import inspect

    place, opened = _opened(request, workspace, data.definition)
    found = inspect.inspect(opened, data.rows, workspace=place)
    bare, _keys = datasets.split(found["definition"])
    return {**found, "definition": bare}


@router.post("/data/files", response=DataFilesOut, auth=UNITS_TOO)
def data_files(request: HttpRequest, workspace: Ws, data: DefinitionIn, after: After = None, limit: Most = None) -> Any:
    """The files that a definition names, before its steps: a page of at most 1,000."""
    place, opened = _opened(request, workspace, data.definition)
    if opened["source"]["kind"] == "sql":
        raise Invalid(_("A query has no files: save it (data/definitions), and read that."), field="definition")
    return _listed(request, place, opened, after, limit, None)


@router.post("/data/definitions", response=VersionOut, auth=UNITS_TOO, by_alias=True)
def data_definition_save(request: HttpRequest, workspace: Ws, data: DefinitionIn) -> Any:
    """Keep a definition without giving it a name. The same definition again gives the same id."""
    place = workspace_of(request, workspace, Right.WRITE)
    saved = datasets.definition_save(workspace=place, user=user_of(request), definition=data.definition)
    return version_out(saved)


@router.get("/data/{id}", response=VersionOut, auth=UNITS_TOO, by_alias=True)
def data_get(request: HttpRequest, workspace: Ws, id: Id) -> Any:  # noqa: A002 - the address says so
    """A version, or a saved definition, by its id."""
    return version_out(version_of(request, workspace, id))


@router.get("/data/{id}/files", response=DataFilesOut, auth=UNITS_TOO)
def data_files_of(
    request: HttpRequest,
    workspace: Ws,
    id: Id,  # noqa: A002
    after: After = None,
    limit: Most = None,
) -> Any:
    """The files of a version, before its steps: a page of at most 1,000. Of a query: its result, as one file."""
    version = version_of(request, workspace, id)
    opened = datasets.opened_definition(version)
    if opened["source"]["kind"] == "sql":
        return _asked(version, limit)
    return _listed(request, version.workspace, opened, after, limit, version)


@router.api_operation(
    ["GET", "HEAD"], "/data/{id}/content/{int:index}", auth=UNITS_TOO, openapi_extra=binary_response(ranges=True)
)
def data_content(
    request: HttpRequest,
    workspace: Ws,
    id: Id,  # noqa: A002
    index: Annotated[int, Path(..., description="Place of the file among those of the version, from 0.")],
    limit: Annotated[int | None, Query(None, ge=1, le=1 << 40, description="Of a query: at most so many rows.")] = None,
) -> Any:
    """The content of a file of a version, whole or a range of it; of a query its result as Parquet."""
    version = version_of(request, workspace, id)
    opened = datasets.opened_definition(version)
    if opened["source"]["kind"] == "sql" and index == 0:
        source = datasets.source_of(version.workspace, opened)
        return query_response(request, source, opened, limit, key=str(version.pk))
    return _file_content(request, version, opened, index)


def _file_content(
    request: HttpRequest, version: DatasetVersion, opened: dict[str, Any], index: int
) -> HttpResponseBase:
    source = datasets.source_of(version.workspace, opened)
    paths = opened["source"].get("paths") or []
    wanted = index
    if index < len(paths) and all("url" in path for path in paths[: index + 1]):
        # An address is one file: the others need not be asked.
        opened, wanted = {**opened, "source": {**opened["source"], "paths": [paths[index]]}}, 0
    found = next(islice(source.files(opened, limit=wanted + 1), wanted, None), None)
    if found is None:
        raise NotFound(_("The dataset has no file number %(index)d.") % {"index": index})
    return source_response(request, source, found)


@router.get("/data/{id}/preview", response=LookOut, auth=UNITS_TOO)
def data_preview(
    request: HttpRequest,
    workspace: Ws,
    id: Id,  # noqa: A002
    rows: Annotated[int, Query(100, ge=1, le=1000)] = 100,
) -> Any:
    """The first rows of a version, and what is wrong with them."""
    from studio.datasets import inspect

    found = inspect.preview(version_of(request, workspace, id), rows)
    return {**found, "definition": datasets.split(found["definition"])[0]}


def profile_out(profile: DatasetProfile) -> dict[str, Any]:
    return {
        "state": profile.state,
        "progress": profile.progress,
        "result": profile.result,
        "error": profile.error,
        "created_at": profile.created_at,
        "ended_at": profile.ended_at,
    }


@router.get("/data/{id}/profile", response=ProfileOut, auth=UNITS_TOO)
def data_profile(request: HttpRequest, workspace: Ws, id: Id) -> Any:  # noqa: A002
    """The figures of a version's columns, or how far they are. 404 where nobody has asked for them."""
    found = DatasetProfile.objects.filter(version=version_of(request, workspace, id)).first()
    if found is None:
        raise NotFound(_("The dataset has no profile yet: start it with a POST to this address."))
    return profile_out(found)


@router.post("/data/{id}/profile", response={202: ProfileOut}, auth=UNITS_TOO)
def data_profile_start(request: HttpRequest, workspace: Ws, id: Id) -> Any:  # noqa: A002
    """Compute the figures of a version's columns. While they are computed, asking again starts nothing."""
    from compute import profiles

    version = version_of(request, workspace, id, Right.WRITE)
    return Status(202, profile_out(profiles.profile_start(version, user_of(request), request=request)))


@router.get("/data/{id}/lineage", response=LineageOut, auth=UNITS_TOO)
def data_lineage(request: HttpRequest, workspace: Ws, id: Id) -> Any:  # noqa: A002
    """Which runs made the version and used it, and the datasets around those."""
    from runs import selectors_data

    return selectors_data.lineage(version_of(request, workspace, id))
