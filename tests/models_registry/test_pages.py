"""Every page of models and endpoints: works, anonymous, reader, outsider, bad id; and the queries of the lists."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from models_registry.models import Deployment, Endpoint, ModelVersion
from models_registry.services import keys
from runs.services import interactive
from studio.accounts.models import AuditEntry
from studio.lib import storage

pytestmark = pytest.mark.django_db
Register = Callable[..., ModelVersion]

# name, arguments, what a reader gets
PAGES = [
    ("model-list", {}, 200),
    ("model-register", {}, 403),
    ("model-upload", {}, 403),
    ("model-detail", {"name": "iris"}, 200),
    ("model-version", {"name": "iris", "version": 1}, 200),
    ("model-edit", {"name": "iris", "version": 1}, 403),
    ("model-delete", {"name": "iris", "version": 1}, 403),
    ("model-zip", {"name": "iris", "version": 1}, 200),
    ("model-file", {"name": "iris", "version": 1, "path": "model.joblib"}, 200),
    ("endpoint-list", {}, 200),
    ("endpoint-deploy", {}, 403),
    ("endpoint-detail", {"name": "live"}, 200),
    ("endpoint-test", {"name": "live"}, 200),
    ("endpoint-swagger", {"name": "live"}, 200),
    ("endpoint-logs", {"name": "live"}, 200),
    ("endpoint-keys", {"name": "live"}, 200),
]
ACTIONS = [
    ("model-archive", {"name": "iris"}),
    ("endpoint-stop", {"name": "live"}),
    ("endpoint-start", {"name": "live"}),
    ("endpoint-delete", {"name": "live"}),
    ("endpoint-keys", {"name": "live"}),
    ("model-delete", {"name": "iris", "version": 1}),
]


@pytest.fixture
def world(team: Any, register: Register, serving: Any) -> Any:
    serving.deploy(register(), name="live")
    return team


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def at(name: str, arguments: dict[str, Any]) -> str:
    return reverse(name, kwargs={"workspace": "main", **arguments})


@pytest.mark.parametrize(("name", "arguments", "reader"), PAGES, ids=[page[0] for page in PAGES])
def test_every_page_by_role(world: Any, name: str, arguments: dict[str, Any], reader: int) -> None:
    url = at(name, arguments)
    for person in (world.owner, world.contributor):
        response = client_of(person).get(url)
        assert response.status_code == 200, response.content[:500]
        if not response.streaming:
            text = response.content.decode()
            assert "<script>" not in text
            assert " style=" not in text
            assert "onclick" not in text
    assert client_of(world.reader).get(url).status_code == reader
    assert client_of(world.outsider).get(url).status_code == 404
    assert Client().get(url).status_code == 302
    if arguments:
        bad = {**arguments, "name": "nothing-here"}
        assert client_of(world.owner).get(at(name, bad)).status_code == 404


@pytest.mark.parametrize(("name", "arguments"), ACTIONS, ids=[action[0] for action in ACTIONS])
def test_actions_by_role(world: Any, name: str, arguments: dict[str, Any]) -> None:
    url = at(name, arguments)
    assert client_of(world.outsider).post(url).status_code == 404
    assert client_of(world.reader).post(url).status_code == 403
    assert Client().post(url).status_code == 302
    wanted = {302, 409} if name == "model-delete" else {200, 302}
    assert client_of(world.contributor).post(url).status_code in wanted


def test_empty_states(team: Any) -> None:
    client = client_of(team.contributor)
    assert "No models yet" in client.get(at("model-list", {})).content.decode()
    assert "No endpoints yet" in client.get(at("endpoint-list", {})).content.decode()
    assert "No scikit-learn model" in client.get(at("endpoint-deploy", {})).content.decode()
    assert "Register from a run" not in client_of(team.reader).get(at("model-list", {})).content.decode()


def test_register_from_a_run(team: Any) -> None:
    run = interactive.run_start_interactive(team.workspace, team.contributor, "train")
    outputs = storage.unit_directory(run.key) / "outputs" / "deep"
    outputs.mkdir(parents=True)
    (outputs / "model.joblib").write_bytes(b"x")
    client = client_of(team.contributor)
    url = at("model-register", {}) + f"?run={run.run_id}"
    text = client.get(url).content.decode()
    assert 'value="outputs/deep/model.joblib" checked' in text
    assert 'value="outputs/deep"' in text
    bad = client.post(url, {"name": "a b", "path": "outputs/deep/model.joblib", "framework": "ScikitLearn"})
    assert bad.status_code == 422
    assert "is not a model name" in bad.content.decode()
    good = client.post(
        url, {"name": "iris", "path": "outputs/deep", "framework": "ScikitLearn", "cpu": "1", "tags": "a=b\nc"}
    )
    assert good.url == at("model-version", {"name": "iris", "version": 1})
    made = ModelVersion.objects.get()
    assert (made.tags, made.resource_configuration, made.run) == ({"a": "b", "c": None}, {"cpu": 1.0}, run)
    assert client.get(at("model-register", {}) + "?run=nothing").status_code == 404


def test_upload_edit_delete(team: Any) -> None:
    client = client_of(team.contributor)
    file = SimpleUploadedFile("model.joblib", b"x" * 100)
    assert (
        client.post(at("model-upload", {}), {"name": "up", "framework": "ScikitLearn", "files": file}).status_code
        == 302
    )
    assert client.post(at("model-upload", {}), {"name": "up", "framework": ""}).status_code == 422
    edit = at("model-edit", {"name": "up", "version": 1})
    assert client.post(edit, {"framework": "Onnx", "sample_input": "[[1]"}).status_code == 422
    assert client.post(edit, {"framework": "Onnx", "sample_input": "[[1]]"}).status_code == 302
    assert ModelVersion.objects.get().framework == "Onnx"
    assert (
        "serves scikit-learn models" in client.get(at("model-version", {"name": "up", "version": 1})).content.decode()
    )
    assert client.post(at("model-delete", {"name": "up", "version": 1})).status_code == 302
    assert not ModelVersion.objects.exists()


def test_deploy_by_form(team: Any, register: Register, serving: Any) -> None:
    version = register(name="My_Model")
    client = client_of(team.contributor)
    url = at("endpoint-deploy", {})
    assert 'value="my-model"' in client.get(url + "?model=My_Model:1").content.decode()
    from compute.services import ensure_local_target

    data = {
        "name": "mine",
        "model": str(version),
        "target": ensure_local_target(team.workspace).pk,
        "auth_enabled": "on",
    }
    assert client.post(url, data).url == at("endpoint-detail", {"name": "mine"})
    taken = client.post(url, data)
    assert taken.status_code == 422
    assert "There is an endpoint mine already" in taken.content.decode()


def test_overview_polls_only_while_it_changes(world: Any) -> None:
    client, url = client_of(world.reader), at("endpoint-detail", {"name": "live"})
    assert "every 1500ms" in client.get(url).content.decode()
    part = client.get(url, headers={"HX-Request": "true"}).content.decode()
    assert part.strip().startswith("<div")
    Deployment.objects.update(state="Healthy", error=None)
    assert "every 1500ms" not in client.get(url).content.decode()


def test_keys_are_shown_on_demand_and_on_record(world: Any) -> None:
    client, url = client_of(world.contributor), at("endpoint-keys", {"name": "live"})
    primary = keys(Endpoint.objects.get())["primary"]
    assert primary not in client.get(url).content.decode()
    shown = client.post(url)
    assert primary in shown.content.decode()
    assert shown.headers["Cache-Control"] == "no-store"
    assert AuditEntry.objects.filter(action="endpoint.keys", actor=world.contributor).count() == 1


def test_the_test_tab_says_that_nothing_answers(world: Any) -> None:
    url = at("endpoint-test", {"name": "live"})
    response = client_of(world.reader).post(url, {"body": "{}"}, headers={"HX-Request": "true"})
    assert "does not answer" in response.content.decode()


@pytest.mark.parametrize("name", ["model-list", "endpoint-list"])
def test_lists_take_the_same_queries_for_many_rows(
    team: Any, register: Register, serving: Any, name: str, django_assert_max_num_queries: Any
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    client = client_of(team.owner)
    client.get(at(name, {}))
    counts = []
    for number in range(2):
        for more in range(4):
            version = register(name=f"m{number}{more}", files=[("m.pkl", io.BytesIO(b"x"))])
            endpoint = Endpoint.objects.create(workspace=team.workspace, name=f"e{number}{more}")
            Deployment.objects.create(endpoint=endpoint, version=version)
        with CaptureQueriesContext(
            connection,
        ) as captured:
            client.get(at(name, {}))
        counts.append(len(captured))
    assert counts[0] == counts[1]
    assert counts[0] <= 9
