"""Turns errors that are meant for a person into pages with the right status."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.core.exceptions import RequestAborted
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from studio.lib.errors import AtelierError, NotAuthenticated

log = logging.getLogger(__name__)
PROVIDER_VIEWS = ("openid_connect_login", "openid_connect_callback")


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
        if isinstance(exception, OSError) and getattr(request.resolver_match, "url_name", "") in PROVIDER_VIEWS:
            # allauth looks the provider's addresses up outside of what it handles itself.
            log.warning("the sign-in provider cannot be used: %s", exception)
            return render(request, "socialaccount/authentication_error.html", status=502)
        if not isinstance(exception, AtelierError):
            return None
        htmx = getattr(request, "htmx", False)
        template = "studio/error.html#body" if htmx else "studio/error.html"
        return render(request, template, {"error": exception}, status=exception.status)
