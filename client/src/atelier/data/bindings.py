"""The inputs and outputs of a submit: gathered from arguments, command, environment variables and references."""

from __future__ import annotations

import os
from typing import Any, Iterable, Mapping

from atelier.exceptions import UserErrorException


class Bindings:
    """Collects what is used under which name. ``text`` gives what travels in the object's place."""

    def __init__(self, workspace: Any = None) -> None:
        self._workspace = workspace
        self._inputs: dict[str, tuple[dict[str, Any], str]] = {}
        self._outputs: dict[str, tuple[dict[str, Any], str]] = {}
        self._origins: list[Any] = []

    def body(self) -> dict[str, Any]:
        return {
            "inputs": [item for item, _shown in self._inputs.values()],
            "outputs": [item for item, _shown in self._outputs.values()],
        }

    def submitted(self, run: Any) -> None:
        """Tell the outputs which run makes them."""
        for origin in self._origins:
            origin.run = run

    def text(self, value: Any) -> str:
        """An argument as a text; data is taken in and becomes a token that the studio fills in."""
        if isinstance(value, (str, int, float, bool)) or value is None or isinstance(value, os.PathLike):
            return str(value)
        return str(self.take(value) or value)

    def variables(self, found: Mapping[str, Any]) -> dict[str, str]:
        """Environment variables as texts. One that says of a name what the studio sets it to anyway is left out."""
        texts = {key: self.text(value) for key, value in found.items()}
        return {key: text for key, text in texts.items() if text not in _own(key)}

    def take_all(self, values: Iterable[Any]) -> None:
        for value in values:
            if self.take(value) is None:
                raise UserErrorException(
                    f"{value!r} is no input or output: give datasets (as_named_input), outputs or data references."
                )

    def take(self, value: Any) -> Any:
        """Take data in; the token, or None where the value is no data."""
        from atelier.data.abstract import AbstractDataset
        from atelier.data.consumption import DatasetConsumptionConfig
        from atelier.data.outputs import _Output
        from atelier.data.references import DataPath, DataReference, DataReferenceConfiguration

        if isinstance(value, AbstractDataset):
            value = value._unnamed_input()
        if isinstance(value, DatasetConsumptionConfig):
            body = {"name": value.name, "mode": value.mode, "path_on_compute": value.path_on_compute}
            body.update(self._dataset(value))
            self._add(self._inputs, "input", body, repr(value.dataset))
        elif isinstance(value, _Output):
            self._add(self._outputs, "output", value._body(), repr(value))
            self._origins.append(value._origin)
        elif isinstance(value, DataReference):
            self._reference(value)
        elif isinstance(value, DataPath):
            return self.take(value.create_data_reference(value._name))
        elif isinstance(value, DataReferenceConfiguration):
            return None
        else:
            return None
        return str(value)

    def references(self, found: Any) -> None:
        """``run_config.data_references``: by name, as references, configurations or dictionaries of a file."""
        from atelier.data.references import DataReferenceConfiguration

        for name, value in (found or {}).items():
            if isinstance(value, dict):
                value = DataReferenceConfiguration.from_dict(value)
            if isinstance(value, DataReferenceConfiguration):
                value = value.reference(name)
            self.take_all([value])

    def _dataset(self, config: Any) -> dict[str, Any]:
        dataset = config.dataset
        if isinstance(dataset, (tuple, list)):
            from atelier.data.factory import FileDatasetFactory

            dataset = FileDatasetFactory.from_files(dataset)
        if not hasattr(dataset, "_input"):
            raise UserErrorException(f"Input {config.name!r} is no dataset but {dataset!r}.")
        if config.mode != "direct" and dataset._type == "tabular":
            raise UserErrorException(
                f"Input {config.name!r} is a tabular dataset: it has no files to {config.mode}. Use it without, or "
                "make a file dataset of the same paths: Dataset.File.from_files."
            )
        return dict(dataset._input())

    def _reference(self, value: Any) -> None:
        from atelier.data.consumption import name_check

        path = {"datastore": value.datastore_name, "path": value.path_on_datastore}
        if value.mode == "upload":
            body = {"name": value.name, "mode": "upload", "leaf": "parent", "register": None, "type": "file", **path}
            self._add(self._outputs, "output", {**body, "options": {}}, repr(value))
            return
        body = {"name": name_check(value.name), "mode": value.mode, "path_on_compute": value.path_on_compute}
        self._add(self._inputs, "input", {**body, "definition": self._place(path)}, repr(value))

    def _place(self, path: dict[str, Any]) -> dict[str, Any]:
        """The definition of a place: one file, or all that a folder holds, which the studio is asked for."""
        from atelier.data import definition
        from atelier.data.globs import has_magic

        plain = path["path"]
        made = definition.make("files", [{**path, "path": plain or "**"}])
        if not plain or has_magic(plain) or self._workspace is None:
            return made
        first = self._workspace._call("POST", "data/files", params={"limit": 1}, data={"definition": made})["files"]
        # A plain path is a file's own, or the folder that comes first in the names of what lies in it.
        if first and "/" in first[0]["name"]:
            return definition.make("files", [{**path, "path": f"{plain}/**"}])
        return made

    @staticmethod
    def _add(held: dict[str, tuple[dict[str, Any], str]], kind: str, body: dict[str, Any], shown: str) -> None:
        """One name, one meaning."""
        before = held.setdefault(body["name"], (body, shown))
        if before[0] != body:
            raise UserErrorException(
                f"Two different {kind}s have the name {body['name']!r}: {before[1]} ({before[0]['mode']}) and {shown} "
                f"({body['mode']}). Give one of them another name."
            )


def _own(name: str) -> tuple[str, str]:
    return f"${{{{inputs.{name}}}}}", f"${{{{outputs.{name}}}}}"
