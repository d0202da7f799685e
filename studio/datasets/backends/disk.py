"""What disks answer, in words: errors of the operating system, and files that change while they are read."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pwd
import stat as modes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from studio.datasets.backends import parts
from studio.datasets.backends.base import Entry, StoreError


class SteadyFile(io.FileIO):
    """A file that raises StoreError changed when it is not what it was when it was opened, instead of giving less."""

    def __init__(self, handle: int, path: str) -> None:
        super().__init__(handle, "rb")
        self._path = path
        self._was = os.fstat(handle)
        self.size = self._was.st_size

    def readinto(self, buffer: Any) -> int:
        with named_errors(self._path):
            count = super().readinto(buffer) or 0
        self._same()
        return count

    def readall(self) -> bytes:
        with named_errors(self._path):
            found = super().readall() or b""
        self._same()
        return found

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        if size is None or size < 0:
            return self.readall()
        with named_errors(self._path):
            found = super().read(size) or b""
        self._same()
        return found

    def _same(self) -> None:
        with named_errors(self._path):
            now = os.fstat(self.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._was.st_size, self._was.st_mtime_ns):
            raise parts.changed(self._path)


@contextlib.contextmanager
def named_errors(path: str, shown: str = "") -> Iterator[None]:
    """Errors of the operating system as StoreError."""
    try:
        yield
    except OSError as error:
        raise named(error, path, shown or path or "/") from error


def named(error: OSError, path: str, shown: str) -> StoreError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return parts.no_such_file(path, shown)
    if isinstance(error, PermissionError):
        detail = _("The studio's account (%(user)s) has no permission for %(path)s.")
        hint = _("Give that account the right to read, and to write where files are uploaded.")
        return StoreError("forbidden", detail % {"user": _account(), "path": shown}, hint=hint, path=path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return full(path, None, 0)
    if error.errno == errno.EROFS:
        return StoreError("read-only", _("%(path)s lies on a disk that can only be read.") % {"path": shown}, path=path)
    if error.errno == errno.ESTALE:
        detail = _("%(path)s has a stale NFS handle: its server was restarted, or the folder was exported anew.")
        hint = _("Mount the network folder again on this machine.")
        return StoreError("unreachable", detail % {"path": shown}, hint=hint, path=path, retry=True)
    if error.errno in (errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ECONNREFUSED):
        detail = _("The server of the network folder does not answer for %(path)s.") % {"path": shown}
        return StoreError("unreachable", detail, path=path, retry=True)
    if error.errno == errno.ELOOP:
        return StoreError("failed", _("%(path)s is a link that leads to itself.") % {"path": shown}, path=path)
    if error.errno == errno.ENAMETOOLONG:
        return StoreError("failed", _("The name %(path)s is too long for this disk.") % {"path": shown}, path=path)
    detail = _("%(path)s: %(reason)s.") % {"path": shown, "reason": error.strerror or type(error).__name__}
    return StoreError("failed", detail, path=path)


def _account() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


def full(path: str, size: int | None, free: int) -> StoreError:
    if size is None:
        detail = _("The disk is full, or the account's quota is used up: %(path)s was not written.") % {"path": path}
    else:
        detail = _("%(path)s has %(size)d bytes, and the disk has %(free)d free.") % {
            "path": path,
            "size": size,
            "free": free,
        }
    return StoreError("disk-full", detail, hint=_("Make room on the datastore's disk."), path=path)


def inside(place: Path, root: Path) -> bool:
    return place == root or root in place.parents


def status(row: os.DirEntry[str], root: Path) -> os.stat_result | None:
    """None for a link that leads out of the store, nowhere or to itself, and for what was just removed."""
    if row.is_symlink():
        if not inside(Path(os.path.realpath(row.path)), root):
            return None
        with contextlib.suppress(OSError):
            return row.stat()
        return None
    with contextlib.suppress(FileNotFoundError):
        return row.stat()
    return None


def is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def entry(path: str, found: os.stat_result) -> Entry:
    if modes.S_ISDIR(found.st_mode):
        return Entry(path, is_dir=True, modified=found.st_mtime)
    return Entry(
        path,
        size=found.st_size,
        modified=found.st_mtime,
        etag=f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}",
    )


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
