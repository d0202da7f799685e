"""Every error of the API as problem+json (RFC 9457): what is wrong, which field, and an id to find it in the log."""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import orjson
from atelier.data.errors import DataError
from django.core.exceptions import (
    RequestAborted,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.db import DataError as UnstorableError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, Throttled, ValidationError

from studio.lib.errors import AtelierError, NotAuthenticated

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


def request_id(request: HttpRequest) -> str:
    """The id of this request, the same for as long as it is handled."""
    found = getattr(request, "atelier_request_id", None)
    if found is None:
        found = str(uuid.uuid4())
        request.atelier_request_id = found  # type: ignore[attr-defined]  # ours
    return found


def problem(
    request: HttpRequest,
    status: int,
    detail: str,
    *,
    code: str = "",
    errors: dict[str, list[str]] | None = None,
    headers: dict[str, str] | None = None,
    more: dict[str, Any] | None = None,
) -> HttpResponse:
    """The answer for an error. ``code`` is the stable last part of ``type``; ``more`` are members beside the usual."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    identity = request_id(request)
    body = {
        "type": f"urn:atelier:problem:{code or title.lower().replace(' ', '-')}",
        "title": title,
        "status": status,
        "detail": str(detail),
        "errors": errors or {},
        "instance": f"urn:uuid:{identity}",
        **(more or {}),
    }
    response = HttpResponse(orjson.dumps(body), status=status, content_type=CONTENT_TYPE)
    response["X-Request-Id"] = identity
    response["Cache-Control"] = "no-store"
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="atelier"'
    for name, value in (headers or {}).items():
        response[name] = value
    return response


# What errors about data say beside their sentence; whether the same request may succeed later is one of them.
_PLACES = ("hint", "retry", "file", "line")
_DATA = {"no-such-file": 404, "disk-full": 413}


def _from_atelier(request: HttpRequest, error: Any) -> HttpResponse:
    errors = {str(field): [str(text) for text in texts] for field, texts in error.errors.items()}
    status = _DATA.get(error.code, error.status)
    more = {name: found for name in _PLACES if (found := getattr(error, name, None))}
    if path := getattr(error, "path", None):
        more.setdefault("file", str(path))
    return problem(request, status, error.detail, code=error.code, errors=errors, more=more)


def _from_data(request: HttpRequest, error: Any) -> HttpResponse:
    """What the reader of data says: which file, which line."""
    more = {name: found for name in _PLACES if (found := getattr(error, name, None))}
    return problem(request, _DATA.get(error.kind, 422), str(error), code=error.kind, more=more)


def _where(location: tuple[Any, ...]) -> str:
    """The field's path without the words that only the framework knows: ("body", "data", "tags") -> "tags"."""
    parts = [str(part) for part in location]
    if parts and parts[0] in {"body", "query", "path", "header", "form", "file"}:
        kind, parts = parts[0], parts[1:]
        if kind in {"body", "form"} and len(parts) > 1:
            parts = parts[1:]
    return ".".join(parts) or "body"


def _from_validation(request: HttpRequest, error: Any) -> HttpResponse:
    errors: dict[str, list[str]] = {}
    for one in error.errors:
        errors.setdefault(_where(tuple(one.get("loc", ()))), []).append(str(one.get("msg", "")))
    named = "; ".join(f"{field}: {texts[0]}" for field, texts in list(errors.items())[:5])
    return problem(
        request, 422, _("The request cannot be used. %(named)s") % {"named": named}, code="invalid", errors=errors
    )


def _from_http(request: HttpRequest, error: Any) -> HttpResponse:
    return problem(request, error.status_code, str(error))


def _unreadable(request: HttpRequest, error: Any) -> HttpResponse:
    if isinstance(error, (RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent)):
        return problem(request, 413, _("The request is larger than this operation takes."), code="too-large")
    return problem(request, 400, _("The request cannot be read."))


def _unexpected(request: HttpRequest, error: Any) -> HttpResponse:
    if isinstance(error, UnstorableError) or (isinstance(error, ValueError) and "NUL" in str(error)):
        return problem(request, 422, _("A value holds characters or a size that cannot be stored."), code="invalid")
    log.error("%s %s failed (request %s)", request.method, request.path, request_id(request), exc_info=error)
    return problem(
        request, 500, _("Something went wrong in the studio. Its log has the details under the id in `instance`.")
    )


def install(api: NinjaAPI) -> None:
    """Let every exception of an operation end as problem+json."""
    api.add_exception_handler(AtelierError, _from_atelier)
    api.add_exception_handler(DataError, _from_data)
    api.add_exception_handler(ValidationError, _from_validation)
    api.add_exception_handler(
        AuthenticationError, lambda request, _error: _from_atelier(request, NotAuthenticated(SIGN_IN))
    )
    api.add_exception_handler(Throttled, _from_http)
    api.add_exception_handler(HttpError, _from_http)
    api.add_exception_handler(
        Http404, lambda request, _error: problem(request, 404, _("There is nothing here."), code="not-found")
    )
    for kind in (SuspiciousOperation, MultiPartParserError, UnreadablePostError):
        api.add_exception_handler(kind, _unreadable)
    # The client went away in mid-query: nobody reads this.
    api.add_exception_handler(RequestAborted, lambda _request, _error: HttpResponse(status=499))
    api.add_exception_handler(Exception, _unexpected)


SIGN_IN = "Send a token in the header Authorization: Bearer <token>, or sign in."


def not_found(request: HttpRequest, path: str = "") -> HttpResponse:
    """For every address under the API that no operation has."""
    return problem(
        request, 404, _("There is no such operation. See the list at the docs page of the API."), code="not-found"
    )


def as_problems(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """What the framework answers by itself (405) as problem+json, and a request id on every answer."""

    @functools.wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        if isinstance(response, HttpResponseNotAllowed):
            return problem(
                request,
                405,
                _("%(method)s is not possible here.") % {"method": request.method},
                headers={"Allow": response["Allow"]},
            )
        response.headers.setdefault("X-Request-Id", request_id(request))
        return response

    return wrapper
