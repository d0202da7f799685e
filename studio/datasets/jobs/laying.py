"""Laying files into a unit's directory: links through ``mounts/``, private copies, and moving what it produced.

Nothing here is half done where it can be seen: files get their names last. All of it may be done again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from studio.lib import storage

MOUNTS = "mounts"
FICLONE = 0x40049409  # share the blocks of another file, where the file system can (Btrfs, XFS)
PIECE = 8 << 20
PART = ".atelier-part-"  # how names of unfinished files begin in stores of this machine: they are never listed


def link(place: Path, target: Path) -> None:
    """A relative link at ``place``, instead of a link or an empty folder that is there. Raises FileExistsError."""
    place.parent.mkdir(parents=True, exist_ok=True)
    wanted = os.path.relpath(target, place.parent)
    if place.is_symlink() and os.readlink(place) == wanted:  # noqa: PTH115 - as it is written
        return
    if place.is_dir() and not place.is_symlink():
        with contextlib.suppress(OSError):
            place.rmdir()
    if place.exists() and not place.is_symlink():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))
    temporary = place.with_name(f".{uuid.uuid4().hex}")
    temporary.symlink_to(wanted)
    temporary.replace(place)


def mount_point(unit: Path, source: Path) -> Path:
    """``<unit>/mounts/<n>``, a link to the folder ``source``; the same one for the same folder."""
    root = unit / MOUNTS
    root.mkdir(parents=True, exist_ok=True)
    wanted = str(source)
    for number in range(10_000):
        point = root / str(number)
        try:
            point.symlink_to(wanted)
        except FileExistsError:
            if os.readlink(point) == wanted:  # noqa: PTH115 - as it is written
                return point
            continue
        return point
    raise OSError(errno.EMFILE, "a unit mounts at most 10,000 folders")


def common_folder(files: Iterable[str]) -> str:
    """The deepest folder that all of these absolute paths lie in."""
    return os.path.commonpath([os.path.dirname(path) for path in files])  # noqa: PTH120 - on texts


def name_twice(files: Iterable[tuple[str, str]]) -> tuple[str, str, str] | None:
    """The first (relative, one, other) of (relative, path) in which two paths would be laid at one place."""
    seen: dict[str, str] = {}
    for relative, path in files:
        if seen.setdefault(relative, path) != path:
            return relative, seen[relative], path
    return None


def link_files(unit: Path, name: str, files: Iterable[tuple[str, str]]) -> int:
    """``inputs/<name>/<relative>`` for each (relative, absolute path on this machine); how many."""
    pairs = list(files)
    base = common_folder(path for _relative, path in pairs)
    point, root, made = mount_point(unit, Path(base)), unit / "inputs" / name, set()
    if root.is_symlink():
        root.unlink()
    up = os.path.relpath(point, root)
    for relative, path in pairs:
        relative = storage.clean_relative(relative)
        place = root / relative
        if place.parent not in made:
            place.parent.mkdir(parents=True, exist_ok=True)
            made.add(place.parent)
        target = "../" * relative.count("/") + up + "/" + os.path.relpath(path, base)
        with contextlib.suppress(FileExistsError):
            place.symlink_to(target)
            continue
        temporary = place.with_name(f".{uuid.uuid4().hex}")
        temporary.symlink_to(target)
        temporary.replace(place)
    return len(pairs)


def copy(source: Path, place: Path) -> None:
    """A private copy: sharing blocks where the file system can, else copied by the system."""
    import fcntl

    place.parent.mkdir(parents=True, exist_ok=True)
    before = source.stat()
    temporary = place.with_name(f".{uuid.uuid4().hex}")
    try:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            try:
                fcntl.ioctl(writer.fileno(), FICLONE, reader.fileno())
            except OSError:
                _copy_range(reader.fileno(), writer.fileno(), before.st_size)
        if temporary.stat().st_size != before.st_size:
            raise OSError(errno.EIO, f"{source} changed while it was copied")
        os.utime(temporary, ns=(before.st_atime_ns, before.st_mtime_ns))
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def _copy_range(reader: int, writer: int, size: int) -> None:
    left = size
    while left > 0:
        try:
            done = os.copy_file_range(reader, writer, min(left, 1 << 30))
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            with os.fdopen(os.dup(reader), "rb") as source, os.fdopen(os.dup(writer), "wb") as target:
                shutil.copyfileobj(source, target, PIECE)
            return
        if not done:
            return
        left -= done


def same_file(source: Path, place: Path) -> bool:
    """Whether ``place`` is already a copy that ``copy`` made of ``source``."""
    try:
        one, two = source.stat(), place.lstat()
    except OSError:
        return False
    return one.st_size == two.st_size and one.st_mtime_ns == two.st_mtime_ns


@dataclass
class Produced:
    """The files of an output: (relative path, path). ``single``: the output itself is one file, relative ""."""

    files: list[tuple[str, Path]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # links that lead out of the unit: they are not followed
    single: bool = False
    bytes: int = 0


def produced(unit: Path, name: str, home: Path | None = None) -> Produced:
    """What the command left at ``produced/<name>``, in order. ``home``: where ``hand_over`` brings it; the links that
    it left count as the files that they were."""
    root, found = unit / "produced" / name, Produced()
    roots = [os.path.realpath(unit), *([os.path.realpath(home)] if home else [])]
    if os.path.realpath(root) == roots[0] or not _inside(root, roots):
        found.links.append(name)  # what lies behind it is somebody else's, and would be moved away
        return found
    if root.is_file():
        found.single = True
        found.files.append(("", root))
    else:
        for path in _below(root):
            relative = path.relative_to(root).as_posix()
            if path.is_symlink() and not _inside(path, roots):
                found.links.append(relative)
            elif path.is_file():
                found.files.append((relative, path))
    found.bytes = sum(path.stat().st_size for _relative, path in found.files)
    return found


def _below(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            yield Path(folder, name)
        for name in folders:
            if Path(folder, name).is_symlink():
                yield Path(folder, name)


def _inside(path: Path, roots: list[str]) -> bool:
    real = os.path.realpath(path)
    return any(real == root or real.startswith(root + os.sep) for root in roots)


def hand_over(source: Path, place: Path) -> None:
    """Bring a file to ``place`` on the same disk and leave a link to it. Killed anywhere, the bytes are at both names
    or at the new one, and doing it again ends it. Raises OSError, with errno EXDEV where it is another disk."""
    if source.is_symlink() and os.path.realpath(source) == os.path.realpath(place):
        return
    real = Path(os.path.realpath(source))
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f"{PART}{uuid.uuid4().hex}")
    try:
        _second_name(real, temporary)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)
    left = source.with_name(f".{uuid.uuid4().hex}")
    left.symlink_to(place)
    left.replace(source)


def _second_name(real: Path, temporary: Path) -> None:
    try:
        os.link(real, temporary)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        real.rename(temporary)  # a file system without hard links
