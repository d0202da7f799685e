"""The evaluator's front: one definition in, a frame, files, a preview or a count out.

``to_pandas`` uses DuckDB where it is installed, else pandas (``frames``; pyarrow for Parquet). Previews and inference
read rows one by one and stop early; file datasets need nothing but the standard library.
"""

from __future__ import annotations

import datetime
import itertools
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from . import definition as definitions
from . import rows as evaluator
from . import tables
from .copies import copy_files
from .errors import DataError, DataWarning, Problems, told
from .sources import DataFile, Source

PATIENCE = 5.0  # seconds that a preview looks for rows that a filter lets through
ENGINE_VARIABLE = "ATELIER_DATA_ENGINE"  # duckdb or pandas; else the best that is installed


@dataclass
class Preview:
    """The first rows. ``rows`` hold what JSON holds (moments as ISO text); ``complete``: there are no more."""

    columns: list[dict[str, Any]]
    rows: list[list[Any]]
    problems: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False


def engine_name() -> str:
    """duckdb or pandas: what ``to_pandas`` uses here. Raises DataError where neither is installed."""
    wanted = os.environ.get(ENGINE_VARIABLE, "")
    for name in [wanted] if wanted in ("duckdb", "pandas") else ["duckdb", "pandas"]:
        try:
            __import__(name)
            return name
        except ImportError:
            continue
    raise DataError("to_pandas_dataframe needs pandas, and is fast with duckdb: install both.", "engine")


def to_pandas(definition: dict[str, Any], source: Source, problems: list[dict[str, Any]] | None = None) -> Any:
    """A pandas DataFrame; what was changed on the way in is added to ``problems``, else warned about."""
    _tabular(definition, "to_pandas_dataframe")
    try:
        import pandas  # noqa: F401
    except ImportError:
        raise DataError(
            "pandas is not installed in this environment: add pandas (and duckdb, which is fast) to the environment of "
            "the run, or use the environment AzureML-Tutorial, which has both.",
            "engine",
        ) from None
    found = Problems()
    if engine_name() == "duckdb":
        from . import duck_frames

        frame = duck_frames.to_pandas(definition, source, found)
    else:
        from . import frames

        frame = frames.to_pandas(definition, source, found)
    _told(found, problems)
    return frame


def to_spark(definition: dict[str, Any], source: Source) -> Any:
    """A Spark DataFrame of the active SparkSession."""
    from . import spark

    _tabular(definition, "to_spark_dataframe")
    return spark.to_spark(definition, source)


def preview(definition: dict[str, Any], source: Source, rows: int = 100) -> Preview:
    """The first ``rows`` rows after all steps; reads no more than it needs. File datasets: path and size."""
    if definition["type"] == "file":
        listed = list(itertools.islice(files(definition, source, rows + 1), rows + 1))
        columns = [{"name": "path", "type": "string"}, {"name": "size", "type": "integer"}]
        return Preview(columns, [[file.path, file.size] for file in listed[:rows]], [], len(listed) <= rows)
    problems = Problems()
    known = _Files(definition, source)
    sample = itertools.islice(known.again(), tables.SAMPLE_FILES)
    definition = tables.settled(definition, source, Problems(), files=sample)
    problems = Problems()
    stream = tables.typed_rows(definition, source, problems, known.again())
    out: list[list[Any]] = []
    complete = False
    watched = evaluator.apply(definition, _patient(stream, time.monotonic() + PATIENCE))
    try:
        while len(out) < rows:
            row = next(watched, None)
            if row is None:
                complete = True
                break
            out.append([_plain(value) for value in row])
        else:
            complete = next(watched, None) is None if rows else False
    except _Enough:
        complete = False
    stream.close()  # type: ignore[attr-defined]
    return Preview(definitions.columns(definition) or [], out, problems.list(), complete)


class _Enough(Exception):  # noqa: N818 - ends a preview, is no error
    pass


def _patient(stream: Iterator[Any], until: float) -> Iterator[Any]:
    for at, row in enumerate(stream):
        if not at & 1023 and time.monotonic() > until:
            raise _Enough
        yield row


class _Files:
    """The files of a definition, listed once however often they are gone through, and only as far as needed."""

    def __init__(self, definition: dict[str, Any], source: Source) -> None:
        self._source = tables.files_of(definition, source)
        self._seen: list[DataFile] = []

    def again(self) -> Iterator[DataFile]:
        at = 0
        while True:
            if at == len(self._seen):
                file = next(self._source, None)
                if file is None:
                    return
                self._seen.append(file)
            yield self._seen[at]
            at += 1


def infer(
    definition: dict[str, Any], source: Source, rows: int = 1000, types: bool = True
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The definition with its columns settled from the first ``rows`` rows, and the problems seen there.
    ``types`` False: every column of a delimited file is text."""
    problems = Problems()
    done = tables.settled(
        definition,
        source,
        problems,
        rows,
        itertools.islice(_Files(definition, source).again(), tables.SAMPLE_FILES),
        types,
    )
    return done, problems.list()


def count(definition: dict[str, Any], source: Source) -> int:
    """Rows (file datasets: files) after all steps."""
    if definition["type"] == "file":
        return sum(1 for _ in files(definition, source))
    try:
        name = engine_name()
    except DataError:
        name = ""
    if name == "duckdb":
        from . import duck_frames

        return duck_frames.count(definition, source, Problems())
    if name == "pandas":
        from . import frames

        return frames.count(definition, source, Problems())
    known = list(tables.files_of(definition, source))
    definition = tables.settled(definition, source, Problems(), files=known)
    return sum(1 for _ in evaluator.apply(definition, tables.typed_rows(definition, source, Problems(), known)))


def files(definition: dict[str, Any], source: Source, limit: int | None = None) -> Iterator[DataFile]:
    """The files of a file dataset after its steps, at most ``limit``."""
    if definition["type"] != "file":
        raise DataError("This is a tabular dataset; only file datasets have files of their own.", "definition")
    steps = definition["steps"]
    found: Iterator[DataFile] = iter(source.files(definition, limit=None if steps else limit))
    for step in steps:
        found = evaluator.row_step(found, step)
    return found if limit is None else itertools.islice(found, limit)


def to_path(definition: dict[str, Any], source: Source) -> list[str]:
    """``["/rel/path", ...]`` of a file dataset."""
    return ["/" + file.name.lstrip("/") for file in files(definition, source)]


def download(
    definition: dict[str, Any], source: Source, target: str, overwrite: bool = False, progress: Any = None
) -> list[str]:
    """The files below ``target``, each whole or not at all; the local paths, in order.

    A file that is there already is an error unless ``overwrite``; one that an earlier, broken download brought whole
    (same size) is kept. ``progress(done_bytes, total_bytes)``.
    """
    return copy_files(list(files(definition, source)), source, target, overwrite, progress)


def _tabular(definition: dict[str, Any], what: str) -> None:
    if definition["type"] != "tabular":
        raise DataError(f"{what} works on tabular datasets; this is a file dataset (download, to_path).", "definition")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return str(value) if isinstance(value, float) and value in (float("inf"), -float("inf")) else value


def _told(found: Problems, into: list[dict[str, Any]] | None) -> None:
    listed = found.list()
    if into is not None:
        into.extend(listed)
        return
    serious = [one for one in listed if one["kind"] != "duplicate"]
    if serious:
        first = serious[0]
        count = sum(one["count"] for one in serious)
        warnings.warn(told(first) + (f" ({count} places in all)" if count > 1 else ""), DataWarning, stacklevel=4)
