"""DuckDB: a definition compiled to one query, so that columns, filters and limits are pushed into the reading.

Delimited files are first read with their types and strictly; DuckDB stops at anything irregular, and so do the casts
compiled here. Then values are read as text and fitted one by one, or the files are written anew, regular
(``parts``). The result is the reference evaluator's in all cases.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from . import casts, predicates, rows
from .delimited import NULL
from .errors import DataError
from .partitions import Partitions
from .parts import Part, groups
from .predicates import SQL_TYPES, identifier, literal

HASH = "atelier hash"  # holds a space and no letter that unique_names would give; see _named
FILE = "atelier file"  # the same
LINE = 16 << 20


def connect(memory_limit: str | None = None, temp: str | None = None, threads: int | None = None) -> Any:
    """A private database in memory. Raises DataError where DuckDB is missing or too old."""
    try:
        import duckdb
    except ImportError:
        raise DataError("duckdb is not installed in this environment.", "engine") from None
    if version() < (0, 9):
        raise DataError(f"duckdb {duckdb.__version__} is too old; 0.9 or newer is needed.", "engine")
    connection = duckdb.connect(":memory:")
    wanted = {
        "TimeZone": "UTC",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "enable_progress_bar": False,
    }
    wanted.update({"memory_limit": memory_limit, "temp_directory": temp, "threads": threads or _threads()})
    for name, value in wanted.items():
        if value is not None:
            with contextlib.suppress(duckdb.Error):
                shown = str(value).lower() if isinstance(value, (bool, int)) else literal(value)
                connection.execute(f"SET {name} = {shown}")
    return connection


def _threads() -> int | None:
    """ATELIER_THREADS, where whoever started this process bounds it; None: as many as there are processors."""
    text = os.environ.get("ATELIER_THREADS", "")
    return int(text) if text.isdigit() and int(text) else None


def version() -> tuple[int, ...]:
    import duckdb

    return tuple(int(part) for part in re.findall(r"\d+", duckdb.__version__)[:2])


class Misfit(Exception):  # noqa: N818 - told to people as a DataError with the line
    """A value does not fit and may not be missing."""


class Query:
    """A definition, its columns settled, over parts. ``careful``: values are read as text and fitted one by one."""

    def __init__(self, definition: dict[str, Any], parts: list[Part], connection: Any, careful: bool = False) -> None:
        self.definition, self.parts, self.connection, self.careful = definition, parts, connection, careful
        self.schema: list[dict[str, Any]] = definition["schema"]
        self.options: dict[str, Any] = definition["source"]
        self.partitions = Partitions(self.options)
        self.extra = self.partitions.names()
        self.fitted = False  # whether Parquet's values had to be fitted to other types
        if self.options["on_error"] != "null" and not self._parquet:
            self.careful = True

    # -------------------------------------------------------------------------------------------- reading

    def base(self, misfits: bool = False) -> str:
        """All columns of the schema, before the steps. ``misfits``: instead, per column whether its value does not
        fit."""
        chosen = [self._group(group, misfits) for group in groups(self.parts) if group[0].names or self._parquet]
        if not chosen:
            nulls = [f"CAST(NULL AS {SQL_TYPES[one['type']]}) AS {identifier(one['name'])}" for one in self.schema]
            return f"SELECT {', '.join(nulls)} WHERE FALSE"
        return " UNION ALL ".join(chosen)

    @property
    def _parquet(self) -> bool:
        return self.options["kind"] in ("parquet", "sql")

    def _group(self, group: list[Part], misfits: bool) -> str:
        read, physical = self._read_parquet(group) if self._parquet else self._read_csv(group)
        given = self._given(group, physical)
        fits = [self._column(one, physical, given) for one in self.schema]
        where = []
        if not self._parquet and len(group[0].names) == 1 and not group[0].anew:
            only = identifier(next(iter(physical)))
            where.append(f"{only} IS NOT NULL")  # an empty line
            if physical[next(iter(physical))] == "VARCHAR":
                where.append(f"{only} <> ''")
        wrong = [wrong for _, wrong in fits if wrong]
        if wrong and not misfits and self.options["on_error"] != "null":
            any_wrong = " OR ".join(f"coalesce({one}, FALSE)" for one in wrong)
            if self.options["on_error"] == "skip":
                where.append(f"NOT ({any_wrong})")
            else:
                where.append(f"CASE WHEN {any_wrong} THEN CAST({_error()} AS BOOLEAN) ELSE TRUE END")
        if misfits:
            shown = [f"coalesce({wrong or 'FALSE'}, FALSE) AS c{at}" for at, (_, wrong) in enumerate(fits)]
        else:
            shown = [f"{made} AS {identifier(one['name'])}" for (made, _), one in zip(fits, self.schema)]
        return f"SELECT {', '.join(shown)} FROM {read}" + (f" WHERE {' AND '.join(where)}" if where else "")

    def _column(
        self, column: dict[str, Any], physical: dict[str, str], given: dict[str, tuple[str, str]]
    ) -> tuple[str, str | None]:
        """``(SQL of the value, SQL of whether it does not fit)``."""
        name, kind = column["source"], column["type"]
        if name in given:
            made, there = given[name]
            return casts.from_type(made, there, column)
        if name not in physical:
            return f"CAST(NULL AS {SQL_TYPES[kind]})", None
        if self._parquet:
            made, wrong = casts.from_type(identifier(name), physical[name], column)
            self.fitted = self.fitted or wrong is not None
            return made, wrong
        if physical[name] == "DOUBLE":
            return casts.from_double(identifier(name), kind, _error()), None
        made, wrong = casts.from_text(identifier(name), column)
        if not self.careful and wrong:
            made = f"CASE WHEN {wrong} THEN CAST({_error()} AS {SQL_TYPES[kind]}) ELSE {made} END"
        return made, wrong

    def _read_csv(self, group: list[Part]) -> tuple[str, dict[str, str]]:
        first = group[0]
        wanted = {one["source"]: one for one in self.schema}
        physical = {}
        for name in first.names:
            kind = wanted[name]["type"] if name in wanted else "string"
            physical[name] = "DOUBLE" if kind in ("integer", "float") and not self.careful else "VARCHAR"
        columns = ", ".join(f"{literal(name)}: '{kind}'" for name, kind in physical.items())
        options = {
            "auto_detect": "false",
            "header": "false",
            "skip": str(first.skip),
            "columns": f"{{{columns}}}",
            "delim": literal("," if first.anew else self.options["separator"]),
            "quote": literal('"' if first.anew else self.options["quote"]),
            "escape": literal('"' if first.anew else self.options["quote"]),
            "nullstr": literal(NULL if first.anew else ""),
            "compression": "'gzip'" if first.packed else "'none'",
            "hive_partitioning": "false",
        }
        if self.options.get("empty_as_string") and not first.anew:
            texts = [literal(name) for name, kind in physical.items() if kind == "VARCHAR"]
            if version() < (0, 10):
                options["nullstr"] = literal(NULL)  # empty numbers then take the careful way
            elif texts:
                options["force_not_null"] = f"[{', '.join(texts)}]"
        if first.anew:
            options["max_line_size"] = str(LINE)
        if column := self._file_option(group, physical):
            options["filename"] = column
        shown = ", ".join(f"{key}={value}" for key, value in options.items())
        return f"read_csv({_listed(group)}, {shown})", physical

    def _read_parquet(self, group: list[Part]) -> tuple[str, dict[str, str]]:
        options = f"{_listed(group)}, union_by_name=true, hive_partitioning=false"
        found = self.connection.execute(f"DESCRIBE SELECT * FROM read_parquet({options})").fetchall()
        physical = {row[0]: row[1] for row in found}
        if column := self._file_option(group, physical):
            options += f", filename={column}"
        return f"read_parquet({options})", physical

    def _file_option(self, group: list[Part], physical: dict[str, str]) -> str:
        """The value of DuckDB's option ``filename``; "" where every row is of the same file."""
        if not self.extra or len(group) == 1:
            return ""
        name = _file_column(physical)
        return "true" if name == "filename" else literal(name)

    def _given(self, group: list[Part], physical: dict[str, str]) -> dict[str, tuple[str, str]]:
        """The columns that come from the path: SQL and DuckDB type."""
        if not self.extra:
            return {}
        listed = [self.partitions.values(part.file) for part in group]
        out = {}
        for at, column in enumerate(self.extra):
            kind = SQL_TYPES[column["type"]]
            if len(group) == 1:
                made = f"CAST({literal(listed[0][at])} AS {kind})"
            else:
                items = ", ".join(literal(one[at]) for one in listed)
                paths = ", ".join(literal(part.path) for part in group)
                place = f"list_position([{paths}], {identifier(_file_column(physical))})"
                made = f"list_extract(CAST([{items}] AS {kind}[]), {place})"
            out[column["name"]] = (made, kind)
        return out

    # ---------------------------------------------------------------------------------------------- steps

    def sql(self) -> str:
        """The whole definition as one query."""
        text = self.base()
        types = {one["name"]: one["type"] for one in self.schema}
        names = list(types)
        for at, (op, step, after) in enumerate(rows.plan(self.definition)):
            shown = ", ".join(identifier(name) for name in after)
            inner = f"({text}) AS t{at}"
            if op == "keep":
                text = f"SELECT {shown} FROM {inner}"
            elif op == "filter":
                node = predicates.condition(step["expression"], {name: types[name] for name in names})
                text = f"SELECT {shown} FROM {inner} WHERE {predicates.to_sql(node)}"
            elif op == "take":
                text = f"SELECT {shown} FROM {inner} LIMIT {step['count']}"
            elif op == "skip":
                text = f"SELECT {shown} FROM {inner} OFFSET {step['count']}"
            else:
                text = _sampled(text, step, shown, at)
            names = after
        return text


