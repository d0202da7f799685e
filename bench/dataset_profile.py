"""The profile of 10 million rows x 10 columns of Parquet, beside the bare DuckDB queries that give the same figures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REACH = {"times_bare": 1.5, "profile_mb": 1000}
MEMORY = "512MB"

MAKE = """
import duckdb, sys
duckdb.sql("set threads=2; set memory_limit='1GB'; set temp_directory='{tmp}'; select setseed(0.5)")
duckdb.sql('''copy (select range as id, random() as share, (random() * 1000)::int as grade,
  -ln(random() + 1e-12) as wait, random() + random() + random() as bell,
  if(random() < 0.1, null, (random() * 1e6)::bigint) as holes,
  'name-' || (random() * 1e6)::int as name, ['red', 'green', 'blue'][1 + (random() * 2)::int] as colour,
  random() < 0.3 as good, timestamp '2026-01-01' + interval (random() * 31536000) second as moment
  from range({rows})) to '{path}' (format parquet)''')
"""
# What one would write by hand: the figures of all columns, then the bars, then the most frequent values.
BARE = """
import duckdb, json, sys, time
began = time.perf_counter()
db = duckdb.connect()
db.execute("set threads={threads}; set memory_limit='{memory}'; set temp_directory='{tmp}'")
path = '{path}'
columns = db.execute(f"describe select * from '{{path}}'").fetchall()
numbers = {{n for n, t, *_ in columns if t in ("BIGINT", "INTEGER", "DOUBLE", "FLOAT")}}
ordered = numbers | {{n for n, t, *_ in columns if t == "TIMESTAMP"}}
parts, at = ["count(*)"], {{}}
for name, *_ in columns:
    at[name] = len(parts)
    parts += [f'count("{{name}}")', f'approx_count_distinct("{{name}}")', f'min("{{name}}")', f'max("{{name}}")']
    if name in numbers:
        parts += [f'avg("{{name}}")', f'stddev_samp("{{name}}")']
        parts += [f'approx_quantile("{{name}}", [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])']
row = db.execute(f"select {{', '.join(parts)}} from '{{path}}'").fetchone()
bars = []
for name in sorted(ordered):
    low, high = row[at[name] + 2], row[at[name] + 3]
    if name not in numbers:
        low, high = db.execute("select epoch(?::timestamp), epoch(?::timestamp)", [low, high]).fetchone()
    value = f'"{{name}}"' if name in numbers else f'epoch("{{name}}")'
    width = (float(high) - float(low)) / 20 or 1
    bars.append(f"histogram(least(19, floor(({{value}} - {{float(low)}}) / {{width}})::int))")
db.execute(f"select {{', '.join(bars)}} from '{{path}}'").fetchall()
for name, *_ in columns:
    quoted = '"' + name + '"'
    if row[at[name] + 1] < 10_000:
        db.execute(f"select {{quoted}}, count(*) from '{{path}}' group by 1 order by 2 desc limit 10").fetchall()
    elif name not in ordered:
        db.execute(f"select approx_top_k({{quoted}}, 10) from '{{path}}'").fetchall()
print(time.perf_counter() - began)
"""
SUMMARIZE = """
import duckdb, time
began = time.perf_counter()
db = duckdb.connect()
db.execute("set threads={threads}; set memory_limit='{memory}'; set temp_directory='{tmp}'")
db.execute("summarize select * from '{path}'").fetchall()
print(time.perf_counter() - began)
"""
PANDAS = """
import time
began = time.perf_counter()
import pandas
pandas.read_parquet('{path}').describe(include='all')
print(time.perf_counter() - began)
"""


def _measured(command: list[str], **options: Any) -> dict[str, Any]:
    """{"seconds" of the whole process, "mb" at its peak, "said"}. Raises RuntimeError when it fails."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, **options)
        _pid, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(text[-2000:])
    return {"seconds": round(seconds, 2), "mb": round(usage.ru_maxrss / 1024), "said": text}


def _profile(folder: Path, unit: Path, data: Path, threads: int) -> dict[str, Any]:
    """The unit's own program in a unit's folder."""
    (unit / "code").mkdir(parents=True)
    (unit / "outputs").mkdir()
    source = {"kind": "parquet", "paths": [{"datastore": "bench", "path": "big.parquet"}]}
    from atelier.data import definition

    plan = {"definition": definition.check({"source": source}), "memory": MEMORY}
    (unit / "code" / "plan.json").write_text(json.dumps(plan))
    root = Path(__file__).resolve().parent.parent
    stores = {"bench": {"kind": "local", "config": {"path": str(folder)}, "secrets": {}}}
    given = {"ATELIER_UNIT_DIR": str(unit), "PYTHONPATH": str(root), "ATELIER_DATA": str(data)}
    given |= {"ATELIER_STORES": json.dumps(stores), "ATELIER_THREADS": str(threads)}
    found = _measured(
        [sys.executable, "-u", "-m", "studio.datasets.jobs.profile"], cwd=unit / "code", env={**os.environ, **given}
    )
    found["result"] = json.loads((unit / "outputs" / "profile.json").read_bytes())
    return found


def run(options: dict[str, Any]) -> dict[str, Any]:
    """``options``: rows (10,000,000), tries (of each; the best counts, 2)."""
    quick = bool(options.get("quick"))
    rows = int(options.get("rows", 200_000 if quick else 10_000_000))
    tries = int(options.get("tries", 1 if quick else 2))
    threads = min(4, os.cpu_count() or 1)
    if shutil.disk_usage(tempfile.gettempdir()).free < rows * 400 + (1 << 30):
        raise RuntimeError("there is too little disk left for this measurement")
    with tempfile.TemporaryDirectory(prefix="atelier-profile-") as raw:
        folder = Path(raw) / "files"
        for name in ("files", "data", "tmp"):
            (Path(raw) / name).mkdir()
        path = folder / "big.parquet"
        words: dict[str, Any] = {"path": path, "rows": rows, "tmp": Path(raw) / "tmp"}
        words |= {"threads": threads, "memory": MEMORY}
        _measured([sys.executable, "-c", MAKE.format(**words)])
        best: dict[str, dict[str, Any]] = {}
        for turn in range(tries):
            found = {"profile": _profile(folder, Path(raw) / f"unit{turn}", Path(raw) / "data", threads)}
            for name, code in {"bare": BARE, "summarize": SUMMARIZE, "pandas describe": PANDAS}.items():
                if name in ("bare", "summarize") or turn == 0:
                    found[name] = _measured([sys.executable, "-c", code.format(**words)])
            for name, one in found.items():
                if name not in best or one["seconds"] < best[name]["seconds"]:
                    best[name] = one
        size = path.stat().st_size
    result = best["profile"].pop("result")
    if result["rows"] != rows or len(result["columns"]) != 10:
        raise RuntimeError(f"the profile counted {result['rows']} rows, {len(result['columns'])} columns")
    figures = {
        "profile_s": best["profile"]["seconds"],
        "times_bare": round(best["profile"]["seconds"] / best["bare"]["seconds"], 2),
        "profile_mb": best["profile"]["mb"],
        "parquet_mb": round(size / 2**20),
    }
    return {
        "bench": "dataset_profile",
        "figures": figures,
        "unit": "s, MB, times",
        "reach": REACH,
        "compared_with": {
            name: {"seconds": one["seconds"], "mb": one["mb"]} for name, one in best.items() if name != "profile"
        },
        "met": all(figures[name] <= limit for name, limit in REACH.items()),
    }
