"""Opening files in the folders of units while what runs there may still change them.

Between a look at a path and its opening, a link can take the place of a file or of a folder on the way. What runs in a
container sees less of this machine than the studio, and could so have it read or written what it may not reach itself.
Here what was really opened is looked at, after the opening: it cannot change any more. A pipe keeps nobody waiting.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from studio.lib import storage

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Leaves(OSError):
    """What is there is a link that leads out, or neither a plain file nor a folder."""

    def __init__(self, path: object) -> None:
        super().__init__(errno.ELOOP, "a link that leads out, or no plain file", str(path))


def unit_root(path: Path) -> str | None:
    """The real folder of the unit that ``path`` is in by its name; None for what is in none."""
    units = storage.data("units")
    try:
        parts = path.relative_to(units).parts
    except ValueError:
        return None
    return os.path.realpath(units.joinpath(*parts[:2])) if len(parts) > 2 else None


def _real(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - of what is open


def _is_inside(descriptor: int, root: str) -> bool:
    real = _real(descriptor)
    return real == root or real.startswith(root + os.sep)


def reader(path: Path) -> io.BufferedReader:
    """A plain file, open for reading. In the folder of a unit only what really lies there. Raises OSError."""
    root = unit_root(path)
    if root is None:
        return path.open("rb")
    descriptor = os.open(path, _READ)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not _is_inside(descriptor, root):
            raise Leaves(path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_small(path: Path, limit: int) -> bytes:
    """The content of a plain file that is no link, at most ``limit`` bytes of it. Raises OSError."""
    descriptor = os.open(path, _READ | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as handle:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Leaves(path)
        return handle.read(limit)


@contextlib.contextmanager
def folder(root: Path, names: Sequence[str]) -> Iterator[int]:
    """The folder ``names`` below ``root``, made where it is not there, open: use names relative to it. ``root`` itself
    is no link, or leads where it should. Raises OSError where a link on the way leads out of it."""
    here = os.open(root, _FOLDER)
    try:
        real = _real(here)
        for name in names:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=here)
            below = os.open(name, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
            if not _is_inside(here, real):
                raise Leaves(name)
        yield here
    finally:
        os.close(here)
