"""Addresses below /api/v1/."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from csp.decorators import csp_update
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import path, re_path, reverse
from django.urls.resolvers import URLPattern
from django.views.decorators.csrf import csrf_exempt, ensure_csrf_cookie

from studio.api.api import api
from studio.api.errors import as_problems, not_found


def index(request: HttpRequest) -> HttpResponse:
    """Where to read on."""
    return JsonResponse(
        {
            "title": api.title,
            "version": api.version,
            "docs": request.build_absolute_uri(reverse("api-1:openapi-view")),
            "openapi": request.build_absolute_uri(reverse("api-1:openapi-json")),
        }
    )


def _patterns() -> list[URLPattern]:
    found, _app, _namespace = api.urls
    patterns = cast(list[URLPattern], found)  # the framework's own are paths, never includes
    for pattern in patterns:
        view = cast(Callable[..., HttpResponseBase], pattern.callback)
        if pattern.name == "openapi-view":
            # Swagger UI sets style attributes; nothing but its own bundled script runs.
            pattern.callback = csp_update({"style-src": ["'unsafe-inline'"]})(ensure_csrf_cookie(view))
        else:
            pattern.callback = as_problems(view)
    return patterns


patterns = _patterns()
app_name = "api-1"
urlpatterns = [
    path("", index, name="api-index"),
    *patterns,
    re_path(r"^(?P<path>.*)$", csrf_exempt(not_found), name="api-unknown"),
]
