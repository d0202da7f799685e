"""``azureml.dataprep``: dataflows over addresses, local files and datastores, without a workspace."""

from __future__ import annotations

import os
from enum import Enum
from typing import Any, Mapping

from atelier.data.abstract import names_of
from atelier.data.expressions import Column
from atelier.data.outputs import has_header
from atelier.data.paths import entries_of
from atelier.data.sources import LocalSource
from atelier.data.tabular_dataset import TabularDataset
from atelier.exceptions import UserErrorException

col = Column


class FileEncoding(Enum):
    UTF8 = "utf8"
    ISO_8859_1 = "latin-1"
    LATIN1 = "latin-1"
    ASCII = "ascii"
    UTF16 = "utf-16"
    UTF32 = "utf-32"
    UTF8_BOM = "utf-8-sig"
    WINDOWS1252 = "cp1252"


class PromoteHeadersMode(Enum):
    """Whether files begin with the names of their columns; all modes but NONE say that each does."""

    NONE = 0
    UNGROUPED = 1
    GROUPED = 2
    CONSTANTGROUPED = 3


class SkipMode(Enum):
    NONE = 0
    UNGROUPED = 1
    GROUPED = 2


class Dataflow:
    """A definition of rows that never changes; each call gives another one, and nothing is read until the rows are
    asked for: ``to_pandas_dataframe``, ``to_spark_dataframe``, ``head``, ``row_count``."""

    def __init__(self, dataset: TabularDataset) -> None:
        self._dataset = dataset

    # -- steps ----------------------------------------------------------------------------------------------------

    def __getitem__(self, column: Any) -> Any:
        return self.keep_columns(column) if isinstance(column, (list, tuple)) else Column(column)

    def take(self, count: int) -> Dataflow:
        return Dataflow(self._dataset.take(count))

    def skip(self, count: int) -> Dataflow:
        return Dataflow(self._dataset.skip(count))

    def take_sample(self, probability: float, seed: int | None = None) -> Dataflow:
        return Dataflow(self._dataset.take_sample(probability, seed))

    def random_split(self, percentage: float, seed: int | None = None) -> Any:
        first, second = self._dataset.random_split(percentage, seed)
        return Dataflow(first), Dataflow(second)

    def keep_columns(self, columns: Any, validate_column_exists: bool = False) -> Dataflow:
        return Dataflow(self._dataset.keep_columns(columns, validate_column_exists))

    def drop_columns(self, columns: Any) -> Dataflow:
        return Dataflow(self._dataset.drop_columns(columns))

    def filter(self, expression: Any) -> Dataflow:
        """The rows for which an expression holds: ``dataflow.filter(dataflow['age'] > 30)``, or of ``col('age')``."""
        return Dataflow(self._dataset.filter(expression))

    def drop_nulls(self, columns: Any) -> Dataflow:
        """Rows that have a value in all of these columns."""
        made = self
        for name in names_of(columns):
            made = made.filter(~Column(name).is_null())
        return made

    def rename_columns(self, column_pairs: Mapping[Any, str]) -> Dataflow:
        """``{old: new}``. Reads the head of the data where its columns are not known yet; before other steps."""
        pairs = {str(getattr(old, "name", old)): new for old, new in column_pairs.items()}
        return self._columns("rename_columns", pairs, lambda column, new: {**column, "name": new})

    def set_column_types(self, type_conversions: Mapping[str, Any]) -> Dataflow:
        """``{column: type}``: string, integer, float, boolean, datetime, or a DataType; before other steps."""
        kinds = {name: getattr(kind, "type", kind) for name, kind in type_conversions.items()}
        return self._columns("set_column_types", kinds, lambda column, kind: {**column, "type": kind})

    def to_number(self, columns: Any, **_: Any) -> Dataflow:
        return self.set_column_types(dict.fromkeys(names_of(columns), "float"))

    def to_long(self, columns: Any) -> Dataflow:
        return self.set_column_types(dict.fromkeys(names_of(columns), "integer"))

    def to_string(self, columns: Any) -> Dataflow:
        return self.set_column_types(dict.fromkeys(names_of(columns), "string"))

    def to_bool(self, columns: Any, **_: Any) -> Dataflow:
        return self.set_column_types(dict.fromkeys(names_of(columns), "boolean"))

    def to_datetime(self, columns: Any, **_: Any) -> Dataflow:
        return self.set_column_types(dict.fromkeys(names_of(columns), "datetime"))

    def _columns(self, call: str, changes: Mapping[str, Any], change: Any) -> Dataflow:
        from atelier.data import engine

        if self._dataset._definition["steps"]:
            raise UserErrorException(f"{call}() comes first: call it right after reading, then the other steps.")
        made = self._dataset._definition
        if made["schema"] is None:
            made, _problems = engine.infer(made, self._dataset._bytes())
        there = [column["name"] for column in made["schema"]]
        missing = [name for name in changes if name not in there]
        if missing:
            raise UserErrorException(f"{call}: there is no column {missing[0]!r}. There are: {', '.join(there)}.")
        schema = [
            change(column, changes[column["name"]]) if column["name"] in changes else column
            for column in made["schema"]
        ]
        return Dataflow(self._dataset._changed(schema=schema))

    # -- reading --------------------------------------------------------------------------------------------------

    def head(self, count: int = 10) -> Any:
        """The first rows as a pandas DataFrame."""
        return self._dataset.head(count)

    def to_pandas_dataframe(self, extended_types: bool = False, nulls_as_nan: bool = True, **_: Any) -> Any:
        return self._dataset.to_pandas_dataframe()

    def to_spark_dataframe(self, *_: Any, **__: Any) -> Any:
        return self._dataset.to_spark_dataframe()

    @property
    def row_count(self) -> int:
        from atelier.data import engine

        return int(engine.count(self._dataset._definition, self._dataset._bytes()))

    @property
    def dtypes(self) -> dict[str, str]:
        """The type of each column, as the head of the data has it."""
        return {column["name"]: column["type"] for column in self._dataset.preview(rows=1).columns}

    @property
    def shape(self) -> Any:
        return self.row_count, len(self.dtypes)

    def __repr__(self) -> str:
        return f"Dataflow{repr(self._dataset)[len(type(self._dataset).__name__) :]}"


