"""mount: what a mounted local dataset of 20 GiB adds to the time from POST to the first line that a script prints."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench._client import Client, percentile, prepare
from tests.stack import Stack

REACH_S = 0.05
FILES, FILE_BYTES = 2_000, 10 << 20  # sparse: 20 GiB as everybody sees them, nothing on the disk
SCRIPT = "import os, sys\nprint('first line', len(os.listdir(sys.argv[1])) if sys.argv[1:] else '')\n"
WS = "/api/v1/workspaces/bench"
REGISTER = """
from studio.accounts.models import Workspace
from studio.datasets.services import datastores
workspace = Workspace.objects.get(name="bench")
datastores.datastore_create(workspace=workspace, user=None, name="big", kind="local", config={{"path": {path!r}}})
"""


def _sparse(folder: Path) -> None:
    for number in range(FILES):
        place = folder / f"part-{number % 20:02}" / f"{number:05}.bin"
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as handle:
            handle.truncate(FILE_BYTES)


def _first_line(client: Client, pattern: str | None) -> float:
    """Seconds from the start of the POST until the first byte of the script's output is here."""
    body: dict[str, Any] = {"experiment": "bench", "script": "train.py", "files": {"train.py": SCRIPT}}
    if pattern is not None:
        paths = [{"datastore": "big", "path": pattern}]
        definition = {"format": 1, "type": "file", "source": {"kind": "files", "paths": paths}, "steps": []}
        body["inputs"] = [{"name": "data", "mode": "mount", "definition": definition}]
        body["arguments"] = ["${{inputs.data}}"]
    started = time.perf_counter()
    made = client.call("POST", f"{WS}/runs", json.dumps(body), **{"Content-Type": "application/json"})
    run = json.loads(made)["id"]
    while not client.call("GET", f"{WS}/runs/{run}/logs?wait=20"):
        if time.perf_counter() - started > 60:
            raise RuntimeError(f"{run} printed nothing within 60 s: {client.call('GET', f'{WS}/runs/{run}')!r}")
    seconds = time.perf_counter() - started
    while True:
        status = json.loads(client.call("GET", f"{WS}/runs/{run}"))["status"]
        if status in {"Completed", "Failed", "Canceled"}:
            break
        time.sleep(0.05)
    if status != "Completed":
        raise RuntimeError(f"{run} is {status}")
    return seconds


def run(options: Mapping[str, Any]) -> dict[str, Any]:
    """Runs without a dataset, with the whole of it and with a part of it, in turns; seconds, medians."""
    count = 5 if options.get("quick") else 30
    kinds: dict[str, str | None] = {"without": None, "whole folder": "set/**", "a tenth, 200 links": "set/part-0[01]/*"}
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        data = Path(folder) / "big"
        _sparse(data / "set")
        client = Client(stack, {"Authorization": f"Bearer {prepare(stack)['token']}"})
        stack.python(REGISTER.format(path=str(data)))
        for pattern in kinds.values():
            _first_line(client, pattern)  # everything is imported once
        for _number in range(count):
            for kind, pattern in kinds.items():
                time.sleep(0.3)  # an idle machine: nothing of the run before is going on any more
                taken[kind].append(_first_line(client, pattern))
        client.connection.close()
    pairs = [one - other for one, other in zip(taken["whole folder"], taken["without"], strict=True)]
    part = [one - other for one, other in zip(taken["a tenth, 200 links"], taken["without"], strict=True)]
    added = percentile(taken["whole folder"], 50) - percentile(taken["without"], 50)
    return {
        "bench": "mount",
        "figures": {
            "added_p50": added,
            "added_median_of_pairs": statistics.median(pairs),
            "added_by_200_links": statistics.median(part),
            "with_p50": percentile(taken["whole folder"], 50),
        },
        "unit": "s",
        "reach": {"added_p50": f"<= {REACH_S}"},
        "compared_with": {"the same run without a dataset, p50": percentile(taken["without"], 50)},
        "met": added <= REACH_S,
    }
