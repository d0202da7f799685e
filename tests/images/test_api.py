"""Registries and recipes with images over REST."""

from __future__ import annotations

from typing import Any

import pytest

from compute.models import ContainerRegistry
from studio.accounts.models import AuditEntry


@pytest.mark.django_db
def test_registries_over_rest(team: Any, client: Any) -> None:
    client.force_login(team.owner)
    base = f"/api/v1/workspaces/{team.workspace.name}/container-registries"

    def send(method: str, path: str, body: dict[str, Any]) -> Any:
        return getattr(client, method)(path, body, content_type="application/json")

    refused = send("post", base, {"address": "127.0.0.1:9", "username": "u", "password": "hidden-word"})
    assert refused.status_code == 422 and "does not answer" in refused.json()["errors"]["address"][0]
    assert not ContainerRegistry.objects.exists()
    made = send(
        "post",
        base,
        {"address": "127.0.0.1:9", "username": "u", "password": "hidden-word", "push": True, "check": False},
    )
    assert made.status_code == 201 and made.json()["has_password"] and "hidden-word" not in made.content.decode()
    one = f"{base}/{made.json()['id']}"
    assert send("patch", one, {"push": False}).json()["push"] is False
    assert ContainerRegistry.objects.get().password
    assert send("post", f"{one}/test", {}).json()["problems"][0]["code"] == "unreachable"
    assert [item["address"] for item in client.get(base).json()] == ["127.0.0.1:9"]
    assert client.delete(one).status_code == 204 and client.get(base).json() == []
    actions = set(AuditEntry.objects.filter(action__startswith="registry.").values_list("action", flat=True))
    assert actions == {"registry.create", "registry.update", "registry.delete"}
    assert "hidden-word" not in str(list(AuditEntry.objects.values()))


@pytest.mark.django_db
def test_a_recipe_with_a_dockerfile_over_rest(team: Any, client: Any) -> None:
    client.force_login(team.owner)
    base = f"/api/v1/workspaces/{team.workspace.name}/environments"
    recipe = {"kind": "dockerfile", "dockerfile": "FROM python:3.12\nRUN true", "packages": ["six", "attrs"]}
    made = client.post(base, {"name": "mine", "recipe": recipe}, content_type="application/json")
    assert made.status_code == 201, made.content
    assert made.json()["recipe"]["dockerfile"] == "FROM python:3.12\nRUN true\n"
    assert made.json()["recipe"]["order"] == ["six", "attrs"]
    recipe["dockerfile"] = "FROM python:3.12\nCOPY a b\n"
    wrong = client.post(base, {"name": "mine", "recipe": recipe}, content_type="application/json")
    assert wrong.status_code == 422 and wrong.json()["errors"]["dockerfile"][0].startswith("Line 2: COPY a b")
