"""Files that were brought here, kept by what they are: address, size and the server's mark of their content.

They lie in ``ATELIER_CACHE`` (``$XDG_CACHE_HOME/atelier`` or ``~/.cache/atelier``), the least recently used ones go
when there are more than ``ATELIER_CACHE_BYTES`` (20 GiB) of them. A file appears under its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import IO, Callable

_LIMIT = 20 << 30
_STALE = 24 * 3600.0  # seconds after which a half file is one of a process that has died
_process = uuid.uuid4().hex  # a file without a mark is kept for this process alone


def folder() -> Path:
    given = os.environ.get("ATELIER_CACHE")
    if given:
        return Path(given) / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atelier" / "data"


def kept(
    identity: str, name: str, size: int | None, etag: str, fetch: Callable[[IO[bytes]], int], *, fixed: bool = False
) -> Path:
    """The file's path here; ``fetch`` writes it where it is not here yet and gives its size.

    ``fixed``: the identity alone tells the content. Without that and without ``etag`` the file is fetched once per
    process. Raises what ``fetch`` raises; nothing is left then.
    """
    mark = etag if etag or fixed else _process
    key = hashlib.sha256("\0".join((identity, mark, "" if size is None else str(size))).encode()).hexdigest()
    target = folder() / key[:2] / key / _safe(name)
    try:
        if target.is_file() and (size is None or target.stat().st_size == size):
            os.utime(target)
            return target
    except OSError:  # removed between the two looks
        pass
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with partial.open("w+b") as file:
            fetch(file)
        partial.replace(target)
    finally:
        partial.unlink() if partial.exists() else None
    _trim(target)
    return target


def _safe(name: str) -> str:
    """The last part of a name, its ending kept: readers tell formats and compressions by it."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in last)[-120:].lstrip(".") or "file"


def _trim(newest: Path) -> None:
    """Remove the least recently used files beyond the limit; at most once per minute over all processes."""
    base = folder()
    stamp = base / ".trimmed"
    now = time.time()
    try:
        if stamp.exists() and now - stamp.stat().st_mtime < 60:
            return
        stamp.touch()
        limit = int(os.environ.get("ATELIER_CACHE_BYTES") or _LIMIT)
        held: list[tuple[float, int, Path]] = []
        for path in base.glob("*/*/*"):
            state = path.stat()
            if path.name.endswith(".part"):
                if now - state.st_mtime > _STALE:
                    path.unlink()
            elif path != newest:
                held.append((state.st_mtime, state.st_size, path))
        total = newest.stat().st_size + sum(size for _time, size, _path in held)
        for _time, size, path in sorted(held):
            if total <= limit:
                break
            shutil.rmtree(path.parent, ignore_errors=True)
            total -= size
    except (OSError, ValueError):  # another process trims too, or the limit is no number
        return
