"""Zip files that people upload: what may be in one, and what is refused before a byte of it is unpacked."""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from django.utils.translation import gettext as _

from studio.lib import storage
from studio.lib.errors import Invalid

# No folder of source code comes near these; a file of 42 kB that unpacks to petabytes does.
MAX_RATIO = 200
RATIO_FROM_BYTES = 10 * 1024 * 1024
MAX_ENTRIES = 100_000


class _Bounded:
    """Reads an entry and fails as soon as it holds more than it declared."""

    def __init__(self, source: IO[bytes], declared: int, name: str) -> None:
        self.source, self.left, self.name = source, declared, name

    def read(self, size: int = -1) -> bytes:
        wanted = self.left + 1 if size < 0 else min(size, self.left + 1)
        piece = self.source.read(wanted)
        self.left -= len(piece)
        if self.left < 0:
            raise Invalid(_("%(name)s in the zip file is larger than it says.") % {"name": self.name}, field="files")
        return piece


def _check(info: zipfile.ZipInfo) -> str:
    """The entry's path; raises Invalid for one that must not be unpacked."""
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG):
        raise Invalid(
            _("%(name)s in the zip file is a link or a device: only plain files can be unpacked.")
            % {"name": info.filename},
            field="files",
        )
    if info.flag_bits & 0x1:
        raise Invalid(
            _("%(name)s in the zip file is encrypted: upload it without a password.") % {"name": info.filename},
            field="files",
        )
    if info.file_size > RATIO_FROM_BYTES and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        raise Invalid(
            _("%(name)s in the zip file would unpack to more than %(ratio)s times its size: it was refused.")
            % {"name": info.filename, "ratio": MAX_RATIO},
            field="files",
        )
    return storage.clean_relative(info.filename, field="files")


def open_zip(handle: IO[bytes]) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(handle)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise Invalid(
            _("The file is not a zip file that can be read: %(why)s") % {"why": error}, field="files"
        ) from error
    if len(archive.filelist) > MAX_ENTRIES:
        raise Invalid(_("The zip file has %(count)s entries.") % {"count": len(archive.filelist)}, field="files")
    return archive


def entries(archive: zipfile.ZipFile) -> list[tuple[str, zipfile.ZipInfo]]:
    """(path, entry) of the plain files, in their order; raises Invalid for the first that must not be unpacked."""
    return [(_check(info), info) for info in archive.infolist() if not info.is_dir()]


def without_root(paths: list[str]) -> int:
    """Characters to cut from every path where all of them lie in one top folder, else 0."""
    roots = {path.split("/", 1)[0] for path in paths}
    if len(roots) != 1 or any("/" not in path for path in paths):
        return 0
    return len(roots.pop()) + 1


@contextmanager
def read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    """The content of one entry, open for reading; a damaged one raises Invalid."""
    try:
        with archive.open(info) as source:
            yield _Bounded(source, info.file_size, info.filename)  # type: ignore[misc]
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, zlib.error, lzma.LZMAError) as error:
        raise Invalid(
            _("%(name)s in the zip file cannot be read: %(why)s") % {"name": info.filename, "why": error}, field="files"
        ) from error
