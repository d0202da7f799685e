"""Environments: which Python and packages a run has."""

from __future__ import annotations

import copy
import logging
import os
import sys
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
    """Of what image a run's container is: ``base_image``, or ``base_dockerfile`` (a text). ``enabled`` asks for a
    target with containers. Targets without containers do not use the others."""

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
    def from_docker_image(
        cls,
        name: str,
        image: str,
        container_registry: Any = None,
        conda_specification: str | os.PathLike[str] | None = None,
        pip_requirements: str | os.PathLike[str] | None = None,
        **_: Any,
    ) -> Environment:
        """In an image as it is. ``conda_specification`` or ``pip_requirements``, paths of files, add packages to it."""
        made = cls(name)
        made.docker.base_image = image
        made._packages(conda_specification, pip_requirements)
        return made

    @classmethod
    def from_dockerfile(
        cls,
        name: str,
        dockerfile: str | os.PathLike[str],
        conda_specification: str | os.PathLike[str] | None = None,
        pip_requirements: str | os.PathLike[str] | None = None,
        **_: Any,
    ) -> Environment:
        """``dockerfile``: its path, or its text. ``conda_specification`` or ``pip_requirements``, paths of files, add
        packages to the image that it makes. It has no build context: COPY of files beside it cannot work."""
        made = cls(name)
        made.docker.base_dockerfile, made.docker.enabled = _dockerfile_text(dockerfile), True
        made._packages(conda_specification, pip_requirements)
        return made

    def _packages(self, conda: str | os.PathLike[str] | None, requirements: str | os.PathLike[str] | None) -> None:
        if conda and requirements:
            raise UserErrorException("Give either conda_specification= or pip_requirements=, not both.")
        if conda:
            self.python.conda_dependencies = CondaDependencies(conda)
        if requirements:
            found = Environment.from_pip_requirements("", requirements)
            self.python.conda_dependencies = found.python.conda_dependencies

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
        hidden = ("variables", "notes", "unavailable", "order")
        made._given = {key: value for key, value in recipe.items() if key not in hidden}
        if recipe.get("order"):  # as they were typed
            made._given["packages"] = recipe["order"]
        made.docker.base_image, made.docker.base_dockerfile = recipe.get("base_image"), recipe.get("dockerfile")
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

    def build(
        self, workspace: Workspace, image_build_compute: Any = None, *, target: Any = None, **_: Any
    ) -> EnvironmentBuild:
        """Start building it on a target (its name, or itself), ``local`` where none is named: an image where the target
        has containers. A run does this by itself. ``wait_for_completion(show_output=True)`` shows the log."""
        registered = self if self._unchanged(workspace) else self.register(workspace)
        place = target or image_build_compute or "local"
        place = str(getattr(place, "name", place))
        asked = {"version": int(str(registered.version)), "target": place}
        begun = workspace._call("POST", f"environments/{segment(str(self.name))}/prepare", data=asked)
        return EnvironmentBuild(workspace, str(self.name), str(registered.version), place, begun)

    def build_local(self, workspace: Workspace, platform: Any = None, **options: Any) -> EnvironmentBuild:
        """As ``build``, and waits for the end with the log shown: the studio is what is local here."""
        begun = self.build(workspace, target=options.get("target"))
        return begun.wait_for_completion(show_output=True)

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
            "image": [self.docker.base_image, self.docker.base_dockerfile],
        }

    def _unchanged(self, workspace: Workspace) -> bool:
        return bool(self.version) and self._registered == (workspace._path(""), self._state())

    def _recipe(self, images: bool = True) -> dict[str, Any]:
        """As the studio's REST interface takes it; without ``images`` for a target that has none."""
        if self.docker.base_dockerfile and self.docker.base_image:
            raise UserErrorException(
                f"Environment {self.name!r} has a base_image and a base_dockerfile: set one of them to None."
            )
        state = self._state()
        conda = bool(state["conda"] and state["conda"]["dependencies"])
        made: dict[str, Any]
        if self.python.user_managed_dependencies:
            made = {"kind": "system"}
            if self.python.interpreter_path not in ("", "python", "python3", None):
                made["interpreter"] = self.python.interpreter_path
        elif (
            self._registered
            and self._given
            and all(state[key] == self._registered[1][key] for key in ("conda", "image"))
        ):
            made = {key: value for key, value in self._given.items() if value is not None}
        elif self.docker.base_image and not conda and images:
            made = {"kind": "system"}  # the image as it is
        elif self.docker.base_dockerfile and not conda:
            made = {"kind": "dockerfile"}
        else:
            made = {"kind": "conda", "conda": self.python.conda_dependencies.serialize_to_string()}
        if self.docker.base_dockerfile:
            made = {**made, "kind": "dockerfile", "dockerfile": _dockerfile_text(self.docker.base_dockerfile)}
        elif self.docker.base_image and images:
            made["base_image"] = self.docker.base_image
        else:
            made.pop("base_image", None)
        if self.environment_variables:
            made["variables"] = {key: str(value) for key, value in self.environment_variables.items()}
        return made

    def _reference(self, workspace: Workspace, images: bool = True) -> dict[str, Any]:
        """How a submit names it: the version that is registered, or its recipe."""
        if self._unchanged(workspace) and (images or not self.docker.base_image):
            return {"name": self.name, "version": int(str(self.version))}
        found = {"recipe": self._recipe(images)}
        return {"name": self.name, **found} if self.name else found


