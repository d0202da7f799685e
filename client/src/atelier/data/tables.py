"""From a definition and a source to typed rows, and to columns that are settled."""

from __future__ import annotations

import contextlib
import datetime
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import values
from .definition import with_schema
from .delimited import Delimited, JsonLines, json_text, unpacked
from .errors import DataError, Problems
from .partitions import Partitions
from .rows import Row
from .sources import DataFile, Source

SAMPLE_FILES = 50  # files that are looked into for their columns
SHOWN = 60


def files_of(definition: dict[str, Any], source: Source, limit: int | None = None) -> Iterator[DataFile]:
    """The files, at most ``limit``; a query's result is one file."""
    if definition["source"]["kind"] == "sql":
        query = getattr(source, "query", None)
        if query is None:
            raise DataError("A query cannot be run from here: the dataset belongs to no workspace.", "source")
        path = query(definition, limit=None)
        yield DataFile(path="query", name="query", local=path)
        return
    for at, file in enumerate(source.files(definition, limit=limit)):
        if limit is not None and at >= limit:
            return
        yield file


def format_of(definition: dict[str, Any]) -> str:
    """delimited, parquet or json_lines; the result of a query comes as Parquet."""
    kind = definition["source"]["kind"]
    return "parquet" if kind == "sql" else str(kind)


@contextlib.contextmanager
def opened(source: Source, file: DataFile) -> Iterator[Any]:
    """A file's bytes, unpacked where it is compressed."""
    stream = open(file.local, "rb") if file.local else source.open(file)  # noqa: SIM115 - closed below
    with contextlib.closing(stream), contextlib.closing(unpacked(stream, file.name or file.path)) as inner:
        yield inner


def text_rows(
    definition: dict[str, Any], source: Source, file: DataFile, problems: Problems
) -> Iterator[tuple[int, dict[str, Any]]]:
    """``(line, {column of the file: text})`` of a delimited file or JSON lines; line 0 has all names and None."""
    options = definition["source"]
    with opened(source, file) as stream:
        if options["kind"] == "json_lines":
            for line, found in JsonLines(stream, file.path, options, problems).rows():
                yield line, found
            return
        table = Delimited(stream, file.path, options, problems)
        yield 0, dict.fromkeys(table.names)
        for line, row in table.rows():
            yield line, dict(zip(table.names, row))


def parquet_rows(source: Source, file: DataFile) -> tuple[list[dict[str, str]], Iterator[dict[str, Any]]]:
    """``([{"name", "type"}], rows)`` of a Parquet file; only the parts of the file that are needed are read."""
    with contextlib.suppress(ImportError):
        import pyarrow.parquet  # noqa: F401

        from . import arrow

        return arrow.parquet_rows(source, file)
    try:
        import duckdb  # noqa: F401
    except ImportError:
        raise DataError("Parquet needs duckdb or pyarrow; install one of them in this environment.", "engine") from None
    from . import duck

    return duck.parquet_rows(source.fetch(file) if not file.local else file.local)


def settled(
    definition: dict[str, Any],
    source: Source,
    problems: Problems,
    rows: int = 1000,
    files: Iterable[DataFile] | None = None,
    types: bool = True,
) -> dict[str, Any]:
    """The definition with its columns; those that it has are kept. Looks at the first ``rows`` rows, and at a few of
    the other files for columns that the first does not have."""
    if definition["schema"] is not None or definition["type"] == "file":
        return definition
    files = files_of(definition, source, SAMPLE_FILES) if files is None else files
    partitions = Partitions(definition["source"]).names()
    if format_of(definition) == "parquet":
        columns = _parquet_columns(source, files)
    else:
        columns = _text_columns(definition, source, problems, rows, files, types)
    taken = {one["name"] for one in partitions}
    columns = partitions + [one for one in columns if one["name"] not in taken]
    if not columns:
        raise DataError("The files have no columns: they are empty.", "format")
    return with_schema(definition, [{**one, "source": one["name"]} for one in columns])


def _parquet_columns(source: Source, files: Iterable[DataFile]) -> list[dict[str, Any]]:
    found: dict[str, str] = {}
    for file in files:
        columns, rows = parquet_rows(source, file)
        getattr(rows, "close", lambda: None)()
        for one in columns:
            known = found.get(one["name"])
            if known is None or known == one["type"]:
                found[one["name"]] = one["type"]
            else:
                both = {known, one["type"]}
                found[one["name"]] = "float" if both == {"integer", "float"} else "string"
    return [{"name": name, "type": kind} for name, kind in found.items()]


def _text_columns(
    definition: dict[str, Any],
    source: Source,
    problems: Problems,
    rows: int,
    files: Iterable[DataFile],
    types: bool,
) -> list[dict[str, Any]]:
    texts: dict[str, list[str]] = {}
    left = rows
    for file in files:
        share = max(left, 20)  # of the later files a few rows: their columns may be others
        fresh = set()
        for line, found in text_rows(definition, source, file, problems):
            for name, text in found.items():
                if name not in texts:
                    texts[name] = []
                    fresh.add(name)
                if text is not None:
                    texts[name].append(text)
            if line:
                share -= 1
                left -= 1
            if share <= 0 or (left <= 0 and not fresh and definition["source"]["kind"] == "delimited"):
                break
    return [{"name": name, **(values.infer(seen) if types else {"type": "string"})} for name, seen in texts.items()]


