"""``azureml.core``. Names are imported when they are first used."""

from __future__ import annotations

from typing import Any

from atelier._version import V1_SURFACE as VERSION
from atelier.later import absent

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
    "RemoteCompute": "compute",
    "Model": "model",
    "Webservice": "webservice",
    "ResourceConfiguration": "resource_configuration",
}
_MODULES = frozenset(
    [
        "authentication",
        "compute",
        "compute_target",
        "conda_dependencies",
        "dataset",
        "datastore",
        "environment",
        "experiment",
        "model",
        "resource_configuration",
        "run",
        "runconfig",
        "script_run_config",
        "webservice",
        "workspace",
    ]
)

__all__ = ["VERSION", *_HOMES]

_absent = absent(__name__)


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        value = getattr(import_module(f"atelier.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"azureml.core.{name}")
    else:
        return _absent(name)
    globals()[name] = value
    return value
