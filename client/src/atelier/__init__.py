"""Client of the Atelier studio. Names are imported when they are first used, so that a script inside a run starts
fast."""

from __future__ import annotations

from typing import Any

from atelier._version import VERSION

__version__ = VERSION

_HOMES = {
    "Workspace": "workspace",
    "Experiment": "experiment",
    "Dataset": "dataset",
    "Datastore": "datastore",
    "Run": "run",
    "get_run": "run",
    "ScriptRunConfig": "script_run_config",
    "RunConfiguration": "runconfig",
    "Environment": "environment",
    "CondaDependencies": "conda_dependencies",
    "ComputeTarget": "compute",
    "DockerTarget": "compute",
    "LocalTarget": "compute",
    "RemoteCompute": "compute",
    "DockerConfiguration": "runconfig",
    "Model": "model",
    "Webservice": "webservice",
    "ResourceConfiguration": "resource_configuration",
    "DatasetConsumptionConfig": "data.consumption",
    "OutputFileDatasetConfig": "data.outputs",
    "HDFSOutputDatasetConfig": "data.outputs",
    "PipelineData": "data.outputs",
    "ServicePrincipalAuthentication": "auth",
    "InteractiveLoginAuthentication": "auth",
    "TokenAuthentication": "auth",
}

__all__ = ["VERSION", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'atelier' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"atelier.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
