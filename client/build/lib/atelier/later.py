"""v1 names that this client does not have yet: importing one says so, instead of failing later in a stub."""

from __future__ import annotations

from typing import Any, Callable

_PARTS = {
    "data": "Datasets and datastores",
    "pipeline": "Pipelines",
    "train": "Sweeps, AutoML and estimators",
    "dataprep": "Data preparation",
    "parallel": "Distributed jobs",
}

NAMES = {
    **dict.fromkeys(["Dataset", "Datastore", "dataset", "datastore", "TabularDataset", "FileDataset"], "data"),
    **dict.fromkeys(["DataReferenceConfiguration", "DataPath"], "data"),
    **dict.fromkeys(
        ["MpiConfiguration", "PyTorchConfiguration", "TensorflowConfiguration", "ParallelRunConfig"], "parallel"
    ),
    "LinkedService": "pipeline",
    "SynapseWorkspaceLinkedServiceConfiguration": "pipeline",
}


def message(name: str, part: str) -> str:
    return f"{name}: {_PARTS.get(part, 'This')} cannot be used with this version of the Atelier client and studio."


def refuse(module: str) -> None:
    """For a module that is not there yet: raises ImportError."""
    raise ImportError(message(module, module.split(".")[1]))


def absent(module: str) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that tells a name which is not there yet from a typing error."""

    def look(name: str) -> Any:
        if name in NAMES:
            raise ImportError(message(f"{module}.{name}", NAMES[name]))
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return look
