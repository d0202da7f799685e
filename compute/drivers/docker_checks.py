"""What the test button of a target with containers looks at, and what its engine says of itself."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
import time
import uuid
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.translation import gettext as _
from docker import APIClient

from compute.drivers import container_fields, containers, engine
from compute.drivers.base import DriverError, HostKeyUnknown, NotFound, Refused
from compute.drivers.container_files import Bind, mounted_below
from compute.drivers.engine import asking
from compute.installation import installation_id
from compute.spec import Problem, UnitSpec
from studio.datasets.backends.local import studio_places
from studio.lib.errors import Invalid

if TYPE_CHECKING:
    from compute.drivers.docker import DockerDriver

LEAST_API = (1, 40)  # engine 19.03: the first that can be asked for GPUs
INFO_S = 60.0
PROBE = "/atelier-probe"
PROBE_LABEL = "atelier.probe"
PROBE_LEFT_S = 600

_infos: weakref.WeakKeyDictionary[APIClient, tuple[float, dict[str, Any]]] = weakref.WeakKeyDictionary()


def engine_info(driver: DockerDriver, *, fresh: bool = False) -> dict[str, Any]:
    """What the engine says of itself, at most a minute old. Raises Unreachable."""
    client = driver.engine()
    at, found = _infos.get(client, (0.0, {}))
    if fresh or time.monotonic() - at > INFO_S or not found:
        with asking(driver.address):
            found = client.info()
        _infos[client] = (time.monotonic(), found)
    return found


def facts(driver: DockerDriver) -> dict[str, Any]:
    info = engine_info(driver, fresh=True)
    uid, gid, _groups = driver._files.user()
    return {
        "engine": f"Docker {info.get('ServerVersion', '?')}",
        "api": driver.engine().api_version,
        "system": info.get("OperatingSystem"),
        "architecture": info.get("Architecture"),
        "cpus": info.get("NCPU"),
        "memory_bytes": info.get("MemTotal"),
        "gpus": driver._files.gpus(),
        "gate": bool(driver._files.gate()),
        "gpu_runtime": has_gpu_runtime(driver, info),
        "runtimes": sorted(name for name in info.get("Runtimes") or {} if "/" not in name and "." not in name),
        "disk_free_bytes": disk_free(driver, info),
        "user": f"{uid}:{gid}",
        "live_restore": bool(info.get("LiveRestoreEnabled")),
    }


def disk_free(driver: DockerDriver, info: dict[str, Any]) -> int | None:
    """The least of what is free where images are and where units are."""
    known = [driver._files.disk_free(path) for path in (str(info.get("DockerRootDir") or ""), "")]
    return min((free for free in known if free is not None), default=None)


def rights(driver: DockerDriver) -> dict[str, Any]:
    """How the engine names users and folders: {"user", "userns", "labelled"}, for ``containers.create_arguments``.

    An engine without root rights calls its own user root in its containers; one that renumbers users is asked not to.
    """
    options = engine_info(driver).get("SecurityOptions") or []
    names = {str(option).split(",", 1)[0].removeprefix("name=") for option in options}
    labelled = "selinux" in names
    if "rootless" in names:
        return {"user": (0, 0, []), "labelled": labelled}
    return {"user": driver._files.user(), "userns": "host" if "userns" in names else "", "labelled": labelled}


# GPUs.


def has_gpu_runtime(driver: DockerDriver, info: dict[str, Any]) -> bool:
    devices = [str(each.get("ID", "")) for each in info.get("DiscoveredDevices") or []]
    return (
        "nvidia" in (info.get("Runtimes") or {})
        or any(each.startswith("nvidia.com/") for each in devices)
        or (driver.shared and shutil.which("nvidia-container-runtime-hook") is not None)
    )


def no_gpu_runtime(info: dict[str, Any]) -> str:
    names = ", ".join(sorted(name for name in info.get("Runtimes") or {} if "." not in name)) or "-"
    return _(
        "GPUs are asked for, and the Docker engine has no runtime for them (its runtimes: %(names)s). Install "
        "the NVIDIA Container Toolkit on its machine, or set GPUs to none."
    ) % {"names": names}


# Volumes.


def refuse_volumes(driver: DockerDriver) -> list[Bind]:
    """The folders of the machine that units of the target get. Raises Refused where they may not have them.

    ``volumes_trusted`` in the settings: a site administrator attached the target, who may give it any.
    """
    found, wrong = containers.volumes(str(driver.config.get("volumes") or ""))
    if not driver.config.get("volumes_trusted"):
        allowed = settings.ATELIER_DOCKER_VOLUMES
        # Links within an allowed folder must not lead out of it.
        real = [replace(bind, source=os.path.realpath(bind.source)) for bind in found]
        outside = containers.not_allowed(found, allowed)
        outside += containers.not_allowed(real, [os.path.realpath(each) for each in allowed])
        outside += [bind.source for bind in real if _is_the_studios(bind.source)]
        wrong += [containers.not_allowed_words(folder) for folder in dict.fromkeys(outside)]
    if wrong:
        raise Refused(" ".join(wrong))
    # Disks within a folder that is mounted for reading only would be left writable.
    below = [
        Bind(disk, bind.target + disk[len(bind.source) :], read_only=True)
        for bind in found
        if bind.read_only and driver.shared
        for disk in mounted_below(bind.source)
    ]
    return found + below


def _is_the_studios(folder: str) -> bool:
    """Whether a folder holds, or lies in, what the studio keeps for all workspaces: its data and its keys."""
    own = [os.path.realpath(place) for place in studio_places()]
    return any(os.path.commonpath([folder, place]) in (folder, place) for place in own)


# The check list.


def check(driver: DockerDriver) -> list[Problem]:
    """Everything that is wrong, at once. Raises HostKeyUnknown where nothing can be asked before somebody confirms."""
    found = _settings(driver)
    problem = socket_problem(driver)
    if problem is not None:
        return [problem, *found]
    try:
        info = engine_info(driver, fresh=True)
    except HostKeyUnknown:
        raise
    except DriverError as error:
        hint = _("Start the engine, or look at what its machine says: systemctl status docker")
        return [Problem("engine", str(error), hint, stops=True), *found]
    problems = [*_version(driver, info), *_system(info)]
    if not problems:
        problems += [*_data_folder(driver), *_disk(driver, info), *_limits(driver, info)]
    order = [code for code, _label in driver.checks]
    return sorted([*problems, *found], key=lambda one: order.index(one.code) if one.code in order else len(order))


def socket_problem(driver: DockerDriver) -> Problem | None:
    """What can be seen of a socket on this machine without asking."""
    if not driver.shared:
        return None
    wrong = engine.socket_problem(driver.address)
    return Problem("engine", *wrong, stops=True) if wrong else None


def _settings(driver: DockerDriver) -> list[Problem]:
    """What is wrong with the target's own settings, whatever the engine says."""
    problems = []
    try:
        containers.configured(driver.config)
    except Invalid as error:
        problems += [Problem("limits", texts[0], field=name) for name, texts in (error.errors or {}).items()]
    try:
        refuse_volumes(driver)
    except Refused as error:
        problems.append(Problem("volumes", str(error), field="volumes"))
    return problems


