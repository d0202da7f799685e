"""Compute targets over REST, and what a run asks of the container that it gets there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compute import host_keys
from compute.models import Target
from runs.models import Run
from studio.accounts.models import AuditEntry
from studio.lib import secrets as locks
from tests.api.conftest import World, make_run

pytestmark = pytest.mark.django_db

SUBMIT = {"experiment": "iris", "script": "train.py", "files": {"train.py": "print(1)"}}


@pytest.fixture
def docker(world: World) -> Any:
    """A target with containers, as a row: nothing is started on it here."""
    gives = {"gpus": "all"}
    return Target.objects.create(workspace=world.team.workspace, name="box", driver="docker", config=gives)


class TestTargets:
    def test_kinds(self, world: World) -> None:
        kinds = {kind["name"]: kind for kind in world.get("reader", "/targets/kinds").json()}
        assert kinds["local"]["containers"] is False and kinds["docker"]["containers"] is True
        slots = next(field for field in kinds["local"]["fields"] if field["name"] == "slots")
        assert slots["label"] and slots["kind"] == "number" and not slots["required"]
        secret = {field["name"] for field in kinds["remotedocker"]["fields"] if field["secret"]}
        assert secret == {"password", "private_key", "passphrase"}

    def test_attach_change_detach(self, world: World, check_problem: Any) -> None:
        response = world.send(
            "owner", "POST", "/targets", {"name": "second", "driver": "local", "config": {"slots": 3}}
        )
        made = response.json()
        assert response.status_code == 201 and made["state"] == "Succeeded" and made["config"] == {"slots": 3}
        assert made["capacity"] == {"total": 3, "used": 0} and made["host_key"] is None and made["secrets"] == []
        assert all(check["state"] == "ok" and check["label"] for check in made["checks"])
        assert made["url"].endswith("/w/main/compute/second/")
        assert check_problem(world.send("owner", "POST", "/targets", {"name": "second", "driver": "local"}), 409)
        changed = world.send("owner", "PATCH", "/targets/second", {"description": "Here.", "config": {"slots": 1}})
        assert changed.json()["config"] == {"slots": 1} and changed.json()["description"] == "Here."
        assert (
            "slots" not in world.send("owner", "PATCH", "/targets/second", {"config": {"slots": None}}).json()["config"]
        )
        assert world.send("owner", "DELETE", "/targets/second").status_code == 204
        check_problem(world.get("owner", "/targets/second"), 404)

    def test_everything_wrong_is_named_at_once(self, world: World, check_problem: Any) -> None:
        wrong = {"name": "x", "driver": "local", "config": {"slots": "many", "colour": "red"}}
        assert set(check_problem(world.send("owner", "POST", "/targets", wrong), 422)["errors"]) == {"slots", "colour"}
        for name in ("kinds", "with space", ""):
            body = check_problem(world.send("owner", "POST", "/targets", {"name": name, "driver": "local"}), 422)
            assert set(body["errors"]) == {"name"}
        body = check_problem(world.send("owner", "POST", "/targets", {"name": "x", "driver": "moon"}), 422)
        assert set(body["errors"]) == {"driver"}

    def test_detach_while_something_runs(self, world: World, check_problem: Any) -> None:
        run = make_run(world.team, Target.objects.create(workspace=world.team.workspace, name="busy", driver="local"))
        assert "live" in check_problem(world.send("owner", "DELETE", "/targets/busy"), 409)["detail"]
        response = world.send("owner", "DELETE", "/targets/busy?cancel=true")
        assert response.status_code in (202, 204)
        if response.status_code == 202:
            assert response.json()["state"] == "Detaching"
        run.refresh_from_db()
        assert run.status in ("CancelRequested", "Canceled")


KEYS = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJc0Nyzd8aQ1Fu8zZ4oYvQmkqPSzFG9hDMdEYg3CPnVV",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
)


class TestOverSsh:
    """What comes back of a machine behind SSH; the machine itself is tried in tests/drivers."""

    @pytest.fixture
    def remote(self, world: World) -> Target:
        secrets = {"password": "s3cret-word"}
        return Target.objects.create(
            workspace=world.team.workspace, name="remotevm", driver="remotedocker", state="Creating",
            config={"address": "127.0.0.1", "port": 9, "username": "u"}, secrets=locks.encrypt(json.dumps(secrets)),
            offered_key=KEYS[0],
        )  # fmt: skip

    def test_secrets_never_come_back(self, world: World, remote: Target) -> None:
        shown = world.get("owner", "/targets/remotevm")
        assert shown.json()["secrets"] == ["password"] and shown.json()["config"]["username"] == "u"
        assert b"s3cret" not in shown.content and b"s3cret" not in world.get("owner", "/targets").content

    def test_another_address_takes_neither_secrets_nor_key_along(
        self, world: World, remote: Target, check_problem: Any
    ) -> None:
        Target.objects.filter(pk=remote.pk).update(host_key=KEYS[0])
        for moved in ({"address": "localhost"}, {"port": 1}, {"username": "other"}):
            asked = {"config": moved, "secrets": {}}
            body = check_problem(world.send("owner", "PATCH", "/targets/remotevm", asked), 422)
            assert set(body["errors"]) == {"password"}
        asked = {"config": {"address": "127.0.0.1", "port": 1}, "secrets": {"password": "an0ther"}}
        assert world.send("owner", "PATCH", "/targets/remotevm", asked).status_code == 200
        remote.refresh_from_db()
        assert (remote.host_key, remote.offered_key) == ("", "")
        assert json.loads(locks.decrypt(remote.secrets)) == {"password": "an0ther"}
        row = AuditEntry.objects.filter(action="target.update").latest("pk")
        assert "port" in row.detail["changed"] and row.detail["secrets"] == ["password"]

    def test_the_key_that_waits_for_somebody(self, world: World, remote: Target, check_problem: Any) -> None:
        key = world.get("reader", "/targets/remotevm").json()["host_key"]
        assert key["type"] == "ssh-ed25519" and key["fingerprint"].startswith("SHA256:") and not key["confirmed"]
        other = {"fingerprint": host_keys.fingerprint(KEYS[1])}
        body = check_problem(world.send("owner", "POST", "/targets/remotevm/host-key", other), 422)
        assert set(body["errors"]) == {"fingerprint"}
        world.send("owner", "POST", "/targets/remotevm/host-key", {"fingerprint": key["fingerprint"]})
        key = world.get("reader", "/targets/remotevm").json()["host_key"]
        assert key["confirmed"] and key["before"] == ""

    def test_a_key_that_changed(self, world: World, remote: Target) -> None:
        Target.objects.filter(pk=remote.pk).update(host_key=KEYS[1])
        key = world.get("reader", "/targets/remotevm").json()["host_key"]
        assert not key["confirmed"] and key["before"] == host_keys.fingerprint(KEYS[1])

    def test_a_fingerprint_given_beforehand_is_not_one_that_was_shown(self, world: World, remote: Target) -> None:
        Target.objects.filter(pk=remote.pk).update(offered_key=host_keys.fingerprint(KEYS[0]))
        assert world.get("reader", "/targets/remotevm").json()["host_key"] is None


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

    def test_more_than_the_target_gives(self, world: World, docker: Any, check_problem: Any) -> None:
        Target.objects.filter(pk=docker.pk).update(config={"cpus": "1", "memory": "256m"})
        asked = {"cpus": 2, "memory": "512m", "gpus": 1, "pids": 100}
        body = check_problem(
            world.send("contributor", "POST", "/runs", {**SUBMIT, "target": "box", "resources": asked}), 422
        )
        assert set(body["errors"]) == {"resources.cpus", "resources.memory", "resources.gpus"}
        assert "256" in body["errors"]["resources.memory"][0] and "512" in body["errors"]["resources.memory"][0]

    def test_an_image_where_there_are_none(self, world: World, docker: Any, check_problem: Any) -> None:
        recipe = {"recipe": {"kind": "dockerfile", "dockerfile": "FROM a\n"}}
        body = check_problem(world.send("contributor", "POST", "/runs", {**SUBMIT, "environment": recipe}), 422)
        assert set(body["errors"]) == {"environment"} and "Docker" in body["detail"]
        fine = world.send("contributor", "POST", "/runs", {**SUBMIT, "environment": recipe, "target": "box"})
        assert fine.status_code == 201, fine.json()

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