def typed_rows(
    definition: dict[str, Any], source: Source, problems: Problems, files: Iterable[DataFile] | None = None
) -> Iterator[Row]:
    """Rows of a settled definition before its steps."""
    for file in files_of(definition, source) if files is None else files:
        lines: Iterable[tuple[int, dict[str, Any]]]
        if format_of(definition) == "parquet":
            lines = enumerate(parquet_rows(source, file)[1], 1)
        else:
            lines = text_rows(definition, source, file, problems)
        yield from file_rows(definition, file, lines, problems)


def given_by_path(definition: dict[str, Any], file: DataFile) -> dict[str, Any]:
    """The columns that come from a file's path, and their values."""
    partitions = Partitions(definition["source"])
    return dict(zip([one["name"] for one in partitions.names()], partitions.values(file)))


def file_rows(
    definition: dict[str, Any], file: DataFile, lines: Iterable[tuple[int, dict[str, Any]]], problems: Problems
) -> Iterator[Row]:
    """The typed rows of ``(line, {column of the file: value})``; line 0 is no row."""
    schema = definition["schema"]
    given = given_by_path(definition, file)
    convert: list[Callable[[Any], Any] | None]
    if format_of(definition) == "parquet":
        convert = [_from_value(one) for one in schema]
    else:
        convert = [_from_text(one, given) for one in schema]
    sources = [one["source"] for one in schema]
    for line, record in lines:
        if not line:
            continue
        if given:
            record.update(given)
        row = []
        for name, work in zip(sources, convert):
            value = record.get(name)
            row.append(value if value is None or work is None else work(value))
        if MISFIT in row and not _misfits(definition, file, line, record, row, problems):
            continue
        yield tuple(row)


class _Misfit:
    """Stands for a value that does not fit its column."""

    def __repr__(self) -> str:
        return "misfit"


MISFIT: Any = _Misfit()


def _misfits(
    definition: dict[str, Any], file: DataFile, line: int, record: dict[str, Any], row: list[Any], problems: Problems
) -> bool:
    choice = definition["source"]["on_error"]
    parquet = format_of(definition) == "parquet"
    for at, column in enumerate(definition["schema"]):
        if row[at] is MISFIT:
            row[at] = None
            report_misfit(choice, problems, column, record.get(column["source"]), file.path, None if parquet else line)
    return bool(choice != "skip")


def report_misfit(
    choice: str, problems: Problems, column: dict[str, Any], value: Any, shown: str, line: int | None, count: int = 1
) -> None:
    """Counts a value that is not of its column's type; raises where the dataset wants that."""
    what = f"{str(value)[:SHOWN]!r} is no {column['type']}"
    if choice == "fail":
        where = f"{shown}, line {line}" if line else shown
        raise DataError(
            f"{where}: column {column['name']!r}: {what}. Change the column's type, or let such values be missing.",
            "type",
            shown,
            line,
        )
    done = "the row is left out" if choice == "skip" else "it is missing"
    problems.add("type", f"{what}; {done}.", file=shown, line=line, column=column["name"], count=count)


def _from_text(column: dict[str, Any], given: dict[str, Any]) -> Callable[[Any], Any] | None:
    """text -> value, ``MISFIT`` for what does not fit; None: it stays as it is."""
    read = values.reader(column)
    if column["source"] in given:
        return lambda value: fitted(value, column["type"], read)
    if read is None:
        return None
    return lambda text: _read(text, read)


def _read(text: str, read: Callable[[str], Any]) -> Any:
    value = read(text)
    if value is None:
        return MISFIT if text.strip(values.SPACES) else None
    return None if value != value else value  # noqa: PLR0124 - "nan" is missing


def _from_value(column: dict[str, Any]) -> Callable[[Any], Any]:
    read = values.reader(column)
    return lambda value: fitted(value, column["type"], read)


def fitted(value: Any, kind: str, read: Callable[[str], Any] | None) -> Any:
    """A value of Python as one of a column's type; ``MISFIT`` where it is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if kind == "string":
        return plain_text(value)
    if isinstance(value, bool):
        return value if kind == "boolean" else MISFIT
    if isinstance(value, int) and kind in ("integer", "float"):
        return float(value) if kind == "float" else value if -(1 << 63) <= value < 1 << 63 else MISFIT
    if isinstance(value, float) and kind == "float":
        return value
    if kind == "datetime" and isinstance(value, datetime.date):
        if not isinstance(value, datetime.datetime):
            return datetime.datetime(value.year, value.month, value.day)
        if value.tzinfo is not None:
            return value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return value
    text = plain_text(value)
    return _read(text, read) if text is not None and read is not None else MISFIT


def plain_text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    return json_text(value) if isinstance(value, (dict, list, tuple)) else str(value)
