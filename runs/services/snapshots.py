"""Source folders as they were at submit: files kept once per workspace, a snapshot is a list of them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from runs import ignore
from runs.models import Snapshot
from runs.services import archives, blobs
from studio.accounts.models import Workspace
from studio.lib import storage
from studio.lib.errors import Invalid, NotFound, TooLarge

MEBI = 1024 * 1024
PLAIN, EXECUTABLE = 0o644, 0o755


def limits(workspace: Workspace) -> tuple[int, int]:
    """(bytes, files) that a snapshot may have. An owner may set other ones for the workspace."""
    preferences = workspace.preferences or {}
    return (
        int(preferences.get("snapshot_max_bytes") or settings.ATELIER_SNAPSHOT_MAX_BYTES),
        int(preferences.get("snapshot_max_files") or settings.ATELIER_SNAPSHOT_MAX_FILES),
    )


def _megabytes(size: float) -> str:
    return f"{size / MEBI:.1f} MB"


def check_limits(workspace: Workspace, files: list[tuple[str, int]]) -> None:
    """Raises TooLarge where ``files`` (path, size in bytes) are more than a snapshot may hold, naming the largest."""
    max_bytes, max_files = limits(workspace)
    way_out = _(
        "Name what is not needed in a file .amlignore at the root of the folder, or ask an owner for a higher limit."
    )
    total = sum(size for _path, size in files)
    if total > max_bytes:
        largest = sorted(files, key=lambda file: -file[1])[:5]
        named = ", ".join(f"{path} ({_megabytes(size)})" for path, size in largest)
        raise TooLarge(
            f"Your total snapshot size exceeds the limit of {_megabytes(max_bytes)}. "
            + _("The largest files: %(named)s. %(way_out)s") % {"named": named, "way_out": way_out},
            field="files",
        )
    if len(files) > max_files:
        folders: dict[str, int] = {}
        for path, _size in files:
            folder = path.rpartition("/")[0] or "."
            folders[folder] = folders.get(folder, 0) + 1
        named = ", ".join(
            f"{folder} ({count})" for folder, count in sorted(folders.items(), key=lambda one: -one[1])[:5]
        )
        raise TooLarge(
            _("Your snapshot has %(count)s files; the limit is %(limit)s. The fullest folders: %(named)s. %(way_out)s")
            % {"count": len(files), "limit": max_files, "named": named, "way_out": way_out},
            field="files",
        )


def _mode(mode: object) -> int:
    return EXECUTABLE if isinstance(mode, int) and mode & 0o111 else PLAIN


class _Gathering:
    """Receives the files of one snapshot, counts them against the limits, and keeps them all or none."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.received: list[tuple[Path, str, int]] = []
        self.files: dict[str, dict[str, Any]] = {}
        self.total = 0

    def add(self, path: str, source: IO[bytes], mode: object) -> None:
        if path in self.files:
            raise Invalid(_("The path %(path)s comes twice.") % {"path": path}, field="files")

        def refuse(size: int) -> None:
            if self.total + size > limits(self.workspace)[0]:
                seen = [(name, file["size"]) for name, file in self.files.items()]
                check_limits(self.workspace, [*seen, (path, size)])

        one = blobs.receive(self.workspace, source, refuse)
        self.received.append(one)
        self.total += one[2]
        self.files[path] = {"path": path, "sha256": one[1], "size": one[2], "mode": _mode(mode)}
        if len(self.files) > limits(self.workspace)[1]:
            check_limits(self.workspace, [(name, file["size"]) for name, file in self.files.items()])

    def finish(self) -> Snapshot:
        with transaction.atomic():
            blobs.keep(self.workspace, self.received)
            return _commit(self.workspace, list(self.files.values()))

    def __enter__(self) -> _Gathering:
        return self

    def __exit__(self, *_exception: object) -> None:
        blobs.discard(self.received)


def snapshot_from_files(workspace: Workspace, files: Iterable[tuple[str, IO[bytes], int]]) -> Snapshot:
    """A snapshot of (path, open file, mode). Ignore rules are the caller's. Streams; nothing is held in memory."""
    with _Gathering(workspace) as gathering:
        for path, source, mode in files:
            gathering.add(storage.clean_relative(path, field="files"), source, mode)
        return gathering.finish()


