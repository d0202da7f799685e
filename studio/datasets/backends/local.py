"""Folders of this machine: the workspace's own store, and any folder that the administrator lets datastores lie in.

A network file system (NFS, SMB) that the machine has mounted is a folder like any other; what is special about it is
said by name: a handle that became stale, a server that does not answer.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pwd
import secrets as randomness
import shutil
import stat as modes
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from studio.datasets.backends import parts
from studio.datasets.backends.base import Entry, Listing, StoreError
from studio.lib import env, storage
from studio.lib.fields import FormField, Problem

Entries = list[Entry]  # within the classes, ``list`` is a method
PART = ".atelier-part-"  # beginning of the names of files that are still being written; they are never listed
ROOT_S = 1.0
_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/boot", "/run", "/var/run", "/root/.ssh", "~/.ssh", "~/.atelier")


class Folder:
    """Files below one folder. Subclasses say which."""

    label: ClassVar[Any] = ""
    fields: ClassVar[list[FormField]] = []

    def __init__(self, config: dict[str, Any], secrets: dict[str, str]) -> None:
        self.config = config

    def root(self) -> Path:
        """The folder, links resolved. Raises StoreError no-such-container, forbidden."""
        raise NotImplementedError

    @property
    def writable(self) -> bool:
        try:
            return os.access(self.root(), os.W_OK)
        except StoreError:
            return False

    def address(self) -> str:
        raise NotImplementedError

    def check(self) -> tuple[list[Problem], list[Entry]]:
        try:
            return [], self.list("", limit=parts.SHOWN).entries
        except StoreError as error:
            return parts.as_problems(error)

    # Reading

    def list(self, path: str = "", *, limit: int = 1000, after: str | None = None) -> Listing:
        return parts.page(self._entries(parts.clean_path(path), strict=False), limit, after)

    def find(self, pattern: str) -> Iterator[Entry]:
        self.root()  # a folder that is not mounted must not look like one without files
        return parts.walk(parts.Glob(pattern), self._entries, self.stat)

    def stat(self, path: str) -> Entry:
        place = self._place(path)
        with named_errors(path):
            found = place.stat()
            if not (modes.S_ISREG(found.st_mode) or modes.S_ISDIR(found.st_mode)):
                raise parts.unsupported(_("%(path)s is neither a file nor a folder.") % {"path": path}, path)
            return _entry(parts.clean_path(path), found)

    def open(self, path: str) -> BinaryIO:
        return parts.opened(self._open(path))

    def stream(self, path: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        with self._open(path) as source:
            end = source.size if length is None else min(source.size, offset + length)
            source.seek(offset)
            while (at := source.tell()) < end:
                piece = source.read(min(parts.PIECE, end - at))
                if not piece:
                    raise parts.incomplete(path, at, source.size)
                yield piece

    def local_path(self, path: str) -> Path | None:
        return self._place(path)

    def _open(self, path: str) -> _SteadyFile:
        if self.stat(path).is_dir:
            raise parts.unsupported(_("%(path)s is a folder.") % {"path": path or "/"}, path)
        with named_errors(path):
            # A pipe that took the file's place meanwhile must not hold us.
            handle = os.open(self._place(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            source = _SteadyFile(handle, path)
            _stay_inside(source, self.root(), path)
            return source

    def _entries(self, folder: str, *, strict: bool = True) -> Entries:
        """A folder's files and folders. Links that lead out of the store or nowhere, and what is neither file nor
        folder, are left out. ``strict`` raises for a name that is not UTF-8, which no dataset could name."""
        place, root = self._place(folder), self.root()
        found = []
        with named_errors(folder), os.scandir(place) as rows:
            for row in rows:
                path = f"{folder}/{row.name}" if folder else row.name
                if row.name.startswith(PART):
                    continue
                if not _utf8(row.name):
                    if strict:
                        parts.clean_path(path)
                    continue
                status = _status(row, root)
                if status is not None and (modes.S_ISREG(status.st_mode) or modes.S_ISDIR(status.st_mode)):
                    found.append(_entry(path, status))
        return found

    # Writing

    def upload_begin(self, path: str, size: int) -> dict[str, Any]:
        target = self._place(path)
        if target == self.root() or target.is_dir():
            raise StoreError("failed", _("%(path)s is a folder.") % {"path": path or "/"}, path=path)
        with named_errors(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            space = os.statvfs(target.parent)
            free = space.f_bavail * space.f_frsize
            if size > free:
                raise _full(path, size, free)
            temporary = target.parent / f"{PART}{randomness.token_hex(8)}"
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        folder = parts.clean_path(path).rpartition("/")[0]
        return {
            "path": parts.clean_path(path),
            "temporary": f"{folder}/{temporary.name}".lstrip("/"),
            "size": size,
        }

    def upload_piece(self, state: dict[str, Any], offset: int, pieces: Iterable[bytes]) -> tuple[dict[str, Any], int]:
        path = state["path"]
        with named_errors(path), self._temporary(state) as target:
            if os.fstat(target.fileno()).st_size < offset:
                raise parts.incomplete(path, os.fstat(target.fileno()).st_size, offset)
            target.truncate(offset)
            target.seek(offset)
            for piece in pieces:
                offset += len(piece)
                if offset > state["size"]:
                    raise StoreError(
                        "failed",
                        _("More than the %(size)d bytes that were announced came for %(path)s.")
                        % {"size": state["size"], "path": path},
                        path=path,
                    )
                target.write(piece)
            target.flush()
            os.fsync(target.fileno())
        return state, offset

    def upload_commit(self, state: dict[str, Any]) -> Entry:
        path = state["path"]
        target = self._place(path)
        with named_errors(path):
            with self._temporary(state) as source:
                have = os.fstat(source.fileno()).st_size
                os.fsync(source.fileno())
            if have != state["size"]:
                raise parts.incomplete(path, have, state["size"])
            # A link in the target's place is kept: what it leads to, inside the store, is what changes.
            self._place(state["temporary"]).replace(Path(os.path.realpath(target)))
            _sync_folder(target.parent)
        return self.stat(path)

    def upload_abort(self, state: dict[str, Any]) -> None:
        with named_errors(state["path"]), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._place(state["temporary"]).unlink()

    def delete(self, path: str) -> None:
        clean = parts.clean_path(path)
        if not clean:
            raise StoreError("forbidden", _("The datastore's root cannot be deleted."), path=path)
        folder, _slash, name = clean.rpartition("/")
        place = self._place(folder) / name  # of a link, the link
        with named_errors(path):
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink()

    def _temporary(self, state: dict[str, Any]) -> BinaryIO:
        """The file that is being written. Raises StoreError no-such-file when it was cleared away."""
        place = self._place(state["temporary"])
        if not place.name.startswith(PART):
            raise StoreError("forbidden", _("%(path)r is not an upload.") % {"path": state["temporary"]})
        try:
            return place.open("r+b")
        except FileNotFoundError:
            raise StoreError(
                "no-such-file",
                _("The upload of %(path)s is not there any more.") % {"path": state["path"]},
                hint=_("Start it again."),
                path=state["path"],
            ) from None

    def _place(self, path: str) -> Path:
        """Where a path lies. Raises StoreError forbidden when it, or a link on its way, leaves the store."""
        clean = parts.clean_path(path)
        root = self.root()
        place = root / clean if clean else root
        with named_errors(path):
            if not _inside(Path(os.path.realpath(place)), root):
                raise _leaves(path)
        return place


class WorkspaceStore(Folder):
    """The store that every workspace has: ``stores/<workspace>`` in the data folder, made when first used."""

    kind: ClassVar[str] = "workspace"
    label: ClassVar[Any] = gettext_lazy("Workspace store")
    summary: ClassVar[Any] = gettext_lazy("Comes with the workspace and lies in the studio's data folder.")
    icon: ClassVar[str] = "database"

    def root(self) -> Path:
        place = storage.data("stores", str(int(self.config["workspace"])))
        with named_errors(""):
            place.mkdir(parents=True, exist_ok=True)
        return Path(os.path.realpath(place))

    def address(self) -> str:
        return str(storage.data("stores", str(int(self.config["workspace"]))))


class LocalFolder(Folder):
    """A folder of this machine, or a network file system that is mounted on it."""

    kind: ClassVar[str] = "local"
    label: ClassVar[Any] = gettext_lazy("Local or NFS folder")
    summary: ClassVar[Any] = gettext_lazy("A folder of this machine, or a network file system that it has mounted.")
    icon: ClassVar[str] = "folder"
    fields: ClassVar[list[FormField]] = [
        FormField(
            "path",
            gettext_lazy("Folder"),  # type: ignore[arg-type]  # lazy
            help=gettext_lazy("Its absolute path on the machine of the studio, such as /mnt/data."),  # type: ignore[arg-type]
            required=True,
        )
    ]

    def address(self) -> str:
        return str(self.config.get("path", ""))

    def root(self) -> Path:
        """Looked at again after a second: ten thousand files of a glob ask for it one by one."""
        at, known = getattr(self, "_known", (-ROOT_S, None))
        if known is None or time.monotonic() - at >= ROOT_S:
            known = self._looked_at()
            self._known = (time.monotonic(), known)
        return known

    def _looked_at(self) -> Path:
        raw = str(self.config.get("path", ""))
        if not raw.startswith("/") or "\x00" in raw:
            raise StoreError(
                "no-such-container",
                _("%(path)r is not an absolute path.") % {"path": raw},
                hint=_("It begins with a slash, such as /mnt/data."),
                field="path",
            )
        real = Path(os.path.realpath(raw))
        _permitted(real, raw)
        with named_errors("", shown=raw):
            try:
                found = real.stat()
            except (FileNotFoundError, NotADirectoryError):
                raise StoreError(
                    "no-such-container",
                    _("There is no folder %(path)s on this machine.") % {"path": raw},
                    hint=_("Is the disk or the network folder mounted?"),
                    field="path",
                ) from None
        if not modes.S_ISDIR(found.st_mode):
            raise StoreError("no-such-container", _("%(path)s is a file.") % {"path": raw}, field="path")
        return real


def allowed_roots() -> list[str]:
    """Where local datastores may lie; empty: anywhere but where the system and the studio keep their own."""
    roots = getattr(settings, "ATELIER_LOCAL_DATA", None)
    return env.folders("ATELIER_LOCAL_DATA") if roots is None else list(roots)


def _permitted(real: Path, raw: str) -> None:
    """Raises StoreError forbidden for a folder that holds, or lies in, what no datastore may show."""
    roots = allowed_roots()
    if roots and not any(_inside(real, Path(os.path.realpath(root))) for root in roots):
        raise StoreError(
            "forbidden",
            _("%(path)s lies in none of the folders that datastores may use: %(roots)s.")
            % {"path": raw, "roots": ", ".join(roots)},
            hint=_("An administrator can allow it with the setting ATELIER_LOCAL_DATA."),
            field="path",
        )
    own = [settings.ATELIER_DATA, getattr(settings, "ATELIER_KEYS_FILE", None)]
    for kept in [*(str(place) for place in own if place), *(() if roots else _SYSTEM)]:
        closed = Path(os.path.realpath(Path(kept).expanduser()))
        if _inside(real, closed) or _inside(closed, real):
            raise StoreError(
                "forbidden",
                _("%(path)s cannot be a datastore: %(kept)s is kept from datastores.") % {"path": raw, "kept": kept},
                hint=_("Choose a folder that neither holds it nor lies in it."),
                field="path",
            )


class _SteadyFile(io.FileIO):
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
        raise _named(error, path, shown or path or "/") from error


def _named(error: OSError, path: str, shown: str) -> StoreError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return parts.no_such_file(path, shown)
    if isinstance(error, PermissionError):
        detail = _("The studio's account (%(user)s) has no permission for %(path)s.")
        hint = _("Give that account the right to read, and to write where files are uploaded.")
        return StoreError("forbidden", detail % {"user": _account(), "path": shown}, hint=hint, path=path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(path, None, 0)
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


def _full(path: str, size: int | None, free: int) -> StoreError:
    if size is None:
        detail = _("The disk is full, or the account's quota is used up: %(path)s was not written.") % {"path": path}
    else:
        detail = _("%(path)s has %(size)d bytes, and the disk has %(free)d free.") % {
            "path": path,
            "size": size,
            "free": free,
        }
    return StoreError("disk-full", detail, hint=_("Make room on the datastore's disk."), path=path)


def _leaves(path: str) -> StoreError:
    return StoreError("forbidden", _("%(path)s leads out of the datastore.") % {"path": path}, path=path, field="path")


def _inside(place: Path, root: Path) -> bool:
    return place == root or root in place.parents


def _stay_inside(source: _SteadyFile, root: Path, path: str) -> None:
    """Look again at what was really opened: a folder may have become a link between the check and the opening."""
    link = Path(f"/proc/self/fd/{source.fileno()}")
    if link.is_symlink() and not _inside(Path(link.readlink()), root):
        source.close()
        raise _leaves(path)


def _status(row: os.DirEntry[str], root: Path) -> os.stat_result | None:
    """None for a link that leads out of the store, nowhere or to itself, and for what was just removed."""
    if row.is_symlink():
        if not _inside(Path(os.path.realpath(row.path)), root):
            return None
        with contextlib.suppress(OSError):
            return row.stat()
        return None
    with contextlib.suppress(FileNotFoundError):
        return row.stat()
    return None


def _utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _entry(path: str, found: os.stat_result) -> Entry:
    if modes.S_ISDIR(found.st_mode):
        return Entry(path, is_dir=True, modified=found.st_mtime)
    return Entry(
        path,
        size=found.st_size,
        modified=found.st_mtime,
        etag=f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}",
    )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
