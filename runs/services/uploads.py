"""Files sent to a run in pieces: a broken upload goes on where it stopped, and a file appears only when it is whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from django.db.models import F
from django.db.models.functions import Greatest
from django.utils.translation import gettext as _

from runs.models import Run
from runs.services import places
from studio.lib import beneath, storage
from studio.lib.errors import Conflict, Invalid, TooLarge

PIECE = 1024 * 1024
MAX_BYTES = 1 << 42
_PART = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class UploadState:
    """How much of a file is here, in bytes, and whether it is whole."""

    size: int
    complete: bool


def _paths(run: Run, path: str) -> tuple[Path, str]:
    """(the file in its place, the name of the part that is being sent)"""
    places.check_upload(path)
    root, rest = places.place(run, path)
    root.mkdir(parents=True, exist_ok=True)
    target = storage.safe_join(root, rest)
    # Parts are recognised by the name that they will have, so that anybody who goes on with one finds it.
    return target, hashlib.sha256(str(target).encode()).hexdigest()[:32] + ".part"


@contextlib.contextmanager
def _parts(run: Run) -> Iterator[int]:
    """The folder of what is being sent. What runs in the folder of the run may have put links into it: nothing is
    opened through one."""
    try:
        with beneath.folder(places.directory(run), ["uploads"]) as found:
            yield found
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise Invalid(_("A link or a file lies in the way of the upload."), field="path") from error
        raise


def _state_of(name: str, folder: int) -> os.stat_result | None:
    """Of a plain file; None where there is none."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def upload_state(run: Run, path: str) -> UploadState:
    """Where an upload of this path goes on."""
    target, part = _paths(run, path)
    with _parts(run) as folder:
        begun = _state_of(part, folder)
    if begun is not None:
        return UploadState(begun.st_size, False)
    if target.is_file():
        return UploadState(target.stat().st_size, True)
    return UploadState(0, False)


def put_chunk(run: Run, path: str, offset: int, stream: IO[bytes], total: int | None = None) -> UploadState:
    """Bytes of a file from ``offset`` on; the file is in its place once ``total`` bytes came (None: with this piece).

    An offset equal to what is here appends, a lower one drops the overlap, a higher one raises Conflict, whose
    ``size`` is where to go on. Streams: nothing is held in memory. Raises TooLarge when the disk is full.
    """
    if offset < 0 or (total is not None and not 0 <= total <= MAX_BYTES) or (total is not None and offset > total):
        raise Invalid(
            _("The offset and the size of an upload are numbers of bytes, the offset within the size."), field="offset"
        )
    target, part = _paths(run, path)
    if target.is_dir():
        raise Conflict(_("%(path)s is a folder.") % {"path": path})
    with _parts(run) as folder:
        begun = _state_of(part, folder)
        if offset and total is not None and begun is None and target.is_file() and target.stat().st_size == total:
            return UploadState(total, True)  # the answer to the last piece was lost, and it is sent again
        with _opened(part, folder) as handle:
            _lock(handle, part, folder, path)
            if offset == 0:
                handle.truncate(0)
            size = handle.seek(0, 2)
            if offset > size:
                if not size:
                    os.unlink(part, dir_fd=folder)
                refusal = Conflict(
                    _("%(path)s has %(size)s bytes here, and the piece begins at %(offset)s: go on from %(size)s.")
                    % {"path": path, "size": size, "offset": offset}
                )
                refusal.size = size  # type: ignore[attr-defined]
                raise refusal
            size = _append(handle, stream, skip=size - offset, room=None if total is None else total - size)
            if total is not None and size < total:
                return UploadState(size, False)
            _finish(run, part, folder, target, size)
    return UploadState(size, True)


def put_whole(run: Run, path: str, link: Callable[[Path], int]) -> UploadState:
    """A whole file that lies on this disk without a name: ``link`` gives it the one it is told, and says its size in
    bytes. No byte is copied. Raises OSError where the file system cannot."""
    target, part = _paths(run, path)
    if target.is_dir():
        raise Conflict(_("%(path)s is a folder.") % {"path": path})
    with _parts(run) as folder:
        fresh = f"{secrets.token_hex(16)}.whole"
        size = link(Path(f"/proc/self/fd/{folder}/{fresh}"))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)  # what was sent of it in pieces before is replaced
        _finish(run, fresh, folder, target, size)
    return UploadState(size, True)


def _opened(part: str, folder: int) -> IO[bytes]:
    descriptor = os.open(part, _PART, 0o666, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise beneath.Leaves(part)
    return os.fdopen(descriptor, "r+b")


def _lock(handle: IO[bytes], part: str, folder: int, path: str) -> None:
    """One sender at a time; what was opened must still be the part, and not a file that was finished meanwhile."""
    refusal = Conflict(_("%(path)s is being sent by somebody else right now.") % {"path": path})
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = _state_of(part, folder)
        if found is None or found.st_ino != os.fstat(handle.fileno()).st_ino:
            raise refusal
    except BlockingIOError:
        raise refusal from None


def _append(handle: IO[bytes], stream: IO[bytes], *, skip: int, room: int | None) -> int:
    """Write what comes after the first ``skip`` bytes of the stream; the new size. At most ``room`` bytes fit."""
    try:
        while piece := stream.read(PIECE):
            if skip:
                dropped = min(skip, len(piece))
                skip -= dropped
                piece = piece[dropped:]
            if room is not None:
                if len(piece) > room:
                    raise Invalid(_("More bytes came than the size that was announced."), field="total")
                room -= len(piece)
            handle.write(piece)
        handle.flush()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TooLarge(_("The disk of the studio is full: free some space, then go on with the upload.")) from error
        raise
    return handle.tell()


def _finish(run: Run, part: str, folder: int, target: Path, size: int) -> None:
    """Into its place, atomically; a file that was there is replaced."""
    before = target.stat().st_size if target.is_file() else 0
    root = places.directory(run)
    # Looked at again: while the bytes came, a link may have taken the place of a folder.
    with beneath.folder(root, target.parent.relative_to(root).parts) as place:
        os.rename(part, target.name, src_dir_fd=folder, dst_dir_fd=place)
    Run.objects.filter(pk=run.pk).update(output_bytes=Greatest(F("output_bytes") + size - before, 0))
