"""Files and byte streams as responses: ranges, large chunks, flat memory, and nothing that a browser would run."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from studio.lib import beneath
from studio.lib.errors import NotFound
from studio.lib.names import visible

CHUNK = 1 << 20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# What a browser may show in place; everything else is sent as plain text or as a download.
_INLINE = re.compile(r"image/(png|jpeg|gif|webp|bmp)|application/(pdf|json)|text/(plain|csv)|audio/.*|video/.*")


class FileStream(StreamingHttpResponse):
    """``length`` bytes of an open file from its current position on; the file is closed with the response.

    Under ASGI the next chunk is read in a thread while the last one goes out; under WSGI and in tests the same bytes
    come from a plain iterator.
    """

    def __init__(self, file: IO[bytes], length: int, **kwargs: Any) -> None:
        self._file, self._left = file, length
        super().__init__(self._chunks(), **kwargs)
        self._resource_closers.append(file.close)  # type: ignore[attr-defined]  # stubs lack it
        self.headers["Content-Length"] = str(length)

    def _read(self) -> bytes:
        data = self._file.read(min(CHUNK, self._left)) if self._left > 0 else b""
        self._left -= len(data)
        return data

    def _chunks(self) -> Iterator[bytes]:
        while data := self._read():
            yield data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        coming = loop.run_in_executor(None, self._read)
        try:
            while data := await coming:
                coming = loop.run_in_executor(None, self._read)
                yield data
        finally:
            # The file must not be closed while a thread reads from it.
            await asyncio.wait([coming])


class ByteStream(StreamingHttpResponse):
    """Bytes that a blocking iterator makes, such as a zip stream: made in a thread under ASGI, one piece ahead."""

    def __init__(self, pieces: Iterable[bytes], **kwargs: Any) -> None:
        self._pieces = iter(pieces)
        super().__init__(self._pieces, **kwargs)

    def _gather(self) -> bytes:
        """Small pieces joined: a zip stream gives one for every header."""
        parts: list[bytes] = []
        size = 0
        for piece in self._pieces:
            parts.append(bytes(piece))
            size += len(piece)
            if size >= CHUNK // 4:
                break
        return b"".join(parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        coming = loop.run_in_executor(None, self._gather)
        try:
            while data := await coming:
                coming = loop.run_in_executor(None, self._gather)
                yield data
        finally:
            await asyncio.wait([coming])


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """(start, stop) of a single range of a file of ``size`` bytes; None where the header is to be ignored.

    Raises ValueError where the range lies outside the file (416).
    """
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if found is None or not any(found.groups()) or len(header) > 60:
        return None
    first, last = found.groups()
    if not first:
        wanted = int(last)
        if wanted == 0 or size == 0:
            raise ValueError(header)
        return max(0, size - wanted), size
    start, stop = int(first), min(size, int(last) + 1) if last else size
    if last and int(last) < start:
        return None
    if start >= size:
        raise ValueError(header)
    return start, stop


def content_disposition(name: str, *, attachment: bool) -> str:
    name = visible(name)  # a saved file must not be read as another kind than it is
    plain = re.sub(r'[^\x20-\x7e]|["\\]', "_", name)
    return f"{'attachment' if attachment else 'inline'}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def harden(response: HttpResponseBase, name: str, *, attachment: bool) -> None:
    """Headers that keep a user's bytes from being run as a page of the studio."""
    response.headers["Content-Disposition"] = content_disposition(name, attachment=attachment)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    )
    response.headers.setdefault("Cache-Control", "private, no-cache")


def media_type(name: str, *, attachment: bool) -> str:
    """The type to send: what a browser can show safely as itself, other text as plain text, the rest as bytes."""
    guessed, encoding = mimetypes.guess_type(name)
    if guessed is None or encoding:
        return "application/octet-stream"
    if _INLINE.fullmatch(guessed):
        return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed
    if attachment:
        return guessed
    return "text/plain; charset=utf-8" if guessed.startswith("text/") else "application/octet-stream"


def file_response(
    request: HttpRequest,
    path: Path,
    *,
    name: str | None = None,
    attachment: bool = True,
    content_type: str | None = None,
    etag: str | None = None,
) -> HttpResponseBase:
    """A file on disk, whole or the range that was asked for (206; 416 outside of it; 304 where the ETag is known).

    ``path`` has been checked by the caller. Raises NotFound where there is no plain file. ``etag`` defaults to one of
    the file's time and size.
    """
    try:
        file = beneath.reader(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, beneath.Leaves):
        raise NotFound(_("There is no such file.")) from None
    state = os.fstat(file.fileno())
    name = name or path.name
    tag = f'"{etag or f"{state.st_mtime_ns:x}-{state.st_size:x}"}"'
    if request.headers.get("If-None-Match") == tag:
        file.close()
        unchanged = HttpResponse(status=304)
        unchanged.headers["ETag"] = tag
        return unchanged
    if request.method == "HEAD":
        file.close()
        head = HttpResponse(content_type=content_type or media_type(name, attachment=attachment))
        for header, value in (("Content-Length", str(state.st_size)), ("Accept-Ranges", "bytes"), ("ETag", tag)):
            head.headers[header] = value
        return head
    response = _ranged(request, file, state.st_size, tag, content_type or media_type(name, attachment=attachment))
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["ETag"] = tag
    response.headers["Last-Modified"] = formatdate(state.st_mtime, usegmt=True)
    harden(response, name, attachment=attachment)
    return response


def _ranged(request: HttpRequest, file: IO[bytes], size: int, tag: str, content_type: str) -> HttpResponseBase:
    header = request.headers.get("Range", "")
    conditional = request.headers.get("If-Range")
    if not header or (conditional is not None and conditional != tag):
        return FileStream(file, size, content_type=content_type)
    try:
        part = parse_range(header, size)
    except ValueError:
        file.close()
        response = HttpResponse(status=416, content_type="text/plain")
        response.headers["Content-Range"] = f"bytes */{size}"
        return response
    if part is None:
        return FileStream(file, size, content_type=content_type)
    start, stop = part
    file.seek(start)
    ranged = FileStream(file, stop - start, content_type=content_type, status=206)
    ranged.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return ranged


def zip_response(pieces: Iterable[bytes], name: str) -> HttpResponseBase:
    """A zip file that is made while it is sent; ``pieces`` are its bytes."""
    response = ByteStream(pieces, content_type="application/zip")
    harden(response, name, attachment=True)
    return response
