"""``to_spark`` in a real session, in an interpreter that has pyspark (``ATELIER_TEST_SPARK_PYTHON``, or this one)."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gear.servers import missing

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import json, sys
from pyspark.sql import SparkSession
from atelier.data import definition as d, engine, expressions as e, sources
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
made = d.make("delimited", [{"local": sys.argv[1]}], steps=[d.filtered(e.Column("n") > 1), d.split(0.5, 3, 0)])
told = []
for _way in ("DuckDB", "without it"):
    found = engine.to_spark(made, sources.LocalSource())
    rows = [[str(v) if v is not None else None for v in row] for row in found.collect()]
    told.append({"columns": found.dtypes, "rows": rows})
    sys.modules["duckdb"] = None
print(json.dumps(told))
"""


@pytest.mark.services
def test_spark_gives_what_the_reference_gives(tmp_path: Path) -> None:
    from atelier.data import definition as d
    from atelier.data import expressions as e
    from atelier.data import rows, sources, tables
    from atelier.data.errors import Problems

    python = os.environ.get("ATELIER_TEST_SPARK_PYTHON") or sys.executable
    if python == sys.executable and importlib.util.find_spec("pyspark") is None:
        missing("pyspark", "`manage.py test` installs it; ATELIER_TEST_SPARK_PYTHON names a Python that has it.")
    if shutil.which("java") is None:
        missing("Java", "Spark needs it (Debian: apt-get install openjdk-17-jre-headless).")
    (tmp_path / "a.csv").write_text(
        "n,a.b,t,f\n"
        + "".join(f"{at},it's {at},2020-01-0{at % 9 + 1} 10:00,{at}.5\n" for at in range(40))
        + "50,,,\n7\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "client" / "src"), "PYSPARK_PYTHON": python}
    done = subprocess.run(
        [python, "-c", PROGRAM, str(tmp_path / "a.csv")], env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert [one["columns"] for one in told] == 2 * [
        [["n", "bigint"], ["a.b", "string"], ["t", "timestamp"], ["f", "double"]]
    ]
    steps = [d.filtered(e.Column("n") > 1), d.split(0.5, 3, 0)]
    made = d.make("delimited", [{"local": str(tmp_path / "a.csv")}], steps=steps)
    made = tables.settled(made, sources.LocalSource(), Problems())
    expected = rows.apply(made, tables.typed_rows(made, sources.LocalSource(), Problems()))
    wanted = [[None if value is None else str(value) for value in row] for row in expected]
    assert [one["rows"] for one in told] == [wanted, wanted]