def _sampled(text: str, step: dict[str, Any], shown: str, at: int) -> str:
    """Rows whose ordinal's hash is below a limit; the hash is ``rows.mixed``, a step per nested query."""
    name = identifier(HASH)
    text = f"SELECT {shown}, (row_number() OVER () - 1) & {rows.MASK} AS {name} FROM ({text}) AS n{at}"
    half = f"(xor({name} >> 16, {name}) * {rows.FACTOR}) & {rows.MASK}"
    last = f"xor({name} >> 16, {name})"
    salted = f"xor({last}, {rows.seed_of(step['seed'])})"
    for number, one in enumerate((half, half, salted, half, half, last)):
        text = f"SELECT {shown}, {one} AS {name} FROM ({text}) AS h{at}_{number}"
    part = step.get("part", 0)
    limit = rows.limit_of(step["probability"] if step["op"] == "sample" else step["percentage"])
    return f"SELECT {shown} FROM ({text}) AS s{at} WHERE {name} {'>=' if part else '<'} {limit}"


def _file_column(physical: dict[str, str]) -> str:
    """What DuckDB is to call the column that says which file a row is of. Only newer ones take another name."""
    return FILE if "filename" in map(str.lower, physical) else "filename"


def _error() -> str:
    return f"error('{casts.MISFIT}')"


