"""Compute targets over REST, and what a run asks of the container that it gets there."""

from __future__ import annotations

from typing import Any

import pytest

from runs.models import Run
from tests.api.conftest import World

pytestmark = pytest.mark.django_db

SUBMIT = {"experiment": "iris", "script": "train.py", "files": {"train.py": "print(1)"}}


@pytest.fixture
def docker(world: World) -> Any:
    """A target with containers, as a row: nothing is started on it here."""
    from compute.models import Target

    return Target.objects.create(workspace=world.team.workspace, name="box", driver="docker")


class TestResources:
    ASKED = {"cpus": 2, "memory": "512m", "shm_size": "1g", "gpus": "all", "pids": 100}
    STORED = {"cpus": 2.0, "memory": 512 << 20, "shm_size": 1 << 30, "gpus": "all", "pids": 100}

    def test_kept_and_asked_for_again(self, world: World, docker: Any) -> None:
        response = world.send("contributor", "POST", "/runs", {**SUBMIT, "target": "box", "resources": self.ASKED})
        made = response.json()
        assert response.status_code == 201, made
        assert made["resources"] == self.STORED
        unit = Run.objects.get(run_id=made["id"]).unit
        assert unit is not None and unit.spec["resources"] == self.STORED
        again = world.send("contributor", "POST", f"/runs/{made['id']}/resubmit", {}).json()
        assert again["resources"] == self.STORED
        less = world.send("contributor", "POST", f"/runs/{made['id']}/resubmit", {"resources": {"cpus": 0.5}}).json()
        assert less["resources"] == {**dict.fromkeys(self.STORED), "cpus": 0.5}

    def test_every_wrong_one_is_named(self, world: World, docker: Any, check_problem: Any) -> None:
        wrong = {"cpus": 0, "memory": "1k", "shm_size": "much", "gpus": "some", "pids": 1}
        body = check_problem(
            world.send("contributor", "POST", "/runs", {**SUBMIT, "target": "box", "resources": wrong}), 422
        )
        assert set(body["errors"]) == {f"resources.{name}" for name in wrong}

    def test_without_containers(self, world: World, check_problem: Any) -> None:
        fine = world.send("contributor", "POST", "/runs", {**SUBMIT, "resources": {"gpus": "all", "memory": ""}})
        assert fine.status_code == 201, fine.json()
        body = check_problem(
            world.send("contributor", "POST", "/runs", {**SUBMIT, "resources": {"shm_size": "1g", "gpus": 1}}), 422
        )
        assert set(body["errors"]) == {"resources.shm_size", "resources.gpus"}
        assert "Docker" in body["detail"] and "local" in body["detail"]

    def test_digest_of_a_request_without_them_is_as_before(self, world: World, docker: Any, check_problem: Any) -> None:
        key = {"Idempotency-Key": "k"}
        first = world.send("contributor", "POST", "/runs", {**SUBMIT, "target": "box"}, **key).json()
        asked = {**SUBMIT, "target": "box", "resources": {"memory": None}}
        assert world.send("contributor", "POST", "/runs", asked, **key).json()["id"] == first["id"]
        asked["resources"] = {"memory": "1g"}
        check_problem(world.send("contributor", "POST", "/runs", asked, **key), 409)