def snapshot_from_uploads(workspace: Workspace, files: Iterable[tuple[str, IO[bytes], int]]) -> Snapshot:
    """Like ``snapshot_from_files`` for files dropped on a page: a folder's own name is cut from the paths, and its
    ignore rules are applied."""
    given = [(storage.clean_relative(path, field="files"), source, mode) for path, source, mode in files]
    cut = archives.without_root([path for path, _source, _mode in given])
    by_path = {path[cut:]: (source, mode) for path, source, mode in given}
    if len(by_path) != len(given):
        raise Invalid(_("A path comes twice among the files."), field="files")

    def read(name: str) -> bytes | None:
        if name not in by_path:
            return None
        source = by_path[name][0]
        content = source.read(MEBI)
        source.seek(0)
        return content

    kept = ignore.kept(by_path, read)
    return snapshot_from_files(workspace, ((path, *by_path[path]) for path in kept))


def snapshot_from_zip(workspace: Workspace, handle: IO[bytes], *, strip_root: bool = True) -> Snapshot:
    """A snapshot of a zip file's content under its ignore rules.

    ``strip_root``: where everything lies in one top folder, that folder is taken as the source folder. Raises Invalid
    for links, devices, encrypted or damaged entries and paths that leave the folder, TooLarge by declared size before
    anything is unpacked and by real size while it is.
    """
    with closing(archives.open_zip(handle)) as archive, _Gathering(workspace) as gathering:
        found = archives.entries(archive)
        cut = archives.without_root([path for path, _info in found]) if strip_root else 0
        by_path = {path[cut:]: info for path, info in found}
        if len(by_path) != len(found):
            raise Invalid(_("The zip file holds the same path twice."), field="files")

        def read(name: str) -> bytes | None:
            if name not in by_path:
                return None
            with archives.read(archive, by_path[name]) as source:
                return source.read(MEBI)

        kept = ignore.kept(by_path, read)
        check_limits(workspace, [(path, by_path[path].file_size) for path in kept])
        for path in kept:
            info = by_path[path]
            with archives.read(archive, info) as source:
                gathering.add(path, source, info.external_attr >> 16)
        return gathering.finish()


def _walk(root: Path) -> Iterable[str]:
    """Relative paths of the plain files below ``root``; links to files inside it are followed, others left out."""
    real_root = os.path.realpath(root) + os.sep
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in (".git", "__pycache__"))
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and os.path.realpath(path).startswith(real_root):
                yield path.relative_to(root).as_posix()


def snapshot_from_directory(workspace: Workspace, path: Path | str) -> Snapshot:
    """A snapshot of a folder on this machine under its .amlignore or .gitignore."""
    root = Path(path)
    if not root.is_dir():
        raise Invalid(_("%(path)s is not a folder.") % {"path": root}, field="files")

    def read(name: str) -> bytes | None:
        file = root / name
        return file.read_bytes() if file.is_file() else None

    kept = ignore.kept(_walk(root), read)
    check_limits(workspace, [(name, (root / name).stat().st_size) for name in kept])
    with _Gathering(workspace) as gathering:
        for name in kept:
            with (root / name).open("rb") as source:
                gathering.add(name, source, (root / name).stat().st_mode)
        return gathering.finish()


def snapshot_from_texts(workspace: Workspace, files: dict[str, str]) -> Snapshot:
    """A snapshot of pasted scripts: path -> text."""
    return snapshot_from_files(workspace, [(path, io.BytesIO(text.encode()), PLAIN) for path, text in files.items()])


