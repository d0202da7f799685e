"""Calling a service from the studio: for the Test tab, the REST API and the health beat."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

from models_registry.models import Endpoint
from models_registry.services.keys import read_keys
from studio.lib.errors import Conflict, TooLarge

MAX_BODY = 16 * 1024 * 1024
MAX_ANSWER = 64 * 1024 * 1024
TIMEOUT_S = 60.0


def local_host() -> str:
    """Where this machine reaches a service: ATELIER_SERVICE_ADDRESS, else where it listens, ATELIER_SERVICE_HOST."""
    if settings.ATELIER_SERVICE_ADDRESS:
        return str(settings.ATELIER_SERVICE_ADDRESS)
    host = str(settings.ATELIER_SERVICE_HOST)
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound


def public_host() -> str:
    """Where callers reach it: a service on all addresses is called by the studio's own name."""
    host = str(settings.ATELIER_SERVICE_HOST)
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
        host = urlsplit(settings.ATELIER_URL).hostname or "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def base_url(endpoint: Endpoint) -> str:
    return f"http://{public_host()}:{endpoint.port}" if endpoint.port else ""


def call(
    endpoint: Endpoint, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None,
    timeout: float = TIMEOUT_S,
) -> tuple[int, bytes, dict[str, str]]:  # fmt: skip
    """(status, body, headers) of the service's answer. OSError or http.client.HTTPException: there is none."""
    connection = http.client.HTTPConnection(local_host(), int(endpoint.port or 0), timeout=timeout)
    try:
        connection.request(method, path, body=body, headers={"Connection": "close", **(headers or {})})
        response = connection.getresponse()
        answer = response.read(MAX_ANSWER + 1)
        if len(answer) > MAX_ANSWER:
            raise TooLarge(_("The service's answer is larger than 64 MB. Send fewer rows per request."))
        return response.status, answer, {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()


def score(endpoint: Endpoint, body: bytes, content_type: str = "application/json") -> tuple[int, bytes, dict[str, str]]:
    """The service's own answer to ``body``, whatever its status. Raises Conflict where the service does not answer."""
    if len(body) > MAX_BODY:
        raise TooLarge(_("The body is larger than 16 MB. Send fewer rows per request."))
    headers = {"Content-Type": content_type or "application/json"}
    if endpoint.auth_enabled:
        headers["Authorization"] = f"Bearer {read_keys(endpoint)['primary']}"
    try:
        status, answer, given = call(endpoint, "POST", "/score", body=body, headers=headers)
    except TimeoutError:
        raise Conflict(
            _("The service did not answer within %(n)d seconds. Its log may say why.") % {"n": TIMEOUT_S}
        ) from None
    except (OSError, http.client.HTTPException):
        raise Conflict(
            _("The service does not answer: it is starting, has stopped or has crashed. Its log says which.")
        ) from None
    return status, answer, {"Content-Type": given.get("content-type", "application/json")}


def describe(endpoint: Endpoint) -> dict[str, Any] | None:
    """The service's OpenAPI document with its public address, None while it does not answer."""
    try:
        status, body, _headers = call(endpoint, "GET", "/swagger.json", timeout=3.0)
        document = json.loads(body)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    if status != 200 or not isinstance(document, dict):
        return None
    document["servers"] = [{"url": base_url(endpoint)}]
    return document


def swagger(endpoint: Endpoint) -> dict[str, Any]:
    """As ``describe``; raises Conflict while the service does not answer."""
    document = describe(endpoint)
    if document is None:
        raise Conflict(_("The service does not answer, so it cannot say what it takes. Look at its state and its log."))
    return document


def sample_body(endpoint: Endpoint, document: dict[str, Any] | None) -> str:
    """A body to try: the service's own example, else the sample input of the model, else the bare form."""
    example: Any = None
    if document:
        content = document["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
        example = content.get("example")
    if example is None:
        deployment = endpoint.deployments.select_related("version").first()
        sample = deployment.version.sample_input if deployment else None
        example = sample if isinstance(sample, dict) else {"data": sample if isinstance(sample, list) else []}
    return json.dumps(example)
