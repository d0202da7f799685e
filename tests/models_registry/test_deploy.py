"""Deploying for real: units of the local driver, a supervisor, a scoring process, and what happens when they die."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compute.models import Environment, Unit
from compute.services import unit_cancel
from models_registry import selectors, services
from models_registry.models import Deployment, Endpoint, ModelVersion
from models_registry.services.keys import read_keys
from studio.accounts.models import AuditEntry
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid
from tests.models_registry.conftest import IRIS, Serving, http, wait

pytestmark = pytest.mark.django_db(transaction=True)
Register = Callable[..., ModelVersion]


@pytest.fixture
def live(register: Register, serving: Serving, trained: Path, environment: Environment) -> Deployment:
    version = register(content=trained / "iris.joblib", environment=environment, sample_input=IRIS["data"])
    return serving.until(serving.deploy(version), "Healthy")


def pid(deployment: Deployment) -> int:
    return int(http(f"http://127.0.0.1:{deployment.endpoint.port}/healthz")[1]["pid"])


def test_from_model_to_answer(live: Deployment) -> None:
    endpoint = live.endpoint
    uri = selectors.scoring_uri(endpoint)
    key = read_keys(endpoint)["primary"]
    assert http(uri, IRIS, key) == (200, [0, 2])
    assert http(uri, IRIS, read_keys(endpoint)["secondary"])[0] == 200
    assert http(uri, IRIS)[0] == 401
    status, body, headers = services.score(endpoint, json.dumps(IRIS).encode())
    assert (status, json.loads(body), headers["Content-Type"]) == (200, [0, 2], "application/json")
    document = services.swagger(endpoint)
    assert document["servers"] == [{"url": uri.removesuffix("/score")}]
    assert json.loads(services.sample_body(endpoint, document)) == IRIS
    unit = live.unit
    assert unit is not None
    assert key not in json.dumps(unit.spec)
    assert key not in endpoint.keys
    assert live.health["packages"]["scikit-learn"]


def test_another_scikit_learn_is_said(
    register: Register, serving: Serving, trained: Path, environment: Environment
) -> None:
    version = register(content=trained / "iris.joblib", environment=environment, framework_version="0.19.1")
    deployment = serving.until(serving.deploy(version), "Healthy")
    assert "0.19.1" in wait(lambda: services.health_tick() or deployment.refresh_from_db() or deployment.warnings)[0]


def test_rotation_without_restart(team: Any, live: Deployment) -> None:
    endpoint, before = live.endpoint, pid(live)
    old = read_keys(endpoint)
    services.key_rotate(endpoint, "Primary", user=team.contributor)
    fresh = services.keys(endpoint, user=team.contributor)
    uri = selectors.scoring_uri(endpoint)
    assert http(uri, IRIS, old["primary"])[0] == 401
    assert http(uri, IRIS, old["secondary"])[0] == 200
    assert http(uri, IRIS, fresh["primary"])[0] == 200
    assert pid(live) == before
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"endpoint.key-rotate", "endpoint.keys", "endpoint.deploy", "model.register"} <= actions


def test_a_crash_is_mended(live: Deployment, serving: Serving) -> None:
    before, unit = pid(live), live.unit_id
    services.key_rotate(live.endpoint, "primary")
    os.kill(before, signal.SIGKILL)
    wait(lambda: pid(live) != before and http(f"http://127.0.0.1:{live.endpoint.port}/healthz")[0] == 200, 40)
    serving.until(live, "Healthy")
    live.refresh_from_db()
    assert live.unit_id == unit
    assert live.restarts == 1
    key = read_keys(Endpoint.objects.get(pk=live.endpoint_id))["primary"]
    assert http(selectors.scoring_uri(live.endpoint), IRIS, key) == (200, [0, 2])


def test_a_lost_unit_is_replaced_at_the_same_address(live: Deployment, serving: Serving) -> None:
    """As after a reboot of the machine: the supervisor and the service are gone, the rows are there."""
    old = live.unit
    assert old is not None
    beat = json.loads((storage.unit_directory(old.key) / "beat.json").read_text())
    server = pid(live)
    os.kill(beat["pid"], signal.SIGKILL)
    os.kill(server, signal.SIGKILL)
    port = live.endpoint.port

    def other() -> bool:
        serving.until(live, "Healthy", "Unhealthy", "Transitioning")
        return live.unit_id != old.pk

    wait(other, 60, "another unit")
    serving.until(live, "Healthy")
    assert Endpoint.objects.get(pk=live.endpoint_id).port == port
    assert live.restarts == 1
    assert http(selectors.scoring_uri(live.endpoint), IRIS, read_keys(live.endpoint)["primary"]) == (200, [0, 2])


def test_stop_start_delete(team: Any, live: Deployment, serving: Serving) -> None:
    endpoint = live.endpoint
    services.endpoint_stop(endpoint, user=team.contributor)
    serving.until(live, "Stopped")
    with pytest.raises(Conflict, match="does not answer"):
        services.score(endpoint, b"{}")
    services.endpoint_start(endpoint, user=team.contributor)
    serving.until(live, "Healthy")
    unit = live.unit
    services.endpoint_delete(endpoint, user=team.contributor)
    assert unit is not None
    unit.refresh_from_db()
    assert unit.cancel_requested_at is not None
    assert not Deployment.objects.exists()


def test_overwrite_keeps_address_and_keys(
    team: Any, live: Deployment, serving: Serving, register: Register, trained: Path, environment: Environment
) -> None:
    port, keys = live.endpoint.port, read_keys(live.endpoint)
    other = register(name="named", content=trained / "named.joblib", environment=environment)
    with pytest.raises(Conflict, match="already"):
        serving.deploy(other)
    again = serving.deploy(other, overwrite=True)
    assert again.pk == live.pk
    serving.until(again, "Healthy")
    assert (again.endpoint.port, read_keys(again.endpoint)) == (port, keys)
    row = {"data": [{"colour": "red", "size": 1}]}
    assert wait(lambda: http(selectors.scoring_uri(again.endpoint), row, keys["primary"])) == (200, ["a"])


def test_a_model_that_cannot_be_opened_says_so(register: Register, serving: Serving, environment: Environment) -> None:
    deployment = serving.until(serving.deploy(register(environment=environment), name="broken"), "Failed")
    assert deployment.error is not None
    assert "is not a model" in deployment.error["message"]
    assert any("Traceback" in line or "Error" in line for line in deployment.error["lines"])


class TestWithoutServices:
    """Rules that need no process."""

    def test_names_frameworks_and_tenants(self, team: Any, register: Register, serving: Serving) -> None:
        with pytest.raises(Invalid, match="not an endpoint name"):
            serving.deploy(register(), name="deploy")
        with pytest.raises(Invalid, match="Onnx"):
            serving.deploy(register(framework="Onnx"))
        from studio.accounts.models import Workspace

        elsewhere = Workspace.objects.get(name="elsewhere")
        with pytest.raises(Invalid, match="another workspace"):
            services.deploy(workspace=elsewhere, user=team.outsider, name="iris", version=register())
        assert not Endpoint.objects.exists()

    def test_ports_are_stable_unique_and_skip_the_taken(
        self, register: Register, serving: Serving, settings: Any
    ) -> None:
        version = register()
        first = int(settings.ATELIER_SERVICE_PORTS.partition("-")[0])
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", first))
            holder.listen()
            ports = [serving.deploy(version, name=f"end-{number}").endpoint.port for number in range(3)]
        assert len(set(ports)) == 3
        assert first not in ports
        assert serving.deploy(version, name="end-0", overwrite=True).endpoint.port == ports[0]
        settings.ATELIER_SERVICE_PORTS = f"{ports[0]}-{ports[0]}"
        with pytest.raises(Conflict, match="are taken"):
            serving.deploy(version, name="one-more")
        assert not Endpoint.objects.filter(name="one-more").exists()

    def test_a_failed_build_is_not_tried_for_ever(self, register: Register, serving: Serving) -> None:
        deployment = serving.deploy(register())
        error = {"code": "EnvironmentBuildFailed", "message": "no such package"}
        Unit.objects.filter(pk=deployment.unit_id).update(state="failed", error=error)
        for _ in range(3):
            services.health_tick()
        deployment.refresh_from_db()
        assert deployment.state == "Failed"
        assert Unit.objects.filter(kind="service").count() == 1

    def test_back_off_grows(self, register: Register, serving: Serving) -> None:
        deployment = serving.deploy(register())
        pauses = []
        for _ in range(4):
            assert deployment.unit is not None
            Unit.objects.filter(pk=deployment.unit_id).update(state="failed", error={"code": "x", "message": "gone"})
            deployment.refresh_from_db()
            services.health_tick()
            deployment.refresh_from_db()
            assert deployment.state == "Unhealthy"
            assert deployment.next_start_at is not None
            pauses.append((deployment.next_start_at - deployment.updated_at).total_seconds())
            Deployment.objects.filter(pk=deployment.pk).update(next_start_at="2020-01-01T00:00:00Z")
            services.health_tick()
            deployment.refresh_from_db()
            assert deployment.state == "Transitioning"
        assert pauses == sorted(pauses)
        assert pauses[-1] > 30
        assert deployment.restarts == 4
        unit_cancel(Unit.objects.get(pk=deployment.unit_id))
