"""The client library to install from the studio itself, as from a package index: open to everybody.

pip install atelier-client --index-url http://studio/client/simple/
"""

from __future__ import annotations

import re

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path
from django.utils.html import format_html
from django.views.decorators.http import require_safe

from studio.api.client_wheel import Wheel, wheel


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _file(one: Wheel) -> HttpResponse:
    response = HttpResponse(one.content, content_type="application/octet-stream")
    response.headers["Content-Disposition"] = f'attachment; filename="{one.filename}"'
    response.headers["ETag"] = f'"{one.sha256}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@require_safe
def client_index(request: HttpRequest) -> HttpResponse:
    """What to type."""
    base = settings.ATELIER_URL
    text = f"pip install atelier-client --index-url {base}/client/simple/\n"
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


@require_safe
def client_file(request: HttpRequest, filename: str) -> HttpResponse:
    one = wheel()
    if filename != one.filename:
        raise Http404
    return _file(one)


@require_safe
def simple_index(request: HttpRequest) -> HttpResponse:
    name = _normal(wheel().name)
    return HttpResponse(
        format_html(
            '<!DOCTYPE html><html lang="en"><title>Simple index</title><body><a href="{}/">{}</a></body></html>',
            name,
            name,
        )
    )


@require_safe
def simple_project(request: HttpRequest, name: str) -> HttpResponse:
    one = wheel()
    if _normal(name) != _normal(one.name):
        raise Http404
    page = (
        '<!DOCTYPE html><html lang="en"><title>{}</title><body>'
        '<a href="../../files/{}#sha256={}" data-requires-python="{}">{}</a></body></html>'
    )
    return HttpResponse(format_html(page, one.name, one.filename, one.sha256, one.requires_python, one.filename))


urlpatterns = [
    path("", client_index, name="client-index"),
    path("files/<str:filename>", client_file, name="client-file"),
    path("simple/", simple_index, name="client-simple"),
    path("simple/<str:name>/", simple_project, name="client-simple-project"),
]