def _dockerfile_text(given: str | os.PathLike[str]) -> str:
    """A Dockerfile's text, from its path or itself. Raises UserErrorException."""
    text = os.fspath(given)
    if "\n" in text or text.lstrip()[:5].upper() == "FROM ":
        return text
    path = Path(text)
    if not path.is_file():
        raise UserErrorException(f"There is no Dockerfile {path}.")
    return path.read_text(encoding="utf-8-sig")


class EnvironmentBuild:
    """A build that was asked for. ``reused``: it was there already."""

    def __init__(
        self, workspace: Workspace, name: str, version: str, target: str, begun: dict[str, Any] | None = None
    ) -> None:
        self._workspace, self._name, self._version, self._target = workspace, name, version, target
        self.reused = (begun or {}).get("state") == "ready"

    @property
    def image(self) -> str | None:
        """Tag of the image, on a target with containers."""
        return (self._build().get("detail") or {}).get("image")

    @property
    def status(self) -> str:
        """Running, Succeeded or Failed."""
        build = self._build()
        return {"ready": "Succeeded", "failed": "Failed"}.get(build.get("state", ""), "Running")

    def _build(self) -> dict[str, Any]:
        found = self._workspace._call("GET", f"environments/{segment(self._name)}", params={"version": self._version})
        return next((build for build in found.get("builds") or () if build["target"] == self._target), {})

    def wait_for_completion(self, show_output: bool = False) -> EnvironmentBuild:
        """Wait for the end, with its log shown where asked. Raises AzureMLException with the reason when it fails."""
        if show_output and not self.reused:
            self._show(sys.stdout)
        while self.status == "Running":
            time.sleep(0.5)
        build = self._build()
        detail = build.get("detail") or {}
        if build.get("state") == "failed":
            raise AzureMLException(
                f"Environment {self._name}:{self._version} could not be built: {detail.get('error') or detail}"
            )
        if show_output:
            for warning in detail.get("warnings") or ():
                print(f"Warning: {warning}")
            said = "Reused image" if detail.get("image") else "Reused environment"
            first = f"{said}: " if self.reused else ""
            image = f" ({detail['image']})" if detail.get("image") else ""
            print(f"{first}environment {self._name}:{self._version} is ready on {self._target}{image}.", flush=True)
        return self

    def _show(self, out: Any) -> None:
        """Write the build's log as it comes, until its end."""
        import codecs

        decoder, offset = codecs.getincrementaldecoder("utf-8")("replace"), 0
        path = f"environments/{segment(self._name)}/log"
        while True:
            params = {"target": self._target, "version": self._version, "from": offset, "wait": 20}
            found = self._workspace._request("GET", path, params=params, timeout=60)
            if found.body:
                out.write(decoder.decode(found.body))
                out.flush()
                offset += len(found.body)
            elif found.headers.get("x-atelier-sealed") == "true":
                return
