"""Reading a dataset into pandas: two columns kept of a large delimited file, filtered to one row in a hundred.

With DuckDB, and in an environment that has pandas alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CLIENT = Path(__file__).resolve().parent.parent / "client" / "src"
KEPT = """
from atelier.data import definition as d, engine, expressions as e, sources
made = d.make("delimited", [{"local": path}])
made = d.with_schema(made, engine.infer(made, sources.LocalSource())[0]["schema"])
begun = time.perf_counter()
kept = d.with_step(made, d.keep(["id", "score"]), d.filtered(e.Column("score") < 0.01))
frame = engine.to_pandas(kept, sources.LocalSource())
"""
# Every reading is a process of its own: nothing is warm for one and cold for another but the file itself.
READERS = {
    "atelier": KEPT,
    "atelier_without_duckdb": KEPT,
    "duckdb": """
quoted = path.replace("'", "''")
duckdb.execute("SET enable_progress_bar = false")
begun = time.perf_counter()
frame = duckdb.execute(f"SELECT id, score FROM read_csv('{quoted}') WHERE score < 0.01").df()
""",
    "pandas": """
begun = time.perf_counter()
frame = pandas.read_csv(path)
frame = frame[frame["score"] < 0.01][["id", "score"]]
""",
}
PROGRAM = """
import json, resource, sys, time
for name in sys.argv[2:]:
    sys.modules[name] = None
import pandas
if "duckdb" not in sys.argv:
    import duckdb
path = sys.argv[1]
{body}
seconds = time.perf_counter() - begun
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({{"seconds": seconds, "memory_mb": memory, "rows": len(frame), "total": int(frame["id"].sum())}}))
"""


def _make(path: Path, megabytes: int) -> None:
    import duckdb

    rows = megabytes * 1_000_000 // 243
    quoted = str(path).replace("'", "''")
    measured = ", ".join(f"random() * {number} AS m{number}" for number in range(1, 11))
    duckdb.execute("SET enable_progress_bar = false")
    duckdb.execute(
        f"""COPY (SELECT range AS id, round(random(), 6) AS score, 'customer ' || (range % 50000) AS customer,
        DATE '2020-01-01' + CAST(range % 1000 AS INTEGER) AS day, {measured}
        FROM range({rows})) TO '{quoted}' (HEADER, DELIMITER ',')"""  # noqa: S608 - our own path
    )


def _read(name: str, path: Path) -> dict[str, Any]:
    program = PROGRAM.format(body=READERS[name])
    alone = name == "atelier_without_duckdb"
    environ = {**os.environ, "PYTHONPATH": str(CLIENT), "ATELIER_DATA_ENGINE": "pandas" if alone else "duckdb"}
    words = [sys.executable, "-c", program, str(path), *(["duckdb", "pyarrow"] if alone else [])]
    done = subprocess.run(words, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(options: dict[str, Any]) -> dict[str, Any]:
    """``options``: megabytes (of the file, 1000), rounds (3; the best of them counts)."""
    megabytes = int(options.get("megabytes", 50 if options.get("quick") else 1000))
    rounds = int(options.get("rounds", 3))
    folder = Path(tempfile.mkdtemp(prefix="atelier-bench-read-"))
    try:
        path = folder / "rows.csv"
        _make(path, megabytes)
        size = path.stat().st_size
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in READERS}
        for _ in range(rounds):
            for name in READERS:
                found[name].append(_read(name, path))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    best = {name: min(ones, key=lambda one: one["seconds"]) for name, ones in found.items()}
    if len({(one["rows"], one["total"]) for one in best.values()}) != 1:
        raise RuntimeError(f"the readers differ: {best}")
    seconds = {name: one["seconds"] for name, one in best.items()}
    against_duckdb = seconds["atelier"] / seconds["duckdb"]
    against_pandas = seconds["pandas"] / seconds["atelier"]
    alone = best["atelier_without_duckdb"]
    times_pandas = alone["seconds"] / seconds["pandas"]
    return {
        "bench": "dataset_read",
        "figures": {
            "seconds": round(seconds["atelier"], 2),
            "times_duckdb": round(against_duckdb, 2),
            "faster_than_pandas": round(against_pandas, 1),
            "memory_mb": round(best["atelier"]["memory_mb"]),
            "without_duckdb_seconds": round(alone["seconds"], 2),
            "without_duckdb_times_pandas": round(times_pandas, 2),
            "without_duckdb_memory_mb": round(alone["memory_mb"]),
            "rows": best["atelier"]["rows"],
            "file_mb": round(size / 1e6),
        },
        "unit": "s, ratio, MB",
        "reach": {"times_duckdb": 1.2, "faster_than_pandas": 5, "without_duckdb_times_pandas": 1.2},
        "compared_with": {
            name: {"seconds": round(best[name]["seconds"], 2), "memory_mb": round(best[name]["memory_mb"])}
            for name in ("duckdb", "pandas")
        },
        "met": against_duckdb <= 1.2 and against_pandas >= 5 and times_pandas <= 1.2,
    }
