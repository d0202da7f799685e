"""A workspace with one of everything, and a client for each role."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.test import Client

from compute import services as compute
from compute.models import Environment, EnvironmentBuild, LogStream, Target, Unit
from models_registry.models import Deployment, Endpoint, ModelVersion, RegisteredModel
from runs.models import Run
from runs.services import interactive
from runs.services import submit as submits
from runs.services.snapshots import snapshot_from_texts
from studio.accounts import services as accounts
from studio.accounts import tokens
from studio.accounts.models import Invitation, ServicePrincipal
from studio.data_pages import drafts
from studio.datasets import selectors
from studio.datasets.models import DatasetDraft, DatasetVersion, Datastore
from studio.datasets.services import datasets
from studio.lib import secrets, storage

ROLES = ("anonymous", "outsider", "reader", "contributor", "owner", "unit")
API = "/api/v1"
WS = f"{API}/workspaces/main"


@dataclass
class World:
    """``clients``: role -> a client that sends that role's token. ``sessions``: role -> a signed-in browser."""

    team: Any
    clients: dict[str, Client]
    sessions: dict[str, Client]
    run: Run
    ended: Run
    interactive: Run
    unit: Unit
    unit_token: str
    target: Target
    environment: Environment
    model: ModelVersion
    endpoint: Endpoint
    principal: ServicePrincipal
    principal_secret: str
    invitation: Invitation
    invitation_secret: str
    tokens: dict[str, str]
    extra: dict[str, Any] = field(default_factory=dict)

    def get(self, role: str, path: str, **kwargs: Any) -> Any:
        return self.clients[role].get(WS + path, **kwargs)

    def send(self, role: str, method: str, path: str, body: Any = None, **headers: Any) -> Any:
        """A request with a JSON body."""
        content = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        return self.clients[role].generic(method, WS + path, headers=headers or None, **content)


def bearer(token: str) -> Client:
    return Client(headers={"authorization": f"Bearer {token}"}, raise_request_exception=False)


def make_run(team: Any, target: Target, **changes: Any) -> Run:
    snapshot = snapshot_from_texts(team.workspace, {"train.py": "print('hello')\n", "lib/util.py": "X = 1\n"})
    given = {
        "workspace": team.workspace, "user": team.contributor, "experiment": "iris", "script": "train.py",
        "arguments": ["--lr", "0.1"], "snapshot": snapshot, "target": target, "environment": None,
        "environment_variables": {}, "tags": {"stage": "try"}, "properties": {}, "time_limit_s": None,
    }  # fmt: skip
    return submits.run_submit(**{**given, **changes})


def end_run(run: Run, status: str = "Completed") -> None:
    """As if its unit had ended, without starting anything."""
    unit = run.unit
    assert unit is not None
    Unit.objects.filter(pk=unit.pk).update(state="completed", secrets="", next_check_at=None)
    LogStream.objects.filter(unit=unit).update(sealed=True)
    Run.objects.filter(pk=run.pk).update(status=status)
    run.refresh_from_db()


