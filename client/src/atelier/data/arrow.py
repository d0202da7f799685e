"""Parquet through pyarrow: where DuckDB is not, and for heads of remote files (only the ranges needed are read)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .errors import DataError
from .sources import DataFile, Source

BATCH = 4096
BUFFER = 1 << 18  # bytes read ahead of a column: a head needs no whole row group


def column_type(kind: Any) -> str:
    """An Arrow type as one of ours; nested ones are shown as JSON text."""
    import pyarrow.types as t

    if t.is_dictionary(kind):
        return column_type(kind.value_type)
    if t.is_boolean(kind):
        return "boolean"
    if t.is_integer(kind):
        return "integer"
    if t.is_floating(kind) or t.is_decimal(kind):
        return "float"
    if t.is_timestamp(kind) or t.is_date(kind):
        return "datetime"
    return "string"


def open_parquet(source: Source, file: DataFile) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.local:
            return pq.ParquetFile(file.local, buffer_size=BUFFER, pre_buffer=False)
        return pq.ParquetFile(pa.PythonFile(source.open(file), mode="r"), buffer_size=BUFFER, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file.path} is no Parquet file: {_first(error)}", "format", file.path) from error


def parquet_rows(source: Source, file: DataFile) -> tuple[list[dict[str, str]], Iterator[dict[str, Any]]]:
    from .definition import unique_names

    parquet = open_parquet(source, file)
    schema = parquet.schema_arrow
    names, _ = unique_names(schema.names)
    columns = [{"name": name, "type": column_type(field.type)} for name, field in zip(names, schema)]
    return columns, _rows(parquet, names, file)


def _rows(parquet: Any, names: list[str], file: DataFile) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    try:
        for batch in parquet.iter_batches(batch_size=BATCH, use_threads=False):
            lists = [_column(column) for column in batch.columns]
            for row in zip(*lists):
                yield dict(zip(names, row))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file.path} cannot be read: {_first(error)}", "format", file.path) from error
    finally:
        parquet.close()


def _column(column: Any) -> list[Any]:
    """Python values; moments to microseconds, decimals as floats, maps as dictionaries."""
    import pyarrow as pa
    import pyarrow.types as t

    kind = column.type
    if t.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if t.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", tz=kind.tz), safe=False)
    elif t.is_decimal(kind):
        column = column.cast(pa.float64())
    elif t.is_map(kind):
        return [None if pairs is None else {str(key): value for key, value in pairs} for pairs in column.to_pylist()]
    found: list[Any] = column.to_pylist()
    return found


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
