"""A version's files: copied as a whole into a folder of their own, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from django.utils.translation import gettext as _

from studio.lib import beneath, storage
from studio.lib.errors import Invalid, TooLarge
from studio.lib.names import from_disk

CHUNK = 1 << 20
MAX_FILES = 10_000
_FICLONE = 0x40049409  # Linux: share the blocks of another file, where the file system can


def gather(source: Path, *, inside: Path) -> list[tuple[str, Path]]:
    """(path in the version, file) of a file, or of every file below a folder. Links must stay ``inside``.

    Raises Invalid for a link that leaves, for something that is no plain file, and for nothing at all.
    """
    root = os.path.realpath(inside)
    if source.is_file():
        found = [(from_disk(source.name), source)]
    else:
        found = [
            (from_disk((Path(folder) / name).relative_to(source).as_posix()), Path(folder) / name)
            for folder, _folders, names in os.walk(source)
            for name in sorted(names)
        ]
    if not found:
        raise Invalid(_("%(name)s is an empty folder.") % {"name": source.name}, field="path")
    if len(found) > MAX_FILES:
        raise TooLarge(_("A model has at most %(n)d files; this folder has more.") % {"n": MAX_FILES}, field="path")
    for name, path in found:
        real = os.path.realpath(path)
        if not real.startswith(root + os.sep):
            raise Invalid(_("%(name)s is a link that leads out of the run.") % {"name": name}, field="path")
        if not Path(real).is_file():
            raise Invalid(_("%(name)s is not a plain file.") % {"name": name}, field="path")
    return sorted(found)


def _pour(source: IO[bytes], target: IO[bytes]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        target.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def _opened(path: Path) -> IO[bytes]:
    """The run may be going on, and put a link where its file was."""
    try:
        return beneath.reader(path)
    except (FileNotFoundError, beneath.Leaves):
        raise Invalid(_("%(name)s is not a plain file.") % {"name": path.name}, field="path") from None


def _copy(source: Path | IO[bytes], target: Path) -> tuple[int, str]:
    """Size and sha256 of the copy, which is on disk when this returns. Shares blocks where the file system can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(target.open("xb"))
        if isinstance(source, Path):
            handle: IO[bytes] = stack.enter_context(_opened(source))
            try:
                fcntl.ioctl(out.fileno(), _FICLONE, handle.fileno())
            except OSError:
                size, digest = _pour(handle, out)
            else:
                with target.open("rb") as copy:
                    digest = hashlib.file_digest(copy, "sha256").hexdigest()
                size = target.stat().st_size
        else:
            size, digest = _pour(source, out)
        out.flush()
        os.fsync(out.fileno())
    return size, digest


def store(key: str, sources: Iterable[tuple[str, Path | IO[bytes]]]) -> list[dict[str, Any]]:
    """Copy everything beside its place, then move it there in one step; [{"path", "size", "sha256"}] sorted by path.

    The folder ``storage.model_directory(key)`` is complete from the moment when it exists.
    """
    final = storage.model_directory(key)
    partial = final.with_name(f".{key}.partial")
    files = []
    try:
        for raw, source in sources:
            path = storage.clean_relative(raw)
            try:
                size, digest = _copy(source, partial / path)
            except FileExistsError:
                raise Invalid(_("%(path)s is given twice.") % {"path": path}, field="files") from None
            files.append({"path": path, "size": size, "sha256": digest})
        if not files:
            raise Invalid(_("There is no file to register."), field="files")
        partial.rename(final)
        _sync(final.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return sorted(files, key=lambda file: str(file["path"]))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(key: str) -> None:
    shutil.rmtree(storage.model_directory(key), ignore_errors=True)


def folders() -> Iterator[tuple[str, Path]]:
    """(key, folder) of everything that lies where versions lie, half-made ones too."""
    for shard in storage.data("models").glob("??"):
        for folder in shard.iterdir():
            yield folder.name.lstrip(".").partition(".")[0], folder
