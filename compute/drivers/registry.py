"""The kinds of compute. A new one is one new file and one row here."""

from __future__ import annotations

from typing import Any

from compute.drivers.base import Driver
from compute.drivers.docker import DockerDriver
from compute.drivers.local import LocalDriver
from compute.drivers.ssh_docker import RemoteDockerDriver

DRIVERS: dict[str, type[Driver]] = {
    LocalDriver.name: LocalDriver,
    DockerDriver.name: DockerDriver,
    RemoteDockerDriver.name: RemoteDockerDriver,
}


def driver_class(name: str) -> type[Driver]:
    """Raises KeyError for a kind that this version does not have."""
    return DRIVERS[name]


def make(name: str, config: dict[str, Any], secrets: dict[str, str]) -> Driver:
    return DRIVERS[name](config, secrets)
