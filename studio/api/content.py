"""Files of datastores as responses: from the disk where they lie on it, else streamed from where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from atelier.data.sources import DataFile
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from studio.datasets.backends.base import Backend, Entry, StoreError
from studio.datasets.sources import BackendSource
from studio.lib.errors import TooManyRequests
from studio.lib.responses import ByteStream, file_response, harden, media_type, parse_range

KEPT_S = 600  # for which the result of a query can be gone on with
ASKING, WAIT_S = 2, 15.0  # queries that one web process asks at once: each holds one of its threads, up to half an hour
_asking = BoundedSemaphore(ASKING)
Stream = Callable[[int, int | None], Iterator[bytes]]


def etag_of(entry: Entry) -> str:
    """What stands between the quotes of the ETag header; "" where the store has none."""
    return entry.etag.removeprefix("W/").strip('"').replace('"', "").encode("ascii", "ignore").decode()


def store_response(request: HttpRequest, store: Backend, path: str, *, attachment: bool) -> HttpResponseBase:
    """The content of a file, whole or a range of it. Raises StoreError before the first byte, never after the head of
    a response that looks whole: a body that breaks off is shorter than its Content-Length, or ends without its end."""
    name = path.rpartition("/")[2]
    entry = store.stat(path)
    if entry.is_dir:
        raise StoreError("no-such-file", f"{path} is a folder.", path=path)
    local = store.local_path(path)
    if local is not None:
        try:
            response = file_response(request, local, name=name, attachment=attachment, etag=etag_of(entry) or None)
        except OSError as error:
            raise StoreError("forbidden", f"{path}: {error.strerror}.", path=path) from error
        if request.method == "HEAD":
            harden(response, name, attachment=attachment)
        return response
    return streamed(request, entry, lambda start, length: store.stream(path, start, length), attachment=attachment)


def streamed(request: HttpRequest, entry: Entry, stream: Stream, *, attachment: bool) -> HttpResponseBase:
    """As ``store_response`` for bytes that ``stream(offset, length)`` gives. Ranges where the size is known."""
    tag = f'"{etag_of(entry)}"' if etag_of(entry) else ""
    if tag and request.headers.get("If-None-Match") == tag:
        response: HttpResponseBase = HttpResponse(status=304)
    elif request.method == "HEAD":
        response = HttpResponse(content_type=media_type(entry.name, attachment=attachment))
        if entry.size is not None:
            response.headers["Content-Length"] = str(entry.size)
    else:
        response = _body(request, entry, stream, tag, media_type(entry.name, attachment=attachment))
    if tag:
        response.headers["ETag"] = tag
    if entry.size is not None:
        response.headers["Accept-Ranges"] = "bytes"
    harden(response, entry.name, attachment=attachment)
    return response


def _body(request: HttpRequest, entry: Entry, stream: Stream, tag: str, content_type: str) -> HttpResponseBase:
    part: tuple[int, int] | None = None
    header, conditional = request.headers.get("Range", ""), request.headers.get("If-Range")
    if header and entry.size is not None and (conditional is None or (tag and conditional == tag)):
        try:
            part = parse_range(header, entry.size)
        except ValueError:
            response: HttpResponseBase = HttpResponse(status=416, content_type="text/plain")
            response.headers["Content-Range"] = f"bytes */{entry.size}"
            return response
    start, stop = part or (0, entry.size)
    pieces = stream(start, None if stop is None else stop - start) if stop is None or stop > start else iter(())
    first = next(pieces, b"")  # what is wrong is said before the head of the response is
    response = ByteStream(chain((first,), pieces), content_type=content_type, status=206 if part else 200)
    if stop is not None:
        response.headers["Content-Length"] = str(stop - start)
    if part:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1 if stop else 0}/{entry.size}"
    return response


def source_response(request: HttpRequest, source: BackendSource, file: DataFile) -> HttpResponseBase:
    """As ``store_response`` for a file of a dataset, which stays the one that was listed or is an error."""
    entry = Entry(file.name, size=file.size, etag=file.etag)
    return streamed(request, entry, lambda start, length: source.stream(file, start, length), attachment=True)


def query_response(
    request: HttpRequest, source: BackendSource, opened: dict[str, Any], limit: int | None, *, key: str
) -> HttpResponseBase:
    """The result of a query as a Parquet file. Who goes on with a range of it gets the result that it began with."""
    kept = f"data.query.{key}.{limit}"
    known = cache.get(kept) if request.method == "HEAD" or "Range" in request.headers else None
    if known and Path(known).is_file():
        result = Path(known)
    else:
        if not _asking.acquire(timeout=WAIT_S):
            raise TooManyRequests(_("Others are running queries right now. Try again in a moment."))
        try:
            result = Path(source.query(opened, limit))
        finally:
            _asking.release()
    cache.set(kept, str(result), KEPT_S)
    return file_response(request, result, name=f"query{result.suffix}")
