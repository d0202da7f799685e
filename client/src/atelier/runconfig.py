"""Run configurations, and their YAML: camelCase keys as v1 writes them; PascalCase ones of 2017 are read too."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from atelier import tinyyaml
from atelier.conda_dependencies import CondaDependencies
from atelier.data.references import DataReferenceConfiguration
from atelier.environment import DockerSection, Environment, PythonSection, SparkSection
from atelier.exceptions import UserErrorException
from atelier.runconfig_schema import RUN_CONFIGURATION, Checker, lifted
from atelier.runconfig_schema import camel as _camel
from atelier.runconfig_schema import snake as _snake

DEFAULT_SECONDS = 2592000  # 30 days
FILE_WORD = "$file"  # in an ArgumentVector: the script that the command line names
_FOLDERS = (".azureml", "aml_config", "")
log = logging.getLogger("atelier")


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
    """How a run uses Docker. With ``use_docker`` a run on the target ``local`` goes to the workspace's Docker target.
    ``arguments`` are options of ``docker run``: those that set limits (``--gpus``, ``--cpus``, ``--memory``,
    ``--shm-size``, ``--pids-limit``) and variables (``-e``); ``shm_size`` such as ``2g``."""

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
        self.resources: dict[str, Any] = {}  # of the container: cpus, memory, shm_size, gpus, pids
        self.spark_dependencies_file: str | None = None
        self._kept: dict[str, Any] = {}  # what a file had and this class does not use, as it was written
        self._target_given = False  # whether a file says it
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
                content = read_yaml(place)
                if not isinstance(content, dict):
                    raise UserErrorException(f"{place} is not a run configuration.")
                return cls.from_dict(content, place.parent, place)
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
        written: dict[str, Any] = {
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
        if self.resources:
            written["resources"] = dict(self.resources)
        written.update((key, value) for key, value in self._kept.items() if key not in written)
        return written

    @classmethod
    def from_dict(cls, content: dict[str, Any], base: Path | None = None, file: Path | None = None) -> RunConfiguration:
        """From the keys of a file; relative conda files are looked for beside ``base`` and in its parent. Raises
        UserErrorException with every key that nobody knows and every value of a wrong type."""
        checker = Checker(file or "The run configuration")
        content = lifted(content, RUN_CONFIGURATION, checker.notes, checker.file)
        found = checker.section(content, RUN_CONFIGURATION)
        checker.finish()
        for note in checker.notes:
            log.warning("%s", note)
        made = cls(found.get("script"), found.get("arguments"), found.get("framework"), found.get("communicator"))
        made._kept = {key: value for key, value in content.items() if _snake(key) not in _USED}
        made._workbench(found, checker.file)
        made._target_given = found.get("target") is not None
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
        environment = _merged(found)
        made._environment_given = bool(environment.keys() - {"environment_variables", "docker"})
        made.environment = _environment(environment, base)
        return made

    def _workbench(self, found: dict[str, Any], file: str) -> None:
        """The keys of 2017 that are not about the environment."""
        self.spark_dependencies_file = found.get("spark_dependencies_file")
        self.resources = dict(found.get("resources") or {})
        if found.get("prepare_environment") is not None:
            self.auto_prepare_environment = found["prepare_environment"]
        words = [str(word) for word in found.get("argument_vector") or ()]
        if not words or self.script or self.arguments:
            return
        if FILE_WORD in words:
            at = words.index(FILE_WORD)
            if at:
                raise UserErrorException(
                    f"{file}: {words[0]} stands before {FILE_WORD} in the ArgumentVector: the script comes first."
                )
            words = words[1:]
        elif words[0].endswith(".py"):
            self.script, words = words[0], words[1:]
        self.arguments = list(words)


# Keys of a file that have a place in a RunConfiguration; the others are only kept.
_USED = frozenset(
    ["script", "arguments", "command", "target", "framework", "communicator", "auto_prepare_environment",
     "max_run_duration_seconds", "node_count", "environment", "history", "spark", "hdi", "docker", "data_references",
     "environment_variables", "conda_dependencies_file", "user_managed_environment", "python_location",
     "prepare_environment", "resources"]
)  # fmt: skip


def _environment(found: dict[str, Any], base: Path | None) -> Environment:
    made = Environment(found.get("name") or "")
    variables = (found.get("environment_variables") or {}).items()
    made.environment_variables = {key: "" if value is None else str(value) for key, value in variables}
    python = dict(found.get("python") or {})
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


def _merged(found: dict[str, Any]) -> dict[str, Any]:
    """The environment of a file, with what 2017 wrote at the top level in its place. Empty where there is nothing."""
    environment = dict(found.get("environment") or {})
    variables = {**(environment.get("environment_variables") or {}), **(found.get("environment_variables") or {})}
    if variables:
        environment["environment_variables"] = variables
    python = dict(environment.get("python") or {})
    for name, old in (
        ("conda_dependencies_file", "conda_dependencies_file"),
        ("user_managed_dependencies", "user_managed_environment"),
        ("interpreter_path", "python_location"),
    ):
        if found.get(old) is not None:
            python[name] = found[old]
    if python:
        environment["python"] = python
    return environment


def read_yaml(path: Path) -> Any:
    """The content of a file, with the numbers of its lines. Raises UserErrorException naming the file."""
    try:
        return tinyyaml.load_marked(path.read_text(encoding="utf-8-sig"))
    except tinyyaml.YamlError as error:
        raise tinyyaml.YamlError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise UserErrorException(f"{path} is not a text file.") from None


def _reference(value: Any) -> Any:
    """A data reference as a run configuration's file has it."""
    config = value.to_config() if hasattr(value, "to_config") else value
    return config.to_dict() if hasattr(config, "to_dict") else config


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
