"""Folders of this machine: the workspace's own store, and any folder that the administrator lets datastores lie in.

A network file system (NFS, SMB) that the machine has mounted is a folder like any other; what is special about it is
said by name: a handle that became stale, a server that does not answer.
"""

from __future__ import annotations

import contextlib
import os
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

from studio.datasets.backends import disk, parts
from studio.datasets.backends.base import Entry, Listing, StoreError
from studio.lib import env, storage
from studio.lib.fields import FormField, Problem

Entries = list[Entry]  # within the classes, ``list`` is a method
PART = ".atelier-part-"  # beginning of the names of files that are still being written; they are never listed
ROOT_S = 1.0
SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/boot", "/run", "/var/run", "/root/.ssh", "~/.ssh", "~/.atelier")


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
        with disk.named_errors(path):
            found = place.stat()
            if not (modes.S_ISREG(found.st_mode) or modes.S_ISDIR(found.st_mode)):
                raise parts.unsupported(_("%(path)s is neither a file nor a folder.") % {"path": path}, path)
            return disk.entry(parts.clean_path(path), found)

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

    def _open(self, path: str) -> disk.SteadyFile:
        if self.stat(path).is_dir:
            raise parts.unsupported(_("%(path)s is a folder.") % {"path": path or "/"}, path)
        with disk.named_errors(path):
            # A pipe that took the file's place meanwhile must not hold us.
            handle = os.open(self._place(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            source = disk.SteadyFile(handle, path)
            _stay_inside(source, self.root(), path)
            return source

    def _entries(self, folder: str, *, strict: bool = True) -> Entries:
        """A folder's files and folders. Links that lead out of the store or nowhere, and what is neither file nor
        folder, are left out. ``strict`` raises for a name that is not UTF-8, which no dataset could name."""
        place, root = self._place(folder), self.root()
        found = []
        with disk.named_errors(folder), os.scandir(place) as rows:
            for row in rows:
                path = f"{folder}/{row.name}" if folder else row.name
                if row.name.startswith(PART):
                    continue
                if not disk.is_utf8(row.name):
                    if strict:
                        parts.clean_path(path)
                    continue
                status = disk.status(row, root)
                if status is not None and (modes.S_ISREG(status.st_mode) or modes.S_ISDIR(status.st_mode)):
                    found.append(disk.entry(path, status))
        return found

    # Writing

    def upload_begin(self, path: str, size: int) -> dict[str, Any]:
        target = self._place(path)
        if target == self.root() or target.is_dir():
            raise StoreError("failed", _("%(path)s is a folder.") % {"path": path or "/"}, path=path)
        with disk.named_errors(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            space = os.statvfs(target.parent)
            free = space.f_bavail * space.f_frsize
            if size > free:
                raise disk.full(path, size, free)
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
        with disk.named_errors(path), self._temporary(state) as target:
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
        with disk.named_errors(path):
            with self._temporary(state) as source:
                have = os.fstat(source.fileno()).st_size
                os.fsync(source.fileno())
            if have != state["size"]:
                raise parts.incomplete(path, have, state["size"])
            # A link in the target's place is kept: what it leads to, inside the store, is what changes.
            self._place(state["temporary"]).replace(Path(os.path.realpath(target)))
            disk.sync_folder(target.parent)
        return self.stat(path)

    def upload_abort(self, state: dict[str, Any]) -> None:
        with disk.named_errors(state["path"]), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._place(state["temporary"]).unlink()

    def delete(self, path: str) -> None:
        clean = parts.clean_path(path)
        if not clean:
            raise StoreError("forbidden", _("The datastore's root cannot be deleted."), path=path)
        folder, _slash, name = clean.rpartition("/")
        place = self._place(folder) / name  # of a link, the link
        with disk.named_errors(path):
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
        with disk.named_errors(path):
            if not disk.inside(Path(os.path.realpath(place)), root):
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
        with disk.named_errors(""):
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
        with disk.named_errors("", shown=raw):
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


def studio_places() -> list[str]:
    """Where the studio keeps its own, and what is of all workspaces."""
    own = [settings.ATELIER_DATA, getattr(settings, "ATELIER_KEYS_FILE", None)]
    return [str(place) for place in own if place]


def _permitted(real: Path, raw: str) -> None:
    """Raises StoreError forbidden for a folder that holds, or lies in, what no datastore may show."""
    roots = allowed_roots()
    if roots and not any(disk.inside(real, Path(os.path.realpath(root))) for root in roots):
        raise StoreError(
            "forbidden",
            _("%(path)s lies in none of the folders that datastores may use: %(roots)s.")
            % {"path": raw, "roots": ", ".join(roots)},
            hint=_("An administrator can allow it with the setting ATELIER_LOCAL_DATA."),
            field="path",
        )
    for kept in [*studio_places(), *(() if roots else SYSTEM)]:
        closed = Path(os.path.realpath(Path(kept).expanduser()))
        if disk.inside(real, closed) or disk.inside(closed, real):
            raise StoreError(
                "forbidden",
                _("%(path)s cannot be a datastore: %(kept)s is kept from datastores.") % {"path": raw, "kept": kept},
                hint=_("Choose a folder that neither holds it nor lies in it."),
                field="path",
            )


def _leaves(path: str) -> StoreError:
    return StoreError("forbidden", _("%(path)s leads out of the datastore.") % {"path": path}, path=path, field="path")


def _stay_inside(source: disk.SteadyFile, root: Path, path: str) -> None:
    """Look again at what was really opened: a folder may have become a link between the check and the opening."""
    link = Path(f"/proc/self/fd/{source.fileno()}")
    if link.is_symlink() and not disk.inside(Path(link.readlink()), root):
        source.close()
        raise _leaves(path)
