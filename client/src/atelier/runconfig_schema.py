"""The keys of run configuration and compute files, as 2017 (PascalCase) and v1 (camelCase) write them, and what may
stand under each. A mistake is named with its file and line."""

from __future__ import annotations

import difflib
import re
from typing import Any, Iterable

from atelier.exceptions import UserErrorException
from atelier.tinyyaml import Block

# What a key takes. A dictionary is a section with keys of its own.
TEXT, FLAG, NUMBER, LIST = "a text", "true or false", "a whole number", "a list"
MAP, WORDS, ANY = "keys with values", "a text or a list", "anything"
Kind = Any
_YES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

_IMAGE = {"address": TEXT, "username": TEXT, "password": TEXT, "registry_identity": ANY}
_DOCKER = {
    "enabled": FLAG, "use_docker": FLAG, "base_image": TEXT, "base_dockerfile": TEXT, "shared_volumes": FLAG,
    "gpu_support": FLAG, "nvidia_docker": FLAG, "arguments": LIST, "shm_size": TEXT, "base_image_registry": _IMAGE,
    "platform": ANY, "build_context": ANY, "base_os_image": TEXT,
}  # fmt: skip
_PYTHON = {
    "user_managed_dependencies": FLAG, "interpreter_path": TEXT, "conda_dependencies_file": TEXT,
    "conda_dependencies": MAP, "base_conda_environment": TEXT,
}  # fmt: skip
_SPARK = {"configuration": MAP, "repositories": LIST, "packages": LIST, "precache_packages": FLAG}
_ENVIRONMENT = {
    "name": TEXT, "version": ANY, "environment_variables": MAP, "python": _PYTHON, "docker": _DOCKER, "spark": _SPARK,
    "databricks": MAP, "r": ANY, "inferencing_stack_version": ANY, "asset_id": ANY, "auto_rebuild": FLAG,
}  # fmt: skip
RUN_CONFIGURATION: dict[str, Kind] = {
    # v1
    "name": TEXT, "script": TEXT, "arguments": LIST, "command": WORDS, "target": TEXT, "framework": TEXT,
    "communicator": TEXT, "auto_prepare_environment": FLAG, "max_run_duration_seconds": NUMBER, "node_count": NUMBER,
    "environment": _ENVIRONMENT, "history": {"output_collection": FLAG, "snapshot_project": FLAG,
    "directories_to_watch": LIST}, "spark": _SPARK, "hdi": {"yarn_deploy_mode": TEXT}, "docker": _DOCKER,
    "data_references": MAP, "data": MAP, "output_data": MAP, "source_directory_data_store": TEXT, "tensorflow": MAP,
    "mpi": MAP, "pytorch": MAP, "parallel_task": MAP, "paralleltask": MAP, "amlcompute": MAP, "aml_compute": MAP,
    "aml_k8s": MAP, "kubernetescompute": MAP, "cmk8s_compute": MAP, "cmk8scompute": MAP, "command_return_code_config":
    MAP, "batch_ai": MAP, "azure_ml_compute": MAP, "credential_passthrough": FLAG, "identity": ANY, "priority": ANY,
    "environment_version": ANY, "exposed_ports": ANY, "application_endpoints": ANY, "services": ANY, "job_name": TEXT,
    "sweep_overrides": ANY, "resources": MAP,
    # 2017
    "argument_vector": LIST, "environment_variables": MAP, "conda_dependencies_file": TEXT,
    "spark_dependencies_file": TEXT, "prepare_environment": FLAG, "tracked_run": FLAG, "use_sampling": FLAG,
    "user_managed_environment": FLAG, "python_location": TEXT, "data_source_substitutions": MAP,
    "data_source_settings": MAP, "native_shared_directory": TEXT,
}  # fmt: skip
COMPUTE: dict[str, Kind] = {
    "type": TEXT, "name": TEXT, "base_docker_image": TEXT, "address": TEXT, "port": NUMBER, "username": TEXT,
    "password": TEXT, "private_key_file": TEXT, "shared_volumes": FLAG, "nvidia_docker": FLAG,
    "native_shared_directory": TEXT, "user_managed_environment": FLAG, "python_location": TEXT,
    "spark_submit_location": TEXT, "yarn_deploy_mode": TEXT, "cpus": ANY, "memory": ANY, "shm_size": ANY, "gpus": ANY,
}  # fmt: skip
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*\Z")


