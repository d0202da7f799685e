"""Whole files of datastores, kept on this machine by what they are: ``data/cache/<aa>/<digest>``.

The digest is of the store's address, how it is signed in to, the path, and what the store says of the content (etag,
size, time): a file that changed is another one, and nobody is given what others may read. Files appear whole or not at
all, are read-only, and are removed by ``sweep`` when all of them are larger than the administrator allows: those that
were used longest ago first.

Knows no database: units of work use it too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from django.utils.translation import gettext as _

from studio.datasets.backends.base import StoreError
from studio.lib import storage

YOUNG_S = 600.0  # a file that was asked for so lately is never swept: somebody may be about to open it
PART_S = 86400.0  # an unfinished file is gone on with for a day
RESERVE, SHARE = 1 << 30, 50  # bytes of the disk, or its fiftieth part, that no fetched file takes: some have no end
LOOK = 64 << 20  # bytes between two looks at the disk
RESULT = ".parquet"  # results of queries lie here too; nobody finds one again
RESULT_S = 3600.0  # whoever asked for one reads it meanwhile


@dataclass(frozen=True)
class Content:
    """What a file is known by. ``size`` in bytes, ``modified`` in unix seconds; None where the store says neither."""

    address: str
    path: str
    size: int | None = None
    etag: str = ""
    modified: float | None = None
    access: str = ""  # with which settings and secrets it was read

    def digest(self) -> str:
        """A store that says nothing of its content gets a digest that is never found again."""
        known = [self.address, self.access, self.path, self.size, self.etag, self.modified]
        if not self.etag and self.modified is None:
            known.append(uuid.uuid4().hex)
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()


@dataclass(frozen=True)
class Kept:
    """A file of the cache. ``hit``: it was there before."""

    path: Path
    digest: str
    hit: bool


def root() -> Path:
    return storage.data("cache")


def place(digest: str) -> Path:
    return root() / digest[:2] / digest


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:  # the kernel frees it when its holder dies
        fcntl.flock(handle, how)
        yield


def _whole(path: Path, size: int | None) -> bool:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        return False
    return size is None or found == size


def fetch(
    content: Content,
    stream: Callable[[int], Iterable[bytes]],
    *,
    progress: Callable[[int], None] | None = None,
    resumed: Callable[[int], None] | None = None,
    pin: Callable[[str], None] | None = None,
) -> Kept:
    """The file, fetched when it is not there. ``stream(offset)`` gives its bytes from there on.

    ``progress`` is told the bytes of each piece, ``resumed`` where the first of them begins. ``pin`` is given the
    digest before the file is counted on, so that no sweep takes it away. What was fetched before an interruption is
    not fetched again. Raises StoreError ``incomplete`` where the store gave fewer or more bytes than it had said,
    ``disk-full``; and what ``stream`` raises.
    """
    digest = content.digest()
    path = place(digest)
    with _locked(root() / ".lock", fcntl.LOCK_SH):
        if pin is not None:
            pin(digest)
        if _whole(path, content.size):
            os.utime(path)
            return Kept(path, digest, True)
    lock = path.with_suffix(".lock")
    with _locked(lock, fcntl.LOCK_EX):
        if _whole(path, content.size):  # another one fetched it while this one waited
            os.utime(path)
            return Kept(path, digest, True)
        try:
            _fill(path, content, stream, progress, resumed)
        except OSError as error:
            raise _disk(error, content.path) from error
    lock.unlink(missing_ok=True)
    return Kept(path, digest, False)


def _fill(
    path: Path,
    content: Content,
    stream: Callable[[int], Iterable[bytes]],
    progress: Callable[[int], None] | None,
    resumed: Callable[[int], None] | None,
) -> None:
    part = path.with_suffix(".part")
    with part.open("ab") as handle:
        start = handle.tell()
        if start and (content.size is None or start > content.size):
            handle.truncate(0)
            start = 0
        if resumed is not None:
            resumed(start)
        try:
            # Asked even when all bytes are there: who streams looks whether they are still those of this file.
            _room(part, (content.size or 0) - start)
            size = start + _write(part, handle, stream(start), progress)
        except StoreError as error:
            if error.code == "changed":
                part.unlink(missing_ok=True)  # what came may be of another file
            raise
        handle.flush()
        os.fsync(handle.fileno())
    if content.size is not None and size != content.size:
        if size > content.size:
            part.unlink()
        raise StoreError(
            "incomplete",
            _("%(path)s has %(got)s bytes where its store said %(size)s.")
            % {"path": content.path, "got": f"{size:,}", "size": f"{content.size:,}"},
            path=content.path,
            retry=size < content.size,
        )
    part.chmod(0o444)
    part.replace(path)


def _room(part: Path, wanted: int) -> None:
    """Raises OSError ENOSPC where the disk would be filled."""
    space = os.statvfs(part.parent)
    left = space.f_bavail * space.f_frsize - max(wanted, 0)
    if left < min(RESERVE, space.f_blocks * space.f_frsize // SHARE):
        part.unlink(missing_ok=True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part))


def _write(part: Path, handle: IO[bytes], pieces: Iterable[bytes], progress: Callable[[int], None] | None) -> int:
    written = looked = 0
    for piece in pieces:
        handle.write(piece)
        written += len(piece)
        if written - looked >= LOOK:
            _room(part, 0)
            looked = written
        if progress is not None:
            progress(len(piece))
    return written


def _disk(error: OSError, path: str) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        detail = _("There is no room left on this machine for %(path)s.") % {"path": path}
        return StoreError("disk-full", detail, path=path)
    detail = _("%(path)s could not be kept on this machine: %(why)s.") % {"path": path, "why": error.strerror or error}
    return StoreError("failed", detail, path=path)


def sweep(limit: int, pinned: Callable[[], set[str]]) -> int:
    """Remove what was used longest ago until at most ``limit`` bytes are left; the bytes that were freed.

    ``pinned`` gives the digests that must stay; it is asked while nobody can pin another one.
    """
    if not root().is_dir():
        return 0
    now, freed = time.time(), 0
    with _locked(root() / ".lock", fcntl.LOCK_EX):
        files = []
        for entry in root().glob("??/*"):
            with contextlib.suppress(OSError):
                status = entry.stat()
                if entry.suffix and now - status.st_mtime > PART_S:
                    entry.unlink()
                elif entry.suffix in ("", RESULT):
                    files.append((status.st_mtime, status.st_size, entry))
        over = sum(size for _used, size, _path in files) - limit
        held = pinned() if over > 0 else set()
        for used, size, path in sorted(files):
            if over - freed <= 0:
                break
            if now - used > (RESULT_S if path.suffix else YOUNG_S) and path.name not in held:
                path.unlink(missing_ok=True)
                freed += size
    return freed
