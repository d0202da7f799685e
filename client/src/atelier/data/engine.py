"""The evaluator's front: one definition in, a frame, files, a preview or a count out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .sources import DataFile, Source


@dataclass
class Preview:
    """The first rows. ``rows`` hold what JSON holds (moments as ISO text); ``complete``: there are no more."""

    columns: list[dict[str, Any]]
    rows: list[list[Any]]
    problems: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False


def to_pandas(definition: dict[str, Any], source: Source, problems: list[dict[str, Any]] | None = None) -> Any:
    """A pandas DataFrame; what was changed on the way in is added to ``problems``, else warned about."""
    raise NotImplementedError


def to_spark(definition: dict[str, Any], source: Source) -> Any:
    """A Spark DataFrame of the active SparkSession."""
    raise NotImplementedError


def preview(definition: dict[str, Any], source: Source, rows: int = 100) -> Preview:
    """The first ``rows`` rows after all steps; reads no more than it needs. File datasets: path and size."""
    raise NotImplementedError


def infer(
    definition: dict[str, Any], source: Source, rows: int = 1000, types: bool = True
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The definition with its columns settled from the first ``rows`` rows, and the problems seen there.
    ``types`` False: every column of a delimited file is text."""
    raise NotImplementedError


def count(definition: dict[str, Any], source: Source) -> int:
    """Rows (file datasets: files) after all steps."""
    raise NotImplementedError


def files(definition: dict[str, Any], source: Source, limit: int | None = None) -> Iterator[DataFile]:
    """The files of a file dataset after its steps."""
    raise NotImplementedError


def to_path(definition: dict[str, Any], source: Source) -> list[str]:
    """``["/rel/path", ...]`` of a file dataset."""
    raise NotImplementedError


def download(
    definition: dict[str, Any], source: Source, target: str, overwrite: bool = False, progress: Any = None
) -> list[str]:
    """The files below ``target``, each whole or not at all; the local paths. ``progress(done_bytes, total_bytes)``."""
    raise NotImplementedError