def _version(driver: DockerDriver, info: dict[str, Any]) -> list[Problem]:
    version = str(driver.engine().api_version)
    if tuple(int(part) for part in version.split(".")[:2]) >= LEAST_API:
        return []
    return [
        Problem(
            "version",
            _("Docker %(version)s is too old: its API is %(api)s, and at least %(least)s is needed.")
            % {"version": info.get("ServerVersion"), "api": version, "least": ".".join(map(str, LEAST_API))},
            _("Install Docker 19.03 or later."),
            stops=True,
        )
    ]


def _system(info: dict[str, Any]) -> list[Problem]:
    if info.get("OSType") == "linux":
        return []
    return [
        Problem(
            "system",
            _("The engine runs containers of %(system)s, and runs need Linux.") % {"system": info.get("OSType")},
            _("Switch Docker to Linux containers, or use a Linux machine."),
            stops=True,
        )
    ]


def _disk(driver: DockerDriver, info: dict[str, Any]) -> list[Problem]:
    free = disk_free(driver, info)
    if free is None or free >= container_fields.LOW_DISK_BYTES:
        return []
    return [
        Problem(
            "disk",
            _("Only %(free)d MB of disk are free for images and runs.") % {"free": free >> 20},
            _("Remove images that nobody needs: docker system prune"),
        )
    ]


