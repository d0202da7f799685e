"""What to submit: a source folder, its script or command, where and in what it runs."""

from __future__ import annotations

import logging
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier import docker_options
from atelier.data.bindings import Bindings
from atelier.environment import Environment
from atelier.exceptions import UserErrorException
from atelier.runconfig import DEFAULT_SECONDS, DockerConfiguration, RunConfiguration

if TYPE_CHECKING:
    from atelier.workspace import Workspace

log = logging.getLogger("atelier")


class ScriptRunConfig:
    """``run_config`` may be changed until the submit."""

    MAX_RUN_DURATION_SECONDS_DEFAULT = DEFAULT_SECONDS

    def __init__(
        self,
        source_directory: str | os.PathLike[str] | None = None,
        script: str | None = None,
        arguments: list[Any] | None = None,
        run_config: RunConfiguration | None = None,
        _telemetry_values: Any = None,
        compute_target: Any = None,
        environment: Environment | None = None,
        distributed_job_config: Any = None,
        resume_from: Any = None,
        max_run_duration_seconds: int | None = DEFAULT_SECONDS,
        command: str | list[str] | None = None,
        docker_runtime_config: DockerConfiguration | None = None,
    ) -> None:
        if script and command:
            raise UserErrorException("Give either script= or command=, not both.")
        if distributed_job_config is not None:
            raise UserErrorException("distributed_job_config: no target here runs one job on several nodes.")
        self.source_directory = str(source_directory or ".")
        self.script = script or (run_config.script if run_config else None)
        self.arguments = list(arguments if arguments is not None else run_config.arguments if run_config else [])
        self.command = command
        self.run_config = run_config or RunConfiguration()
        if compute_target is not None:
            self.run_config.target = compute_target
        if environment is not None:
            self.run_config.environment = environment
            self.run_config._environment_given = True
        if run_config is None or max_run_duration_seconds != DEFAULT_SECONDS:
            self.run_config.max_run_duration_seconds = max_run_duration_seconds
        if docker_runtime_config is not None:
            self.run_config.docker = docker_runtime_config
        self._bindings = Bindings()

    def _request(self, workspace: Workspace) -> dict[str, Any]:
        """The body of the submit, but for the snapshot."""
        config = self.run_config
        if config.framework not in ("Python", "python"):
            raise UserErrorException(
                f"framework {config.framework!r}: targets here run Python scripts and commands. A script that starts "
                "Spark itself, with pyspark among its packages, runs with the framework Python."
            )
        environment = config.environment
        seconds = config.max_run_duration_seconds
        command = self.command if self.command is not None else config.command
        bindings = self._bindings = Bindings(workspace)
        bindings.references(config.data_references)
        bindings.references(config.data)
        bindings.references(config.output_data)
        bindings.take_all([*config.inputs, *config.outputs])
        target, resources, variables, images = self._place(workspace)
        asked: dict[str, Any] = {
            "script": (self.script or "").replace(os.sep, "/"),
            "arguments": [bindings.text(argument) for argument in self.arguments],
            "command": None
            if not command
            else shlex.split(command)
            if isinstance(command, str)
            else [bindings.text(c) for c in command],
            "target": target,
            "environment": environment._reference(workspace, images) if self._has_environment() else None,
            "environment_variables": bindings.variables({**variables, **environment.environment_variables}),
            "time_limit_s": None if not seconds or seconds >= DEFAULT_SECONDS else int(seconds),
        }
        if resources:
            asked["resources"] = resources
        asked.update(bindings.body())
        return asked

    def _place(self, workspace: Workspace) -> tuple[str, dict[str, Any], dict[str, str], bool]:
        """(target, resources, variables, whether there are images) as the settings of Docker say. Those mean nothing to
        a run that is not in a container, unless they were asked for by ``resources``."""
        config = self.run_config
        section = config.environment.docker
        resources, variables = docker_options.asked(config)
        wanted = bool(config.docker.use_docker or section.enabled or section.base_dockerfile)
        if not (wanted or resources or variables or section.base_image):
            return config.target, {}, {}, True
        targets = list(workspace._list("targets"))
        found = next((one for one in targets if one["name"] == config.target), None)
        if found is None:
            return config.target, resources, variables, True  # the studio says that it is not there
        if found.get("containers"):
            return config.target, resources, variables, True
        here = [one["name"] for one in targets if one["driver"] == "docker"]
        if wanted and found["driver"] == "local":
            target = _docker_target(config.target, here)
            log.warning("Docker is asked for: the run goes to the target %s.", target)
            return target, resources, variables, True
        if section.base_image:
            log.warning(
                "The image %s is not used on %s: runs get a Python of their own there.%s",
                section.base_image,
                config.target,
                f" The target {here[0]} has it." if len(here) == 1 else "",
            )
        return config.target, dict(config.resources), {}, False

    def _has_environment(self) -> bool:
        """Whether an environment was given or set up; else the run has the target's own Python."""
        environment = self.run_config.environment
        touched = (
            environment.python.user_managed_dependencies
            or environment.docker.base_dockerfile
            or environment.docker.base_image
            or any(True for _ in environment.python.conda_dependencies.as_dict()["dependencies"])
        )
        return bool(self.run_config._environment_given or environment.name or touched)

    def _check(self) -> None:
        folder = Path(self.source_directory)
        if not folder.is_dir():
            raise UserErrorException(f"There is no source folder {folder.resolve()}.")
        if not self.script and not self.command and not self.run_config.command:
            raise UserErrorException("What is to run? Give script= or command=.")
        if self.script and not (folder / self.script).is_file():
            raise UserErrorException(f"There is no script {self.script} in {folder.resolve()}.")


def _docker_target(target: str, here: list[str]) -> str:
    """The one Docker target of the studio's own machine. Raises UserErrorException with the way out."""
    if len(here) == 1:
        return here[0]
    if here:
        raise UserErrorException(
            f"Docker is asked for, and the workspace has {len(here)} Docker targets: {', '.join(here)}. "
            "Name one of them as the compute target."
        )
    raise UserErrorException(
        f"Docker is asked for, and {target} runs without containers. Attach the studio's Docker first: "
        "`atelier computetarget attach --name docker --type localdocker`, or on the workspace's compute page; "
        "or leave Docker out (use_docker=False, environment.docker.enabled = False)."
    )
