"""Datastores: registering and testing them, and the files in them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Header, Path, Query, Router, Status

from studio.accounts.policy import Right
from studio.api.access import Ws, user_of, workspace_of
from studio.api.auth import STORE_PEOPLE, UNITS_TOO, actor_of
from studio.api.binary import binary_body, binary_response
from studio.api.content import store_response
from studio.api.errors import CONTENT_TYPE
from studio.api.pieces import ContentRange, content_length, parse_content_range
from studio.api.v1.paging import Cursor, Limit
from studio.api.v1.schemas import PageOf
from studio.api.v1.schemas_data import (
    CheckOut,
    ContentState,
    DatastoreIn,
    DatastoreOut,
    DatastorePatch,
    EntriesOut,
    KindOut,
)
from studio.datasets import selectors
from studio.datasets.backends.base import Entry, StoreError
from studio.datasets.models import Datastore
from studio.datasets.services import datastores, uploads
from studio.lib.errors import Invalid
from studio.lib.flow import body_of
from studio.lib.secrets import SecretUnreadable
from studio.lib.storage import clean_relative

router = Router(tags=["Datastores"], auth=STORE_PEOPLE)

Name = Annotated[str, Path(..., description="Name of the datastore.", examples=[datastores.WORKSPACE_STORE])]


def entry_out(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "name": entry.name}


def datastore_out(store: Datastore) -> dict[str, Any]:
    try:
        opened = datastores.store_open(store)
        address, writable = opened.address(), opened.writable
    except StoreError:
        address, writable = "", False
    try:
        secrets = sorted(datastores.opened_secrets(store))
    except SecretUnreadable:
        secrets = []
    return {
        "name": store.name,
        "kind": store.kind,
        "description": store.description,
        "config": store.config,
        "secrets": secrets,
        "address": str(address),
        "writable": writable,
        "is_default": store.is_default,
        "builtin": store.builtin,
        "problems": store.problems,
        "checked_at": store.checked_at,
        "created_by": store.created_by.label if store.created_by is not None else None,
        "created_at": store.created_at,
        "url": f"{settings.ATELIER_URL}{store.get_absolute_url()}",
    }


def store_of(request: HttpRequest, workspace: str, name: str, right: Right = Right.READ) -> Datastore:
    return selectors.datastore_get(workspace_of(request, workspace, right), name)


@router.get("/datastores/kinds", response=list[KindOut], auth=UNITS_TOO)
def datastore_kinds(request: HttpRequest, workspace: Ws) -> Any:
    """The kinds of datastore, with the settings that each takes."""
    workspace_of(request, workspace)
    return [
        {
            "kind": one.kind,
            "label": str(one.label),
            "summary": str(one.summary),
            "icon": one.icon,
            "fields": [
                {
                    **asdict(field),
                    "address": field.leads,
                    "label": str(field.label),
                    "help": str(field.help),
                    "choices": [[str(value), str(label)] for value, label in field.choices],
                }
                for field in one.fields
            ],
        }
        for one in datastores.kinds()
    ]


@router.get("/datastores", response=PageOf[DatastoreOut], auth=UNITS_TOO)
def datastore_list(
    request: HttpRequest, workspace: Ws, search: str = "", cursor: Cursor = None, limit: Limit = 50
) -> Any:
    """Datastores of the workspace, by name."""
    page = selectors.datastores_page(workspace_of(request, workspace), search=search, cursor=cursor, limit=limit)
    return {"items": [datastore_out(one) for one in page.items], "next": page.next}


@router.post("/datastores", response={201: DatastoreOut})
def datastore_register(request: HttpRequest, workspace: Ws, data: DatastoreIn) -> Any:
    """Register a datastore. It is tried first, unless `check` is false."""
    place = workspace_of(request, workspace, Right.MANAGE)
    made = datastores.datastore_create(workspace=place, user=user_of(request), request=request, **data.dict())
    return Status(201, datastore_out(made))


@router.get("/datastores/{name}", response=DatastoreOut, auth=UNITS_TOO)
def datastore_get(request: HttpRequest, workspace: Ws, name: Name) -> Any:
    """One datastore. Its secrets are never shown."""
    return datastore_out(store_of(request, workspace, name))


@router.patch("/datastores/{name}", response=DatastoreOut)
def datastore_update(request: HttpRequest, workspace: Ws, name: Name, data: DatastorePatch) -> Any:
    """Change a datastore's settings, secrets or description. It is tried first, unless `check` is false."""
    store = store_of(request, workspace, name, Right.MANAGE)
    changed = datastores.datastore_update(store, user=user_of(request), request=request, **data.dict())
    return datastore_out(changed)


@router.delete("/datastores/{name}", response={204: None})
def datastore_remove(
    request: HttpRequest,
    workspace: Ws,
    name: Name,
    force: Annotated[bool, Query(False, description="Also when datasets read from it.")] = False,
) -> Any:
    """Take a datastore off the workspace. The data in it stays where it lies."""
    store = store_of(request, workspace, name, Right.MANAGE)
    datastores.datastore_remove(store, user=user_of(request), force=force, request=request)
    return Status(204, None)


