"""Files and live output of a run: lists, ranges, resumable uploads, zip streams, long polls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router, Status

from compute import states
from compute.logs.store import LogFile
from compute.models import LogStream, Unit
from runs.models import Run
from runs.services import artifacts, uploads
from studio.accounts.policy import Right
from studio.api.access import Ws, run_of
from studio.api.auth import UNITS_TOO
from studio.api.binary import BYTES, binary_body, binary_response
from studio.api.pieces import ContentRange, content_length, parse_content_range
from studio.api.v1.run_json import ENDED
from studio.api.v1.runs import RunId
from studio.api.v1.schemas_runs import FileOut, SearchOut, UploadState
from studio.lib.errors import NotFound
from studio.lib.flow import body_of
from studio.lib.responses import file_response, harden, zip_response

router = Router(tags=["Files and logs"])

POLL_SECONDS = 0.05
SEAL_SECONDS = 0.5  # the file's size costs nothing; whether more can come is a query
LOG_BYTES = 4 << 20


@router.get("/runs/{run_id}/files", response=list[FileOut], auth=UNITS_TOO)
def run_files(
    request: HttpRequest,
    workspace: Ws,
    run_id: RunId,
    prefix: Annotated[str, Query("", description="Only what lies below this folder.")] = "",
) -> Any:
    """Every file of the run: outputs, logs, uploads and user_logs/std_log.txt."""
    run = run_of(request, workspace, run_id)
    wanted = prefix.strip("/")
    return [
        {"path": one.path, "size": one.size, "modified": one.modified, "kind": one.kind}
        for one in artifacts.list_files(run, wanted)
        if not wanted or one.path == wanted or one.path.startswith(wanted + "/")
    ]


@router.api_operation(
    ["GET", "HEAD"],
    "/runs/{run_id}/files/content/{file:path}",
    auth=UNITS_TOO,
    openapi_extra=binary_response(ranges=True),
)
def run_file(
    request: HttpRequest,
    workspace: Ws,
    run_id: RunId,
    path: str,
    download: Annotated[
        bool, Query(True, description="False: as something to look at, still never run as a page.")
    ] = True,
) -> Any:
    """The content of a file, whole or a range of it."""
    run = run_of(request, workspace, run_id)
    return file_response(request, artifacts.open_file(run, path), name=path.rpartition("/")[2], attachment=download)


def _put(
    request: HttpRequest, run: Run, path: str, offset: int, total: int | None, *, whole: bool
) -> uploads.UploadState:
    """A whole file that the server has received into a file of its own only gets its name; the rest is copied."""
    body = body_of(request) if whole else None
    if body is not None:
        try:
            return uploads.put_whole(run, path, body.link)
        except OSError:
            body.seek(0)
    return uploads.put_chunk(run, path, offset, request, total)  # type: ignore[arg-type]


_UPLOAD = binary_body("The chunk. Without Content-Range: the whole file.")


@router.put(
    "/runs/{run_id}/files/content/{file:path}",
    response={200: UploadState, 201: UploadState},
    auth=UNITS_TOO,
    openapi_extra=_UPLOAD,
)
def run_file_put(
    request: HttpRequest,
    workspace: Ws,
    run_id: RunId,
    path: str,
    content_range: ContentRange = None,
) -> Any:
    """Upload a file among the run's, whole or in chunks. 201 when it is complete, 200 while chunks are missing.

    A chunk that starts after what is here answers 409: ask with `Content-Range: bytes */total`, and go on there.
    """
    run = run_of(request, workspace, run_id, Right.WRITE)
    length = content_length(request)
    offset, total = parse_content_range(content_range, length)
    if offset is None:
        state = uploads.upload_state(run, path)
        return Status(200, {"path": path, "offset": state.size, "complete": state.complete})
    state = _put(request, run, path, offset, total, whole=offset == 0 and length is not None and total == length)
    return Status(201 if state.complete else 200, {"path": path, "offset": state.size, "complete": state.complete})


@router.get("/runs/{run_id}/files/zip", auth=UNITS_TOO, openapi_extra=binary_response("application/zip"))
def run_files_zip(request: HttpRequest, workspace: Ws, run_id: RunId, prefix: str = "") -> Any:
    """All files, or those below a folder, as a zip that is made while it is sent."""
    run = run_of(request, workspace, run_id)
    return zip_response(artifacts.zip_stream(run, prefix), f"{run.run_id}.zip")


def _sealed(run: Run) -> bool:
    """Whether nothing more will come. Asked before the size, so that what came in between is not missed."""
    if run.unit_id is not None:
        # A unit whose environment could not be built ends without ever having had a stream.
        return (
            LogStream.objects.filter(unit_id=run.unit_id, name="stdout", sealed=True).exists()
            or Unit.objects.filter(pk=run.unit_id, state__in=states.TERMINAL).exists()
        )
    return Run.objects.filter(pk=run.pk, status__in=ENDED).exists()


def log_piece(
    log: LogFile | None, is_sealed: Callable[[], bool], start: int, limit: int, wait: float, name: str
) -> HttpResponse:
    """At most ``limit`` bytes from ``start``, once there are any, the end is known, or ``wait`` seconds have gone by.

    ``log``: None for what never had one. ``is_sealed``: whether nothing more will come; it may be slow.
    """
    end = time.monotonic() + wait
    sealed, look = is_sealed(), time.monotonic() + SEAL_SECONDS
    size = log.size() if log else 0
    while log and size <= start and not sealed and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        if time.monotonic() >= look:
            sealed, look = is_sealed(), time.monotonic() + SEAL_SECONDS
        size = log.size()
    data = log.read(start, limit) if log and size > start else b""
    response = HttpResponse(data, content_type="text/plain; charset=utf-8")
    harden(response, name, attachment=False)
    response.headers["X-Atelier-Offset"] = str(start)
    response.headers["X-Atelier-Size"] = str(size)
    response.headers["X-Atelier-Sealed"] = "true" if sealed else "false"
    return response


From = Annotated[int, Query(0, alias="from", ge=0, le=1 << 62, description="Offset of the first byte wanted.")]
Limit = Annotated[int, Query(LOG_BYTES, ge=1, le=LOG_BYTES, description="At most so many bytes.")]
Wait = Annotated[float, Query(0, ge=0, le=20, description="Seconds to wait when there is nothing yet.")]

LOG_RESPONSE = {
    "responses": {
        200: {
            "description": "Bytes of the output from X-Atelier-Offset on; none when nothing came in time.",
            "content": {"text/plain": {"schema": BYTES}},
            "headers": {
                "X-Atelier-Offset": {"description": "Where these bytes start.", "schema": {"type": "integer"}},
                "X-Atelier-Size": {"description": "Bytes of the output so far.", "schema": {"type": "integer"}},
                "X-Atelier-Sealed": {"description": "true when nothing more will come.", "schema": {"type": "string"}},
            },
        }
    }
}


@router.get("/runs/{run_id}/logs", auth=UNITS_TOO, openapi_extra=LOG_RESPONSE)
def run_logs(
    request: HttpRequest,
    workspace: Ws,
    run_id: RunId,
    start: From = 0,
    limit: Limit = LOG_BYTES,
    wait: Wait = 0,
) -> Any:
    """The output of a run from a byte on. With `wait` the answer comes as soon as there is more."""
    run = run_of(request, workspace, run_id)
    return log_piece(LogFile(run.key), lambda: _sealed(run), start, limit, wait, "std_log.txt")


@router.get("/runs/{run_id}/logs/search", response=SearchOut)
def run_logs_search(
    request: HttpRequest,
    workspace: Ws,
    run_id: RunId,
    q: Annotated[str, Query(..., min_length=1, max_length=500, description="Text to look for.")],
    regex: bool = False,
    ignore_case: bool = True,
    after: Annotated[int, Query(0, ge=0, le=1 << 62, description="Go on from here.")] = 0,
    limit: Annotated[int, Query(200, ge=1, le=1000)] = 200,
) -> Any:
    """Lines of the whole output that hold a text."""
    run = run_of(request, workspace, run_id)
    log = LogFile(run.key)
    if not log.path.exists():
        raise NotFound(_("The run has no output yet."))
    page = log.search(q, regex=regex, ignore_case=ignore_case, after=after, limit=limit)
    hits = [{"line": line, "offset": offset, "text": text} for line, offset, text in page.hits]
    return {"hits": hits, "next": page.next, "scanned": page.scanned}
