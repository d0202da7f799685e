"""Where bytes lie under the data folder, and paths that cannot leave it."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from django.conf import settings

from studio.lib.errors import Invalid

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")  # a drive, or the beginning of an address; a time of day is neither


def data(*parts: str) -> Path:
    return Path(settings.ATELIER_DATA, *parts)


def unit_directory(key: str) -> Path:
    """The directory of a unit, or of a run that never had a unit. ``key`` is 32 hexadecimal characters."""
    return data("units", key[:2], key)


def environment_directory(content_hash: str) -> Path:
    return data("envs", content_hash[:2], content_hash)


def blob_path(workspace_id: int, sha256: str) -> Path:
    """Blobs are deduplicated inside a workspace only: a hash must not open another tenant's file."""
    return data("blobs", str(workspace_id), sha256[:2], sha256)


def model_directory(key: str) -> Path:
    return data("models", key[:2], key)


def clean_relative(raw: str, *, field: str = "path") -> str:
    """``raw`` as a relative POSIX path without ``.`` and ``..``; raises Invalid where it could leave its folder."""
    if "\x00" in raw or "\\" in raw:
        raise Invalid(f"{raw!r} is not a usable path: use forward slashes and no NUL.", field=field)
    path = PurePosixPath(raw)
    if path.is_absolute() or ".." in path.parts or (path.parts and _SCHEME.match(path.parts[0])):
        raise Invalid(f"{raw!r} leaves its folder: use a path below it.", field=field)
    clean = "/".join(part for part in path.parts if part != ".")
    if not clean:
        raise Invalid("The path is empty.", field=field)
    if len(clean.encode()) > 1000 or any(len(part.encode()) > 255 for part in clean.split("/")):
        raise Invalid(f"{raw[:60]!r}... is too long for a path.", field=field)
    return clean


def safe_join(root: Path, relative: str, *, field: str = "path") -> Path:
    """``root/relative`` with links resolved; raises Invalid when the result is outside ``root``."""
    target = root / clean_relative(relative, field=field)
    real_root = os.path.realpath(root)
    real = os.path.realpath(target)
    if real != real_root and not real.startswith(real_root + os.sep):
        raise Invalid(f"{relative!r} leaves its folder.", field=field)
    return target
