"""ssh_fan: many units at once on one SSH host: how many connections that takes, and how much of the worker's processor.

Each unit prints a line a second. The worker's processor time is taken from /proc over a span in which all of them run.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import live_log
from bench._docker import docker_stack
from bench._ssh import ssh_target
from tests.stack import Stack, wait_until

REACH = 25.0  # percent of one core
SUBMIT = """
from compute.models import Target
from compute.services import unit_create
target = Target.objects.get(workspace__name="bench", name="ssh-docker")
code = [{{"path": "script.py", "source": {source!r}, "mode": 0o644}}]
spec = {{"argv": ["{{python}}", "-u", "script.py"], "code": code}}
for _number in range({count}):
    unit, _token = unit_create(workspace=target.workspace, target=target, kind="command", spec=spec, label="bench")
    print(unit.key)
"""
SCRIPT = """import os, time
while not os.path.exists("stop"):
    print(time.time(), flush=True)
    time.sleep(1)
"""


def _processor_s(pid: int) -> float:
    """Seconds of processor time of a process so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _connections(port: int) -> int:
    """Open connections to a port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] == "01" and int(row[2].rpartition(":")[2], 16) == port for row in rows)


def _running(stack: Stack) -> int:
    return int(stack.query("SELECT COUNT(*) AS n FROM compute_unit WHERE state = 'running'")[0]["n"])


def run(options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``options``: quick; units; span_s."""
    quick = bool((options or {}).get("quick"))
    given = {"units": 10 if quick else 50, "span_s": 10.0 if quick else 30.0, **(options or {})}
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as name:
        folder = Path(name)
        with docker_stack(folder) as stack:
            stack.python(live_log.SETUP)
            with ssh_target(stack) as server:
                (folder / "script.py").write_text(SCRIPT)
                began = time.monotonic()
                submit = SUBMIT.format(source=str(folder / "script.py"), count=given["units"])
                keys = stack.python(submit).split()
                wait_until("all of them run", lambda: _running(stack) == given["units"], 900, 0.5)
                started = time.monotonic() - began
                time.sleep(5)
                worker = stack.processes["worker"].pid
                first, sizes = _processor_s(worker), [_size(stack, key) for key in keys]
                time.sleep(given["span_s"])
                used = 100 * (_processor_s(worker) - first) / given["span_s"]
                grown = sum(_size(stack, key) > size for key, size in zip(keys, sizes, strict=True))
                connections = _connections(server.port)
                stack.kill("worker", "beat")
    return {
        "bench": "ssh_fan",
        "figures": {
            "worker_percent_of_a_core": round(used, 1),
            "connections": connections,
            "units": len(keys),
            "units_whose_output_came": grown,
            "all_started_s": round(started, 1),
        },
        "unit": "percent",
        "reach": {"worker_percent_of_a_core": REACH, "connections": 1},
        "compared_with": {},
        "met": bool(used <= REACH and connections == 1 and grown == len(keys)),
    }


def _size(stack: Stack, key: str) -> int:
    path = stack.unit_directory(key) / "stdout.log"
    return path.stat().st_size if path.exists() else 0
