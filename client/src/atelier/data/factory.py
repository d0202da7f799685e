"""``Dataset.Tabular`` and ``Dataset.File``: definitions from what scripts say."""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path
from typing import Any, Mapping

from atelier.data.outputs import has_header
from atelier.data.paths import entries_of
from atelier.data.references import DataPath, inner_path
from atelier.data.sources import find
from atelier.exceptions import UserErrorException


class DataType:
    """The type of a column, for ``set_column_types``: ``DataType.to_float()`` and so on."""

    def __init__(self, type: str, formats: list[str] | None = None) -> None:  # noqa: A002 - the v1 name
        self.type = type
        self.formats = formats

    @staticmethod
    def to_string() -> DataType:
        return DataType("string")

    @staticmethod
    def to_long() -> DataType:
        return DataType("integer")

    @staticmethod
    def to_float(decimal_mark: str = ".") -> DataType:
        if decimal_mark != ".":
            raise UserErrorException(f"decimal_mark={decimal_mark!r}: numbers are read with a point.")
        return DataType("float")

    @staticmethod
    def to_bool() -> DataType:
        return DataType("boolean")

    @staticmethod
    def to_datetime(formats: Any = None) -> DataType:
        """``formats``: strptime formats to try; none are needed for ISO moments."""
        return DataType("datetime", [formats] if isinstance(formats, str) else list(formats) if formats else None)

    @staticmethod
    def to_stream(*_: Any, **__: Any) -> DataType:
        raise UserErrorException("A column of files is not a type here: make a file dataset of them.")

    def __repr__(self) -> str:
        return f"DataType({self.type!r})"


class TabularDatasetFactory:
    """Nothing is read when a dataset is made, unless ``set_column_types`` or ``infer_column_types=False`` need its
    columns: then the head of the first file is."""

    @staticmethod
    def from_delimited_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        infer_column_types: bool = True,
        set_column_types: Mapping[str, Any] | None = None,
        separator: str = ",",
        header: Any = True,
        partition_format: str | None = None,
        support_multi_line: bool = False,
        empty_as_string: bool = False,
        encoding: str = "utf8",
        *,
        skip_rows: int = 0,
        quote: str = '"',
        on_error: str = "null",
        on_ragged: str = "fill",
        on_bytes: str = "replace",
    ) -> Any:
        """Delimited text. ``header``: the first row of each file has the names. ``skip_rows``: lines before that.
        ``on_error``, ``on_ragged``, ``on_bytes``: what becomes of values that do not fit their column (null, skip,
        fail), of rows with too few or too many fields (fill, skip, fail), of bytes that are not of the encoding
        (replace, skip, fail)."""
        options = {
            "separator": separator,
            "header": has_header(header),
            "encoding": encoding,
            "multi_line": support_multi_line,
            "quote": quote,
            "skip_rows": skip_rows,
            "empty_as_string": empty_as_string,
            "on_ragged": on_ragged,
            "on_bytes": on_bytes,
            "on_error": on_error,
        }
        made = _tabular("delimited", path, include_path, partition_format, options)
        return _settled(made, infer_column_types, set_column_types)

    @staticmethod
    def from_parquet_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        set_column_types: Mapping[str, Any] | None = None,
        partition_format: str | None = None,
        *,
        on_error: str = "null",
    ) -> Any:
        """Parquet files."""
        made = _tabular("parquet", path, include_path, partition_format, {"on_error": on_error})
        return _settled(made, True, set_column_types)

    @staticmethod
    def from_json_lines_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        set_column_types: Mapping[str, Any] | None = None,
        partition_format: str | None = None,
        invalid_lines: str = "error",
        encoding: str = "utf8",
    ) -> Any:
        """A JSON object per line. ``invalid_lines``: error, or drop."""
        if invalid_lines not in ("error", "drop"):
            raise UserErrorException(f"invalid_lines={invalid_lines!r}: error or drop.")
        options = {"encoding": encoding, "on_ragged": "skip" if invalid_lines == "drop" else "fail"}
        made = _tabular("json_lines", path, include_path, partition_format, options)
        return _settled(made, True, set_column_types)

    @staticmethod
    def from_sql_query(
        query: Any,
        validate: bool = True,
        set_column_types: Mapping[str, Any] | None = None,
        query_timeout: int = 30,
    ) -> Any:
        """``(datastore, "select ...")`` or a DataPath of them; the datastore is a database. It is the studio that
        asks, with a limit of its own instead of ``query_timeout``."""
        from atelier.data import definition
        from atelier.data.tabular_dataset import TabularDataset

        if isinstance(query, DataPath):
            query = (query._datastore, query._given)
        if not (isinstance(query, (tuple, list)) and len(query) == 2 and hasattr(query[0], "workspace")):
            raise UserErrorException('from_sql_query takes (datastore, "select ...").')
        datastore, text = query
        made = definition.make("sql", query={"datastore": datastore.name, "text": str(text)})
        return _settled(TabularDataset(made, datastore.workspace), True, set_column_types)

    @staticmethod
    def register_pandas_dataframe(
        dataframe: Any,
        target: Any,
        name: str,
        description: str | None = None,
        tags: Any = None,
        show_progress: bool = True,
        row_group_size: Any = None,
    ) -> Any:
        """Write a DataFrame as Parquet into a folder of its own below ``target`` (a datastore, ``(datastore, 'path')``
        or a DataPath), and register it as the next version of ``name``."""
        datastore, folder = _target(target)
        inner = f"{folder}/{uuid.uuid4().hex}" if folder else f"managed-dataset/{uuid.uuid4().hex}"
        with tempfile.TemporaryDirectory() as place:
            file = os.path.join(place, "part-00000.parquet")
            _write_parquet(dataframe, file)
            datastore.upload_files([file], target_path=inner, show_progress=show_progress)
        made = TabularDatasetFactory.from_parquet_files((datastore, f"{inner}/*.parquet"))
        found = made.register(datastore.workspace, name, description, tags, create_new_version=True)
        if show_progress:
            print(f"Registered {found.name}, version {found.version}.")
        return found

    register_spark_dataframe = register_pandas_dataframe


