"""Logs over HTTP: bytes by range, search, and where a line is. The websocket is in ``compute.consumers``."""

from __future__ import annotations

import re

from django.http import HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from compute.logs.store import LogFile
from compute.models import LogStream, Unit
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.lib.errors import Invalid, NotFound
from studio.lib.responses import file_response, harden

TEXT = "text/plain; charset=utf-8"


def _stream(request: WorkspaceRequest, key: str) -> tuple[Unit, LogFile]:
    """The unit and the stream that ``?stream=`` names (stdout). Raises NotFound for what is not this workspace's."""
    unit = Unit.objects.filter(key=key, workspace=request.workspace).first()
    name = request.GET.get("stream", "stdout")
    if unit is None or (name != "stdout" and not LogStream.objects.filter(unit=unit, name=name).exists()):
        raise NotFound(_("There is no such stream."))
    return unit, LogFile(key, name)


def _number(request: WorkspaceRequest, name: str, default: int) -> int:
    raw = request.GET.get(name, "")
    if raw and not (raw.isascii() and raw.isdigit() and len(raw) < 19):
        raise Invalid(_("%(name)s is a whole number.") % {"name": name}, field=name)
    return int(raw) if raw else default


@require_safe
@workspace_page()
def log_bytes(request: WorkspaceRequest, key: str) -> HttpResponseBase:
    """The log as text, whole or by range; ``?download=1`` as an attachment. Empty where nothing was written yet."""
    unit, file = _stream(request, key)
    label = re.sub(r"[^A-Za-z0-9._-]+", "_", unit.label or unit.key)[:80].strip("_") or unit.key
    name = f"{label}-{file.name}.txt"
    download = bool(request.GET.get("download"))
    if not file.path.exists():
        response: HttpResponseBase = HttpResponse(b"", content_type=TEXT)
        harden(response, name, attachment=download)
        return response
    return file_response(request, file.path, name=name, attachment=download, content_type=TEXT)


@require_safe
@workspace_page()
def log_search(request: WorkspaceRequest, key: str) -> JsonResponse:
    """``?q=&regex=1&case=1&after=&limit=``: one page of lines with a match; ``next`` goes into ``after`` for more."""
    _unit, file = _stream(request, key)
    try:
        page = file.search(
            request.GET.get("q", ""),
            regex=bool(request.GET.get("regex")),
            ignore_case=not request.GET.get("case"),
            after=_number(request, "after", 0),
            limit=max(1, min(_number(request, "limit", 100), 1000)),
        )
    except Invalid as error:
        return JsonResponse({"detail": error.detail}, status=error.status)
    hits = [{"line": line, "offset": offset, "text": text} for line, offset, text in page.hits]
    return JsonResponse({"hits": hits, "next": page.next, "scanned": page.scanned, "size": file.size()})


@require_safe
@workspace_page()
def log_line(request: WorkspaceRequest, key: str, line: int) -> JsonResponse:
    """Where a line starts: ``{line, offset, lines}``. A line after the last one gives the last one."""
    _unit, file = _stream(request, key)
    lines = file.lines()
    found = max(1, min(line, lines))
    return JsonResponse({"line": found, "offset": file.line_to_offset(found), "lines": lines})


@require_safe
@workspace_page()
def log_offset(request: WorkspaceRequest, key: str) -> JsonResponse:
    """``?offset=``: which line the byte at an offset belongs to, ``{line, offset}`` with the line's own start."""
    _unit, file = _stream(request, key)
    offset = min(_number(request, "offset", 0), file.size())
    return JsonResponse({"line": file.offset_to_line(offset), "offset": file.line_start(offset)})
