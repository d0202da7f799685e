"""Images built on a machine behind SSH: the same program, through a real OpenSSH server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

from tests.gear.sshd import Sshd
from tests.images.conftest import Job
from tests.images.test_build import _runs
from tests.stack import wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(engine: docker.APIClient) -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture
def there(server: Sshd) -> dict[str, Any]:
    user = server.user(groups=["docker"], banner=True)
    config = {"address": "127.0.0.1", "port": server.port, "username": user.name, "host_key": server.host_key()}
    return {"options": {"access": {"kind": "remotedocker", "config": config}}, "secrets": {"private_key": user.key}}


def test_an_image_is_built_over_ssh(start: Callable[..., Job], there: dict[str, Any], base_image: str) -> None:
    done = start(
        dockerfile=f"FROM {base_image}\nRUN echo {uuid.uuid4().hex}\n", packages=["six==1.16.0"], **there
    ).finish()
    assert done.code == 0, done.log
    assert "six==1.16.0" in done.result["packages"] and "BEGIN OPENSSH" not in done.log


def test_a_connection_that_is_cut_in_mid_build_is_made_again(
    start: Callable[..., Job], there: dict[str, Any], base_image: str, server: Sshd, engine: docker.APIClient
) -> None:
    mark = uuid.uuid4().hex
    job = start(dockerfile=f"FROM {base_image}\nRUN echo {mark} && sleep 8\n", **there)
    wait_until("the build is under way", lambda: _runs(engine, mark), 90, 0.2)
    server.cut()
    done = job.finish()
    assert done.code == 0, done.log
    assert "The engine does not answer" in done.log


def test_another_host_key_ends_the_build_at_once(
    start: Callable[..., Job], there: dict[str, Any], server: Sshd, base_image: str
) -> None:
    config = there["options"]["access"]["config"]
    config["host_key"] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJsW1xTjzX0X0X0X0X0X0X0X0X0X0X0X0X0X0X0X0X0X"
    done = start(dockerfile=f"FROM {base_image}\n", **there).finish()
    assert done.code == 2 and done.problems[0]["code"] == "engine", done.log
