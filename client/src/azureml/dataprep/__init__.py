"""``azureml.dataprep``."""

from atelier.data.dataflow import (
    Dataflow,
    FileEncoding,
    PromoteHeadersMode,
    SkipMode,
    auto_read_file,
    col,
    read_csv,
    read_json,
    read_json_lines,
    read_parquet_file,
)
from atelier.later import absent

__all__ = [
    "Dataflow",
    "FileEncoding",
    "PromoteHeadersMode",
    "SkipMode",
    "auto_read_file",
    "col",
    "read_csv",
    "read_json",
    "read_json_lines",
    "read_parquet_file",
]

__getattr__ = absent(__name__)
