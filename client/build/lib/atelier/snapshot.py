"""A source folder, packed and sent: only contents that the studio does not have yet travel."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier.exceptions import SnapshotException, UserErrorException
from atelier.ignore import walk

if TYPE_CHECKING:
    from atelier.workspace import Workspace

MAX_BYTES = 300 * 1024 * 1024
MAX_FILES = 2000
_SENDERS = 4


@dataclass
class Entry:
    """One file of a snapshot. ``path`` has slashes and is relative to the folder; ``mode`` are its permission bits."""

    path: str
    source: Path
    size: int
    mode: int
    sha256: str = ""

    def described(self) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256, "size": self.size, "mode": self.mode}


def pack(folder: str | os.PathLike[str]) -> list[Entry]:
    """The files of ``folder`` that its ignore rules leave, without their digests. Raises SnapshotException past
    300 MB or 2,000 files."""
    root = Path(folder)
    if not root.is_dir():
        raise UserErrorException(f"There is no source folder {root}.")
    limit = int(os.environ.get("AZUREML_SNAPSHOT_MAX_FILE_SIZE_BYTES") or MAX_BYTES)
    found: list[Entry] = []
    total = 0
    for path, entry in walk(root):
        info = entry.stat()
        total += info.st_size
        if total > limit:
            raise SnapshotException(
                f"Your total snapshot size exceeds the limit of {limit / 1024 / 1024:.1f} MB. Name what need not be "
                f"sent in {root / '.amlignore'}, or keep data outside {root}."
            )
        found.append(Entry(path, Path(entry.path), info.st_size, info.st_mode & 0o777))
        if len(found) > MAX_FILES:
            raise SnapshotException(
                f"Your total snapshot has more than the limit of {MAX_FILES} files. Name what need not be sent "
                f"in {root / '.amlignore'}, or keep data outside {root}."
            )
    return found


def digest(path: Path) -> tuple[str, int]:
    """(SHA-256 in hexadecimal, bytes) of a file."""
    found, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            found.update(piece)
            size += len(piece)
    return found.hexdigest(), size


def send(workspace: Workspace, folder: str | os.PathLike[str]) -> str:
    """The id of the snapshot of ``folder``."""
    entries = pack(folder)
    for entry in entries:
        entry.sha256, entry.size = digest(entry.source)
    files = {"files": [entry.described() for entry in entries]}
    missing = set(workspace._call("POST", "snapshots/missing", data=files)["missing"])
    _send_blobs(workspace, {entry.sha256: entry for entry in entries if entry.sha256 in missing})
    return str(workspace._call("POST", "snapshots", data=files)["id"])


def _send_blobs(workspace: Workspace, blobs: dict[str, Entry]) -> None:
    def one(item: tuple[str, Entry]) -> None:
        sha256, entry = item
        with entry.source.open("rb") as file:
            workspace._call("PUT", f"blobs/{sha256}", body=file, headers=_raw(entry.size))

    if len(blobs) <= 1:
        for item in blobs.items():
            one(item)
        return
    with ThreadPoolExecutor(_SENDERS) as pool:
        list(pool.map(one, blobs.items()))


def _raw(size: int) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
