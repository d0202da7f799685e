"""Docker over SSH keeps the contract: a real OpenSSH server, and the engine of this machine behind it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from compute.drivers import ssh
from compute.drivers.base import Driver, HostKeyChanged, HostKeyUnknown, NotFound, Refused, Unreachable
from compute.drivers.container_files import LocalFiles
from compute.drivers.remote_fetch import inner_target
from compute.drivers.ssh_docker import RemoteDockerDriver
from compute.spec import Handle, Phase, UnitSpec
from studio.lib import storage
from tests.drivers.contract import COUNT, DriverContract
from tests.gear.docker import need_engine, test_image
from tests.gear.sshd import PASSWORD, Sshd, User
from tests.stack import wait_until

pytestmark = pytest.mark.services


@pytest.fixture(autouse=True)
def _engine(settings: Any) -> None:
    need_engine()
    settings.ATELIER_BASE_IMAGE = test_image()


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture(scope="module")
def user(server: Sshd) -> User:
    """Its shell prints at every start, so everything here shows that this does no harm."""
    return server.user(groups=["docker"], banner=True)


def made(server: Sshd, user: User, *, secrets: dict[str, str] | None = None, **config: Any) -> RemoteDockerDriver:
    return RemoteDockerDriver(
        {
            "address": "127.0.0.1", "port": server.port, "username": user.name, "host_key": server.host_key(),
            **config,
        },
        {"private_key": user.key} if secrets is None else secrets,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    yield
    for link in list(ssh._links.values()):
        link.close()
    ssh._links.clear()


class Base(DriverContract):
    @pytest.fixture(autouse=True)
    def _place(self, server: Sshd, user: User) -> None:
        self.server, self.user = server, user

    def make_driver(self) -> RemoteDockerDriver:
        return made(self.server, self.user)


class TestRemoteDockerDriver(Base):
    """The contract."""
