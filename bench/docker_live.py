"""docker_live: print in a container to bytes in a websocket client, and a burst of which no byte may be missing.

Everything is real, as in live_log; each place that containers run at is measured in turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import live_log
from bench._docker import attach, docker_stack
from bench._ssh import ssh_target
from tests.stack import Stack, wait_until

SUBMIT = """
from compute.models import Target
from compute.services import unit_create
target = Target.objects.get(workspace__name="bench", name={target!r})
code = [{{"path": "script.py", "source": {source!r}, "mode": 0o644}}]
spec = {{"argv": ["{{python}}", "-u", "script.py"], "code": code}}
print(unit_create(workspace=target.workspace, target=target, kind="command", spec=spec, label="bench")[0].key)
"""
LINE = b"step %09d  loss=0.123456  accuracy=0.987654\n"
BURST = """import sys
LINE = {line!r}
for first in range(0, {lines}, 1000):
    sys.stdout.buffer.write(b"".join(LINE % n for n in range(first, min(first + 1000, {lines}))))
sys.stdout.flush()
"""


@dataclass(frozen=True)
class Place:
    """Where containers run. ``attached``: given a stack with the workspace ``bench``, attaches the target ``name`` for
    as long as it lasts. ``reach_ms``: p50 from print to client."""

    name: str
    reach_ms: float
    attached: Callable[[Stack], AbstractContextManager[None]]


@contextlib.contextmanager
def _local(stack: Stack) -> Any:
    attach(stack, "local-docker")
    yield


@contextlib.contextmanager
def _over_ssh(stack: Stack) -> Any:
    with ssh_target(stack, "ssh-docker"):
        yield


PLACES = [Place("local-docker", 300.0, _local), Place("ssh-docker", 700.0, _over_ssh)]


def _submit(stack: Stack, folder: Path, place: Place, script: str) -> str:
    source = folder / f"script-{time.monotonic_ns()}.py"
    source.write_text(script)
    return stack.python(SUBMIT.format(target=place.name, source=str(source))).split()[-1]


def _latency(stack: Stack, folder: Path, place: Place, token: str, lines: int) -> list[float]:
    """Milliseconds from print to here, sorted."""
    key = _submit(stack, folder, place, live_log.TICKS.format(count=lines))
    wait_until("the script prints", (stack.unit_directory(key) / "stdout.log").exists, 120)
    return sorted(1000 * value for value in asyncio.run(live_log._latencies(stack, token, key)))


def _burst(stack: Stack, folder: Path, place: Place, token: str, lines: int) -> dict[str, Any]:
    """One viewer of a burst; whether what is kept is every byte that was printed."""
    key = _submit(stack, folder, place, BURST.format(line=LINE, lines=lines))
    path = stack.unit_directory(key) / "stdout.log"
    wait_until("the script prints", path.exists, 120)
    seen = asyncio.run(live_log._viewer(stack, token, key, path))
    expected = hashlib.sha256()
    for number in range(lines):
        expected.update(LINE % number)
    kept = path.read_bytes()
    whole = hashlib.sha256(kept).digest() == expected.digest()
    return {"viewer_equal": seen["equal"], "every_byte_kept": whole, "log_bytes": len(kept)}


def run(options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``options``: quick; lines (of the latency part), burst (lines), places (names)."""
    given = {"lines": 100 if (options or {}).get("quick") else 500, "burst": 500_000, "places": None, **(options or {})}
    places = [place for place in PLACES if given["places"] is None or place.name in given["places"]]
    figures: dict[str, Any] = {}
    met = True
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as name:
        folder = Path(name)
        with docker_stack(folder) as stack:
            token = stack.python(live_log.SETUP).split()[-1]
            for place in places:
                with place.attached(stack):
                    taken = _latency(stack, folder, place, token, given["lines"])
                    burst = _burst(stack, folder, place, token, given["burst"])
                p50 = statistics.median(taken)
                figures[f"{place.name}: p50_ms"] = round(p50, 2)
                figures[f"{place.name}: p99_ms"] = round(taken[int(len(taken) * 0.99)], 2)
                figures[f"{place.name}: lines_seen"] = len(taken)
                figures.update({f"{place.name}: burst {key}": value for key, value in burst.items()})
                met = met and p50 <= place.reach_ms and burst["viewer_equal"] and burst["every_byte_kept"]
            script = folder / "bare.py"
            script.write_text(live_log.TICKS.format(count=given["lines"]))
            bare = sorted(1000 * value for value in asyncio.run(live_log._bare(script)))
    return {
        "bench": "docker_live",
        "figures": figures,
        "unit": "ms",
        "reach": {f"{place.name}: p50_ms": place.reach_ms for place in places},
        "compared_with": {"bare pipe to a websocket, p50_ms": round(statistics.median(bare), 2)},
        "met": bool(met),
    }