def _listed(group: list[Part]) -> str:
    """Paths as a list; what would be a wildcard in them is taken as it stands."""
    return "[" + ", ".join(plain_path(part.path) for part in group) + "]"


def plain_path(path: str) -> str:
    return literal(re.sub(r"([*?\[])", r"[\1]", path))


def attempt(
    definition: dict[str, Any],
    prepare: Callable[[bool], list[Part]],
    connection: Any,
    use: Callable[[Query], Any],
) -> tuple[Any, dict[str, int]]:
    """``use(query)``, first fast, then as carefully as the data needs; and how many values of each column did not fit
    (counted only where some may not). Raises Misfit where a value does not fit and the dataset wants that to fail."""
    import duckdb

    anew = careful = False
    parts = prepare(False)
    while True:
        query = Query(definition, parts, connection, careful)
        try:
            found = use(query)
            misfits = count_misfits(query) if query.careful or query.fitted else {}
        except duckdb.Error as error:
            wrong = str(error)
            is_type = casts.MISFIT in wrong or isinstance(error, duckdb.ConversionException)
            if casts.MISFIT in wrong and query.options["on_error"] == "fail":
                raise Misfit from error
            of_the_query = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException)
            of_the_machine = getattr(duckdb, "OutOfMemoryException", duckdb.ParserException)
            if isinstance(error, (*of_the_query, of_the_machine)) or query._parquet:
                raise translated(error, parts) from error
            if is_type and not query.careful:
                careful = True
            elif not anew and not is_type:
                anew, parts = True, prepare(True)
            elif not query.careful:
                careful = True
            else:
                raise translated(error, parts) from error
            continue
        return found, misfits


def count_misfits(query: Query) -> dict[str, int]:
    """How many values of each column do not fit."""
    counts = ", ".join(f"count(*) FILTER (WHERE c{at})" for at in range(len(query.schema)))
    found = query.connection.execute(f"SELECT {counts} FROM ({query.base(misfits=True)}) AS m").fetchone()
    return {one["name"]: number for one, number in zip(query.schema, found) if number}


def translated(error: Exception, parts: list[Part]) -> DataError:
    """DuckDB's words without paths of scratch files."""
    text = (str(error).splitlines() or [""])[0]
    for part in parts:
        if part.path in text:
            return DataError(f"{part.file.path}: {text.replace(part.path, part.file.path)}", "format", part.file.path)
    return DataError(text, "format")


def parquet_rows(path: str) -> tuple[list[dict[str, str]], Iterator[dict[str, Any]]]:
    """``([{"name", "type"}], rows)`` of one Parquet file."""
    import duckdb

    from .definition import unique_names

    connection = connect()
    read = f"read_parquet({plain_path(path)}, hive_partitioning=false)"
    try:
        found = connection.execute(f"DESCRIBE SELECT * FROM {read}").fetchall()
    except duckdb.Error as error:
        raise translated(error, []) from error
    names, _ = unique_names(row[0] for row in found)
    columns = [{"name": name, "type": casts.type_of(row[1])} for name, row in zip(names, found)]

    def each() -> Iterator[dict[str, Any]]:
        shown = ", ".join(
            casts.from_type(identifier(row[0]), row[1], {"type": casts.type_of(row[1])})[0] for row in found
        )
        cursor = connection.execute(f"SELECT {shown} FROM {read}")
        while True:
            batch = cursor.fetchmany(2048)
            if not batch:
                return
            for row in batch:
                yield dict(zip(names, row))

    return columns, each()
