"""Looking into an image: a container that says what is there and is removed at once."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from docker import APIClient
from docker.errors import APIError, DockerException, NotFound

from compute.images.plan import Found, found_from

LABEL = "atelier.image.probe"  # of the container: when it was made, in seconds since 1970
OLD_S = 600.0
WAIT_S = 120
_BEGIN, _END = "<<atelier", "atelier>>"

_PYTHON = r"""
import json, os, platform, sys
try:
    import importlib.metadata as metadata
    found = {d.metadata["Name"]: d.version for d in metadata.distributions() if d.metadata["Name"]}
except Exception:
    found = {}
libc, version = platform.libc_ver()
try:
    import pip
    has = True
except Exception:
    has = False
said = {"python": "%d.%d.%d" % sys.version_info[:3], "interpreter": sys.executable, "machine": platform.machine(),
        "libc_version": version if libc == "glibc" else "", "pip": has, "installed": found,
        "libc": "musl" if any(n.startswith("ld-musl") for n in os.listdir("/lib")) else "glibc"}
print("<<atelier" + json.dumps(said) + "atelier>>")
"""
_SHELL = """
for one in micromamba /usr/local/bin/micromamba /opt/conda/bin/micromamba; do
  found=$(command -v "$one") && echo "micromamba=$found" && break
done
for one in "$WANTED" python3 python; do
  [ -n "$one" ] && command -v "$one" >/dev/null && exec "$one" -c "$PROBE"
done
echo "<<atelier{}atelier>>"
"""


class NoShell(Exception):
    """The image has no /bin/sh, or is of another processor: nothing can be installed in it."""


def look(client: APIClient, image: str, *, interpreter: str = "") -> Found:
    """What an image has. ``interpreter`` is tried before python3. Raises NoShell, DockerException."""
    config = client.inspect_image(image)
    made = client.create_container(
        image,
        command=["-c", _SHELL],
        entrypoint=["/bin/sh"],
        environment={"PROBE": _PYTHON, "WANTED": interpreter},
        labels={LABEL: str(int(time.time()))},
        host_config=client.create_host_config(
            network_mode="none",
            security_opt=["no-new-privileges"],
            pids_limit=256,
            mem_limit="1g",
            log_config={"type": "json-file", "config": {"max-size": "8m", "max-file": "1"}},
        ),
    )
    try:
        try:
            client.start(made["Id"])
        except APIError as error:
            raise NoShell(str(error.explanation or error)) from error
        client.wait(made["Id"], timeout=WAIT_S)
        said = _output(client, made["Id"])
    finally:
        with contextlib.suppress(DockerException):
            client.remove_container(made["Id"], force=True, v=True)
    return _read(said, config)


def _output(client: APIClient, container: str) -> str:
    """What it printed. The engine may need a moment more after its end."""
    said = ""
    for pause in (0.05, 0.2, 1.0):
        said = client.logs(container, stdout=True, stderr=True).decode("utf-8", "replace")
        if _END in said:
            break
        time.sleep(pause)
    return said


def _read(said: str, config: dict[str, Any]) -> Found:
    if _BEGIN not in said or _END not in said:
        raise NoShell(said.strip()[-300:])
    data = json.loads(said.split(_BEGIN, 1)[1].split(_END, 1)[0])
    data["installed"] = {_normal(name): version for name, version in (data.get("installed") or {}).items()}
    data["user"] = (config.get("Config") or {}).get("User") or ""
    data["layers"] = len((config.get("RootFS") or {}).get("Layers") or [])
    for line in said.splitlines():
        if line.startswith("micromamba="):
            data["micromamba"] = line.partition("=")[2].strip()
    return found_from(data)


def _normal(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def sweep(client: APIClient) -> None:
    """Remove what a killed probe left behind, of whatever studio: they live for seconds."""
    with contextlib.suppress(DockerException):
        for one in client.containers(all=True, filters={"label": LABEL}):
            started = str(one.get("Labels", {}).get(LABEL) or "0")
            if started.isdigit() and time.time() - int(started) > OLD_S:
                with contextlib.suppress(NotFound, APIError):
                    client.remove_container(one["Id"], force=True, v=True)