def snake(name: str) -> str:
    """``PrepareEnvironment`` and ``prepareEnvironment`` -> ``prepare_environment``."""
    return re.sub(r"(?<=[a-z0-9])[A-Z]", lambda match: "_" + match.group().lower(), name[:1].lower() + name[1:])


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def pascal(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


class Checker:
    """Reads one file's content: its keys under their names in snake case, its values of the right type. All mistakes
    are collected, and ``finish`` raises UserErrorException with them."""

    def __init__(self, file: Any) -> None:
        self.file = str(file)
        self.wrong: list[str] = []
        self.notes: list[str] = []

    def section(self, content: Any, keys: dict[str, Kind], where: str = "") -> dict[str, Any]:
        """``content`` with the keys of ``keys``; what is no key of them is complained about."""
        found: dict[str, Any] = {}
        said: dict[str, str] = {}
        for key, value in content.items():
            name = snake(str(key))
            if name not in keys:
                self._unknown(content, key, keys, where)
            elif name in said:
                self._say(content, key, f"{key} says again what {said[name]} says")
            else:
                said[name] = str(key)
                found[name] = self._value(content, key, value, keys[name])
        return found

    def _say(self, content: Any, key: Any, text: str, hint: str = "") -> None:
        line = getattr(content, "lines", {}).get(key)
        self.wrong.append(f"{self.file}{f', line {line}' if line else ''}: {text}.{f' {hint}' if hint else ''}")

    def _unknown(self, content: Any, key: Any, keys: Iterable[str], where: str) -> None:
        near = difflib.get_close_matches(snake(str(key)), list(keys), 1, 0.7)
        hint = ""
        if near:
            hint = f"Did you mean {(pascal if str(key)[:1].isupper() else camel)(near[0])}?"
        elif not where and (key in getattr(content, "quoted", ()) or _VARIABLE.match(str(key))):
            hint = "An environment variable stands below EnvironmentVariables:, indented by two spaces."
        self._say(content, key, f"there is no key {key}{f' in {where}' if where else ''}", hint)

    def _value(self, content: Any, key: Any, value: Any, kind: Kind) -> Any:
        if value is None or kind == ANY:
            return value
        if isinstance(kind, dict):
            if isinstance(value, dict):
                return self.section(value, kind, str(key))
            self._say(content, key, f"{key} is a section with keys of its own, indented below it, and not {value!r}")
            return None
        read = {TEXT: _text, FLAG: _flag, NUMBER: _number, LIST: _list, MAP: _map, WORDS: _words}[kind]
        try:
            return read(value)
        except ValueError:
            self._say(content, key, f"{key} is {kind}, and not {_short(value)}{_fix(value, kind)}")
            return None

    def finish(self) -> None:
        if self.wrong:
            raise UserErrorException("\n".join(self.wrong))


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)[:80]


def _fix(value: Any, kind: Kind) -> str:
    if kind == LIST and isinstance(value, str):
        return ": write each word on a line of its own, beginning with a dash"
    if kind == TEXT and isinstance(value, bool):
        return ": put it in quotes"
    return ""


def _text(value: Any) -> str:
    if isinstance(value, (dict, list, bool)):
        raise ValueError
    return str(value)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _YES:
        return _YES[value.lower()]
    raise ValueError


def _number(value: Any) -> int:
    if isinstance(value, bool) or not re.match(r"-?\d+\Z", str(value)):
        raise ValueError
    return int(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError
    return value


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError
    return value


def _words(value: Any) -> Any:
    if not isinstance(value, (str, list)):
        raise ValueError
    return value


def lifted(content: Any, keys: dict[str, Kind], notes: list[str], file: Any) -> Any:
    """``content`` with variables that stand below ``EnvironmentVariables:`` without being indented put under it, as
    many files of 2017 have them. Only what is in quotes, or written like a variable, is taken for one."""
    if not isinstance(content, Block):
        return content
    made = Block(content.line)
    made.lines, made.quoted = content.lines, content.quoted
    open_at, moved = "", []
    for key, value in content.items():
        variable = key in content.quoted or (snake(key) not in keys and _VARIABLE.match(key))
        if open_at and variable and not isinstance(value, (dict, list)):
            if made[open_at] is None:
                made[open_at] = Block(content.lines[key])
            made[open_at][key] = value
            made[open_at].lines[key] = content.lines[key]
            moved.append(content.lines[key])
            continue
        open_at = key if snake(key) == "environment_variables" and value is None else ""
        made[key] = value
    if moved:
        notes.append(
            f"{file}, line {moved[0]}: what stands below EnvironmentVariables: is taken as environment variables; "
            "indent it by two spaces so that every reader sees it so."
        )
    return made
