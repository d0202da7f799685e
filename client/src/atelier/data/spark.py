"""A definition as a Spark DataFrame of the active SparkSession.

The definition is evaluated here, once, by the same evaluator as everywhere (steps, filters and types included), into
files that Spark then reads: Parquet by DuckDB, else JSON lines by the standard library. Spark's workers must see this
machine's temporary folder (``ATELIER_SPARK_FOLDER``: another one, shared by them). The files go when Python ends.
"""

from __future__ import annotations

import atexit
import datetime
import json
import os
import shutil
import tempfile
from typing import Any

from . import definition as definitions
from . import duck_frames, rows, tables
from .errors import DataError, Problems
from .predicates import literal
from .sources import Source

FOLDER_VARIABLE = "ATELIER_SPARK_FOLDER"


def session() -> Any:
    """The active SparkSession, else one that Spark makes here."""
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise DataError(
            "pyspark is not installed in this environment; to_spark_dataframe needs it, and Java.", "engine"
        ) from None
    active = getattr(SparkSession, "getActiveSession", lambda: None)()
    return active or SparkSession.builder.getOrCreate()


def to_spark(definition: dict[str, Any], source: Source) -> Any:
    """The rows are evaluated now; Spark reads them when it acts on the frame."""
    spark = session()
    files = list(tables.files_of(definition, source))
    definition = tables.settled(definition, source, Problems(), files=files)
    columns = definitions.columns(definition) or []
    folder = tempfile.mkdtemp(prefix="atelier-spark-", dir=os.environ.get(FOLDER_VARIABLE) or None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        import duckdb  # noqa: F401
    except ImportError:
        return _from_lines(spark, definition, source, files, columns, os.path.join(folder, "rows.json"))
    path = os.path.join(folder, "rows.parquet")
    found = _from_parquet(spark, definition, source, path)
    return found.select([_typed(found[_quoted(one["name"])], one).alias(one["name"]) for one in columns])


def _from_parquet(spark: Any, definition: dict[str, Any], source: Source, path: str) -> Any:
    def use(query: Any) -> None:
        query.connection.execute(f"COPY ({query.sql()}) TO {literal(path)} (FORMAT PARQUET)")

    duck_frames.evaluate(definition, source, Problems(), use)
    return spark.read.parquet("file://" + path)


def _from_lines(
    spark: Any,
    definition: dict[str, Any],
    source: Source,
    files: list[Any],
    columns: list[dict[str, Any]],
    path: str,
) -> Any:
    """Columns are named by their place: JSON readers of Spark take no account of upper and lower case."""
    from pyspark.sql import types as t

    with open(path, "w", encoding="utf-8") as out:
        for row in rows.apply(definition, tables.typed_rows(definition, source, Problems(), files)):
            record = {f"c{at}": _json(value) for at, value in enumerate(row) if value is not None}
            out.write(json.dumps(record, ensure_ascii=True) + "\n")
    kinds = {"integer": t.LongType(), "boolean": t.BooleanType()}
    schema = [t.StructField(f"c{at}", kinds.get(one["type"], t.StringType())) for at, one in enumerate(columns)]
    found = spark.read.schema(t.StructType(schema)).json("file://" + path)
    return found.select([_typed(found[f"c{at}"], one).alias(one["name"]) for at, one in enumerate(columns)])


def _json(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    return repr(value).replace("inf", "Infinity") if isinstance(value, float) else value


def _typed(column: Any, one: dict[str, Any]) -> Any:
    """Moments as Spark's timestamps (older Parquet readers give them so, newer ones without a zone)."""
    wanted = {"datetime": "timestamp", "float": "double"}.get(one["type"])
    return column.cast(wanted) if wanted else column


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
