"""The REST API as one object: routers, who may call, and an OpenAPI document that says all of it."""

from __future__ import annotations

import json
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.functional import Promise
from ninja import NinjaAPI
from ninja.openapi.docs import Swagger
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation
from ninja.parser import Parser
from ninja.renderers import BaseRenderer

from studio.api import errors
from studio.api.auth import PEOPLE
from studio.api.v1.schemas import Problem

DESCRIPTION = """
Everything that the pages do. Send `Authorization: Bearer <token>`: a personal access token (made on the page
*Access tokens*), or the token that a service principal gets from `POST /token`. A browser that is signed in to the
studio can try the operations right here.

* **Errors** are `application/problem+json` (RFC 9457). `errors` names every field that is wrong; `instance` has the id
  under which the studio's log has the details. An outsider of a workspace gets 404, a member without the right 403.
* **Lists** come in pages: `{"items": [...], "next": "<cursor>"}`. Ask for the next page with `?cursor=<next>`.
* **Submits** can be repeated safely with an `Idempotency-Key`.
* **A run** may call the operations on itself with the token in its environment variable `AZUREML_RUN_TOKEN`.
"""

_PROBLEMS = {
    400: "The request cannot be read.",
    401: "No token, or one that is unknown, expired or revoked.",
    403: "The caller is known and may not do this.",
    404: "There is no such thing, or the caller is not a member of the workspace.",
    409: "The state of the thing does not allow it.",
    413: "More than this operation takes.",
    422: "A field is wrong; `errors` names each.",
    429: "Too many requests.",
    500: "Something went wrong in the studio.",
}


def _default(value: Any) -> Any:
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "model_dump"):
        return value.model_dump()
    raise TypeError(type(value).__name__)


class Orjson(BaseRenderer):
    """NaN and infinities become null: JSON has no word for them."""

    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return orjson.dumps(data, default=_default, option=orjson.OPT_NON_STR_KEYS)


class Json(Parser):
    """Text that UTF-8 has no bytes for (half of a surrogate pair) makes the body one that cannot be read."""

    def parse_body(self, request: HttpRequest) -> Any:
        data = super().parse_body(request)
        if b"\\ud" in request.body.lower():
            json.dumps(data, ensure_ascii=False).encode()
        return data


class AtelierAPI(NinjaAPI):
    """Names operations after their functions, and writes down the errors that every operation can answer."""

    def get_openapi_operation_id(self, operation: Operation) -> str:
        return operation.view_func.__name__

    def get_openapi_schema(self, **kwargs: Any) -> OpenAPISchema:
        schema = super().get_openapi_schema(**kwargs)
        schema["components"].setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        for path, methods in schema["paths"].items():
            if "head" in methods:  # it shares its dictionary with GET until here
                methods["head"] = {**methods["head"], "operationId": methods["head"]["operationId"] + "_head"}
                methods["head"]["responses"] = {
                    code: {**answer, "content": {}} for code, answer in methods["head"]["responses"].items()
                }
            for method, operation in methods.items():
                self._complete(path, method, operation)
        return schema

    @staticmethod
    def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
        """The problems that the operation can answer. An operation that says 201 or 202 has no bare 200."""
        responses = operation["responses"]
        if 200 in responses and "content" not in responses[200] and any(code in responses for code in (201, 202)):
            del responses[200]
        for code, description in _PROBLEMS.items():
            if code == 401 and "security" not in operation and not path.endswith("/token"):
                continue
            content = {errors.CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            responses.setdefault(code, {"description": description, "content": content})


class Docs(Swagger):
    """Swagger UI from the bundled files, with a template of our own that has no inline script."""

    template = "api/docs.html"

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        settings = {**self.settings, "url": self.get_openapi_url(api, kwargs), "persistAuthorization": False}
        return render(request, self.template, {"api": api, "swagger_settings": settings})


api = AtelierAPI(
    title="Atelier",
    version="1",
    description=DESCRIPTION,
    urls_namespace="api-1",
    auth=PEOPLE,
    docs=Docs(settings={"deepLinking": True, "tryItOutEnabled": True, "validatorUrl": None, "docExpansion": "none"}),
    docs_url="/docs",
    parser=Json(),
    renderer=Orjson(),
)
errors.install(api)

_IN_WORKSPACE = "/workspaces/{workspace}"
api.add_router("", "studio.api.v1.accounts.router")
for _name in (
    "targets",
    "compute",
    "build_logs",
    "images",
    "registries",
    "snapshots",
    "runs",
    "metrics",
    "files",
    "models",
    "endpoints",
    "datastores",
    "datasets",
    "data",
):
    api.add_router(_IN_WORKSPACE, f"studio.api.v1.{_name}.router")
