"""A real Docker engine and an image with Python, for tests. Both are the machine's own or absent: then tests skip, and
with CI=true they fail.

``ATELIER_TEST_IMAGE`` names an image with Python 3.8 or later and pip; without it one is made by the script that
``ATELIER_TEST_IMAGE_SCRIPT`` names (called with the tag), or by the one beside the checkout.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from docker import APIClient
from docker.errors import DockerException

from compute.drivers import containers
from compute.images import plan

ROOT = Path(__file__).resolve().parents[2]
SOCKET = os.environ.get("ATELIER_DOCKER_SOCKET", "/var/run/docker.sock")


def missing(why: str) -> None:
    """Skip, or fail where nothing may be left out."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{why}, and with CI=true nothing may be left out.")
    pytest.skip(f"{why}.")


@functools.cache
def engine_version() -> str:
    """The version of the engine behind SOCKET; empty when none answers."""
    try:
        done = subprocess.run(
            ["docker", "-H", f"unix://{SOCKET}", "version", "--format", "{{.Server.Version}}"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def need_engine() -> None:
    if not engine_version():
        missing("No Docker engine answers")


def _there(tag: str) -> bool:
    command = ["docker", "-H", f"unix://{SOCKET}", "image", "inspect", tag]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


@functools.cache
def test_image() -> str:
    """The tag of an image with Python and pip, made once per machine."""
    need_engine()
    given = os.environ.get("ATELIER_TEST_IMAGE")
    if given:
        return given
    script = Path(os.environ.get("ATELIER_TEST_IMAGE_SCRIPT") or ROOT.parent / "shared/tools/docker/mkbase.sh")
    if not script.is_file():
        missing("ATELIER_TEST_IMAGE is not set, and there is no script that makes a test image")
    tag = f"atelier-test-base:{hashlib.sha256(script.read_bytes()).hexdigest()[:12]}"
    with (Path(tempfile.gettempdir()) / f"atelier-test-image-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _there(tag):
            environment = {**os.environ, "PY": getattr(sys, "_base_executable", sys.executable)}
            subprocess.run(
                ["bash", str(script), tag], check=True, capture_output=True, timeout=240, env=environment,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
    return tag


test_image.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def clean(installation: str, socket: str = SOCKET) -> None:
    """Remove what an installation of a test's own has on an engine: its containers, and the images of environments that
    it has built. Nothing where it never had an id."""
    if not installation:
        return
    with contextlib.closing(APIClient(base_url=f"unix://{socket}", version="auto", timeout=60)) as client:
        for each in client.containers(all=True, filters={"label": f"{containers.INSTALLATION}={installation}"}):
            client.remove_container(each["Id"], force=True, v=True)
        for image in client.images(filters={"label": f"{plan.LABEL_INSTALLATION}={installation}"}):
            with contextlib.suppress(DockerException):  # it went with another one
                client.remove_image(image["Id"], force=True)
