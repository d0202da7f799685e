"""Environments: which Python and packages a run has."""

from __future__ import annotations

import copy
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier.conda_dependencies import CondaDependencies
from atelier.exceptions import AzureMLException, ServiceException, UserErrorException
from atelier.transport import segment

if TYPE_CHECKING:
    from atelier.workspace import Workspace

log = logging.getLogger("atelier")


class PythonSection:
    """``user_managed_dependencies``: use the target's own Python (``interpreter_path``) and install nothing."""

    def __init__(self) -> None:
        self.user_managed_dependencies = False
        self.interpreter_path = "python"
        self.conda_dependencies_file: str | None = None
        self._conda_dependencies: CondaDependencies | None = None

    @property
    def conda_dependencies(self) -> CondaDependencies:
        if self._conda_dependencies is None:
            self._conda_dependencies = CondaDependencies(self.conda_dependencies_file)
        return self._conda_dependencies

    @conda_dependencies.setter
    def conda_dependencies(self, value: CondaDependencies | None) -> None:
        self._conda_dependencies = value


class DockerSection:
    """Settings of an image. They are kept with the environment; targets without images do not use them."""

    def __init__(self) -> None:
        self.enabled: bool | None = None
        self.base_image: str | None = None
        self.base_dockerfile: str | None = None
        self.base_image_registry: Any = None
        self.arguments: list[str] = []
        self.shared_volumes = True
        self.gpu_support = False
        self.shm_size: str | None = None


class SparkSection:
    """Packages of a Spark session."""

    def __init__(self) -> None:
        self.repositories: list[str] = []
        self.packages: list[Any] = []
        self.precache_packages = True


