"""What differs between the code and the environments of two runs."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from compute.models import Environment
from runs.models import Snapshot

MAX_BYTES = 256 * 1024
MAX_LINES = 3000


@dataclass(frozen=True)
class FileChange:
    """``state``: added, removed or changed; sizes in bytes, None where the file is not there."""

    path: str
    state: str
    old_size: int | None
    new_size: int | None


@dataclass(frozen=True)
class FieldChange:
    """One thing of an environment that differs; None where one of them does not have it."""

    name: str
    old: str | None
    new: str | None


def _files(snapshot: Snapshot | None) -> dict[str, dict[str, Any]]:
    return {file["path"]: file for file in snapshot.files} if snapshot else {}


def snapshots(old: Snapshot | None, new: Snapshot | None) -> list[FileChange]:
    """Files that differ, by path. By hash: no file is read."""
    if old is not None and new is not None and old.digest == new.digest:
        return []
    before, after = _files(old), _files(new)
    found = []
    for path in sorted(before.keys() | after.keys()):
        one, other = before.get(path), after.get(path)
        if one and other and one["sha256"] == other["sha256"]:
            continue
        state = "changed" if one and other else "removed" if one else "added"
        found.append(FileChange(path, state, one["size"] if one else None, other["size"] if other else None))
    return found


def _text(snapshot: Snapshot | None, path: str) -> str | None:
    """The file's text; empty where it is not there, None where it is too large or no text."""
    from runs.services.snapshots import snapshot_open

    file = _files(snapshot).get(path)
    if snapshot is None or file is None:
        return ""
    if file["size"] > MAX_BYTES:
        return None
    with snapshot_open(snapshot, path) as handle:
        content = handle.read()
    try:
        return None if b"\x00" in content else content.decode()
    except UnicodeDecodeError:
        return None


def file_diff(old: Snapshot | None, new: Snapshot | None, path: str) -> list[str] | None:
    """Lines of a unified diff of one file; None where either side is no text or larger than 256 KiB."""
    return text_diff(_text(old, path), _text(new, path), path)


def text_diff(before: str | None, after: str | None, name: str) -> list[str] | None:
    """At most MAX_LINES lines of a unified diff of two texts; None where there is no text to compare."""
    if before is None or after is None:
        return None
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, lineterm="")
    return [line for line, _number in zip(lines, range(MAX_LINES), strict=False)]


def _facts(environment: Environment | None) -> dict[str, str]:
    """The recipe as name -> value: kind, Python, one entry per package and variable."""
    if environment is None:
        return {}
    recipe = environment.recipe
    found = {"kind": str(recipe.get("kind", "")), "python": str(recipe.get("python") or "")}
    for package in [*(recipe.get("conda_packages") or []), *(recipe.get("packages") or [])]:
        name = str(package)
        cut = min((name.find(mark) for mark in "=<>!~ [" if mark in name), default=len(name))
        found[f"package {name[:cut].lower()}"] = name[cut:].strip() or "any"
    for name, value in (recipe.get("variables") or {}).items():
        found[f"variable {name}"] = str(value)
    return found


def environments(old: Environment | None, new: Environment | None) -> list[FieldChange]:
    """What differs between two recipes, by name."""
    before, after = _facts(old), _facts(new)
    return [
        FieldChange(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
