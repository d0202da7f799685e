"""The runs list of 100,000 runs sorted by a metric, and a chart of 100,000 points, as the browser gets them."""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from bench._client import Client, percentile, prepare
from tests.stack import Stack

REACH = {"list_p95_ms": 150.0, "chart_p95_ms": 150.0, "writer_wait_ms": 500.0}

FILL = """
from bench._data import make_history, make_runs
from runs.models import Run
from studio.accounts.models import User, Workspace
workspace, user = Workspace.objects.get(name="bench"), User.objects.get(username="bench")
print(make_runs(workspace, user, count={count}))
make_history(Run.objects.get(run_id={run!r}), name="loss", points=100_000)
"""

# A row per run as an object, sorted in Python: what a list costs that was not thought about.
NAIVE = """
import time
from runs.models import MetricSeries, Run
began = time.perf_counter()
last = dict(MetricSeries.objects.filter(workspace__name="bench", name="loss").values_list("run_id", "last"))
runs = [run for run in Run.objects.filter(workspace__name="bench", archived_at=None) if last.get(run.pk) is not None]
runs.sort(key=lambda run: last[run.pk])
page = [(run.run_id, dict(run.metrics.values_list("name", "last"))) for run in runs[:50]]
print((time.perf_counter() - began) * 1000)
"""


def _times(client: Client, paths: list[str], rounds: int) -> list[float]:
    """Milliseconds of each request, after one round that is not counted."""
    found = []
    for turn in range(rounds + 1):
        for path in paths:
            began = time.perf_counter()
            client.call("GET", path)
            if turn:
                found.append((time.perf_counter() - began) * 1000)
    return found


def _writer_beside_a_client_that_goes_away(stack: Stack, access: dict[str, str]) -> float:
    """The longest of 20 writes in milliseconds, each right after a client closed its connection in mid-query."""
    path = f"/api/v1/workspaces/bench/runs/{access['run']}"
    writer = Client(stack, {"Authorization": f"Bearer {access['token']}", "Content-Type": "application/json"})
    body = json.dumps({"tags": {"t": "1"}})
    writer.call("PATCH", path, body)
    # The most that a list can be asked for: text that is nowhere, so that every run is looked at.
    slow = "/w/bench/runs/?search=nowhere-at-all&sort=metric:loss&columns=metric:loss"
    longest = 0.0
    for _turn in range(20):
        with contextlib.closing(socket.create_connection(("127.0.0.1", stack.port))) as gone:
            gone.sendall(
                f"GET {slow} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: sessionid={access['session']}\r\n\r\n".encode()
            )
            time.sleep(0.05)
        began = time.perf_counter()
        writer.call("PATCH", path, body)
        longest = max(longest, (time.perf_counter() - began) * 1000)
    return longest


def run(options: dict[str, Any]) -> dict[str, Any]:
    """Figures in milliseconds at the client, from request to the last byte."""
    count, rounds = (5_000, 5) if options.get("quick") else (100_000, 20)
    with (
        tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder,
        Stack(Path(folder), services=("valkey", "daphne")) as stack,
    ):
        access = prepare(stack)
        filled = _fill(stack, FILL.format(count=count, run=access["run"]))
        page = Client(stack, {"Cookie": f"sessionid={access['session']}"})
        base = "/w/bench/runs/?columns=metric:loss,metric:accuracy,param:lr"
        lists = _times(page, [f"{base}&sort=metric:loss", f"{base}&sort=-metric:val_loss"], rounds)
        series = f"/w/bench/runs/{access['run']}/metrics/series/?name=loss"
        charts = _times(page, [f"{series}&points=1000"], rounds * 2)
        waited = _writer_beside_a_client_that_goes_away(stack, access)
        naive = float(stack.python(NAIVE).splitlines()[-1])
    figures = {
        "list_p50_ms": round(percentile(lists, 50), 1),
        "list_p95_ms": round(percentile(lists, 95), 1),
        "chart_p50_ms": round(percentile(charts, 50), 1),
        "chart_p95_ms": round(percentile(charts, 95), 1),
        "writer_wait_ms": round(waited, 1),
        "runs": count,
        "filled_in_s": round(filled, 1),
    }
    return {
        "bench": "pages",
        "unit": "ms",
        "figures": figures,
        "reach": REACH,
        "compared_with": {"all_runs_sorted_in_python_ms": round(naive, 1)},
        "met": all(figures[name] <= most for name, most in REACH.items()),
    }


def _fill(stack: Stack, code: str) -> float:
    """Like ``stack.python`` with the time that a hundred thousand runs need."""
    import subprocess
    import sys

    from tests.stack import ROOT

    done = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup()\n{code}"],
        cwd=ROOT, env=stack.env, capture_output=True, text=True, timeout=900, check=True,
    )  # fmt: skip
    return float(done.stdout.splitlines()[-1])
