"""Metric points into the database: from event files, and by REST in batches of 1,000."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench._client import Client, prepare
from tests.stack import Stack

REACH = {"file_points_per_s": 100_000, "rest_points_per_s": 50_000}
BATCH = 1_000

# The way of every run's events: the unit's file, read by its driver in pieces, one transaction per piece.
FROM_FILE = """
import json, time
from compute.models import Target, Unit
from compute.services import ingest
from compute.services.targets import target_driver
from runs.models import MetricSeries, Run
from runs.services.snapshots import snapshot_from_texts
from runs.services.submit import run_submit
from studio.accounts.models import User, Workspace
from studio.lib import storage
workspace, user = Workspace.objects.get(name="bench"), User.objects.get(username="bench")
target = Target.objects.get(workspace=workspace, name="local")
run = run_submit(workspace=workspace, user=user, experiment="bench", script="a.py", arguments=[], environment=None,
                 snapshot=snapshot_from_texts(workspace, {{"a.py": "1"}}), target=target)
unit = Unit.objects.get(pk=run.unit_id)
unit.handle = {{"key": unit.key, "data": {{}}}}
folder = storage.unit_directory(unit.key)
folder.mkdir(parents=True, exist_ok=True)
points = {points}
with open(folder / "events.jsonl", "w") as file:
    for index in range(points):
        file.write(json.dumps({{"k": "metric", "n": "metric_%d" % (index % 10), "v": index * 0.37, "s": index // 10,
                               "t": 1700000000.0 + index / 1000}}) + "\\n")
size, driver = (folder / "events.jsonl").stat().st_size, target_driver(target)
began = time.perf_counter()
while not ingest.ingest(unit, driver, size):
    pass
seconds = time.perf_counter() - began
assert sum(MetricSeries.objects.filter(run=run).values_list("count", flat=True)) == points
print(points / seconds)
"""

ONE_BY_ONE = """
import time
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("CREATE TABLE bench_point (id INTEGER PRIMARY KEY, name TEXT, step REAL, at REAL, value REAL)")
    began = time.perf_counter()
    for index in range({count}):
        row = ["loss", index, 1.0, 2.0]
        cursor.execute("INSERT INTO bench_point (name, step, at, value) VALUES (%s, %s, %s, %s)", row)
    print({count} / (time.perf_counter() - began))
    cursor.execute("DROP TABLE bench_point")
"""


def _by_rest(stack: Stack, access: dict[str, str], batches: int) -> float:
    """Points per second of two clients that send batches of 1,000 one after the other."""
    path = f"/api/v1/workspaces/bench/runs/{access['run']}/events"
    headers = {"Authorization": f"Bearer {access['token']}", "Content-Type": "application/x-ndjson"}

    def body(worker: int, batch: int) -> bytes:
        first = batch * BATCH
        lines = [
            json.dumps({"k": "metric", "n": f"rest_{worker}", "v": index * 0.5, "s": index, "t": 1.7e9})
            for index in range(first, first + BATCH)
        ]
        return "\n".join(lines).encode()

    def send(bodies: list[bytes]) -> None:
        client = Client(stack, headers)
        for one in bodies:
            client.call("POST", path, one)

    send([body(9, batch) for batch in range(10)])  # the server's first requests load its code
    waiting = [[body(worker, batch) for batch in range(batches // 2)] for worker in range(2)]
    began = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(send, waiting))
    seconds = time.perf_counter() - began
    kept = stack.query("SELECT SUM(count) FROM runs_metricseries WHERE name IN ('rest_0', 'rest_1')")[0][0]
    if kept != batches // 2 * 2 * BATCH:
        raise RuntimeError(f"{kept} points are there, {batches * BATCH} were sent")
    return float(kept) / seconds


def _plain_sqlite(folder: Path, points: int) -> float:
    """A row per point by executemany into a bare SQLite file, 1,000 per transaction."""
    database = sqlite3.connect(folder / "plain.sqlite3")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("CREATE TABLE point (run INTEGER, name TEXT, step REAL, at REAL, value REAL)")
    database.execute("CREATE INDEX point_of_run ON point (run, name, step)")
    began = time.perf_counter()
    for start in range(0, points, BATCH):
        with database:
            database.executemany(
                "INSERT INTO point VALUES (?, ?, ?, ?, ?)",
                [(1, f"metric_{index % 10}", index, 1.7e9, index * 0.37) for index in range(start, start + BATCH)],
            )
    seconds = time.perf_counter() - began
    database.close()
    return points / seconds


def run(options: dict[str, Any]) -> dict[str, Any]:
    """Figures in points per second."""
    points = 100_000 if options.get("quick") else 1_000_000
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        with Stack(Path(folder), services=("valkey", "daphne")) as stack:
            access = prepare(stack)
            from_file = float(stack.python(FROM_FILE.format(points=points)).splitlines()[-1])
            by_rest = _by_rest(stack, access, 60 if options.get("quick") else 400)
            one_by_one = float(stack.python(ONE_BY_ONE.format(count=2_000)).splitlines()[-1])
        plain = _plain_sqlite(Path(folder), points)
    figures = {"file_points_per_s": round(from_file), "rest_points_per_s": round(by_rest)}
    return {
        "bench": "ingest",
        "unit": "points/s",
        "figures": figures,
        "reach": REACH,
        "compared_with": {
            "plain_sqlite_row_per_point_per_s": round(plain),
            "one_insert_per_point_per_s": round(one_by_one),
        },
        "met": all(figures[name] >= least for name, least in REACH.items()),
    }