def _clean(files: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The list of files as it is stored; raises Invalid for bad entries."""
    cleaned: dict[str, dict[str, Any]] = {}
    for file in files:
        path = storage.clean_relative(str(file.get("path", "")), field="files")
        size = file.get("size", 0)
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise Invalid(_("The size of %(path)s is not a number of bytes.") % {"path": path}, field="files")
        if path in cleaned:
            raise Invalid(_("The path %(path)s comes twice.") % {"path": path}, field="files")
        cleaned[path] = {
            "path": path,
            "sha256": blobs.check_sha256(file.get("sha256")),
            "size": size,
            "mode": _mode(file.get("mode")),
        }
    return list(cleaned.values())


def blobs_missing(workspace: Workspace, files: Iterable[dict[str, Any]]) -> list[str]:
    """The hashes among [{"path", "sha256", "size", "mode"}] whose content must be sent. Raises TooLarge at once."""
    cleaned = _clean(files)
    check_limits(workspace, [(file["path"], file["size"]) for file in cleaned])
    have = blobs.sizes(workspace, (file["sha256"] for file in cleaned))
    return sorted({file["sha256"] for file in cleaned} - have.keys())


def blob_put(workspace: Workspace, sha256: str, stream: IO[bytes]) -> int:
    """Keep a file's content under its hash; its size in bytes. Raises Invalid where the content has another hash."""
    wanted = blobs.check_sha256(sha256)

    def refuse(size: int) -> None:
        if size > limits(workspace)[0]:
            check_limits(workspace, [(sha256[:12], size)])

    one = blobs.receive(workspace, stream, refuse)
    try:
        if one[1] != wanted:
            raise Invalid(
                _("The content has the SHA-256 %(real)s, not %(wanted)s: it changed on the way. Send it again.")
                % {"real": one[1], "wanted": wanted},
                field="sha256",
            )
        blobs.keep(workspace, [one])
    finally:
        blobs.discard([one])
    return one[2]


def snapshot_commit(workspace: Workspace, files: Iterable[dict[str, Any]]) -> Snapshot:
    """The snapshot of files whose contents are all here. Raises Invalid naming those that are not."""
    cleaned = _clean(files)
    check_limits(workspace, [(file["path"], file["size"]) for file in cleaned])
    with transaction.atomic():
        blobs.lock(workspace)
        have = blobs.sizes(workspace, (file["sha256"] for file in cleaned))
        missing = [file["path"] for file in cleaned if file["sha256"] not in have]
        if missing:
            raise Invalid(
                _("The content of %(count)s files was not sent: %(paths)s.")
                % {"count": len(missing), "paths": ", ".join(missing[:5])},
                field="files",
            )
        return _commit(workspace, [{**file, "size": have[file["sha256"]]} for file in cleaned])


def _commit(workspace: Workspace, files: list[dict[str, Any]]) -> Snapshot:
    """The row; one that is there already is given back. Inside a transaction that has the blobs."""
    files = sorted(files, key=lambda file: file["path"])
    if not files:
        raise Invalid(_("There is nothing in the folder: a snapshot needs at least one file."), field="files")
    _check_nesting(files)
    digest = hashlib.sha256(orjson.dumps(files, option=orjson.OPT_SORT_KEYS)).hexdigest()
    found = Snapshot.objects.filter(workspace=workspace, digest=digest).first()
    if found is not None:
        return found
    try:
        with transaction.atomic():
            snapshot = Snapshot.objects.create(
                workspace=workspace,
                digest=digest,
                files=files,
                size=sum(file["size"] for file in files),
                count=len(files),
            )
            blobs.refer(workspace, (file["sha256"] for file in files), +1)
            return snapshot
    except IntegrityError:
        return Snapshot.objects.get(workspace=workspace, digest=digest)


def _check_nesting(files: list[dict[str, Any]]) -> None:
    """A path that is both a file and a folder could not be written to a disk."""
    names = {file["path"] for file in files}
    for name in names:
        parent = name
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            if parent in names:
                raise Invalid(
                    _("%(parent)s is a file, and %(name)s lies in it as if it were a folder.")
                    % {"parent": parent, "name": name},
                    field="files",
                )


def snapshot_get(workspace: Workspace, digest: str) -> Snapshot:
    found = Snapshot.objects.filter(workspace=workspace, digest=digest).first()
    if found is None:
        raise NotFound(_("There is no snapshot %(digest)s in this workspace.") % {"digest": digest[:64]})
    return found


def snapshot_file(snapshot: Snapshot, path: str) -> dict[str, Any]:
    """{"path", "sha256", "size", "mode"} of one file; raises NotFound."""
    wanted = storage.clean_relative(path)
    for file in snapshot.files:
        if file["path"] == wanted:
            return file
    raise NotFound(_("The snapshot has no file %(path)s.") % {"path": wanted})


def snapshot_path(snapshot: Snapshot, path: str) -> Path:
    """Where the content of one file lies; raises NotFound."""
    return storage.blob_path(snapshot.workspace_id, snapshot_file(snapshot, path)["sha256"])


def snapshot_open(snapshot: Snapshot, path: str) -> IO[bytes]:
    """One file of the snapshot, open for reading; raises NotFound."""
    return snapshot_path(snapshot, path).open("rb")


def snapshot_code(snapshot: Snapshot) -> list[dict[str, Any]]:
    """What a unit's spec says of its code: [{"path", "source", "mode"}]."""
    root = snapshot.workspace_id
    return [
        {"path": file["path"], "source": str(storage.blob_path(root, file["sha256"])), "mode": file["mode"]}
        for file in snapshot.files
    ]
