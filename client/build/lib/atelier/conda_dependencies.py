"""Conda recipes: the ``conda_dependencies.yml`` of v1."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any, Iterator

from atelier import tinyyaml
from atelier.exceptions import UserErrorException

_NAME = re.compile(r"^[A-Za-z0-9_.-]+")


def package_name(spec: str) -> str:
    """The package that a specification is about, in one way of writing: ``Scikit_Learn>=1`` is scikit-learn."""
    match = _NAME.match(spec.strip().rpartition("::")[2])
    return re.sub(r"[-_.]+", "-", match.group()).lower() if match else spec


class CondaDependencies:
    """Packages of an environment. Lists keep their order; the same package added again replaces the one before."""

    DEFAULT_NAME = "project_environment"

    def __init__(
        self, conda_dependencies_file_path: str | os.PathLike[str] | None = None, _underlying_structure: Any = None
    ) -> None:
        content: Any = copy.deepcopy(_underlying_structure)
        if conda_dependencies_file_path is not None:
            path = Path(conda_dependencies_file_path)
            if not path.is_file():
                raise UserErrorException(f"There is no conda file {path}.")
            content = tinyyaml.load(path.read_text(encoding="utf-8-sig"))
        if content is None:
            content = {"name": self.DEFAULT_NAME, "dependencies": []}
        if not isinstance(content, dict) or not isinstance(content.get("dependencies") or [], list):
            raise UserErrorException(
                f"{conda_dependencies_file_path or 'This'} is not a conda file: dependencies: is a list."
            )
        content["dependencies"] = content.get("dependencies") or []
        self._content: dict[str, Any] = content

    @classmethod
    def create(
        cls,
        pip_indexurl: str | None = None,
        pip_packages: list[str] | None = None,
        conda_packages: list[str] | None = None,
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:
        made = cls()
        if python_version:
            made.set_python_version(python_version)
        for package in conda_packages or ():
            made.add_conda_package(package)
        for package in pip_packages or ():
            made.add_pip_package(package)
        return made

    @property
    def conda_packages(self) -> Iterator[str]:
        return (item for item in self._content["dependencies"] if isinstance(item, str))

    @property
    def pip_packages(self) -> Iterator[str]:
        return (item for item in self._pip() if not item.startswith("-"))

    @property
    def pip_options(self) -> Iterator[str]:
        return (item for item in self._pip() if item.startswith("-"))

    @property
    def conda_channels(self) -> Iterator[str]:
        return iter(list(self._content.get("channels") or []))

    @property
    def python_version(self) -> str | None:
        for item in self.conda_packages:
            if package_name(item) == "python":
                return item[len("python") :].lstrip("= ") or None
        return None

    def add_conda_package(self, conda_package: str) -> None:
        kept = self._content["dependencies"]
        self._remove(kept, conda_package)
        # The list named pip stays last.
        at = next((index for index, item in enumerate(kept) if isinstance(item, dict)), len(kept))
        kept.insert(at, conda_package)

    def add_pip_package(self, pip_package: str) -> None:
        kept = self._pip(make=True)
        if not pip_package.startswith("-"):
            self._remove(kept, pip_package)
        kept.append(pip_package)

    def remove_conda_package(self, conda_package: str) -> None:
        self._remove(self._content["dependencies"], conda_package)

    def remove_pip_package(self, pip_package: str) -> None:
        self._remove(self._pip(), pip_package)

    def add_channel(self, channel: str) -> None:
        channels = self._content.setdefault("channels", [])
        if channel not in channels:
            channels.append(channel)

    def remove_channel(self, channel: str) -> None:
        self._content["channels"] = [kept for kept in self._content.get("channels") or [] if kept != channel]

    def set_python_version(self, version: str) -> None:
        kept = self._content["dependencies"]
        self._remove(kept, "python")
        kept.insert(0, f"python={version}" if version[:1].isdigit() else f"python{version}")

    def set_pip_requirements(self, pip_requirements: list[str]) -> None:
        self._pip(make=True)[:] = list(pip_requirements)

    def set_pip_option(self, pip_option: str) -> None:
        self._pip(make=True).insert(0, pip_option)

    def serialize_to_string(self) -> str:
        return tinyyaml.dump(self._content)

    def save_to_file(self, base_directory: str | os.PathLike[str], conda_file_path: str | None = None) -> str:
        name = conda_file_path or "conda_dependencies.yml"
        (Path(base_directory) / name).write_text(self.serialize_to_string(), encoding="utf-8")
        return name

    save = save_to_file

    def as_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self._content)

    def _pip(self, make: bool = False) -> list[str]:
        for item in self._content["dependencies"]:
            if isinstance(item, dict) and "pip" in item:
                item["pip"] = item["pip"] or []
                return item["pip"]  # type: ignore[no-any-return]
        made: list[str] = []
        if make:
            self._content["dependencies"].append({"pip": made})
        return made

    @staticmethod
    def _remove(kept: list[Any], spec: str) -> None:
        name = package_name(spec)
        kept[:] = [item for item in kept if not (isinstance(item, str) and package_name(item) == name)]
