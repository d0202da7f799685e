"""Laying out a unit's directory on a file system that this process can write to."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compute.data.places import PRODUCED
from compute.spec import UnitSpec

FICLONE = 0x40049409  # share the blocks of another file, where the file system can (Btrfs, XFS)
FOLDERS = ("code", "inputs", "outputs", "logs", "artifacts")
KEPT = ("outputs", "logs")
STREAM_FILES = {"stdout": "stdout.log", "events": "events.jsonl"}


def write_atomic(path: Path, value: Any, mode: int = 0o600) -> None:
    """Write JSON so that a reader sees all of it or none of it."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        json.dump(value, handle)
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The file's content, None when it is not there or not whole."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def stream_sizes(folder: Path) -> dict[str, int]:
    """Bytes of each stream; 0 for one that is not there, and for what is no plain file: a command may put a link in its
    place, and what that leads to is not the unit's."""
    sizes = dict.fromkeys(STREAM_FILES, 0)
    for name, file in STREAM_FILES.items():
        with contextlib.suppress(OSError):
            found = (folder / file).lstat()
            sizes[name] = found.st_size if stat.S_ISREG(found.st_mode) else 0
    return sizes


def copy_file(source: Path, target: Path, mode: int) -> None:
    """A copy: sharing blocks where the file system can, never a hard link that a script could write through."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}")
    with source.open("rb") as reader, temporary.open("wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), FICLONE, reader.fileno())
        except OSError:
            shutil.copyfileobj(reader, writer, 1 << 20)
        os.fchmod(writer.fileno(), (mode & 0o777) | 0o600)
    temporary.replace(target)


def lay_out(folder: Path, spec: UnitSpec, lib: Path | None) -> None:
    """Everything but the secrets. Idempotent: a second time changes nothing of what a script may have written."""
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o755)
    for output in spec.outputs:
        # Some scripts write into the path, others use it as a file: the leaf is made only where it is to be a folder.
        place = folder / PRODUCED / output["name"]
        (place if output.get("leaf") != "parent" else place.parent).mkdir(parents=True, exist_ok=True, mode=0o755)
    if (folder / "spec.json").exists():
        return
    for entry in spec.code:
        first = entry["path"].split("/", 1)[0]
        # What the snapshot brings below outputs/ or logs/ belongs there, not under the links of the same name.
        root = folder if first in KEPT and "/" in entry["path"] else folder / "code"
        copy_file(Path(entry["source"]), root / entry["path"], int(entry.get("mode") or 0o644))
    for name in KEPT:
        with contextlib.suppress(FileExistsError):
            (folder / "code" / name).symlink_to(Path("..") / name)
    content = asdict(spec)
    for name in ("secret_env", "code"):
        content.pop(name)
    content["lib"] = str(lib) if lib else None
    write_atomic(folder / "spec.json", content)
