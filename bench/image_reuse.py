"""image_reuse: what an environment's image that is there already adds to a run, beside a run without environment.

Both are taken in turn, in the same minute, so that they share whatever else the machine does.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException

from bench._client import Client, percentile, prepare
from bench._docker import attach, docker_stack
from tests.gear.docker import SOCKET, test_image

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


@contextlib.contextmanager
def _compiled_base() -> Iterator[str]:
    """The tests' base image with its Python compiled, as public ones are: else whatever is installed on top of it
    would start faster than the base itself."""
    tag = f"atelier-bench-base:{uuid.uuid4().hex[:8]}"
    text = f"FROM {test_image()}\nRUN python3 -m compileall -q /usr/local/lib || true\n"
    with contextlib.closing(docker.APIClient(base_url=f"unix://{SOCKET}", version="auto", timeout=600)) as client:
        list(client.build(fileobj=io.BytesIO(text.encode()), tag=tag, rm=True, forcerm=True))
        try:
            yield tag
        finally:
            with contextlib.suppress(DockerException):
                client.remove_image(tag, force=True)


def run(options: Mapping[str, Any]) -> dict[str, Any]:
    """Each run once the one before has ended; figures in seconds."""
    count = 5 if options.get("quick") else 20
    with (
        tempfile.TemporaryDirectory() as folder,
        _compiled_base() as base,
        docker_stack(Path(folder), ATELIER_BASE_IMAGE=base) as stack,
    ):
        client = Client(stack, {"Authorization": f"Bearer {prepare(stack)['token']}"})
        attach(stack)
        try:
            _first_line(client, None)  # everything is imported once
            built = _first_line(client, RECIPE)
            plain: list[float] = []
            reused: list[float] = []
            for number in range(count):
                for kind in ((None, RECIPE), (RECIPE, None))[number % 2]:
                    time.sleep(0.3)
                    (reused if kind else plain).append(_first_line(client, kind))
        finally:
            client.connection.close()
    # Of each pair, so that what the machine does meanwhile is in both.
    added = statistics.median(after - before for after, before in zip(reused, plain, strict=True))
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
