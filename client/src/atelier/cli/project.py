"""A project folder as the Workbench keeps it: ``aml_config/`` with .compute and .runconfig files."""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path
from typing import Any

from atelier import attach, tinyyaml
from atelier.exceptions import ComputeTargetException, UserErrorException
from atelier.runconfig import RunConfiguration, read_yaml
from atelier.runconfig_schema import COMPUTE, Checker, camel

FOLDER = "aml_config"
PLACES = (FOLDER, ".azureml", "")
CONDA = f"{FOLDER}/conda_dependencies.yml"
_COMPUTE_HEAD = "# A compute target of this project. Its password and keys are kept by the studio, and not here.\n"
_CONDA_TEXT = """\
# The packages of this project's runs: an image is made of them, or a Python environment.
name: project_environment
dependencies:
#  - python=3.11
#  - scikit-learn
#  - pip:
#    - pandas
"""
_RUNCONFIG_TEXT = """\
# $file is the script that the command line names; words after it are its first arguments.
ArgumentVector:
- "$file"
Target: {target}
EnvironmentVariables:
  # EXAMPLE_ENV_VAR: "Example Value"
Framework: Python
"""
# The kinds of targets by the words of 2017 and ours.
KINDS = {"remotedocker": "remotedocker", "localdocker": "docker", "docker": "docker", "local": "local"}


def named(text: str, longest: int = 64) -> str:
    """A text as a name that experiments and environments may have."""
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._")[:longest]
    return clean or "project"


def project_name(folder: Path) -> str:
    return named(folder.resolve().name)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# -- writing ------------------------------------------------------------------------------------------------------


def compute_write(folder: Path, name: str, kind: str, settings: dict[str, Any]) -> Path:
    """``aml_config/<name>.compute``. What people edited in it stays; a password in it goes."""
    path = folder / FOLDER / f"{name}.compute"
    path.parent.mkdir(exist_ok=True)
    here = kind == "local"
    content: dict[str, Any] = {"type": kind}
    content.update({key: value for key, value in settings.items() if value not in (None, "")})
    if not here:
        content.update({"baseDockerImage": None, "sharedVolumes": True, "nvidiaDocker": False})
    content.update({"nativeSharedDirectory": None, "userManagedEnvironment": here, "pythonLocation": None})
    content["sparkSubmitLocation"] = None
    if path.is_file():
        kept = compute_read(path)
        edited = ("base_docker_image", "shared_volumes", "nvidia_docker", "native_shared_directory",
                  "user_managed_environment", "python_location", "spark_submit_location")  # fmt: skip
        content.update({camel(key): kept[key] for key in edited if kept.get(key) is not None})
    path.write_text(_COMPUTE_HEAD + tinyyaml.dump(content), encoding="utf-8")
    return path


def runconfig_write(
    folder: Path,
    name: str,
    target: str,
    *,
    conda: bool,
    variables: dict[str, str] | None = None,
    force: bool = False,
) -> Path | None:
    """``aml_config/<name>.runconfig`` with the keys of 2017; None where one is there already."""
    path = folder / FOLDER / f"{name}.runconfig"
    if path.is_file() and not force:
        return None
    path.parent.mkdir(exist_ok=True)
    text = _RUNCONFIG_TEXT.format(target=tinyyaml.dump(target).strip())
    if variables:
        shown = "".join(f"  {key}: {tinyyaml.dump(str(value)).strip()}\n" for key, value in variables.items())
        text = text.replace('  # EXAMPLE_ENV_VAR: "Example Value"\n', shown)
    if conda:
        text += f"CondaDependenciesFile: {CONDA}\n"
    path.write_text(text + "PrepareEnvironment: true\nTrackedRun: true\n", encoding="utf-8")
    return path


def conda_write(folder: Path) -> Path | None:
    """``aml_config/conda_dependencies.yml``; None where one is there already."""
    path = folder / CONDA
    if path.is_file():
        return None
    path.parent.mkdir(exist_ok=True)
    path.write_text(_CONDA_TEXT, encoding="utf-8")
    return path


# -- reading ------------------------------------------------------------------------------------------------------


def compute_read(path: Path) -> dict[str, Any]:
    """A .compute file under names in snake case. Raises UserErrorException with file and line of what is wrong."""
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserErrorException(f"{path} is not a compute file.")
    checker = Checker(path)
    found = checker.section(content, COMPUTE)
    checker.finish()
    return found


