"""What one ``run.log("loss", x, step=i)`` costs inside a run, beside a bare ``file.write`` of a line as long.

Both are timed in turns inside one process, which has a unit's directory as a run has it. Microseconds per call; the
median over rounds, each the mean of its calls.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REACH_US = 20.0

SCRIPT = """
import json, os, sys, time
rounds, calls, unit = int(sys.argv[1]), int(sys.argv[2]), os.environ["ATELIER_UNIT_DIR"]
begin = time.perf_counter()
from azureml.core import Run
run = Run.get_context()
imported = time.perf_counter() - begin
clock = time.perf_counter_ns
found = {"log": [], "write": [], "flushed": []}
single = []
with open(unit + "/plain.txt", "w") as plain:
    for _ in range(rounds):
        start = clock()
        for step in range(calls):
            run.log("loss", 0.123456789, step=step)
        found["log"].append((clock() - start) / calls / 1000)
        start = clock()
        for step in range(calls):
            plain.write('{"k":"metric","n":"loss","v":0.123456789,"s":%d,"t":1760000000.123456}\\n' % step)
        found["write"].append((clock() - start) / calls / 1000)
        start = clock()
        for step in range(calls):
            plain.write('{"k":"metric","n":"loss","v":0.123456789,"s":%d,"t":1760000000.123456}\\n' % step)
            plain.flush()
        found["flushed"].append((clock() - start) / calls / 1000)
        for step in range(calls // 10):
            start = clock()
            run.log("loss", 0.123456789, step=step)
            single.append((clock() - start) / 1000)
lines = sum(1 for _ in open(unit + "/events.jsonl"))
assert lines == rounds * (calls + calls // 10), lines
print(json.dumps({"imported": imported, "single": single, **found}))
"""


def run(options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Options: ``rounds`` and ``calls`` per round, ``quick``."""
    options = options or {}
    rounds, calls = int(options.get("rounds") or (3 if options.get("quick") else 15)), int(options.get("calls") or 2000)
    with tempfile.TemporaryDirectory() as unit:
        env = {
            **os.environ,
            "ATELIER_UNIT_DIR": unit,
            "AZUREML_RUN_ID": "bench_1_0",
            "PYTHONPATH": str(ROOT / "client" / "src"),
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(rounds), str(calls)], env=env, check=True, capture_output=True, text=True
        )
    found = json.loads(done.stdout)
    single = sorted(found["single"])
    median = round(statistics.median(single), 2)
    return {
        "bench": "log_cost",
        "figures": {
            "median": median,
            "p99": round(single[int(len(single) * 0.99)], 2),
            "mean": round(statistics.median(found["log"]), 2),
            "import_ms": round(found["imported"] * 1000, 1),
        },
        "unit": "us",
        "reach": {"median": f"<= {REACH_US:g}"},
        "compared_with": {
            "file.write": round(statistics.median(found["write"]), 2),
            "file.write and flush": round(statistics.median(found["flushed"]), 2),
        },
        "met": median <= REACH_US,
    }
