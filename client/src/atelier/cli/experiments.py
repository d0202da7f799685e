"""atelier experiment submit, experiment prepare, and runconfiguration ..."""

from __future__ import annotations

import argparse
import codecs
import json
import sys
import time
from pathlib import Path
from typing import Any

from atelier.cli import project
from atelier.cli.commands import limits_of
from atelier.cli.output import pairs, show_json, show_table
from atelier.cli.sessions import workspace_of
from atelier.environment import Environment
from atelier.exceptions import StudioUnreachable, UserErrorException
from atelier.run_watch import ENDED
from atelier.runconfig import RunConfiguration
from atelier.script_run_config import ScriptRunConfig

INTERRUPTED = 130
FAILED = 3


def _words(arguments: argparse.Namespace) -> list[str]:
    """The script's arguments: all that follows its name, with what followed ``--``."""
    words = list(arguments.words)
    if arguments.script_arguments:
        words += (["--"] if words else []) + arguments.script_arguments
    return words


def submit(arguments: argparse.Namespace) -> int:
    from atelier.experiment import Experiment

    folder = Path.cwd()
    name = arguments.run_configuration or arguments.target or "local"
    workspace = workspace_of(arguments)
    config = project.configuration(workspace, folder, name, arguments.target)
    script = arguments.script or config.script
    if not script:
        raise UserErrorException("Which script? Name it: atelier experiment submit -c local myscript.py")
    if not (folder / script).is_file():
        raise UserErrorException(f"There is no script {script} in {folder}.")
    variables = {key: value or "" for key, value in pairs(arguments.set).items()}
    config.environment_variables = {**config.environment_variables, **variables}
    limits_of(arguments, config)
    source = ScriptRunConfig(str(folder), script, [*config.arguments, *_words(arguments)], run_config=config)
    experiment = arguments.experiment or project.project_name(folder)
    run = Experiment(workspace, experiment).submit(source, tags=pairs(arguments.tag), name=arguments.name)
    if not arguments.wait:
        show_json(run._load()) if arguments.json else print(run.id)
        if not arguments.json:
            project.say(f"Watch it at {run.get_portal_url()} or with: atelier run logs -f {run.id}")
        return 0
    if arguments.json:
        run.wait_for_completion(raise_on_error=False)
        show_json(run._load(fresh=True))
        return _code(run._load())
    return Watch(run).follow()


def _code(data: dict[str, Any]) -> int:
    """The exit code of the run, where it has one."""
    if data["status"] == "Completed":
        return 0
    if data["status"] == "Canceled":
        return INTERRUPTED
    code = (data.get("error") or {}).get("exit_code")
    return code if isinstance(code, int) and 0 < code < 256 else FAILED


