"""What a unit's container is made of: name, labels, limits, mounts, rights. Pure: nothing is asked here."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from docker.types import DeviceRequest, LogConfig, Mount

from compute import resources
from compute.drivers.base import Refused
from compute.drivers.container_fields import DEFAULT_PIDS, DEFAULT_SHM
from compute.drivers.container_files import GATE_PLACE, SHIM_PLACE, Bind
from compute.spec import UnitSpec
from studio.lib.errors import Invalid

UNIT = "atelier.unit"
INSTALLATION = "atelier.installation"
NEVER = "0001-01-01"  # how an engine's times begin that never were
PYTHON = "python3"
STOP_S = 15  # the engine's patience when it stops itself; the shim kills its command after 10 s

# Of the rights that Docker gives to a root user in a container by default, those that no run needs.
DROPPED = ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP", "SETPCAP", "SYS_CHROOT"]


def container_name(key: str) -> str:
    return f"atelier-{key}"


def labels(spec: UnitSpec, installation: str) -> dict[str, str]:
    return {UNIT: spec.key, INSTALLATION: installation, "atelier.kind": spec.kind}


def is_ours(listed: Mapping[str, Any]) -> bool:
    """Whether a container in an engine's list is that of the unit which its label names. A label alone says nothing:
    what an image is labelled with, containers of its builds are too."""
    key, names = str((listed.get("Labels") or {}).get(UNIT) or ""), listed.get("Names") or []
    return not names or f"/{container_name(key)}" in names


# Limits.


@dataclass(frozen=True)
class Limits:
    """Of one container. None and 0 mean no limit; memory and shm_size in bytes."""

    cpus: float | None = None
    memory: int | None = None
    shm_size: int | None = None
    gpus: int | str = 0
    pids: int | None = None


def configured(config: Mapping[str, Any]) -> Limits:
    """The limits of a target. Raises Invalid with every wrong field, named as the target names it."""
    given = {name: config.get(name) for name in resources.LABELS}
    given["pids"] = given["pids"] or DEFAULT_PIDS
    given["shm_size"] = given["shm_size"] or DEFAULT_SHM
    try:
        return Limits(**resources.parse(given))
    except Invalid as error:
        errors = {name.removeprefix("resources."): texts for name, texts in (error.errors or {}).items()}
        raise Invalid(_("Some limits of the target cannot be used."), errors=errors) from error


def granted(asked: Mapping[str, Any], most: Limits) -> Limits:
    """What a unit gets: what it asked for, else what its target gives. Raises Refused with every excess."""
    errors = [_excess(name, asked[name], limit) for name, limit in _maxima(most) if name in asked]
    errors += [_gpu_excess(asked["gpus"], most.gpus)] if "gpus" in asked else []
    if any(errors):
        raise Refused(" ".join(text for text in errors if text))
    return Limits(
        cpus=asked.get("cpus", most.cpus),
        memory=asked.get("memory", most.memory),
        shm_size=asked.get("shm_size", most.shm_size),
        gpus=asked.get("gpus", most.gpus),
        pids=asked.get("pids", most.pids),
    )


def _maxima(most: Limits) -> list[tuple[str, Any]]:
    return [("cpus", most.cpus), ("memory", most.memory), ("shm_size", most.shm_size), ("pids", most.pids)]


def _excess(name: str, asked: Any, limit: Any) -> str:
    if limit is None or asked <= limit:
        return ""
    shown = {"asked": amount(name, asked), "limit": amount(name, limit)}
    return {
        "cpus": _("The run asks for %(asked)s processors, its target gives %(limit)s at most."),
        "memory": _("The run asks for %(asked)s of memory, its target gives %(limit)s at most."),
        "shm_size": _("The run asks for %(asked)s of shared memory, its target gives %(limit)s at most."),
        "pids": _("The run asks for %(asked)s processes, its target gives %(limit)s at most."),
    }[name] % shown


def _gpu_excess(asked: int | str, most: int | str) -> str:
    wanted = float("inf") if asked == "all" else float(asked)
    limit = float("inf") if most == "all" else float(most)
    if wanted <= limit:
        return ""
    return _("The run asks for %(asked)s GPUs, its target gives %(limit)s at most.") % {"asked": asked, "limit": most}


def amount(name: str, value: Any) -> str:
    """A limit in words for a person: bytes as 64 MiB."""
    if name not in ("memory", "shm_size"):
        return f"{value:g}" if isinstance(value, float) else str(value)
    for size, unit in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value} bytes"


# Volumes.

_MODES = {"": False, "rw": False, "ro": True}


def volumes(text: str) -> tuple[list[Bind], list[str]]:
    """(folders of the machine that every unit gets, what is wrong with the lines in words for a person)."""
    found, wrong = [], []
    for line in (text or "").splitlines():
        if not line.strip():
            continue
        source, _colon, rest = line.strip().partition(":")
        target, _colon, mode = rest.partition(":")
        if not (source.startswith("/") and target.startswith("/")) or mode not in _MODES:
            wrong.append(_("%(line)r is not understood. Write /on/the/machine:/in/the/container:ro.") % {"line": line})
        elif ".." in source.split("/") or ".." in target.split("/"):
            wrong.append(_("%(line)r leads out of its folder: write both paths without '..'.") % {"line": line})
        elif re.match(r"/+((proc|sys|dev|opt/atelier)(/|$)|$)", posixpath.normpath(target)):
            wrong.append(_("%(target)s cannot be laid over in a container. Choose another.") % {"target": target})
        else:
            found.append(Bind(posixpath.normpath(source), posixpath.normpath(target), _MODES[mode]))
    return found, wrong


def not_allowed(wanted: Iterable[Bind], allowed: Iterable[str]) -> list[str]:
    """The folders of the machine that lie in none of ``allowed``."""
    roots = [folder.rstrip("/") for folder in allowed]
    return [
        bind.source
        for bind in wanted
        if not any(bind.source == root or bind.source.startswith(root + "/") for root in roots)
    ]


def not_allowed_words(folder: str) -> str:
    return _(
        "The folder %(folder)s may not be given to containers. A site administrator can allow it with "
        "ATELIER_DOCKER_VOLUMES, or attach the target."
    ) % {"folder": folder}


def probe_bind(source: str, target: str) -> Mount:
    return Mount(target, source, type="bind", read_only=True)


# The container.


def create_arguments(
    spec: UnitSpec,
    *,
    image: str,
    installation: str,
    place: str,
    binds: Sequence[Bind],
    limits: Limits,
    user: tuple[int, int, list[int]],
    userns: str = "",
    labelled: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arguments of the engine's create_container, of its create_host_config). No secret is among them.

    ``labelled``: the machine uses SELinux, which would keep containers from folders that bear no label for them.
    """
    uid, gid, groups = user
    python = spec.python or PYTHON
    gate = {"ATELIER_GATE": GATE_PLACE} if any(bind.target == GATE_PLACE for bind in binds) else {}
    container = {
        "image": image,
        "name": container_name(spec.key),
        "entrypoint": [python, "-I", "-S", f"{SHIM_PLACE}/supervisor.py"],
        "command": ["--foreground", place],
        "user": f"{uid}:{gid}",
        "working_dir": f"{place}/code",
        "environment": {"HOME": "/tmp", "USER": "atelier", "LOGNAME": "atelier", **gate},  # noqa: S108 - its own /tmp
        "labels": labels(spec, installation),
        "healthcheck": {"test": ["NONE"]},
        "stop_signal": "SIGTERM",
        "stop_timeout": STOP_S,
    }
    host = {
        "mounts": [Mount(bind.target, bind.source, type="bind", read_only=bind.read_only) for bind in binds],
        "cap_drop": DROPPED if uid == 0 else ["ALL"],
        "security_opt": ["no-new-privileges", *(["label=disable"] if labelled else [])],
        "restart_policy": {"Name": "no"},
        "log_config": LogConfig(type="json-file", config={"max-size": "1m", "max-file": "1"}),
        "network_mode": "bridge",
        "group_add": [str(group) for group in groups],
        **_limit_arguments(limits),
    }
    if userns:
        host["userns_mode"] = userns
    return container, host


def _limit_arguments(limits: Limits) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if limits.cpus:
        found["nano_cpus"] = int(limits.cpus * 1_000_000_000)
    if limits.memory:
        found["mem_limit"] = found["memswap_limit"] = limits.memory  # no swap beside it: a limit is a limit
    if limits.shm_size:
        found["shm_size"] = limits.shm_size
    if limits.pids:
        found["pids_limit"] = limits.pids
    if limits.gpus:
        count = -1 if limits.gpus == "all" else int(limits.gpus)
        found["device_requests"] = [DeviceRequest(count=count, capabilities=[["gpu"]])]
    return found


def ever_started(state: Mapping[str, Any]) -> bool:
    """Of a container's State: whether it ran at any time, however it ended."""
    return bool(state.get("Running")) or not str(state.get("StartedAt") or NEVER).startswith(NEVER)
