"""Inputs that are on this machine already: links instead of copies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from compute import states
from compute.models import Unit
from studio.datasets.backends import disk, local, registry
from studio.datasets.backends.base import Backend
from studio.datasets.jobs import laying
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid

WHOLE = "/**"
_TWICE = ("name", "one", "other")


def local_root(store: dict[str, Any]) -> Path | None:
    """The folder of a store on this machine's own disks, None for the others."""
    if store["kind"] not in registry.ON_DISK:
        return None
    return registry.make(**store).local_path("")


def all_local(definition: dict[str, Any], stores: dict[str, dict[str, Any]]) -> bool:
    """Whether every file of a definition lies on this machine."""
    paths = definition["source"].get("paths") or []
    roots = {name: local_root(store) for name, store in stores.items()}
    return bool(paths) and all(roots.get(path.get("datastore")) is not None for path in paths)


def link_input(unit: Path, name: str, definition: dict[str, Any], stores: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Link an input of local files into a unit's directory: {"files", "bytes", "file"}.

    A whole folder is one link, whatever it holds (``files`` is None then, nobody counted); a part of one is a tree of
    links. ``file``: the name of the file where the definition names one file. Raises Invalid where nothing matches.
    """
    (unit / "inputs").mkdir(parents=True, exist_ok=True)
    path = _only_path(definition)
    if path is not None:
        found = _at_once(unit, name, path["path"], registry.make(**stores[path["datastore"]]), path["datastore"])
        if found is not None:
            return found
    files = _files(definition, stores)
    if twice := laying.name_twice((file.name, file.path) for file in files):
        raise Invalid(_("%(one)s and %(other)s would both be %(name)s.") % dict(zip(_TWICE, twice, strict=True)))
    laying.link_files(unit, name, ((file.name, str(file.local)) for file in files))
    return {"files": len(files), "bytes": sum(file.size or 0 for file in files), "file": None}


def _only_path(definition: dict[str, Any]) -> dict[str, Any] | None:
    paths = definition["source"]["paths"]
    return paths[0] if len(paths) == 1 and not definition["steps"] else None


def _at_once(unit: Path, name: str, pattern: str, backend: Backend, store: str) -> dict[str, Any] | None:
    """One link for a folder or a file; None where the pattern means a part of a folder."""
    from atelier.data.globs import fixed_part, has_magic

    pattern = pattern.strip("/")
    whole = pattern == "**" or pattern.endswith(WHOLE)
    inner = pattern.removesuffix("**").rstrip("/") if whole else pattern.rstrip("/")
    if has_magic(inner):
        return None
    place = backend.local_path(inner)
    if place is None:
        return None
    root = unit / "inputs" / name
    if place.is_dir():
        # A pattern of the whole folder is that folder; a plain path keeps the folder's own name, as the files have it.
        below = "" if whole else inner[len(fixed_part(pattern)) :]
        laying.link(root / below if below else root, laying.mount_point(unit, place.resolve()))
        return {"files": None, "bytes": None, "file": None}
    if place.is_file() and not whole:
        point = laying.mount_point(unit, place.resolve().parent)
        laying.link(root / place.name, point / place.resolve().name)
        return {"files": 1, "bytes": place.stat().st_size, "file": place.name}
    raise Invalid(_("there is no %(path)s in datastore %(store)s.") % {"path": inner or "/", "store": store})


def _files(definition: dict[str, Any], stores: dict[str, dict[str, Any]]) -> list[Any]:
    from atelier.data import engine
    from atelier.exceptions import UserErrorException

    from studio.datasets.sources import BackendSource

    source = BackendSource(stores)
    try:
        found = engine.files(definition, source) if definition["steps"] else source.files(definition)
        files = list(found)
    except UserErrorException as error:
        raise Invalid(str(error)) from error
    if not files:
        raise Invalid(_("no file is left of it."))
    return files


def link_inside(code: Path, wanted: str, source: Path) -> None:
    """A link below the code. Raises Conflict where something of the source folder is in its place."""
    place = storage.safe_join(code, wanted, field="path_on_compute")
    _refuse_taken(place, source)
    laying.link(place, source)


def link_outside(place: Path, source: Path, key: str) -> None:
    """A link at an absolute path, where nothing is or where a unit that has ended left one. Raises Conflict."""
    _refuse_closed(place)
    if place.is_symlink() and (owner := _owner(place)) is not None and owner != key:
        if Unit.objects.filter(key=owner, state__in=list(states.LIVE)).exists():
            raise Conflict(_("%(path)s is in use by another run just now.") % {"path": place})
        place.unlink()
    _refuse_taken(place, source)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{place.name}.{key}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(source)
        temporary.replace(place)
    except OSError as error:
        raise Conflict(
            _("%(path)s cannot be made: %(why)s. Choose a path below the code's folder.")
            % {"path": place, "why": error.strerror}
        ) from error


def _refuse_closed(place: Path) -> None:
    """Raises Conflict for a place in the folders of the studio and of the system: what somebody hands to a run is not
    put where either of them looks for its own."""
    real = Path(os.path.realpath(place.parent), place.name)
    for kept in [*local.studio_places(), *local.SYSTEM]:
        if disk.inside(real, Path(os.path.realpath(Path(kept).expanduser()))):
            raise Conflict(
                _("%(path)s lies in %(kept)s, where no input is put. Choose another path_on_compute.")
                % {"path": place, "kept": kept}
            )


def _refuse_taken(place: Path, source: Path) -> None:
    if place.is_symlink() and os.path.realpath(place) == os.path.realpath(source):
        return
    if os.path.lexists(place):
        raise Conflict(
            _("%(path)s is there already. Choose another path_on_compute, or leave it out.") % {"path": place}
        )


def _owner(place: Path) -> str | None:
    """The key of the unit whose directory a link leads to."""
    try:
        relative = Path(os.readlink(place)).relative_to(storage.data("units").resolve())  # noqa: PTH115 - as written
    except (OSError, ValueError):
        return None
    return relative.parts[1] if len(relative.parts) > 1 else None


def drop_outside(places: list[str], key: str) -> None:
    """Take away the links that a unit has at absolute paths."""
    for path in places:
        place = Path(path)
        if place.is_symlink() and _owner(place) == key:
            place.unlink(missing_ok=True)
