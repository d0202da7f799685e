"""Content-addressed files of a workspace: written once, counted by the snapshots that hold them.

A row is added and its file put in place under one lock per workspace, and both go under the same lock, so that a
file that comes back while it is being thrown away is never lost.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import IO

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from runs.models import Blob
from studio.accounts.models import Workspace
from studio.lib import storage
from studio.lib.errors import Invalid

PIECE = 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
# Fewer than the 999 variables that an old SQLite takes in one statement.
SOME = 900


def check_sha256(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.match(value):
        raise Invalid(f"{str(value)[:80]!r} is not a SHA-256 in 64 lowercase hexadecimal digits.", field="sha256")
    return value


def batches(values: Iterable[str]) -> Iterable[list[str]]:
    """``values`` in lists that fit into one statement."""
    every = list(values)
    return (every[start : start + SOME] for start in range(0, len(every), SOME))


def lock(workspace: Workspace) -> None:
    """Nobody else adds or removes blobs of this workspace until the transaction ends.

    SQLite's write transactions exclude each other already (IMMEDIATE).
    """
    if connection.features.has_select_for_update:
        list(Workspace.objects.select_for_update(no_key=True).filter(pk=workspace.pk).values_list("pk"))


def receive(workspace: Workspace, stream: IO[bytes], refuse: Callable[[int], None]) -> tuple[Path, str, int]:
    """The stream as a temporary file: (path, sha256, size). ``refuse(size so far)`` raises when it is too much."""
    folder = storage.data("blobs", str(workspace.pk), "tmp")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / secrets.token_hex(16)
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("wb") as handle:
            while piece := stream.read(PIECE):
                size += len(piece)
                refuse(size)
                digest.update(piece)
                handle.write(piece)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path, digest.hexdigest(), size


def keep(workspace: Workspace, received: Iterable[tuple[Path, str, int]]) -> None:
    """Put received files in their place. What is there already is not written again."""
    files = {sha256: (path, size) for path, sha256, size in received}
    with transaction.atomic():
        lock(workspace)
        Blob.objects.bulk_create(
            [Blob(workspace=workspace, sha256=sha256, size=size) for sha256, (_, size) in files.items()],
            ignore_conflicts=True,
        )
        for sha256, (path, _) in files.items():
            target = storage.blob_path(workspace.pk, sha256)
            if target.exists():
                path.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)


def discard(received: Iterable[tuple[Path, str, int]]) -> None:
    """Throw temporary files away that were not kept."""
    for path, _, _ in received:
        path.unlink(missing_ok=True)


def sizes(workspace: Workspace, wanted: Iterable[str]) -> dict[str, int]:
    """sha256 -> size in bytes of those of ``wanted`` that the workspace has, row and file."""
    found: dict[str, int] = {}
    for some in batches(set(wanted)):
        found.update(Blob.objects.filter(workspace=workspace, sha256__in=some).values_list("sha256", "size"))
    return {sha256: size for sha256, size in found.items() if storage.blob_path(workspace.pk, sha256).exists()}


def refer(workspace: Workspace, wanted: Iterable[str], by: int) -> None:
    """Count one snapshot more (+1) or less (-1) for each of the blobs."""
    for some in batches(set(wanted)):
        Blob.objects.filter(workspace=workspace, sha256__in=some).update(references=F("references") + by)


def drop_unreferenced(workspace: Workspace, *, among: Iterable[str] | None = None, older_than_s: float = 0) -> int:
    """Delete rows and files that no snapshot holds; the bytes freed. Call inside the transaction that let them go."""
    lock(workspace)
    rows = Blob.objects.filter(workspace=workspace, references=0)
    if older_than_s:
        rows = rows.filter(created_at__lt=timezone.now() - timedelta(seconds=older_than_s))
    if among is None:
        doomed = list(rows.values_list("sha256", "size"))
    else:
        doomed = [
            row for some in batches(set(among)) for row in rows.filter(sha256__in=some).values_list("sha256", "size")
        ]
    for some in batches(sha256 for sha256, _ in doomed):
        Blob.objects.filter(workspace=workspace, sha256__in=some).delete()
    if doomed:
        transaction.on_commit(lambda: _unlink(workspace, [sha256 for sha256, _ in doomed]))
    return sum(size for _, size in doomed)


def _unlink(workspace: Workspace, gone: list[str]) -> None:
    """After the commit, and again under the lock: a file whose row came back in between stays."""
    with transaction.atomic():
        lock(workspace)
        alive: set[str] = set()
        for some in batches(gone):
            alive.update(Blob.objects.filter(workspace=workspace, sha256__in=some).values_list("sha256", flat=True))
        for sha256 in gone:
            if sha256 not in alive:
                with suppress(FileNotFoundError):
                    storage.blob_path(workspace.pk, sha256).unlink()
