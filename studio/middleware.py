"""Turns errors that are meant for a person into pages with the right status."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import RequestAborted
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from studio.lib.errors import AtelierError, NotAuthenticated


class ErrorPagesMiddleware:
    """An AtelierError that a view did not handle becomes a page (or a part, for htmx) with its status."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, RequestAborted):  # the client went away; nobody reads this
            return HttpResponse(status=499)
        if isinstance(exception, NotAuthenticated):
            return redirect("account_login")
        if not isinstance(exception, AtelierError):
            return None
        htmx = getattr(request, "htmx", False)
        template = "studio/error.html#body" if htmx else "studio/error.html"
        return render(request, template, {"error": exception}, status=exception.status)
