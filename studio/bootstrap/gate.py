"""The gate: a folder with a socket of each web process. Containers mount it, and reach the studio through it.

Standard library only: the set-up reads it before Django can be imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import stat
import tempfile
import time
from pathlib import Path

from studio.bootstrap.broker import SOCKET_PATH_LIMIT

NAME = "web-00000000.sock"
YOUNG_S = 10.0  # between its making and its first answer
BACKLOG = 512


def folder(data_dir: Path) -> Path:
    """Below the data folder, or in the temporary folder where that path is too long for a socket."""
    natural = Path(data_dir) / "run" / "gate"
    if len(os.fsencode(natural / NAME)) <= SOCKET_PATH_LIMIT:
        return natural
    short = hashlib.sha256(os.fsencode(natural)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"atelier-{os.getuid()}" / f"gate-{short}"


def make(place: Path) -> None:
    """The folder, for this user alone. It stays while the studio lives: what mounted it sees new sockets come. Raises
    OSError, also where it is somebody else's."""
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    for each in (place, place.parent):
        found = each.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{each} belongs to another user")
    place.chmod(0o700)


def sockets(place: Path) -> list[str]:
    """The sockets in the folder, the newest first; a killed process leaves one that nobody answers."""
    found = []
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                about = entry.stat(follow_symlinks=False)
                if entry.name.endswith(".sock") and stat.S_ISSOCK(about.st_mode):
                    found.append((about.st_mtime, entry.path))
    return [path for _made, path in sorted(found, reverse=True)]


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # too busy to answer
        return True


def sweep(place: Path) -> None:
    """Take away what killed web processes left."""
    for path in sockets(place):
        with contextlib.suppress(OSError):
            if time.time() - os.lstat(path).st_mtime > YOUNG_S and not _answers(path):  # noqa: PTH116 - a plain path
                os.unlink(path)  # noqa: PTH108


def daphne_arguments(data_dir: Path) -> list[str]:
    """What makes Daphne listen there too, under a new name each time: nothing that is left can stop its start. Empty,
    with the studio reached by its address alone, where there can be no such folder or no socket in it."""
    place = folder(data_dir)
    path = place / f"web-{secrets.token_hex(4)}.sock"
    try:
        make(place)
        sweep(place)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(path))
        path.unlink()
    except OSError:
        return []
    escaped = str(path).replace("\\", "\\\\").replace(":", "\\:")
    return ["-e", f"unix:{escaped}:mode=600:lockfile=0:backlog={BACKLOG}"]
