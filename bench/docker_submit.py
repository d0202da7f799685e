"""docker_submit: from POST to the first line that a run in a container prints, beside a bare docker run.

The image is there. Both are taken in turn, in the same minute, so that they share whatever else the machine does.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench._client import Client, percentile, prepare
from bench._docker import attach, docker_stack
from tests.gear.docker import SOCKET, test_image

REACH_S = 1.0
SCRIPT = "print('first line')\n"
WS = "/api/v1/workspaces/bench"


def _first_line(client: Client) -> float:
    """Seconds from the start of the POST until the first byte of the script's output is here."""
    body = {"experiment": "bench", "script": "train.py", "files": {"train.py": SCRIPT}, "target": "docker"}
    started = time.perf_counter()
    made = client.call("POST", f"{WS}/runs", json.dumps(body), **{"Content-Type": "application/json"})
    run = json.loads(made)["id"]
    while not client.call("GET", f"{WS}/runs/{run}/logs?wait=20"):
        if time.perf_counter() - started > 120:
            raise RuntimeError(f"{run} printed nothing within 120 s")
    seconds = time.perf_counter() - started
    while (status := json.loads(client.call("GET", f"{WS}/runs/{run}"))["status"]) != "Completed":
        if status in {"Failed", "Canceled"}:
            raise RuntimeError(f"{run} is {status}")
        time.sleep(0.05)
    return seconds


def _bare() -> float:
    """Seconds until the first byte of the same, without Atelier."""
    command = ["docker", "-H", f"unix://{SOCKET}", "run", "--rm", test_image(), "python3", "-uc", SCRIPT]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        process.stdout.read(1)
        seconds = time.perf_counter() - started
        process.communicate()
    return seconds


def run(options: Mapping[str, Any]) -> dict[str, Any]:
    """Each run once the one before has ended; figures in seconds."""
    count = 5 if options.get("quick") else 20
    with tempfile.TemporaryDirectory() as folder, docker_stack(Path(folder)) as stack:
        client = Client(stack, {"Authorization": f"Bearer {prepare(stack)['token']}"})
        attach(stack)
        _first_line(client)  # everything is imported once
        _bare()
        ours, bare = [], []
        for _number in range(count):
            time.sleep(0.3)
            ours.append(_first_line(client))
            bare.append(_bare())
        client.connection.close()
    over = statistics.median(ours) - statistics.median(bare)
    return {
        "bench": "docker_submit",
        "figures": {"p50": percentile(ours, 50), "p95": percentile(ours, 95), "over_bare_p50": over},
        "unit": "s",
        "reach": {"over_bare_p50": f"<= {REACH_S}"},
        "compared_with": {"bare docker run, p50": percentile(bare, 50), "bare docker run, p95": percentile(bare, 95)},
        "met": over <= REACH_S,
    }
