"""Where the files of a definition come from.

The evaluator knows files and a ``Source`` that finds, opens and fetches them; who the source is (plain folders, the
studio over HTTP, a unit's directory, a backend inside the server) is somebody else's matter.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from .errors import DataError
from .globs import Glob, fixed_part


@dataclass(frozen=True)
class DataFile:
    """One file. ``path`` is what people see, ``name`` the path relative to where the pattern's fixed part ends (for
    ``to_path`` and ``download``), ``size`` in bytes, ``local`` a path that can be read here, ``ref`` the source's own,
    ``store`` the datastore whose name and a colon ``path`` begins with, if it does.
    """

    path: str
    name: str
    size: int | None = None
    etag: str = ""
    local: str | None = None
    ref: dict[str, Any] = field(default_factory=dict)
    store: str = ""

    @property
    def inner(self) -> str:
        """The path as its store has it: below the store's root, from a slash on; or the address."""
        path = self.path[len(self.store) + 1 :] if self.store else self.path
        return path if path.startswith("/") or ("://" in path and not self.store) else "/" + path


class Source(Protocol):
    """Finds and reads the files of a definition. May be used from several threads.

    A source of SQL queries has in addition ``query(definition, limit=None) -> str``: a local Parquet or CSV file with
    the result, whole (for ``limit``: at most so many rows).
    """

    def files(self, definition: dict[str, Any], limit: int | None = None) -> Iterable[DataFile]:
        """In the order of the definition's paths, each sorted by path; may be lazy. ``limit``: no more are wanted.
        Raises DataError no-such-file when a path matches nothing."""
        ...

    def open(self, file: DataFile) -> BinaryIO:
        """Seekable; reads only the ranges asked for where the store can."""
        ...

    def fetch(self, file: DataFile) -> str:
        """Local path of the WHOLE file, its size verified; cached."""
        ...


class LocalSource:
    """Plain paths on this machine. ``stores`` maps datastore names to folders: ``{"datastore": n, "path": p}`` then
    reads below that folder and cannot leave it."""

    def __init__(self, stores: dict[str, str] | None = None) -> None:
        self.stores = dict(stores or {})

    def files(self, definition: dict[str, Any], limit: int | None = None) -> Iterator[DataFile]:
        left = limit
        for entry in definition["source"].get("paths") or []:
            for file in self._matches(entry):
                if left is not None:
                    if left <= 0:
                        return
                    left -= 1
                yield file

    def _matches(self, entry: dict[str, Any]) -> Iterator[DataFile]:
        if "local" in entry:
            base, pattern = os.path.splitdrive(os.path.abspath(entry["local"]))
            root, shown = base + os.sep, "/"
            pattern = pattern.replace(os.sep, "/").lstrip("/")
        elif entry.get("datastore") in self.stores:
            root, pattern, shown = self.stores[entry["datastore"]], entry["path"].lstrip("/"), ""
        else:
            what = entry.get("datastore") or entry.get("url")
            raise DataError(f"{what!r} cannot be read from here: only files of this machine can.", "source")
        found = False
        fixed = fixed_part(pattern)
        for relative in find(root, pattern):
            found = True
            full = os.path.join(root, *relative.split("/"))
            stat = os.stat(full)
            yield DataFile(
                path=shown + relative,
                name=relative[len(fixed) :] or relative.rpartition("/")[2],
                size=stat.st_size,
                etag=f"{stat.st_size:x}-{stat.st_mtime_ns:x}",
                local=full,
            )
        if not found:
            shown_pattern = entry.get("local") or f"{entry['datastore']}:{entry['path']}"
            raise DataError(f"No file matches {shown_pattern!r}.", "no-such-file", file=str(shown_pattern))

    def open(self, file: DataFile) -> BinaryIO:
        try:
            return open(file.local or file.path, "rb")
        except OSError as error:
            raise DataError(f"{file.path}: {error.strerror}.", "no-such-file", file=file.path) from error

    def fetch(self, file: DataFile) -> str:
        path = file.local or file.path
        if not os.path.isfile(path):
            raise DataError(f"{file.path} is not there any more.", "no-such-file", file=file.path)
        return path


def find(root: str, pattern: str) -> Iterator[str]:
    """Relative paths ("/" between names) of the files below ``root`` that match, sorted, found lazily. A pattern
    without wildcards is that file, or everything below that folder."""
    if ".." in pattern.split("/"):
        raise DataError(f"{pattern!r} leaves its folder; take '..' out of the path.", "definition")
    glob = Glob(pattern)
    if not glob.plain:
        yield from _walk(root, glob.prefix, glob)
    elif glob.pattern and os.path.isfile(os.path.join(root, *glob.parts)):
        yield glob.pattern
    else:
        yield from _walk(root, glob.pattern, glob)


def _walk(root: str, below: str, glob: Glob) -> Iterator[str]:
    """Names and folders of one level together in the order of their whole paths."""
    try:
        with os.scandir(os.path.join(root, *below.split("/")) if below else root) as entries:
            # A folder's paths sort as "name/...": the slash takes part, so that the order is that of a sorted list.
            names = sorted((e.name + "/" if e.is_dir() else e.name) for e in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        path = f"{below}/{name}" if below else name
        if not name.endswith("/"):
            if glob.matches(path):
                yield path
        elif glob.may_hold(path[:-1]):
            yield from _walk(root, path[:-1], glob)