def _limits(driver: DockerDriver, info: dict[str, Any]) -> list[Problem]:
    try:
        limits = containers.configured(driver.config)
    except Invalid:
        return []  # said already
    problems = []
    for name, asked, there in (
        ("cpus", limits.cpus, float(info.get("NCPU") or 0)),
        ("memory", limits.memory, int(info.get("MemTotal") or 0)),
    ):
        if asked and there and asked > there:
            text = {
                "cpus": _("%(asked)s processors are set, and the machine has %(there)s."),
                "memory": _("%(asked)s of memory are set, and the machine has %(there)s."),
            }[name]
            words = {"asked": containers.amount(name, asked), "there": containers.amount(name, there)}
            problems.append(Problem("limits", text % words, _("Set what the machine has, or less."), name))
    if limits.gpus and not has_gpu_runtime(driver, info):
        problems.append(Problem("gpus", no_gpu_runtime(info), field="gpus"))
    return problems


# The data folder.


def _data_folder(driver: DockerDriver) -> list[Problem]:
    """Lets a container that is never started see a unit's folder, and looks for a word in it."""
    client = driver.engine()
    try:
        with asking(driver.address):
            images = client.images(all=False)
        if not images:
            return []  # nothing to look with yet
        seen = _probe(driver, client, min(images, key=lambda image: image.get("Size") or 0)["Id"])
    except DriverError as error:
        return [Problem("data-folder", _("The engine cannot see the folders of runs: %(why)s") % {"why": error})]
    if seen:
        return []
    return [
        Problem(
            "data-folder",
            _("The engine runs on another machine, or in another container: it does not see the folders of runs."),
            _("Let Atelier and the engine share the data folder (ATELIER_DATA), or attach the machine over SSH."),
        )
    ]


def _probe(driver: DockerDriver, client: APIClient, image: str) -> bool:
    key, word, ours = uuid.uuid4().hex, uuid.uuid4().hex, installation_id()
    _tidy(driver, client, ours)
    files = driver._files
    files.lay_out(UnitSpec(key=key, kind="check", argv=[], installation=ours))
    made = None
    try:
        files.write(key, "cancel.json", {"word": word})
        bind = containers.probe_bind(files.host_path(key), PROBE)
        with asking(driver.address):
            made = client.create_container(
                image,
                command=["true"],
                labels={PROBE_LABEL: ours},
                host_config=client.create_host_config(mounts=[bind]),
            )["Id"]
            stream, _stat = client.get_archive(made, f"{PROBE}/cancel.json")
            return word.encode() in _only_file(b"".join(stream))
    except NotFound:
        return False
    finally:
        if made is not None:
            with contextlib.suppress(DriverError), asking(driver.address):
                client.remove_container(made, v=True, force=True)
        files.forget(key)


def _tidy(driver: DockerDriver, client: APIClient, ours: str) -> None:
    """Remove what a check left that was killed in the middle."""
    with contextlib.suppress(DriverError), asking(driver.address):
        for each in client.containers(all=True, filters={"label": f"{PROBE_LABEL}={ours}"}):
            if time.time() - each["Created"] > PROBE_LEFT_S:
                client.remove_container(each["Id"], v=True, force=True)


def _only_file(archive: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = next(iter(tar))
        content = tar.extractfile(member)
        return content.read() if content is not None else b""
