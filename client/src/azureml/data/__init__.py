"""``azureml.data``. Names are imported when they are first used."""

from __future__ import annotations

from typing import Any

from atelier.later import absent

_HOMES = {
    "AzureBlobDatastore": "datastore",
    "DataType": "data.factory",
    "FileDataset": "data.file_dataset",
    "HDFSOutputDatasetConfig": "data.outputs",
    "OutputFileDatasetConfig": "data.outputs",
    "OutputTabularDatasetConfig": "data.outputs",
    "TabularDataset": "data.tabular_dataset",
}

__all__ = [*_HOMES]

_absent = absent(__name__)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        return _absent(name)
    from importlib import import_module

    value = getattr(import_module(f"atelier.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