@router.post("/datastores/{name}/test", response=CheckOut)
def datastore_test(request: HttpRequest, workspace: Ws, name: Name) -> Any:
    """Try whether the datastore can be reached: everything that is wrong, or the first few entries."""
    problems, entries = datastores.datastore_check(store_of(request, workspace, name, Right.WRITE))
    return {"problems": [asdict(one) for one in problems], "entries": [entry_out(one) for one in entries]}


@router.post("/datastores/{name}/default", response=DatastoreOut)
def datastore_default(request: HttpRequest, workspace: Ws, name: Name) -> Any:
    """Make this the datastore that is taken where none is named."""
    store = store_of(request, workspace, name, Right.MANAGE)
    return datastore_out(datastores.datastore_set_default(store, user=user_of(request), request=request))


@router.get("/datastores/{name}/entries", response=EntriesOut, auth=UNITS_TOO)
def datastore_entries(
    request: HttpRequest,
    workspace: Ws,
    name: Name,
    path: Annotated[str, Query("", max_length=1000, description="A folder; empty: the root.")] = "",
    after: Annotated[str | None, Query(None, max_length=4000, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(1000, ge=1, le=1000)] = 1000,
) -> Any:
    """One page of a folder: folders first, each part by name."""
    store = store_of(request, workspace, name)
    folder = path.strip("/")
    folder = clean_relative(folder) if folder not in ("", ".") else ""
    listing = datastores.store_open(store).list(folder, limit=limit, after=after)
    return {"entries": [entry_out(one) for one in listing.entries], "next": listing.next}


@router.api_operation(
    ["GET", "HEAD"],
    "/datastores/{name}/content/{file:path}",
    auth=UNITS_TOO,
    openapi_extra=binary_response(ranges=True),
)
def datastore_content(
    request: HttpRequest,
    workspace: Ws,
    name: Name,
    path: str,
    download: Annotated[
        bool, Query(True, description="False: as something to look at, still never run as a page.")
    ] = True,
) -> Any:
    """The content of a file, whole or a range of it."""
    store = datastores.store_open(store_of(request, workspace, name))
    return store_response(request, store, clean_relative(path), attachment=download)


_PUT = binary_body("The piece. Without Content-Range: the whole file.") | {
    "responses": {
        412: {
            "description": "There is such a file already.",
            "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    }
}


@router.put(
    "/datastores/{name}/content/{file:path}",
    response={200: ContentState, 201: ContentState},
    auth=UNITS_TOO,
    openapi_extra=_PUT,
)
def datastore_content_put(
    request: HttpRequest,
    workspace: Ws,
    name: Name,
    path: str,
    content_range: ContentRange = None,
    if_none_match: Annotated[
        str | None, Header(None, alias="If-None-Match", description="*: 412 when there is such a file already.")
    ] = None,
) -> Any:
    """Upload a file, whole or in pieces of 8 MiB or more, in order. 201 when it is in its place, 200 before.

    Go on from the `offset` of the answer. A piece that starts after what is here answers 409: ask with
    `Content-Range: bytes */total`. A file appears only when it is whole; one that was there stays until then.
    """
    store = store_of(request, workspace, name, Right.WRITE)
    actor = actor_of(request)
    if if_none_match not in (None, "", "*"):
        raise Invalid(_("If-None-Match is * here: do not replace a file."), field="If-None-Match")
    body = body_of(request)
    length = content_length(request)
    if length is None:
        length = _length(body) if body is not None else len(request.body)
    offset, total = parse_content_range(content_range, length)
    clean = clean_relative(path)
    if offset is None:
        state = uploads.upload_state(store, clean, user=actor.user, total=total)
        return Status(200, {"path": clean, **asdict(state)})
    if total is None:
        raise Invalid(_("Say how long the file is: Content-Range: bytes a-b/total."), field="Content-Range")
    state = uploads.put_piece(
        store,
        clean,
        body if body is not None else request,  # type: ignore[arg-type]  # a request reads like a file
        user=actor.user,
        offset=offset,
        length=length,
        total=total,
        replace=if_none_match != "*",
        by_person=actor.run is None,
        request=request,
    )
    return Status(201 if state.complete else 200, {"path": clean, **asdict(state)})


def _length(body: Any) -> int:
    end: int = body.seek(0, 2)
    body.seek(0)
    return end


@router.delete("/datastores/{name}/content/{file:path}", response={204: None})
def datastore_content_delete(request: HttpRequest, workspace: Ws, name: Name, path: str) -> Any:
    """Delete a file, or a folder with all below it."""
    store = store_of(request, workspace, name, Right.WRITE)
    datastores.content_delete(store, path, user=user_of(request), request=request)
    return Status(204, None)
