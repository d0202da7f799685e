"""Datasets of the run that this process is: ``datasets.json`` in the unit's directory has their definitions and where
they lie, so that a run reads its own inputs without the network."""

from __future__ import annotations

import json
import os
from typing import Any, BinaryIO, Iterator

from atelier.data.sources import DataFile

_read: dict[str, Any] = {}  # the directory and its content, read once


def unit_data() -> dict[str, Any]:
    """``{"inputs", "outputs", "stores"}`` of this process's run; empty outside one, or where it has no data."""
    unit = os.environ.get("ATELIER_UNIT_DIR")
    if not unit:
        return {}
    if unit not in _read:
        try:
            with open(os.path.join(unit, "datasets.json"), encoding="utf-8") as file:
                _read[unit] = json.load(file)
        except FileNotFoundError:
            return {}
    found: dict[str, Any] = _read[unit]
    return found


def stores() -> dict[str, str]:
    """Folders of the datastores that are on this machine."""
    found = unit_data().get("stores") or {}
    return {name: store["root"] for name, store in found.items() if store.get("root") and os.path.isdir(store["root"])}


def source_here(workspace: Any, definition: dict[str, Any], origin: str | None) -> Any:
    """Where the bytes of a definition come from in this process."""
    from atelier.data.studio_source import StudioSource

    return StudioSource(workspace, origin, stores())


def input_dataset(workspace: Any, item: dict[str, Any]) -> Any:
    """The dataset of an entry of ``inputs``."""
    from atelier.data.abstract import from_row

    row = {key: item.get(key) for key in ("id", "name", "version", "type", "definition", "description", "tags")}
    made = from_row(workspace, row)
    place = item.get("path")
    if row["type"] == "file" and place and os.path.exists(place):
        return made._at(place, PlaceSource(place))  # type: ignore[attr-defined]
    return made


def input_find(workspace: Any, *, id: str | None = None, name: str = "", version: Any = None) -> Any:  # noqa: A002
    """The run's own input that is this version, or None."""
    for item in (unit_data().get("inputs") or {}).values():
        known = (
            str(item.get("id")) == str(id)
            if id
            else (item.get("name"), str(item.get("version"))) == (name, str(version))
        )
        if known and workspace.name == os.environ.get("AZUREML_ARM_WORKSPACE_NAME", workspace.name):
            return input_dataset(workspace, item)
    return None


class InputDatasets(dict):  # type: ignore[type-arg]
    """Datasets by the name of the input; each is made when it is asked for."""

    def __init__(self, workspace: Any, items: dict[str, Any]) -> None:
        super().__init__(items)
        self._workspace = workspace
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            if name not in self:
                from atelier.exceptions import UserErrorException

                there = ", ".join(sorted(self)) or "none"
                raise UserErrorException(f"This run has no input {name!r}. It has: {there}.")
            self._made[name] = self._make(dict.__getitem__(self, name))
        return self._made[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 - __getitem__ makes it

    def items(self) -> Any:
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        return [self[name] for name in self]

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {_told(dict.__getitem__(self, name))}" for name in self) + "}"

    def _make(self, item: dict[str, Any]) -> Any:
        if "definition" in item:
            return input_dataset(self._workspace(), item)
        from atelier.dataset import Dataset

        return Dataset.get_by_id(self._workspace(), item["dataset"]["id"])


def _told(item: dict[str, Any]) -> str:
    """``titanic:1 at /the/path``: which dataset it is, and where the run has it."""
    from atelier.data.definition import label

    known = item.get("dataset") or item
    if known.get("name") and known.get("version"):
        said = f"{known['name']}:{known['version']}"
    else:
        said = label(item["definition"]) if "definition" in item else known.get("label") or f"dataset {known.get('id')}"
    return f"{said} at {item['path']}" if item.get("path") else said


class PlaceSource:
    """The files of an input where the run has them: a folder, or one file. All steps of its definition were taken."""

    def __init__(self, place: str) -> None:
        self._place = place

    def files(self, definition: dict[str, Any], limit: int | None = None) -> Iterator[DataFile]:
        base = self._place if os.path.isdir(self._place) else os.path.dirname(self._place)
        names = _below(base) if base == self._place else [os.path.basename(self._place)]
        for name in list(names)[:limit]:
            path = os.path.join(base, name)
            yield DataFile(path, name.replace(os.sep, "/"), os.path.getsize(path), "", path)

    def open(self, file: DataFile) -> BinaryIO:
        return open(self.fetch(file), "rb")

    def fetch(self, file: DataFile) -> str:
        return str(file.local)


def _below(folder: str) -> Any:
    found = []
    for root, _folders, names in os.walk(folder, followlinks=True):
        found += [os.path.relpath(os.path.join(root, name), folder) for name in names]
    return sorted(found)
