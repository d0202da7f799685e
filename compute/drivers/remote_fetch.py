"""Bringing what a unit wrote on a machine behind SSH into the studio's own folder of the unit.

All of it may be cut short anywhere, and two may do it at the same time: streams are written at their offsets, files
grow beside their place and are renamed once they are whole. Nothing of what is brought is ever written outside the
unit's folder, whatever its names and links are: every folder on the way is opened as itself, never through a link.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from django.utils.translation import gettext as _

from compute.drivers.base import NotFound, Unreachable
from compute.drivers.container_files import STREAMS
from compute.drivers.remote_tree import BLOCK, Entry, read_piece, read_small, read_stream, usable_name, walk
from compute.drivers.ssh import Link

TREES = (b"code", b"outputs", b"logs", b"artifacts", b"produced")
RECORDS = (b"beat.json", b"mounts.json", b"exit.json")
PARTS = ".fetch"  # what is under way
DONE = ".fetched"  # everything is here
PIECE = 4 << 20
MOST_AT_ONCE = 16 << 20  # of a stream in one call, so that the others have their turn
SMALL = 64 << 10
SMALL_AT_ONCE = 64


def fetch_streams(
    link: Link, remote: bytes, local: Path, *, known: Mapping[str, int] | None = None, patient: bool = False
) -> bool:
    """Append what is new. Whether the end was seen; without ``patient``, one call brings only so much.

    ``known``: sizes by name as they were seen a moment ago; no more than that is asked for then.
    """
    ended = True
    for name in STREAMS:
        size = None if known is None or patient else known.get(name, 0)
        ended = _fetch_stream(link, remote + b"/" + name.encode(), local / name, size, patient) and ended
    return ended


def _fetch_stream(link: Link, remote: bytes, local: Path, known: int | None, patient: bool) -> bool:
    brought = 0
    try:
        offset = local.stat().st_size
    except FileNotFoundError:
        offset = 0
    descriptor = -1
    try:
        while patient or brought < MOST_AT_ONCE:
            # A large read is many requests at once, so it is asked for only where there is much.
            limit = PIECE if brought else BLOCK
            if known is not None:
                limit = min(known - offset, PIECE)
            data = read_stream(link, remote, offset, limit) if limit > 0 else b""
            if not data:
                return True
            if descriptor < 0:
                descriptor = _writable(local)
            # Whoever else does this began at no later offset and writes the same.
            _write(descriptor, data, offset)
            offset += len(data)
            brought += len(data)
        return False
    except NotFound:
        return True
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _writable(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _here(error) from error


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    try:
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
    except OSError as error:
        raise _here(error) from error


def _here(error: OSError) -> Unreachable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unreachable(_("The disk of Atelier's own machine is full: what the run wrote has to wait."))
    return Unreachable(_("What the run wrote cannot be kept here: %(error)s") % {"error": error})


# Everything else.


def fetch_rest(link: Link, remote: bytes, local: Path) -> bool:
    """Every file, folder and link below TREES, and the records. Whether all of it is here as it was listed."""
    if not local.is_dir():
        return True  # the run was deleted: nobody wants it
    root = os.open(local, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _Fetch(link, remote, local, root).all()
    except OSError as error:
        raise _here(error) from error
    finally:
        os.close(root)


class _Fetch:
    def __init__(self, link: Link, remote: bytes, local: Path, root: int) -> None:
        self.link, self.remote, self.local, self.root = link, remote, local, root
        self.whole = True

    def all(self) -> bool:
        entries = walk(self.link, self.remote, [*TREES, *RECORDS])
        for entry in entries:
            if stat.S_ISDIR(entry.mode):
                with self._folder(entry.path.split(b"/")):
                    pass
        wanted = [entry for entry in entries if stat.S_ISREG(entry.mode) and not self._same(entry)]
        # The exit record last: with it, everything else is known to be here.
        wanted.sort(key=lambda entry: entry.path == b"exit.json")
        self._need_room(sum(entry.size for entry in wanted))
        for some in _batches([entry for entry in wanted if entry.size <= SMALL]):
            for entry, data in zip(some, read_small(self.link, self.remote, some), strict=True):
                self._keep(entry, data)
        for entry in wanted:
            if entry.size > SMALL:
                self._large(entry)
        for entry in entries:
            if stat.S_ISLNK(entry.mode):
                self._symlink(entry)
        with contextlib.suppress(OSError):
            os.rmdir(PARTS, dir_fd=self.root)
        return self.whole

    def _need_room(self, size: int) -> None:
        free = shutil.disk_usage(self.local).free
        if size > free:
            raise OSError(errno.ENOSPC, "no room")

    @contextlib.contextmanager
    def _folder(self, parts: Sequence[bytes]) -> Iterator[int]:
        """The folder here, made where it is not there; a link or a file in its place has to go."""
        here = os.dup(self.root)
        try:
            for part in parts:
                if not usable_name(part):
                    raise NotFound(repr(part))
                following = self._step(here, part)
                os.close(here)
                here = following
            yield here
        finally:
            os.close(here)

    @staticmethod
    def _step(here: int, part: bytes) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=here)
        try:
            return os.open(part, flags, dir_fd=here)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
        os.unlink(part, dir_fd=here)
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=here)
        return os.open(part, flags, dir_fd=here)

    def _same(self, entry: Entry) -> bool:
        parts = entry.path.split(b"/")
        with self._folder(parts[:-1]) as folder:
            try:
                here = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return False
        return stat.S_ISREG(here.st_mode) and (here.st_size, int(here.st_mtime)) == (entry.size, entry.mtime)

    def _part(self, entry: Entry) -> bytes:
        """Where a file grows: another place for each state of it there."""
        version = b"%s\0%d\0%d" % (entry.path, entry.size, entry.mtime)
        return hashlib.sha256(version).hexdigest()[:40].encode()

    def _keep(self, entry: Entry, data: bytes | None) -> None:
        if data is None:
            self.whole = False
            return
        with self._folder([PARTS.encode()]) as parts:
            name = self._part(entry)
            descriptor = os.open(name, _NEW, 0o600, dir_fd=parts)
            try:
                _write(descriptor, data, 0)
            finally:
                os.close(descriptor)
            self._place(entry, parts, name)

    def _large(self, entry: Entry) -> None:
        with self._folder([PARTS.encode()]) as parts:
            name = self._part(entry)
            descriptor = os.open(name, _NEW, 0o600, dir_fd=parts)
            try:
                offset = min(os.fstat(descriptor).st_size, entry.size)
                while offset < entry.size:
                    path = self.remote + b"/" + entry.path
                    try:
                        data = read_piece(self.link, path, offset, min(PIECE, entry.size - offset), entry)
                    except NotFound:
                        data = b""
                    if not data:
                        self.whole = False
                        return
                    _write(descriptor, data, offset)
                    offset += len(data)
            finally:
                os.close(descriptor)
            self._place(entry, parts, name)

    def _place(self, entry: Entry, parts: int, name: bytes) -> None:
        path = entry.path.split(b"/")
        with contextlib.suppress(FileNotFoundError):  # another one has put it there
            os.chmod(name, (entry.mode & 0o755) | 0o600, dir_fd=parts)
            os.utime(name, (entry.mtime, entry.mtime), dir_fd=parts)
            with self._folder(path[:-1]) as folder:
                try:
                    os.rename(name, path[-1], src_dir_fd=parts, dst_dir_fd=folder)
                except (IsADirectoryError, NotADirectoryError):
                    shutil.rmtree(path[-1], dir_fd=folder)
                    os.rename(name, path[-1], src_dir_fd=parts, dst_dir_fd=folder)

    def _symlink(self, entry: Entry) -> None:
        """Kept where it leads to something of the unit; others would mean something else on this machine."""
        target = inner_target(entry.path, entry.target, os.fsencode(self.local.resolve()))
        if target is None:
            return
        path = entry.path.split(b"/")
        with self._folder(path[:-1]) as folder:
            try:
                if os.readlink(path[-1], dir_fd=folder) == target:
                    return
                os.unlink(path[-1], dir_fd=folder)
            except FileNotFoundError:
                pass
            except OSError:
                return  # something else has its place here
            with contextlib.suppress(FileExistsError):
                os.symlink(target, path[-1], dir_fd=folder)


_NEW = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def inner_target(path: bytes, target: bytes, root: bytes) -> bytes | None:
    """What a link at ``path`` (relative to the unit's folder) may lead to, None where it could leave the folder.

    Only targets that first go up and then down: the folders that a link lies in are real, so going up stays where it
    seems to be; and what lies on the way down can itself be only a link of this kind. ``root``: the unit's own folder,
    which its command knows by the same name.
    """
    if b"\0" in target or not target:
        return None
    if target.startswith(root + b"/"):
        target = b"/".join([b".."] * path.count(b"/") + [target[len(root) + 1 :]])
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    up = next((index for index, part in enumerate(parts) if part != b".."), len(parts))
    if target.startswith(b"/") or b".." in parts[up:] or up > path.count(b"/"):
        return None
    return target


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    for start in range(0, len(entries), SMALL_AT_ONCE):
        yield entries[start : start + SMALL_AT_ONCE]


def safe_key(key: str) -> str:
    """Raises NotFound for what is no key of a unit."""
    if not re.fullmatch(r"[0-9a-f]{32}", key):
        raise NotFound(key)
    return key