def find(folder: Path, name: str, ending: str) -> Path | None:
    return next((one for place in PLACES if (one := folder / place / f"{name}{ending}").is_file()), None)


def runconfig_find(folder: Path, name: str) -> Path | None:
    """The file of a run configuration: by its name, or its path."""
    if name.endswith((".runconfig", ".yml", ".yaml")):
        return folder / name if (folder / name).is_file() else find(folder, Path(name).stem, ".runconfig")
    return find(folder, name, ".runconfig")


def configuration(workspace: Any, folder: Path, name: str, target: str | None = None) -> RunConfiguration:
    """The run configuration of that name, ready to be submitted: from its file, or made for the target of that name.
    ``target`` is another target than it says. Raises UserErrorException with the way out."""
    file = runconfig_find(folder, name)
    targets = {one["name"]: one for one in workspace._list("targets")}
    if file is not None:
        config = RunConfiguration.load(file)
        wanted = target or (config.target if config._target_given else file.stem)
    else:
        config, wanted = RunConfiguration(), target or name
    compute = find(folder, wanted, ".compute")
    settings = compute_read(compute) if compute is not None else {}
    if settings.get("password"):
        say(f"{compute} has a password in it. It is not used: the studio keeps its own. Take it out of the file.")
    found = _target(workspace, targets, wanted, settings, compute)
    config.target = found["name"]
    if file is None:
        if not found["containers"]:
            config.environment.python.user_managed_dependencies = True
        elif (folder / CONDA).is_file():
            config.environment.python.conda_dependencies_file = str(folder / CONDA)
            config._environment_given = True
        with_packages = f", with the packages of {CONDA}" if config._environment_given else ""
        say(f"There is no {FOLDER}/{name}.runconfig: the run goes to the target {found['name']}{with_packages}.")
    _apply(config, settings, containers=bool(found["containers"]))
    if config._environment_given and not config.environment.name:
        config.environment.name = project_name(folder)
    return config


def _apply(config: RunConfiguration, settings: dict[str, Any], *, containers: bool) -> None:
    """What a .compute file says of the runs on its target."""
    python, docker = config.environment.python, config.environment.docker
    if settings.get("user_managed_environment"):
        python.user_managed_dependencies = True
        config._environment_given = bool(settings.get("python_location"))
    if settings.get("python_location"):
        python.interpreter_path = settings["python_location"]
        config._environment_given = True
    if not containers:
        return
    if settings.get("base_docker_image") and not docker.base_image and not docker.base_dockerfile:
        docker.base_image = settings["base_docker_image"]
        config._environment_given = True
    if settings.get("nvidia_docker"):
        docker.gpu_support = True


def _target(
    workspace: Any, targets: dict[str, Any], name: str, settings: dict[str, Any], file: Path | None
) -> dict[str, Any]:
    """The target of that name. ``docker`` is the studio's own Docker, whatever it is called, and is attached where it
    is not there yet."""
    if name in targets:
        return dict(targets[name])
    kind = settings.get("type") or name
    if kind in ("docker", "localdocker"):
        here = [one for one in targets.values() if one["driver"] == "docker"]
        if len(here) == 1:
            say(f"{name}: the run goes to the Docker target {here[0]['name']}.")
            return dict(here[0])
        if not here:
            return docker_attach(workspace, name)
    known = ", ".join(sorted(targets))
    near = difflib.get_close_matches(name, list(targets), 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    if file is not None:
        words = [f"--{key} {settings[key]}" for key in ("type", "address", "port", "username") if settings.get(key)]
        hint = f" {file} describes it; attach it: atelier computetarget attach --name {name} {' '.join(words)}"
    raise UserErrorException(
        f"There is neither a run configuration {FOLDER}/{name}.runconfig nor a compute target {name} in "
        f"{workspace.name}.{hint} Targets: {known}."
    )


def docker_attach(workspace: Any, name: str) -> dict[str, Any]:
    """The studio's own Docker under that name, attached now. Raises ComputeTargetException with the reason."""
    data, _known = attach.attach(workspace, name, attach.AttachConfiguration("docker", {}))
    if data["state"] != "Succeeded":
        workspace._call("DELETE", f"targets/{attach.segment(name)}")
        raise ComputeTargetException(f"The studio's Docker cannot be used: {problems_text(data)}")
    say(f"The studio's Docker is attached as {name}.")
    return data


def problems_text(data: dict[str, Any]) -> str:
    return " ".join(f"{one['message']} {one.get('hint') or ''}".strip() for one in data.get("problems") or ())