def read_csv(
    path: Any,
    separator: str = ",",
    header: Any = PromoteHeadersMode.CONSTANTGROUPED,
    encoding: Any = FileEncoding.UTF8,
    quoting: bool = False,
    inference_arguments: Any = None,
    skip_rows: int = 0,
    skip_mode: Any = SkipMode.NONE,
    comment: str | None = None,
    include_path: bool = False,
    archive_options: Any = None,
    infer_column_types: bool = True,
    verify_exists: bool = True,
    partition_format: str | None = None,
    empty_as_string: bool = False,
    **_: Any,
) -> Dataflow:
    """Delimited text at an address (public, or a blob URL with a SAS), a path of this machine, or in a datastore.

    Column names that come twice get a suffix. ``quoting``: fields may hold line breaks. Types of columns are found from
    the data; ``infer_column_types=False`` leaves them as text (and reads the head now).
    """
    if comment is not None or archive_options is not None:
        raise UserErrorException("comment= and archive_options= are not read here: unpack and clean the files first.")
    made = _flow(
        "delimited",
        path,
        separator=separator,
        header=has_header(header),
        encoding=_encoding(encoding),
        multi_line=bool(quoting),
        skip_rows=int(skip_rows),
        include_path=include_path,
        partition_format=partition_format,
        empty_as_string=empty_as_string,
    )
    if infer_column_types:
        return made
    from atelier.data import engine

    settled, _problems = engine.infer(made._dataset._definition, made._dataset._bytes(), types=False)
    return Dataflow(made._dataset._changed(schema=settled["schema"]))


def read_parquet_file(path: Any, include_path: bool = False, partition_format: str | None = None, **_: Any) -> Dataflow:
    return _flow("parquet", path, include_path=include_path, partition_format=partition_format)


def read_json_lines(
    path: Any,
    encoding: Any = FileEncoding.UTF8,
    partition_format: str | None = None,
    include_path: bool = False,
    **_: Any,
) -> Dataflow:
    return _flow(
        "json_lines",
        path,
        encoding=_encoding(encoding),
        include_path=include_path,
        partition_format=partition_format,
    )


def auto_read_file(path: Any, include_path: bool = False, **_: Any) -> Dataflow:
    """By the name of the first file: Parquet, JSON lines, else text whose separator is found from its beginning."""
    probe = _flow("parquet", path)
    source = probe._dataset._bytes()
    first = next(iter(source.files(probe._dataset._definition, 1)))
    name = first.name.lower()
    if name.endswith((".parquet", ".pq")):
        return read_parquet_file(path, include_path)
    if name.endswith((".json", ".jsonl", ".ndjson")):
        return read_json_lines(path, include_path=include_path)
    import csv

    with source.open(first) as file:
        begin = file.read(65536).decode("utf-8", "replace")
    try:
        separator = csv.Sniffer().sniff(begin.rpartition("\n")[0] or begin, ",;\t|").delimiter
    except csv.Error:
        separator = "\t" if name.endswith(".tsv") else ","
    return read_csv(path, separator, include_path=include_path)


read_json = read_json_lines


def _flow(kind: str, path: Any, **options: Any) -> Dataflow:
    from atelier.data import definition

    entries: list[dict[str, Any]] = []
    workspace = None
    for one in path if isinstance(path, list) else [path]:
        if isinstance(one, (str, os.PathLike)) and "://" not in os.fspath(one):
            entries.append({"local": os.path.abspath(os.path.expanduser(os.fspath(one)))})
        else:
            found, place = entries_of(one)
            entries += found
            workspace = workspace or place
    for entry in entries:
        if "local" in entry:  # said now, in the line that names it
            next(iter(LocalSource().files({"source": {"paths": [entry]}}, 1)))
    return Dataflow(TabularDataset(definition.make(kind, entries, **options), workspace))


def _encoding(encoding: Any) -> str:
    return str(getattr(encoding, "value", encoding))
