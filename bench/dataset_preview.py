"""First rows of a 2 GiB CSV and of 10,000 Parquet files, as the dataset wizard asks for them."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REACH = {"csv_s": 1.0, "csv_mb": 300, "parquet_s": 1.0, "parquet_mb": 300}
ROWS = 100
BLOCK = 8 << 20

# What the web process does, in a fresh process: the time until the answer, and the memory of the two together.
LOOK = """
import json, os, resource, sys, time
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")
import django
django.setup()
from studio.datasets import inspect
definition, folder, rows = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
stores = {{"bench": {{"kind": "local", "config": {{"path": folder}}, "secrets": {{}}}}}}
def own():
    # getrusage says at least what the parent had: for the reader, whose parent this process is, it is a bound.
    return [int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
before = own()
times = []
for what in {what}:
    began = time.perf_counter()
    found = inspect.look_into(what, definition, rows, scope="bench", stores=stores)
    times.append(time.perf_counter() - began)
    assert len(found["rows"]) == rows and not found["problems"], (len(found["rows"]), found["problems"])
began = time.perf_counter()
inspect.look_into({what}[-1], definition, rows, scope="bench", stores=stores)
again = time.perf_counter() - began
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps({{"seconds": times, "again": again, "reader_mb": child, "web_growth_mb": own() - before}}))
"""
BARE = {
    "duckdb csv": "import duckdb; assert len(duckdb.sql(\"select * from read_csv('{path}') limit {rows}\").fetchall())",
    "pandas csv": "import pandas; assert len(pandas.read_csv('{path}', nrows={rows}))",
    "duckdb parquet": "import duckdb; assert duckdb.sql(\"select * from '{path}' limit {rows}\").fetchall()",
}


def make_csv(path: Path, size: int) -> None:
    """``size`` bytes or a little more of made-up rows: a block of rows again and again."""
    rng = random.Random(1)  # noqa: S311 - made-up numbers
    lines, length = [], 0
    while length < min(BLOCK, size):
        row = f"{rng.randrange(10**9)},{rng.random():.6f},name-{rng.randrange(10**6)},2026-01-{rng.randrange(10, 29)},"
        lines.append(row + f"{rng.random():.8f},{rng.choice(('red', 'green', 'blue'))}\n")
        length += len(lines[-1])
    block = "".join(lines).encode()
    with path.open("wb") as file:
        file.write(b"id,value,name,day,share,colour\n")
        for _ in range(max(1, size // len(block))):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def make_parquet(folder: Path, count: int) -> None:
    """``count`` files of 1,000 rows and six columns in a hundred folders."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = random.Random(2)  # noqa: S311 - made-up numbers
    table = pa.table(
        {
            "id": list(range(1000)),
            "value": [rng.gauss(0, 1) for _ in range(1000)],
            "name": [f"name-{rng.randrange(10**6)}" for _ in range(1000)],
            "share": [rng.random() for _ in range(1000)],
            "good": [rng.random() > 0.5 for _ in range(1000)],
            "colour": [rng.choice(("red", "green", "blue")) for _ in range(1000)],
        }
    )
    first = folder / "first"
    pq.write_table(table, first)
    raw = first.read_bytes()
    first.unlink()
    for index in range(count):
        part = folder / f"part-{index % 100:02d}"
        part.mkdir(exist_ok=True)
        (part / f"{index:05d}.parquet").write_bytes(raw)


def forget(path: Path) -> None:
    """Have the file read from the disk the next time, where the system takes the advice."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _look(definition: dict[str, Any], folder: Path, data: Path, what: tuple[str, ...]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK.format(what=what), json.dumps(definition), str(folder), str(ROWS)],
        capture_output=True,
        text=True,
        env={**os.environ, "ATELIER_DATA": str(data)},
        cwd=Path(__file__).resolve().parent.parent,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _bare(code: str) -> dict[str, float]:
    """Seconds of a whole process, and of its work without the imports' share; peak memory in MB."""
    began = time.perf_counter()
    timed = f"{code.partition(';')[0]}\nimport time\nb = time.perf_counter()\n{code.partition(';')[2].strip()}"
    # A process's own maximum as getrusage says it is at least that of its parent when it was started.
    timed += "\nprint(time.perf_counter() - b, [int(line.split()[1]) / 1024 for line in open('/proc/self/status')"
    timed += " if line.startswith('VmHWM')][0])"
    done = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True)
    work, memory = map(float, done.stdout.split())
    return {"process_s": round(time.perf_counter() - began, 3), "call_s": round(work, 3), "mb": round(memory)}


def run(options: dict[str, Any]) -> dict[str, Any]:
    """``options``: bytes (of the CSV, 2 GiB), files (of the glob, 10,000)."""
    quick = bool(options.get("quick"))
    size = int(options.get("bytes", (64 << 20) if quick else (2 << 30)))
    count = int(options.get("files", 500 if quick else 10_000))
    if shutil.disk_usage(tempfile.gettempdir()).free < size + count * 64_000 + (1 << 30):
        raise RuntimeError("there is too little disk left for this measurement")
    with tempfile.TemporaryDirectory(prefix="atelier-preview-") as raw:
        folder, data = Path(raw) / "files", Path(raw) / "data"
        folder.mkdir()
        data.mkdir()
        path = folder / "big.csv"
        make_csv(path, size)
        make_parquet(folder, count)
        csv = {"kind": "delimited", "paths": [{"datastore": "bench", "path": "big.csv"}]}
        glob = {"kind": "parquet", "paths": [{"datastore": "bench", "path": "part-*/*.parquet"}]}
        forget(path)
        cold = _look({"source": csv}, folder, data, ("preview",))
        warm = _look({"source": csv}, folder, data, ("preview", "inspect"))
        parts = _look({"source": glob}, folder, data, ("preview", "inspect"))
        bare = {
            name: _bare(code.format(path=path if "csv" in name else f"{folder}/part-*/*.parquet", rows=ROWS))
            for name, code in BARE.items()
        }
    memory = {"csv_mb": max(cold["reader_mb"], warm["reader_mb"]), "parquet_mb": parts["reader_mb"]}
    figures = {
        "csv_s": round(max(cold["seconds"][0], warm["seconds"][0]), 3),
        "csv_cold_s": round(cold["seconds"][0], 3),
        "csv_settled_s": round(warm["seconds"][1], 3),
        "parquet_s": round(parts["seconds"][0], 3),
        "parquet_settled_s": round(parts["seconds"][1], 3),
        "again_s": round(max(warm["again"], parts["again"]), 4),
        **{name: round(value) for name, value in memory.items()},
        "web_growth_mb": round(max(cold["web_growth_mb"], warm["web_growth_mb"], parts["web_growth_mb"]), 1),
    }
    return {
        "bench": "dataset_preview",
        "figures": figures,
        "unit": "s, MB",
        "reach": REACH,
        "compared_with": bare,
        "met": all(figures[name] <= limit for name, limit in REACH.items()),
    }
