"""Every address against the table of permissions, with real requests."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.urls import URLPattern, URLResolver, get_resolver

from runs.services.events import ingest_objects
from studio.api.api import api
from studio.api.client_wheel import wheel
from studio.lib import secrets
from tests.api.conftest import API, World
from tests.api.permissions import OPERATIONS, PAGES, ROLES

REFUSED = {401, 403, 404}


def operations() -> set[str]:
    paths = api.get_openapi_schema()["paths"]
    return {f"{method.upper()} {path.removeprefix(API)}" for path, methods in paths.items() for method in methods}


def routes(patterns: Any, before: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = before + str(pattern.pattern).removeprefix("^").removesuffix("$")
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route


def pages() -> set[str]:
    """Routes of the resolver that are not operations of the API."""
    known = {re.sub(r"{(\w+)}", "<>", key.split(" ", 1)[1]) for key in operations()}
    found = set()
    for route in routes(get_resolver().url_patterns):
        plain = re.sub(r"<[^>]+>", "<>", "/" + route)
        if not (plain.startswith(API) and plain.removeprefix(API) in known):
            found.add(route)
    return found


def test_every_operation_is_in_the_table() -> None:
    have = operations()
    assert have - OPERATIONS.keys() == set(), "operations without a row in tests/api/permissions.py"
    assert OPERATIONS.keys() - have == set(), "rows for operations that are gone"


def test_every_page_is_in_the_table() -> None:
    have, listed = pages(), {key.split(" ", 1)[1] for key in PAGES}
    assert have - listed == set(), "pages without a row in tests/api/permissions.py"
    assert listed - have == set(), "rows for pages that are gone"


def test_every_row_names_every_role() -> None:
    for key, (who, _request) in {**OPERATIONS, **PAGES}.items():
        assert len(who) == len(ROLES), key


def values(world: World) -> dict[str, Any]:
    """What stands behind $names and path parameters."""
    assert world.run.snapshot is not None
    return {
        "workspace": "main",
        "run_id": world.run.run_id,
        "ended": world.ended.run_id,
        "run": world.run.run_id,
        "interactive": world.interactive.run_id,
        "digest": world.run.snapshot.digest,
        "version": world.model.version,
        "user_id": world.team.reader.pk,
        "invitation_id": world.invitation.pk,
        "token_id": world.team.owner.tokens.get().pk,
        "client_id": str(world.principal.client_id),
        "client_secret": world.principal_secret,
        "invitation": world.invitation_secret,
        "unit": world.unit.key,
        "principal_id": world.principal.pk,
        "wheel": wheel().filename,
        **world.extra,
    }


def fill(value: Any, known: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return re.sub(r"\$(\w+)", lambda found: str(known[found[1]]), value)
    if isinstance(value, dict):
        return {key: fill(one, known) for key, one in value.items()}
    return [fill(one, known) for one in value] if isinstance(value, list) else value


def send(client: Any, method: str, path: str, request: dict[str, Any], known: dict[str, Any]) -> Any:
    query = fill(request["query"], known)
    data, kind = request["raw"], request["kind"]
    if data is None:
        data = json.dumps(fill(request["json"], known)) if request["json"] is not None else b""
    return client.generic(method, path + (f"?{query}" if query else ""), data=data, content_type=kind)


def seen(response: Any) -> Any:
    """The word of the table for what came."""
    if response.status_code in (301, 302) and "/login/" in response.headers.get("Location", ""):
        return "login"
    return response.status_code


def fits(expected: Any, got: Any) -> bool:
    if expected == "ok":
        return isinstance(got, int) and got < 400
    if expected == "past":
        return isinstance(got, int) and got not in REFUSED and got != 500
    return bool(expected == got)


@pytest.fixture
def table_world(world: World) -> World:
    ingest_objects(world.run, [{"k": "metric", "n": "accuracy", "v": 0.9}])
    return world


def _try(client: Any, method: str, path: str, request: dict[str, Any], known: dict[str, Any]) -> Any:
    """One request whose changes to the database, and to the cookies (signing out), are taken back."""
    cookies = copy.deepcopy(client.cookies)
    with transaction.atomic():
        response = send(client, method, path, request, known)
        getattr(response, "close", lambda: None)()
        transaction.set_rollback(True)
    client.cookies = cookies
    return response


def test_operations(table_world: World) -> None:
    known, wrong = values(table_world), []
    for key, (who, request) in OPERATIONS.items():
        method, template = key.split(" ", 1)
        given = {**known, **fill(request["params"], known)}
        path = API + re.sub(r"{(\w+)}", lambda found, given=given: str(given[found[1]]), template)  # type: ignore[misc]
        for role, expected in zip(ROLES, who, strict=True):
            response = _try(table_world.clients[role], method, path, request, known)
            if not fits(expected, seen(response)):
                said = getattr(response, "content", b"")[:200]
                wrong.append(f"{key} as {role}: {expected} expected, {seen(response)} came {said!r}")
    assert not wrong, "\n".join(wrong)


def address(route: str, given: dict[str, Any]) -> str:
    """A route of the resolver with its parameters filled in."""
    named = re.sub(r"\(\?P(<\w+>)(?:\[[^\]]*\][^)]*|[^)]*)\)", r"\1", route).removesuffix("\\Z")
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(given[found[1]]), named)


def test_pages(table_world: World) -> None:
    known, wrong = values(table_world), []
    for key, (who, request) in PAGES.items():
        method, route = key.split(" ", 1)
        path = address(route, {**known, **fill(request["params"], known)})
        for role, expected in zip(ROLES, who, strict=True):
            response = _try(table_world.sessions[role], method, path, request, known)
            if not fits(expected, seen(response)):
                wrong.append(f"{key} as {role}: {expected} expected, {seen(response)} came")
    assert not wrong, "\n".join(wrong)


def test_pages_without_a_row_for_post_take_none(table_world: World) -> None:
    known, wrong = values(table_world), []
    requests = {key.split(" ", 1)[1]: request for key, (_who, request) in PAGES.items()}
    for route, request in requests.items():
        if f"POST {route}" not in PAGES:
            path = address(route, {**known, **fill(request["params"], known)})
            got = seen(_try(table_world.sessions["owner"], "POST", path, request, known))
            if got not in (403, 404, 405, "login"):
                wrong.append(f"POST {route}: {got}")
    assert not wrong, "pages that take POST and have no row for it:\n" + "\n".join(wrong)


class TestUnitToken:
    """A unit's token beyond the table: other runs, other workspaces, after its end."""

    def test_other_run(self, world: World) -> None:
        for path in (f"/runs/{world.ended.run_id}", f"/runs/{world.interactive.run_id}/logs", "/runs/none"):
            assert world.get("unit", path).status_code == 403

    def test_children_of_its_own(self, world: World) -> None:
        made = world.send("unit", "POST", f"/runs/{world.run.run_id}/children", {"count": 1})
        child = made.json()[0]["id"]
        assert made.status_code == 201 and world.get("unit", f"/runs/{child}").status_code == 200
        body = {"experiment": "iris", "interactive": True, "parent": world.run.run_id}
        assert world.send("unit", "POST", "/runs", body).status_code == 201
        assert world.send("unit", "POST", "/runs", {**body, "parent": world.ended.run_id}).status_code == 403

    def test_model_from_its_own_run_alone(self, world: World) -> None:
        body = {"name": "other", "run_id": world.ended.run_id, "path": "outputs/model.txt"}
        assert world.send("unit", "POST", "/models", body).status_code == 403

    def test_other_workspace(self, world: World) -> None:
        response = world.clients["unit"].get(f"{API}/workspaces/elsewhere/runs/{world.run.run_id}")
        assert response.status_code == 403

    def test_dies_with_the_unit(self, world: World) -> None:
        path = f"/runs/{world.run.run_id}"
        assert world.get("unit", path).status_code == 200
        type(world.unit).objects.filter(pk=world.unit.pk).update(state="completed")
        assert world.get("unit", path).status_code == 401

    def test_guessed(self, world: World) -> None:
        from tests.api.conftest import bearer

        assert bearer(secrets.new_token("atu")).get(f"{API}/me").status_code == 401
