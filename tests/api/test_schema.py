"""The OpenAPI document against the API: generated requests, and what comes back is what the document says."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from studio.api.api import api
from tests.api.conftest import API, World

EXAMPLES = 12
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# Asks a package index on the network.
LEFT_OUT = {"environment_check"}
SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _real(world: World, operation_path: str) -> dict[str, Any]:
    """Path parameters that exist, so that more than 404 is seen."""
    assert world.run.snapshot is not None
    name = {
        "targets": "local",
        "environments": "system",
        "models": "iris",
        "endpoints": "iris-service",
        "datastores": "workspaceblobstore",
    }
    parts = operation_path.removeprefix(f"{API}/workspaces/{{workspace}}/").split("/")
    found = {
        "workspace": "main",
        "run_id": world.run.run_id,
        "digest": world.run.snapshot.digest,
        "version": 1,
        "path": {"snapshots": "train.py", "datastores": "iris/a.csv"}.get(parts[0], "outputs/model.txt"),
        "name": name.get(parts[0], "iris"),
        "user_id": world.team.reader.pk,
        **world.extra,
    }
    return found


def test_what_comes_back_is_what_the_document_says(world: World, team: Any) -> None:
    schema = schemathesis.openapi.from_wsgi(f"{API}/openapi.json", get_wsgi_application())
    headers = {"Authorization": f"Bearer {world.tokens['owner']}"}
    wrong: list[str] = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.definition.raw["operationId"] in LEFT_OUT:
            continue
        try:
            _generated(operation, _real(world, operation.path), headers)()
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - every operation is to be tried
            wrong.append(f"{operation.label}: {_text(error)}")
    assert not wrong, "\n\n".join(wrong)


def _generated(operation: Any, real: dict[str, Any], headers: dict[str, str]) -> Any:
    @SETTINGS
    @given(case=operation.as_strategy(), use_real=st.sampled_from([True, True, False]))
    def try_it(case: Any, use_real: bool) -> None:
        if use_real:
            case.path_parameters = {key: real.get(key, value) for key, value in case.path_parameters.items()}
        if case.query and "wait" in case.query:
            case.query["wait"] = 0
        with transaction.atomic():
            response = case.call(headers=headers)
            transaction.set_rollback(True)
        case.validate_response(response, checks=CHECKS)

    return try_it


def _text(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return " | ".join(_text(one) for one in error.exceptions)
    return f"{type(error).__name__}: {error}"[:1500]


class TestDocument:
    def test_every_operation_is_described(self) -> None:
        for path, methods in api.get_openapi_schema()["paths"].items():
            for method, operation in methods.items():
                assert operation.get("description"), f"{method} {path}"
                assert operation["tags"], f"{method} {path}"

    def test_operation_ids_are_unique(self) -> None:
        paths = api.get_openapi_schema()["paths"]
        ids = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
        assert len(ids) == len(set(ids))

    def test_path_parameters_are_path_parameters(self) -> None:
        for path, methods in api.get_openapi_schema()["paths"].items():
            for operation in methods.values():
                named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
                assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}, path


@pytest.mark.django_db
class TestDocsPage:
    def test_needs_no_inline_script(self, client: Any) -> None:
        response = client.get(f"{API}/docs")
        page, policy = response.content.decode(), response["Content-Security-Policy"]
        assert response.status_code == 200
        assert "cdn" not in page and "ninja/swagger-ui-bundle.js" in page
        inline = [part for part in page.split("<script")[1:] if "src=" not in part.split(">")[0]]
        assert all('type="application/json"' in part.split(">")[0] for part in inline)
        assert "script-src 'self';" in policy + ";" and "'unsafe-inline'" in policy

    def test_document_and_index(self, client: Any) -> None:
        assert client.get(f"{API}/openapi.json").json()["info"] == {
            "title": "Atelier",
            "version": "1",
            "description": api.description,
        }
        assert client.get(f"{API}/").json()["docs"].endswith(f"{API}/docs")
