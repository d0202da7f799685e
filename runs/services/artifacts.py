"""Files of a run: listing, reading, downloading, and finding a model among them. Nothing follows a link out."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zipstream
from django.utils.translation import gettext as _

from runs.models import Run
from runs.services import places
from runs.services.previews import Preview, kind_of, preview_file
from runs.services.uploads import UploadState, put_chunk, upload_state
from studio.lib import beneath, storage
from studio.lib.errors import Invalid, NotFound
from studio.lib.names import from_disk
from studio.lib.paging import Page, decode_cursor, encode_cursor

__all__ = [
    "FileInfo", "Preview", "UploadState", "find_model_file", "list_files", "list_folder", "open_file", "preview",
    "put_chunk", "run_bytes", "upload_state", "zip_stream",
]  # fmt: skip


@dataclass(frozen=True)
class FileInfo:
    """One entry: ``path`` as people name it, ``size`` in bytes, ``modified`` in unix seconds, ``kind`` a kind of
    preview or "folder"."""

    path: str
    size: int
    modified: float
    kind: str


def _info(name: str, path: str | Path) -> FileInfo | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return FileInfo(name, status.st_size, status.st_mtime, kind_of(name))


def _is_shown(entry: os.DirEntry[str], real_root: str) -> bool:
    """A file, or a link to one inside. A link that leads to itself is no file, and the system says so with an error."""
    try:
        return entry.is_file() and (not entry.is_symlink() or places.inside(entry.path, real_root))
    except OSError:
        return False


def _walk(root: Path, prefix: str) -> Iterator[FileInfo]:
    """Files below ``root`` under their names; links to folders and links that lead out are left out."""
    real_root = os.path.realpath(root)
    waiting = [(str(root), prefix)]
    while waiting:
        folder, before = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        for entry in entries:
            name = before + from_disk(entry.name)
            if entry.is_dir(follow_symlinks=False):
                waiting.append((entry.path, name + "/"))
            elif _is_shown(entry, real_root) and (info := _info(name, entry.path)):
                yield info


def _areas(run: Run) -> list[tuple[Path, str]]:
    prefixes = {"outputs": "outputs/", "logs": "logs/", "artifacts": ""}
    return [(places.area(run, name), prefix) for name, prefix in prefixes.items()]


def iterate_files(run: Run) -> Iterator[FileInfo]:
    """Every file of the run, in no order that counts; nothing is held in memory."""
    for name, path in places.own_files(run).items():
        if info := _info(name, path):
            yield info
    for root, prefix in _areas(run):
        yield from _walk(root, prefix)


def list_files(run: Run, prefix: str = "", limit: int | None = None) -> list[FileInfo]:
    """Files of the run by path, the log of the command first; ``prefix`` narrows, ``limit`` cuts."""
    found: Iterable[FileInfo] = (info for info in iterate_files(run) if info.path.startswith(prefix.removeprefix("./")))

    def order(info: FileInfo) -> tuple[bool, str]:
        return (info.path != places.STD_LOG, info.path)

    return heapq.nsmallest(limit, found, key=order) if limit else sorted(found, key=order)


def _entries(folder: Path, before: str) -> Iterator[tuple[str, bool, str]]:
    """(name, is a folder, path on disk) directly in ``folder``."""
    real_root = os.path.realpath(folder)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = before + from_disk(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    yield name, True, entry.path
                elif _is_shown(entry, real_root):
                    yield name, False, entry.path
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return


def list_folder(run: Run, prefix: str = "", *, cursor: str | None = None, limit: int = 500) -> Page[FileInfo]:
    """The folders and files directly in one folder of the run, by name, in pages. Of 100,000 only names are read."""
    prefix = storage.clean_relative(prefix) if prefix.strip("./") else ""
    before = prefix + "/" if prefix else ""
    names: dict[str, tuple[bool, str]] = {}
    if not prefix:
        for area in ("outputs", "logs"):
            if (folder := places.area(run, area)).is_dir():
                names[area] = (True, str(folder))
        names.update({name: (folder, path) for name, folder, path in _entries(places.area(run, "artifacts"), "")})
    elif prefix.split("/", 1)[0] not in places.OWN:
        folder = (
            places.area(run, prefix) if prefix in ("outputs", "logs") else places.on_disk(*places.place(run, prefix))
        )
        names.update({name: (is_folder, path) for name, is_folder, path in _entries(folder, before)})
    for name, path in places.own_files(run).items():
        if name.startswith(before):
            head = before + name[len(before) :].split("/", 1)[0]
            names[head] = (head != name, str(path))
    after = decode_cursor(cursor, 1)[0] if cursor else ""
    if not isinstance(after, str):
        raise Invalid("The cursor is not one that this list gave out: start at the first page.", field="cursor")
    limit = max(1, min(limit, 5000))
    wanted = heapq.nsmallest(limit + 1, (name for name in names if name > after))
    items = [_entry(name, *names[name]) for name in wanted[:limit]]
    return Page([item for item in items if item], encode_cursor([wanted[limit - 1]]) if len(wanted) > limit else None)


def _entry(name: str, is_folder: bool, path: str) -> FileInfo | None:
    return FileInfo(name, 0, Path(path).stat().st_mtime, "folder") if is_folder else _info(name, path)


def open_file(run: Run, path: str) -> Path:
    """Where a file of the run lies, under its name or one of its aliases; raises NotFound."""
    found = places.find(run, path)
    if not found.is_file():
        raise NotFound(_("%(path)s is a folder.") % {"path": path})
    return found


def preview(run: Run, path: str) -> Preview:
    """The beginning of a file, ready to be shown; reads a bounded part of it."""
    return preview_file(open_file(run, path), path)


def run_bytes(run: Run) -> int:
    """Bytes of what the run made: outputs, logs, artifacts and what its command printed."""
    root = places.directory(run)
    log = root / "stdout.log"
    return sum(places.tree_bytes(root / area) for area in places.AREAS) + (log.stat().st_size if log.is_file() else 0)


def zip_stream(run: Run, prefix: str = "") -> Iterator[bytes]:
    """A zip of everything, or of what lies below ``prefix``, made while it is read. Raises NotFound for nothing."""
    cleaned = storage.clean_relative(prefix) if prefix.strip("./") else ""
    archive: Any = zipstream.ZipStream()
    count = 0
    for info in iterate_files(run):
        if not cleaned or info.path == cleaned or info.path.startswith(cleaned + "/"):
            archive.add(_pieces(places.find(run, info.path)), info.path)
            count += 1
    if not count:
        raise NotFound(_("The run has no file below %(prefix)s.") % {"prefix": cleaned or "/"})
    return iter(archive)


def _pieces(path: Path) -> Iterator[bytes]:
    """What is read only now, long after the look at it; of what is no file any more, nothing."""
    with contextlib.suppress(FileNotFoundError, beneath.Leaves), beneath.reader(path) as handle:
        while piece := handle.read(1 << 20):
            yield piece


def find_model_file(run: Run, path: str) -> Path:
    """The file or folder that ``register_model(model_path=path)`` means; raises NotFound naming what there is.

    Samples of v1 save ``model.joblib`` beside the script and register ``outputs/model.joblib``. So a path that is not
    there is looked for in the working folder of the script too: by its whole name and without ``outputs/``. Only what
    the script wrote counts, not what came with its source folder and is unchanged.
    """
    try:
        return places.find(run, path)
    except NotFound:
        pass
    name = storage.clean_relative(path)
    for candidate in dict.fromkeys((name.removeprefix("outputs/"), name)):
        try:
            found = storage.safe_join(places.area(run, "code"), candidate)
        except Invalid:
            continue
        if found.exists() and _written(run, found, candidate):
            return found
    have = [info.path for info in list_files(run, limit=20) if not info.path.startswith(places.OWN)]
    hint = _("It has: %(names)s.") % {"names": ", ".join(have[:8])} if have else _("It wrote nothing to outputs/.")
    raise NotFound(_("The run has no file or folder %(path)s.") % {"path": name} + " " + hint)


def _written(run: Run, found: Path, name: str) -> bool:
    """Whether the script made or changed it."""
    snapshot = {file["path"]: file for file in run.snapshot.files} if run.snapshot else {}
    if found.is_dir():
        return any(
            path.is_file() and _written(run, path, f"{name}/{path.relative_to(found).as_posix()}")
            for path in found.rglob("*")
        )
    file = snapshot.get(name)
    if file is None or file["size"] != found.stat().st_size:
        return True
    with beneath.reader(found) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() != str(file["sha256"])