class Watch:
    """A run's output in the terminal, until its end or until somebody has seen enough."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.offset = 0
        self.status = ""
        self.shown = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def follow(self) -> int:
        print(f"RunId: {self.run.id}")
        print(f"Web View: {self.run.get_portal_url()}", flush=True)
        while True:
            try:
                self._stream()
                return self._end()
            except KeyboardInterrupt:
                answer = self._asked()
                if answer == "detach":
                    return INTERRUPTED
                if answer == "cancel":
                    self.run.cancel()
                    project.say("The run was asked to end.")

    def _write(self, piece: bytes) -> None:
        if not self.shown:
            self.shown = True
            print(flush=True)
        self.offset += len(piece)
        sys.stdout.write(self._decoder.decode(piece))
        sys.stdout.flush()

    def _waiting(self, data: dict[str, Any]) -> None:
        status = data["status"]
        if status == self.status or status in ENDED or self.shown:
            return
        self.status = status
        place = data.get("queue_position")
        print(f"Status: {status}{f' (place {place} in the queue)' if place else ''}", flush=True)

    def _stream(self) -> None:
        self.run.stream(self._write, start=self.offset, waiting=self._waiting)
        sys.stdout.write(self._decoder.decode(b"", True))
        while self.run.get_status() not in ENDED:
            time.sleep(0.2)

    def _end(self) -> int:
        data = self.run._load(fresh=True)
        print(f"\n{'-' * 40}")
        for warning in data.get("warnings") or ():
            print(f"Warning: {warning.get('message', warning) if isinstance(warning, dict) else warning}")
        error = data.get("error")
        if error:
            print(f"Error: {error.get('message') or json.dumps(error)}")
        print(f"RunId: {self.run.id}\nStatus: {data['status']}\nWeb View: {data['url']}", flush=True)
        return _code(data)

    def _asked(self) -> str:
        """cancel, detach or go on."""
        print(flush=True)
        where = f"The run {self.run.id} goes on: {self.run._load()['url']}"
        if not sys.stdin or not sys.stdin.isatty():
            project.say(f"Detached. {where}")
            return "detach"
        try:
            sys.stderr.write("Cancel the run, detach from it, or go on watching? [c/d/W] ")
            sys.stderr.flush()
            answer = sys.stdin.readline().strip().lower()
        except KeyboardInterrupt:
            answer = "d"
            print(flush=True)
        if answer.startswith("c"):
            return "cancel"
        if answer.startswith("d"):
            project.say(f"Detached. {where}\nIts output: atelier run logs -f {self.run.id}")
            return "detach"
        return "go on"


def prepare(arguments: argparse.Namespace) -> int:
    folder = Path.cwd()
    name = arguments.run_configuration or arguments.target or "local"
    workspace = workspace_of(arguments)
    config = project.configuration(workspace, folder, name, arguments.target)
    source = ScriptRunConfig(str(folder), run_config=config)
    target, _resources, _variables, images = source._place(workspace)
    environment = config.environment
    if not source._has_environment():
        environment = Environment.get(workspace, "system")
    elif not images:
        environment.docker.base_image = None
    begun = environment.build(workspace, target=target)
    if arguments.json:
        begun.wait_for_completion()
        show_json({"reused": begun.reused, **begun._build()})
        return 0
    try:
        begun.wait_for_completion(show_output=True)
    except KeyboardInterrupt:
        print(flush=True)
        project.say(f"The build of {environment.name} goes on; a run waits for it by itself.")
        return INTERRUPTED
    except StudioUnreachable as error:
        project.say(f"{error} The build goes on.")
        return 1
    return 0


def runconfiguration_create(arguments: argparse.Namespace) -> None:
    if arguments.framework == "PySpark":
        raise UserErrorException(
            "PySpark scripts need Spark compute, which this version of the studio does not have. A script that starts "
            "Spark itself runs with the framework Python, and pyspark among the packages of "
            f"{project.CONDA}; in containers its image needs Java too."
        )
    workspace_target = arguments.target or arguments.name
    folder = Path.cwd()
    variables = {key: value or "" for key, value in pairs(arguments.set).items()}
    local = workspace_target == "local"
    path = project.runconfig_write(
        folder,
        arguments.name,
        workspace_target,
        conda=not local,
        variables=variables,
        force=arguments.force,
    )
    if path is None:
        raise UserErrorException(
            f"{project.FOLDER}/{arguments.name}.runconfig is there already: --force writes it anew, or choose another "
            "name."
        )
    written = [path, *([] if local else [one for one in [project.conda_write(folder)] if one is not None])]
    names = [str(one.relative_to(folder)) for one in written]
    if arguments.json:
        return show_json(names)
    for one in names:
        print(f"Wrote {one}")
    print(f"Run a script with it: atelier experiment submit -c {arguments.name} myscript.py")
    return None


def runconfiguration_list(arguments: argparse.Namespace) -> None:
    folder = Path.cwd()
    items = []
    for place in project.PLACES:
        for path in sorted((folder / place).glob("*.runconfig")):
            config = RunConfiguration.load(path)
            items.append({
                "name": path.stem,
                "target": config.target if config._target_given else path.stem,
                "framework": config.framework,
                "file": str(path.relative_to(folder)),
            })  # fmt: skip
    if arguments.json:
        return show_json(items)
    columns = [(key.upper(), lambda i, key=key: i[key]) for key in ("name", "target", "framework", "file")]
    empty = f"No run configurations in {project.FOLDER}. Make one: atelier runconfiguration create --name docker"
    return show_table(items, columns, empty)  # type: ignore[arg-type]