class Environment:
    """An environment by name. ``version`` is set once it is registered; a submit registers it under its name."""

    def __init__(self, name: str | None = None, **_: Any) -> None:
        self.name = name
        self.version: str | None = None
        self.python = PythonSection()
        self.docker = DockerSection()
        self.spark = SparkSection()
        self.environment_variables: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.inferencing_stack_version: str | None = None
        self._registered: tuple[str, dict[str, Any]] | None = None  # endpoint and workspace, recipe as it was there
        self._given: dict[str, Any] | None = None  # the studio's recipe, where it is not a conda file

    # -- making one -----------------------------------------------------------------------------------------------

    @classmethod
    def from_conda_specification(cls, name: str, file_path: str | os.PathLike[str]) -> Environment:
        made = cls(name)
        made.python.conda_dependencies = CondaDependencies(file_path)
        return made

    @classmethod
    def from_pip_requirements(
        cls, name: str, file_path: str | os.PathLike[str], pip_version: str | None = None
    ) -> Environment:
        """From a ``requirements.txt``. Files that it includes are not followed."""
        path = Path(file_path)
        if not path.is_file():
            raise UserErrorException(f"There is no requirements file {path}.")
        lines = (line.split(" #")[0].strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
        made = cls(name)
        made.python.conda_dependencies.set_pip_requirements([line for line in lines if line and line[0] != "#"])
        return made

    @classmethod
    def from_existing_conda_environment(cls, name: str, conda_environment_name: str) -> Environment:
        raise UserErrorException(
            "Export it with `conda env export > environment.yml` and use from_conda_specification."
        )

    @classmethod
    def from_docker_image(cls, name: str, image: str, **_: Any) -> Environment:
        made = cls(name)
        made.docker.base_image, made.docker.enabled = image, True
        return made

    @classmethod
    def from_dockerfile(
        cls, name: str, dockerfile: str, conda_specification: str | None = None, **_: Any
    ) -> Environment:
        made = cls(name)
        path = Path(dockerfile) if "\n" not in dockerfile else None
        made.docker.base_dockerfile = path.read_text(encoding="utf-8") if path and path.is_file() else dockerfile
        made.docker.enabled = True
        if conda_specification:
            made.python.conda_dependencies = CondaDependencies(conda_specification)
        return made

    @classmethod
    def get(cls, workspace: Workspace, name: str, version: str | int | None = None) -> Environment:
        """A registered environment, the newest version where none is named. Raises AzureMLException when it is not
        there."""
        try:
            found = workspace._call("GET", f"environments/{segment(name)}", params={"version": version})
        except ServiceException as error:
            if error.status_code != 404:
                raise
            which = f"{name}:{version}" if version is not None else name
            raise AzureMLException(f"There is no environment {which} in workspace {workspace.name}.") from error
        return cls._from_studio(workspace, found)

    @classmethod
    def list(cls, workspace: Workspace) -> dict[str, Environment]:
        """The newest version of each environment, by name."""
        return {item["name"]: cls._from_studio(workspace, item) for item in workspace._list("environments")}

    @classmethod
    def _from_studio(cls, workspace: Workspace, found: dict[str, Any]) -> Environment:
        made = cls(found["name"])
        made.version = str(found["version"])
        made.tags = dict(found.get("tags") or {})
        recipe = found.get("recipe") or {}
        made.environment_variables = dict(recipe.get("variables") or {})
        made._given = {key: value for key, value in recipe.items() if key not in ("variables", "notes", "unavailable")}
        if recipe.get("kind") == "system":
            made.python.user_managed_dependencies = True
            made.python.interpreter_path = recipe.get("interpreter") or "python"
        else:
            made.python.conda_dependencies = CondaDependencies.create(
                pip_packages=recipe.get("packages"), python_version=recipe.get("python")
            )
        made._registered = (workspace._path(""), made._state())
        return made

    # -- using it -------------------------------------------------------------------------------------------------

    def register(self, workspace: Workspace) -> Environment:
        """The registered version of it; the same content gives the same version."""
        if not self.name:
            raise UserErrorException("The environment needs a name to be registered.")
        asked = {"name": self.name, "recipe": self._recipe(), "tags": {k: str(v) for k, v in self.tags.items()}}
        found = workspace._call("POST", "environments", data=asked)
        self.version = str(found["version"])
        self._registered = (workspace._path(""), self._state())
        return Environment._from_studio(workspace, found)

    def build(self, workspace: Workspace, image_build_compute: str | None = None) -> EnvironmentBuild:
        """Start building it on the ``local`` target; a run does this by itself."""
        registered = self if self._unchanged(workspace) else self.register(workspace)
        target = image_build_compute or "local"
        asked = {"version": int(str(registered.version)), "target": target}
        workspace._call("POST", f"environments/{segment(str(self.name))}/prepare", data=asked)
        return EnvironmentBuild(workspace, str(self.name), str(registered.version), target)

    build_local = build

    def clone(self, new_name: str) -> Environment:
        made = copy.deepcopy(self)
        made.name, made.version, made._registered = new_name, None, None
        return made

    def save_to_directory(self, path: str, overwrite: bool = False) -> None:
        """Write ``conda_dependencies.yml`` into ``path``."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "conda_dependencies.yml").exists() and not overwrite:
            raise UserErrorException(f"{folder / 'conda_dependencies.yml'} is there already; say overwrite=True.")
        self.python.conda_dependencies.save_to_file(folder)

    def __repr__(self) -> str:
        return f"Environment(name={self.name!r}, version={self.version!r})"

    def _state(self) -> dict[str, Any]:
        python = self.python
        return {
            "own": python.user_managed_dependencies,
            "interpreter": python.interpreter_path,
            "conda": None if python.user_managed_dependencies else python.conda_dependencies.as_dict(),
            "variables": dict(self.environment_variables),
        }

    def _unchanged(self, workspace: Workspace) -> bool:
        return bool(self.version) and self._registered == (workspace._path(""), self._state())

    def _recipe(self) -> dict[str, Any]:
        """As the studio's REST interface takes it."""
        if self.docker.base_dockerfile:
            raise UserErrorException(
                f"Environment {self.name!r} is a Dockerfile, and no target here builds images. "
                "Give its packages as a conda file or a requirements.txt."
            )
        if self.docker.base_image:
            log.warning(
                "Environment %s: the image %s is not used; runs get a Python of their own.",
                self.name,
                self.docker.base_image,
            )
        made: dict[str, Any]
        if self.python.user_managed_dependencies:
            made = {"kind": "system"}
            if self.python.interpreter_path not in ("", "python", "python3", None):
                made["interpreter"] = self.python.interpreter_path
        elif self._registered and self._given and self._state()["conda"] == self._registered[1]["conda"]:
            made = {key: value for key, value in self._given.items() if value is not None}
        else:
            made = {"kind": "conda", "conda": self.python.conda_dependencies.serialize_to_string()}
        if self.environment_variables:
            made["variables"] = {key: str(value) for key, value in self.environment_variables.items()}
        return made

    def _reference(self, workspace: Workspace) -> dict[str, Any]:
        """How a submit names it: the version that is registered, or its recipe."""
        if self._unchanged(workspace):
            return {"name": self.name, "version": int(str(self.version))}
        found = {"recipe": self._recipe()}
        return {"name": self.name, **found} if self.name else found


class EnvironmentBuild:
    """A build that was asked for."""

    def __init__(self, workspace: Workspace, name: str, version: str, target: str) -> None:
        self._workspace, self._name, self._version, self._target = workspace, name, version, target

    @property
    def status(self) -> str:
        """Running, Succeeded or Failed."""
        build = self._build()
        return {"ready": "Succeeded", "failed": "Failed"}.get(build.get("state", ""), "Running")

    def _build(self) -> dict[str, Any]:
        found = self._workspace._call("GET", f"environments/{segment(self._name)}", params={"version": self._version})
        return next((build for build in found.get("builds") or () if build["target"] == self._target), {})

    def wait_for_completion(self, show_output: bool = False) -> EnvironmentBuild:
        """Wait for the end. Raises AzureMLException with the reason when it fails."""
        while self.status == "Running":
            time.sleep(0.5)
        if self.status == "Failed":
            detail = self._build().get("detail") or {}
            raise AzureMLException(
                f"Environment {self._name}:{self._version} could not be built: {detail.get('message') or detail}"
            )
        if show_output:
            print(f"Environment {self._name}:{self._version} is ready on {self._target}")
        return self
