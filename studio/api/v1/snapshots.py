"""Source folders: only contents that the workspace does not have yet are sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import zipstream
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Router, Status

from runs.models import Snapshot
from runs.services import snapshots
from studio.accounts.policy import Right
from studio.api.access import Ws, workspace_of
from studio.api.binary import binary_body, binary_response
from studio.api.v1.schemas_runs import BlobOut, FileList, MissingOut, SnapshotDetail, SnapshotOut
from studio.lib.errors import Invalid
from studio.lib.responses import file_response, zip_response

router = Router(tags=["Snapshots"])

_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "zip": {"type": "string", "format": "binary", "description": "The folder as a zip file."},
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "paths": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "Path of each of the files, in their order.",
                        },
                    },
                }
            }
        },
    }
}


def snapshot_out(snapshot: Snapshot) -> dict[str, Any]:
    return {"id": snapshot.digest, "size": snapshot.size, "count": snapshot.count}


@router.post("/snapshots/missing", response=MissingOut)
def snapshot_missing(request: HttpRequest, workspace: Ws, data: FileList) -> Any:
    """Which contents must be sent before the snapshot of these files can be made."""
    place = workspace_of(request, workspace, Right.WRITE)
    return {"missing": snapshots.blobs_missing(place, [file.dict() for file in data.files])}


@router.put("/blobs/{sha256}", response={201: BlobOut}, openapi_extra=binary_body("The content of one file."))
def blob_put(request: HttpRequest, workspace: Ws, sha256: str) -> Any:
    """Send the content of one file."""
    place = workspace_of(request, workspace, Right.WRITE)
    size = snapshots.blob_put(place, sha256, request)  # type: ignore[arg-type]
    return Status(201, {"sha256": sha256, "size": size})


@router.post("/snapshots", response={201: SnapshotOut})
def snapshot_create(request: HttpRequest, workspace: Ws, data: FileList) -> Any:
    """The snapshot of files whose contents are all here. The same files give the same snapshot."""
    place = workspace_of(request, workspace, Right.WRITE)
    return Status(201, snapshot_out(snapshots.snapshot_commit(place, [file.dict() for file in data.files])))


@router.post("/snapshots/upload", response={201: SnapshotOut}, openapi_extra=_UPLOAD)
def snapshot_upload(request: HttpRequest, workspace: Ws) -> Any:
    """A snapshot of uploaded files, or of a zip file, under the ignore rules that lie in it."""
    place = workspace_of(request, workspace, Right.WRITE)
    if not (request.content_type or "").startswith("multipart/form-data"):
        raise Invalid(_("Send a form of the type multipart/form-data."), field="files")
    archive = request.FILES.get("zip")
    if archive is not None:
        return Status(201, snapshot_out(snapshots.snapshot_from_zip(place, archive)))
    files, paths = request.FILES.getlist("files"), request.POST.getlist("paths")
    if not files:
        raise Invalid(_("There is neither a zip nor a file in the form."), field="files")
    if paths and len(paths) != len(files):
        raise Invalid(_("There are not as many paths as files."), field="paths")
    named = zip(paths or [file.name or "" for file in files], files, strict=True)
    return Status(
        201, snapshot_out(snapshots.snapshot_from_uploads(place, [(path, file, 0o644) for path, file in named]))
    )


@router.get("/snapshots/{digest}", response=SnapshotDetail)
def snapshot_get(request: HttpRequest, workspace: Ws, digest: str) -> Any:
    """The files of a snapshot."""
    snapshot = snapshots.snapshot_get(workspace_of(request, workspace), digest)
    return {**snapshot_out(snapshot), "files": snapshot.files, "created_at": snapshot.created_at}


@router.api_operation(
    ["GET", "HEAD"], "/snapshots/{digest}/files/{file:path}", openapi_extra=binary_response(ranges=True)
)
def snapshot_file(request: HttpRequest, workspace: Ws, digest: str, path: str) -> Any:
    """The content of one file."""
    snapshot = snapshots.snapshot_get(workspace_of(request, workspace), digest)
    entry = snapshots.snapshot_file(snapshot, path)
    return file_response(
        request, snapshots.snapshot_path(snapshot, path), name=path.rpartition("/")[2], etag=entry["sha256"]
    )


def zip_pieces(snapshot: Snapshot) -> Iterable[bytes]:
    archive = zipstream.ZipStream(compress_type=zipstream.ZIP_DEFLATED)
    for entry in snapshot.files:
        archive.add_path(str(snapshots.snapshot_path(snapshot, entry["path"])), entry["path"])
    return archive


@router.get("/snapshots/{digest}/zip", openapi_extra=binary_response("application/zip"))
def snapshot_zip(request: HttpRequest, workspace: Ws, digest: str) -> Any:
    """All files as a zip stream."""
    snapshot = snapshots.snapshot_get(workspace_of(request, workspace), digest)
    return zip_response(zip_pieces(snapshot), f"{digest[:12]}.zip")
