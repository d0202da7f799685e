"""Options of ``docker run`` as old scripts and run configurations give them, as what a run asks of its container."""

from __future__ import annotations

import os
import shlex
from typing import Any, Iterable

from atelier.exceptions import UserErrorException

_RESOURCES = {
    "--gpus": "gpus",
    "--cpus": "cpus",
    "--memory": "memory",
    "-m": "memory",
    "--shm-size": "shm_size",
    "--pids-limit": "pids",
}
_VARIABLES = ("-e", "--env")
_INSTEAD = {
    "-v": "volumes belong to the target's settings",
    "--volume": "volumes belong to the target's settings",
    "--mount": "volumes belong to the target's settings",
    "--ipc": "give shm_size, such as '2g', for more shared memory",
    "--privileged": "containers here have no more rights than they need",
    "--user": "containers run as the user of the target",
    "-u": "containers run as the user of the target",
}


def parse(arguments: Iterable[Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(resources, environment variables). Raises UserErrorException naming every option that cannot be given here."""
    words = [word for argument in arguments for word in _split(str(argument))]
    resources: dict[str, Any] = {}
    variables: dict[str, str] = {}
    refused: list[str] = []
    at = 0
    while at < len(words):
        name, equals, value = words[at].partition("=")
        if name[:2] in ("-m", "-e") and len(name) > 2:  # -m4g, -eNAME=value
            name, value, equals = name[:2], words[at][2:], "="
        at += 1
        wanted = name in _RESOURCES or name in _VARIABLES or name == "--runtime"
        if not wanted:
            hint = f" ({_INSTEAD[name]})" if name in _INSTEAD else ""
            refused.append(name + hint)
            if not equals and at < len(words) and not words[at].startswith("-"):
                at += 1  # its value
            continue
        if not equals:
            if at >= len(words):
                raise UserErrorException(f"docker arguments: {name} has no value.")
            value = words[at]
            at += 1
        if name in _RESOURCES:
            resources[_RESOURCES[name]] = value.strip("\"'")
        elif name == "--runtime":
            if value != "nvidia":
                refused.append(f"--runtime {value}")
            else:
                resources.setdefault("gpus", "all")
        else:
            key, given, text = value.partition("=")
            if given or key in os.environ:  # as docker does: a name alone is taken from here
                variables[key] = text if given else os.environ[key]
    if refused:
        raise UserErrorException(
            f"docker arguments: {', '.join(refused)} cannot be given to a run here. What can: --gpus, --cpus, "
            "--memory, --shm-size, --pids-limit and -e."
        )
    return resources, variables


def _split(argument: str) -> list[str]:
    """An element of the list: an option, its value, or several of them in one text."""
    first = argument.split(None, 1)[0] if argument.strip() else ""
    variable = first.startswith(("-e", "--env")) and "=" in first  # its value may hold spaces
    if not first.startswith("-") or variable:
        return [argument] if first else []
    return shlex.split(argument)


def asked(run_config: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """What a run configuration asks of its container: ``docker``, ``environment.docker`` and ``resources`` together,
    the more particular first."""
    section, runtime = run_config.environment.docker, run_config.docker
    found: dict[str, Any] = {}
    variables: dict[str, str] = {}
    if section.gpu_support:
        found["gpus"] = "all"
    for part in (section, runtime):
        resources, more = parse(part.arguments or ())
        found.update(resources)
        variables.update(more)
        if part.shm_size:
            found["shm_size"] = part.shm_size
    found.update({key: value for key, value in run_config.resources.items() if value not in (None, "")})
    return found, variables