def write_files(run: Run) -> None:
    root = storage.unit_directory(run.key)
    for name, content in {
        "outputs/model.txt": b"0123456789" * 10,
        "outputs/deep/table.csv": b"a,b\n1,2\n",
        "outputs/page.html": b"<script>alert(1)</script>",
        "stdout.log": b"epoch 1\nepoch 2\nerror: no\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def people(team: Any) -> dict[str, str]:
    """Role -> a personal access token."""
    made = {}
    for role in ("outsider", "reader", "contributor", "owner"):
        _token, made[role] = tokens.token_create(user=getattr(team, role), name="test")
    return made


def _unit_token(run: Run) -> str:
    plain = secrets.new_token("atu")
    Unit.objects.filter(pk=run.unit_id).update(state="running", token_digest=secrets.digest(plain))
    Run.objects.filter(pk=run.pk).update(status="Running")
    run.refresh_from_db()
    return plain


def _model(team: Any, run: Run) -> ModelVersion:
    model = RegisteredModel.objects.create(workspace=team.workspace, name="iris", latest=1)
    key = uuid.uuid4().hex
    root = storage.model_directory(key)
    root.mkdir(parents=True)
    (root / "model.txt").write_bytes(b"weights")
    return ModelVersion.objects.create(
        model=model, version=1, key=key, framework="Custom", run=run, created_by=team.contributor, size=7,
        files=[{"path": "model.txt", "size": 7, "sha256": "0" * 64}],
    )  # fmt: skip


def _endpoint(team: Any, version: ModelVersion, target: Target) -> Endpoint:
    keys = secrets.encrypt(json.dumps({"primary": "k1", "secondary": "k2"}))
    endpoint = Endpoint.objects.create(workspace=team.workspace, name="iris-service", keys=keys, created_by=team.owner)
    Deployment.objects.create(endpoint=endpoint, version=version, target=target, desired="stopped", state="Stopped")
    return endpoint


def _dataset(team: Any) -> DatasetVersion:
    """The dataset "iris" of one file in the workspace's own store, and the datastore "spare" beside it."""
    store = selectors.default_datastore(team.workspace)
    root = storage.data("stores", str(team.workspace.pk))
    (root / "iris").mkdir(parents=True)
    (root / "iris" / "a.csv").write_bytes(b"width,species\n1.5,setosa\n2.5,virginica\n")
    Datastore.objects.create(
        workspace=team.workspace, name="spare", kind="local", config={"path": "/nowhere"}, created_by=team.owner
    )
    source = {"kind": "delimited", "paths": [{"datastore": store.name, "path": "iris/*.csv"}]}
    return datasets.dataset_register(
        workspace=team.workspace, user=team.contributor, name="iris", tags={"stage": "try"},
        definition={"format": 1, "type": "tabular", "source": source, "schema": None, "steps": []},
    )  # fmt: skip


def _draft(team: Any) -> DatasetDraft:
    """What the contributor has typed in the wizard of datasets: the file of "iris"."""
    state = {**drafts.blank("workspaceblobstore"), "picks": ["iris/a.csv"], "kind": "delimited"}
    return drafts.draft_new(team.workspace, team.contributor, state)


@pytest.fixture
def world(team: Any, people: dict[str, str]) -> World:
    target = compute.ensure_local_target(team.workspace)
    compute.ensure_curated(team.workspace)
    environment = Environment.objects.get(workspace=team.workspace, name="system")
    EnvironmentBuild.objects.get_or_create(
        content_hash=environment.content_hash, target=target, defaults={"state": "ready"}
    )
    run, ended = make_run(team, target), make_run(team, target)
    for one in (run, ended):
        write_files(one)
    end_run(ended)
    token = _unit_token(run)
    assert run.unit is not None
    run.unit.refresh_from_db()
    principal, secret = tokens.principal_create(
        workspace=team.workspace, name="nightly", role="reader", user=team.owner
    )
    invitation, link = accounts.invitation_create(workspace=team.workspace, role="reader", by=team.owner)
    version = _model(team, ended)
    clients = {"anonymous": Client(raise_request_exception=False), "unit": bearer(token)}
    sessions = {"anonymous": Client(raise_request_exception=False), "unit": bearer(token)}
    for role, plain in people.items():
        clients[role] = bearer(plain)
        sessions[role] = Client(raise_request_exception=False)
        sessions[role].force_login(getattr(team, role), backend="django.contrib.auth.backends.ModelBackend")
    return World(
        team=team, clients=clients, sessions=sessions, run=run, ended=ended, unit=run.unit, unit_token=token,
        interactive=interactive.run_start_interactive(team.workspace, team.contributor, "iris"),
        target=target, environment=environment, model=version, endpoint=_endpoint(team, version, target),
        principal=principal, principal_secret=secret, invitation=invitation, invitation_secret=link, tokens=people,
        extra={"id": str(_dataset(team).pk), "index": 0, "draft": str(_draft(team).pk)},
    )  # fmt: skip


@pytest.fixture
def check_problem() -> Callable[[Any, int], dict[str, Any]]:
    """Checks that a response is problem+json with this status, and gives its body."""

    def check(response: Any, status: int) -> dict[str, Any]:
        assert response.status_code == status, (response.status_code, response.content[:500])
        assert response["Content-Type"] == "application/problem+json"
        body = response.json()
        assert (
            body["status"] == status and body["detail"] and body["instance"] == f"urn:uuid:{response['X-Request-Id']}"
        )
        assert "Traceback" not in response.content.decode()
        return body  # type: ignore[no-any-return]

    return check
