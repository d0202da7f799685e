"""submit: from POST to the first line that a prepared environment's script prints, on an idle machine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench._client import Client, percentile, prepare
from tests.stack import Stack

REACH_S = 0.3
SCRIPT = "print('first line')\n"
WS = "/api/v1/workspaces/bench"


def _first_line(client: Client) -> float:
    """Seconds from the start of the POST until the first byte of the script's output is here."""
    body = {"experiment": "bench", "script": "train.py", "files": {"train.py": SCRIPT}, "target": "local"}
    started = time.perf_counter()
    made = client.call("POST", f"{WS}/runs", json.dumps(body), **{"Content-Type": "application/json"})
    run = json.loads(made)["id"]
    while not client.call("GET", f"{WS}/runs/{run}/logs?wait=20"):
        if time.perf_counter() - started > 60:
            raise RuntimeError(f"{run} printed nothing within 60 s")
    seconds = time.perf_counter() - started
    while json.loads(client.call("GET", f"{WS}/runs/{run}"))["status"] not in {"Completed", "Failed", "Canceled"}:
        time.sleep(0.05)
    return seconds


def _bare() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - started


def run(options: Mapping[str, Any]) -> dict[str, Any]:
    """Submits one after the other, each once the one before has ended; figures in seconds."""
    count = 5 if options.get("quick") else 30
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        client = Client(stack, {"Authorization": f"Bearer {prepare(stack)['token']}"})
        _first_line(client)  # everything is imported once
        taken = []
        for _number in range(count):
            time.sleep(0.3)  # an idle machine: nothing of the run before is going on any more
            taken.append(_first_line(client))
        client.connection.close()
    bare = [_bare() for _number in range(count)]
    p50 = percentile(taken, 50)
    return {
        "bench": "submit",
        "figures": {"p50": p50, "p95": percentile(taken, 95)},
        "unit": "s",
        "reach": {"p50": f"<= {REACH_S}"},
        "compared_with": {"bare python -c pass, p50": percentile(bare, 50), "Prefect's served run": "2 to 12"},
        "met": p50 <= REACH_S,
    }