class FileDatasetFactory:
    @staticmethod
    def from_files(path: Any, validate: bool = True, partition_format: str | None = None, **_: Any) -> Any:
        """Files by addresses and globs."""
        from atelier.data import definition
        from atelier.data.file_dataset import FileDataset

        if partition_format:
            raise UserErrorException("partition_format: values are read from paths for tabular datasets.")
        paths, workspace = entries_of(path)
        return FileDataset(definition.make("files", paths), workspace)

    @staticmethod
    def upload_directory(
        src_dir: Any,
        target: Any,
        pattern: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> Any:
        """Send a folder to ``target`` (a datastore, ``(datastore, 'path')`` or a DataPath); gives the dataset of it.
        ``pattern``: a glob for the files to send."""
        datastore, folder = _target(target)
        base = Path(src_dir)
        if not base.is_dir():
            raise UserErrorException(f"There is no folder {base} to upload.")
        files = [base / name for name in find(str(base), pattern or "")]
        if not files:
            raise UserErrorException(f"{base} has no files{f' that match {pattern}' if pattern else ''} to upload.")
        datastore.upload_files([str(path) for path in files], str(base), folder, overwrite, show_progress)
        return FileDatasetFactory.from_files((datastore, f"{folder}/**" if folder else "**"))


def _tabular(kind: str, path: Any, include_path: bool, partition: str | None, options: dict[str, Any]) -> Any:
    from atelier.data import definition
    from atelier.data.tabular_dataset import TabularDataset

    paths, workspace = entries_of(path)
    made = definition.make(kind, paths, include_path=include_path, partition_format=partition, **options)
    return TabularDataset(made, workspace)


def _settled(dataset: Any, infer: bool, types: Mapping[str, Any] | None) -> Any:
    """The dataset with its columns settled where that is asked for."""
    if infer and not types:
        return dataset
    from atelier.data import engine

    made, _problems = engine.infer(dataset._definition, dataset._bytes(), types=infer)
    columns = {column["name"]: dict(column) for column in made["schema"]}
    for name, wanted in (types or {}).items():
        if name not in columns:
            raise UserErrorException(f"set_column_types: there is no column {name!r}. There are: {', '.join(columns)}.")
        kind = wanted if isinstance(wanted, DataType) else DataType(str(wanted))
        columns[name]["type"] = kind.type
        columns[name].pop("formats", None)
        if kind.formats:
            columns[name]["formats"] = kind.formats
    return dataset._changed(schema=list(columns.values()))


def _target(target: Any) -> Any:
    """``(datastore, folder)``."""
    if isinstance(target, DataPath):
        return target._datastore, target.path_on_datastore
    if isinstance(target, (tuple, list)) and len(target) == 2:
        return target[0], inner_path(target[1])
    if hasattr(target, "upload_files"):
        return target, ""
    raise UserErrorException(f"target={target!r}: give a datastore, (datastore, 'path') or a DataPath.")


def _write_parquet(frame: Any, path: str) -> None:
    if hasattr(frame, "toPandas"):
        frame = frame.toPandas()
    try:
        frame.to_parquet(path, index=False)
    except ImportError:
        try:
            import duckdb
        except ImportError as error:
            raise UserErrorException("Parquet is written with pyarrow or duckdb: install one of them.") from error
        duckdb.from_df(frame).write_parquet(path)
