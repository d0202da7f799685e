"""Run configurations, and their YAML with camelCase keys."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from atelier import tinyyaml
from atelier.conda_dependencies import CondaDependencies
from atelier.data.references import DataReferenceConfiguration
from atelier.environment import DockerSection, Environment, PythonSection, SparkSection
from atelier.exceptions import UserErrorException

DEFAULT_SECONDS = 2592000  # 30 days
_FOLDERS = (".azureml", "aml_config", "")


class HistoryConfiguration:
    def __init__(self) -> None:
        self.output_collection = True
        self.snapshot_project = True
        self.directories_to_watch = ["logs"]


class SparkConfiguration:
    def __init__(self) -> None:
        self.configuration: dict[str, str] = {}


class HdiConfiguration:
    def __init__(self) -> None:
        self.yarn_deploy_mode = "cluster"


class DockerConfiguration:
    """How a run uses Docker; targets without images do not."""

    def __init__(
        self,
        use_docker: bool = False,
        shared_volumes: bool = True,
        arguments: list[str] | None = None,
        shm_size: str | None = None,
    ) -> None:
        self.use_docker = use_docker
        self.shared_volumes = shared_volumes
        self.arguments = arguments or []
        self.shm_size = shm_size


class RunConfiguration:
    """Where and how a script runs. ``target`` is a name or a ComputeTarget."""

    def __init__(
        self,
        script: str | None = None,
        arguments: list[Any] | None = None,
        framework: str | None = None,
        communicator: str | None = None,
        conda_dependencies: CondaDependencies | None = None,
        _name: str | None = None,
        _path: str | None = None,
    ) -> None:
        self.script = script
        self.arguments: list[Any] = arguments or []
        self.command: Any = None
        self._target = "local"
        self.framework = framework or "Python"
        self.communicator = communicator or "None"
        self.auto_prepare_environment = True
        self.max_run_duration_seconds: int | None = DEFAULT_SECONDS
        self.node_count = 1
        self.environment = Environment("")
        self.history = HistoryConfiguration()
        self.spark = SparkConfiguration()
        self.hdi = HdiConfiguration()
        self.docker = DockerConfiguration()
        self.data_references: dict[str, Any] = {}
        self.data: dict[str, Any] = {}  # inputs by name, beside those in the arguments
        self.output_data: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._environment_given = conda_dependencies is not None
        if conda_dependencies is not None:
            self.environment.python.conda_dependencies = conda_dependencies

    @property
    def target(self) -> str:
        return self._target

    @target.setter
    def target(self, value: Any) -> None:
        self._target = getattr(value, "name", value) or "local"

    @property
    def environment_variables(self) -> dict[str, str]:
        return self.environment.environment_variables

    @environment_variables.setter
    def environment_variables(self, value: dict[str, str]) -> None:
        self.environment.environment_variables = value

    # -- files ----------------------------------------------------------------------------------------------------

    def save(
        self,
        path: str | os.PathLike[str] | None = None,
        name: str | None = None,
        separate_environment_yaml: bool = False,
    ) -> None:
        """Write ``<path>/.azureml/<name>.runconfig``, or ``path`` itself where it ends in .runconfig or .yml."""
        target = Path(path or ".")
        if target.suffix not in (".runconfig", ".yml", ".yaml"):
            target = target / ".azureml" / f"{name or self.target}.runconfig"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(tinyyaml.dump(self.to_dict()), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str], name: str | None = None) -> RunConfiguration:
        """Read ``path``, or ``<name>.runconfig`` in ``.azureml`` or ``aml_config`` below it. Raises
        UserErrorException."""
        base = Path(path)
        places = [base] if base.is_file() else []
        if name:
            stems = [name, f"{name}.runconfig"]
            places += [base / folder / stem for folder in _FOLDERS for stem in stems]
        for place in places:
            if place.is_file():
                content = tinyyaml.load(place.read_text(encoding="utf-8-sig"))
                if not isinstance(content, dict):
                    raise UserErrorException(f"{place} is not a run configuration.")
                return cls.from_dict(content, place.parent)
        raise UserErrorException(f"There is no run configuration {name or ''} at {base}.")

    def to_dict(self) -> dict[str, Any]:
        python, docker, spark = self.environment.python, self.environment.docker, self.environment.spark
        conda = None if python.user_managed_dependencies else python.conda_dependencies.as_dict()
        environment = {
            "name": self.environment.name or None,
            "version": self.environment.version,
            "environmentVariables": dict(self.environment.environment_variables),
            "python": {**_camel_state(python, "_"), "condaDependencies": conda},
            "docker": _camel_state(docker),
            "spark": _camel_state(spark),
        }
        return {
            "script": self.script,
            "arguments": [
                argument if isinstance(argument, (int, float)) else str(argument) for argument in self.arguments
            ],
            "command": self.command,
            "target": self.target,
            "framework": self.framework,
            "communicator": self.communicator,
            "autoPrepareEnvironment": self.auto_prepare_environment,
            "maxRunDurationSeconds": self.max_run_duration_seconds,
            "nodeCount": self.node_count,
            "environment": environment,
            "history": _camel_state(self.history),
            "spark": _camel_state(self.spark),
            "hdi": _camel_state(self.hdi),
            "docker": _camel_state(self.docker),
            "dataReferences": {name: _reference(value) for name, value in self.data_references.items()},
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any], base: Path | None = None) -> RunConfiguration:
        """From the keys of a file; relative conda files are looked for beside ``base`` and in its parent."""
        found = {_snake(key): value for key, value in content.items()}
        made = cls(found.get("script"), found.get("arguments"), found.get("framework"), found.get("communicator"))
        for name in ("target", "command", "auto_prepare_environment", "max_run_duration_seconds"):
            if found.get(name) is not None:
                setattr(made, name, found[name])
        made.node_count = int(found.get("node_count") or 1)
        made.data_references = {
            name: DataReferenceConfiguration.from_dict(value)
            for name, value in (found.get("data_references") or {}).items()
        }
        for name in ("history", "spark", "hdi", "docker"):
            _restore(getattr(made, name), found.get(name))
        environment = {_snake(key): value for key, value in (found.get("environment") or {}).items()}
        made._environment_given = bool(environment)
        made.environment = _environment(environment, base)
        return made


def _environment(found: dict[str, Any], base: Path | None) -> Environment:
    made = Environment(found.get("name") or "")
    made.environment_variables = {key: str(value) for key, value in (found.get("environment_variables") or {}).items()}
    python = {_snake(key): value for key, value in (found.get("python") or {}).items()}
    _restore(made.python, {key: value for key, value in python.items() if key != "conda_dependencies"})
    file = made.python.conda_dependencies_file
    if python.get("conda_dependencies"):
        made.python.conda_dependencies = CondaDependencies(_underlying_structure=python["conda_dependencies"])
    elif file and not made.python.user_managed_dependencies:
        places = [Path(file), *((base / file, base.parent / file) if base else ())]
        made.python.conda_dependencies_file = str(next((place for place in places if place.is_file()), file))
    _restore(made.docker, found.get("docker"))
    _restore(made.spark, found.get("spark"))
    return made


def _reference(value: Any) -> Any:
    """A data reference as a run configuration's file has it."""
    config = value.to_config() if hasattr(value, "to_config") else value
    return config.to_dict() if hasattr(config, "to_dict") else config


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])[A-Z]", lambda match: "_" + match.group().lower(), name[:1].lower() + name[1:])


def _camel_state(section: Any, skip: str = "") -> dict[str, Any]:
    return {_camel(key): value for key, value in vars(section).items() if not (skip and key.startswith(skip))}


def _restore(section: Any, found: Any) -> None:
    """Set the attributes that the section has; a key that it does not know is left."""
    for key, value in (found or {}).items():
        if hasattr(section, _snake(key)):
            setattr(section, _snake(key), value)


__all__ = [
    "CondaDependencies",
    "DataReferenceConfiguration",
    "DockerConfiguration",
    "DockerSection",
    "Environment",
    "HdiConfiguration",
    "HistoryConfiguration",
    "PythonSection",
    "RunConfiguration",
    "SparkConfiguration",
    "SparkSection",
]
