"""image_reuse: what an environment's image that is there already adds to a run, beside a run without environment.

Both are taken in turn, in the same minute, so that they share whatever else the machine does.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException

from bench._client import Client, percentile, prepare
from bench._docker import attach, docker_stack
from tests.gear.docker import SOCKET

REACH_S = 0.1
SCRIPT = "print('first line')\n"
RECIPE = {"kind": "pip", "packages": ["six==1.16.0"]}
WS = "/api/v1/workspaces/bench"


def _first_line(client: Client, environment: Mapping[str, Any] | None) -> float:
    """Seconds from the start of the POST until the first byte of the script's output is here."""
    body = {"experiment": "bench", "script": "train.py", "files": {"train.py": SCRIPT}, "target": "docker"}
    given = {**body, "environment": {"recipe": environment}} if environment else body
    started = time.perf_counter()
    made = client.call("POST", f"{WS}/runs", json.dumps(given), **{"Content-Type": "application/json"})
    run = json.loads(made)["id"]
    while not client.call("GET", f"{WS}/runs/{run}/logs?wait=20"):
        if time.perf_counter() - started > 300:
            raise RuntimeError(f"{run} printed nothing within 300 s")
    seconds = time.perf_counter() - started
    while (status := json.loads(client.call("GET", f"{WS}/runs/{run}"))["status"]) != "Completed":
        if status in {"Failed", "Canceled"}:
            raise RuntimeError(f"{run} is {status}")
        time.sleep(0.05)
    return seconds


def _forget(installation: str) -> None:
    """Remove the images that the bench had built."""
    client = docker.APIClient(base_url=f"unix://{SOCKET}", version="auto")
    with contextlib.closing(client), contextlib.suppress(DockerException):
        for image in client.images(filters={"label": f"atelier.image.installation={installation}"}):
            with contextlib.suppress(DockerException):
                client.remove_image(image["Id"], force=True)


def run(options: Mapping[str, Any]) -> dict[str, Any]:
    """Each run once the one before has ended; figures in seconds."""
    count = 5 if options.get("quick") else 20
    with tempfile.TemporaryDirectory() as folder, docker_stack(Path(folder)) as stack:
        client = Client(stack, {"Authorization": f"Bearer {prepare(stack)['token']}"})
        attach(stack)
        try:
            _first_line(client, None)  # everything is imported once
            built = _first_line(client, RECIPE)
            plain, reused = [], []
            for number in range(count):
                for kind in ((None, RECIPE), (RECIPE, None))[number % 2]:
                    time.sleep(0.3)
                    (reused if kind else plain).append(_first_line(client, kind))
        finally:
            client.connection.close()
            _forget((stack.data / "installation").read_text(encoding="ascii").strip())
    added = statistics.median(reused) - statistics.median(plain)
    return {
        "bench": "image_reuse",
        "figures": {"added_p50": added, "reused_p50": percentile(reused, 50), "reused_p95": percentile(reused, 95)},
        "unit": "s",
        "reach": {"added_p50": f"<= {REACH_S}"},
        "compared_with": {
            "without environment, p50": percentile(plain, 50),
            "without environment, p95": percentile(plain, 95),
            "first run, which builds": built,
        },
        "met": added <= REACH_S,
    }
