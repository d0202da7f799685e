"""In a container the studio is reached through a socket in a folder, whatever its address means there: the gate.

``ATELIER_GATE`` names the folder. It holds a socket of each web process of the studio, or of each link to it; who was
killed leaves one behind that nobody answers.
"""

from __future__ import annotations

import http.client
import os
import socket
from pathlib import Path

from atelier import config

FAR = "far"  # a file in the folder
NETWORK_S = 10.0  # for the network, where the gate leads nowhere: what drops packets would hold us for minutes


def folder(endpoint: str) -> str | None:
    """The gate that leads to this studio: to the run's own, no other. None outside containers."""
    place = os.environ.get("ATELIER_GATE")
    own = os.environ.get("AZUREML_SERVICE_ENDPOINT")
    if not place or not own or not hasattr(socket, "AF_UNIX"):
        return None
    return place if config.endpoint_clean(own) == endpoint else None


def is_far() -> bool:
    """Whether this container is on a machine whose files the studio sees only once the run has ended."""
    return os.path.exists(os.path.join(os.environ.get("ATELIER_GATE") or os.devnull, FAR))  # noqa: PTH110, PTH118


def sockets(place: str) -> list[str]:
    """The newest first."""
    try:
        found = [entry for entry in os.scandir(place) if entry.name.endswith(".sock")]
        return [entry.path for entry in sorted(found, key=lambda entry: entry.stat().st_mtime, reverse=True)]
    except OSError:
        return []


class Connection(http.client.HTTPConnection):
    """HTTP over a socket of the gate; the studio sees the Host of its address. No TLS: nothing leaves the machine but
    inside the studio's own SSH connection."""

    def __init__(self, path: str, host: str, port: int, secure: bool, timeout: float, blocksize: int) -> None:
        super().__init__(host, port, timeout=timeout, blocksize=blocksize)
        self.default_port = 443 if secure else 80  # which the Host leaves out
        self.path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(self.timeout)
        try:
            sock.connect(self.path)
        except OSError:
            sock.close()
            raise
        self.sock = sock


def connect(place: str, host: str, port: int, secure: bool, timeout: float, blocksize: int) -> Connection | None:
    """A connection through the first socket that answers, None where none does."""
    for path in sockets(place):
        connection = Connection(path, host, port, secure, timeout, blocksize)
        try:
            connection.connect()
        except OSError:
            continue
        return connection
    return None


def why(place: str) -> str:
    """What to look at, where it leads nowhere."""
    if not Path(place).is_dir():
        return f"The gate to it, {place}, is not there: this container was not started by the studio."
    if not sockets(place):
        return (
            f"The gate to it, {place}, is empty: the studio's web process does not run, or the run's machine is "
            "reached over SSH and its server does not let sockets be forwarded to it (AllowStreamLocalForwarding in "
            "sshd_config)."
        )
    return f"The gate to it, {place}, leads to nobody: the studio's web process, or its link to this machine, is down."
