"""Files made ready for a fast engine: where each lies, which columns it has, where its rows begin.

A clean UTF-8 file is taken as it lies. Everything else (another encoding, JSON lines, what made an engine stop) is
written anew by the reference reader into a scratch folder: UTF-8, comma, quoted, every row as long as the header.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from .delimited import NULL, Delimited, valid_text
from .errors import DataError, Problems
from .sources import DataFile, Source
from .tables import opened, text_rows

UTF8 = ("utf8", "utf-8-sig", "ascii", "us-ascii")


@dataclass
class Part:
    """``path`` to read, ``names`` of all its columns, ``skip`` lines before its first row; ``anew``: written here."""

    file: DataFile
    path: str
    names: list[str] = field(default_factory=list)
    skip: int = 0
    anew: bool = False

    @property
    def packed(self) -> bool:
        return not self.anew and (self.file.name or self.file.path).lower().endswith(".gz")


class Scratch:
    """A folder for one evaluation, gone when it is closed."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._count = 0

    @property
    def folder(self) -> str:
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="atelier-data-")
        return self._folder

    def path(self, ending: str) -> str:
        self._count += 1
        return os.path.join(self.folder, f"{self._count}{ending}")

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *error: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def ready(
    definition: dict[str, Any],
    source: Source,
    files: Iterable[DataFile],
    scratch: Scratch,
    problems: Problems,
    anew: bool = False,
) -> list[Part]:
    """A part per file; ``anew``: all are written anew, and what is wrong with them goes to ``problems``."""
    kind = definition["source"]["kind"]
    out = []
    files = list(files)
    for file, path in zip(files, _fetched(files, source)):
        here = replace(file, local=path)
        if kind in ("parquet", "sql"):
            out.append(Part(here, os.path.abspath(path)))
        elif kind == "json_lines":
            out.append(_json_anew(definition, source, here, scratch, problems))
        else:
            part = None if anew else _as_it_lies(definition, source, here)
            out.append(part or _anew(definition, source, here, scratch, problems))
    return out


def _fetched(files: list[DataFile], source: Source) -> list[str]:
    """Where each file is on this machine; a source that can do that brings several at a time."""
    away = [file for file in files if not file.local]
    together = getattr(source, "fetch_all", None)
    brought = iter(together(away) if together and len(away) > 1 else [source.fetch(file) for file in away])
    return [file.local or next(brought) for file in files]


def _as_it_lies(definition: dict[str, Any], source: Source, file: DataFile) -> Part | None:
    """None where the file must be written anew."""
    options = definition["source"]
    if options["encoding"] not in UTF8:
        return None
    with opened(source, file) as stream:
        table = Delimited(stream, file.path, options, Problems())
    if not table.names:
        return Part(file, file.local or "", [], 0)
    simple_header = table.header_line <= options["skip_rows"] + 1
    if table.newline == "\r" or not simple_header:
        return None
    if options["on_bytes"] != "replace":
        with opened(source, file) as stream:
            if not valid_text(stream):
                return None
    skip = table.header_line if options["header"] else options["skip_rows"]
    return Part(file, os.path.abspath(file.local or ""), table.names, skip)


def _anew(definition: dict[str, Any], source: Source, file: DataFile, scratch: Scratch, problems: Problems) -> Part:
    path = scratch.path(".csv")
    with opened(source, file) as stream, _writing(path, file) as out:
        table = Delimited(stream, file.path, definition["source"], problems)
        write = csv.writer(out, lineterminator="\n").writerow
        for _, row in table.rows():
            write([NULL if value is None else value for value in row])
    return Part(file, path, table.names, 0, True)


def _json_anew(
    definition: dict[str, Any], source: Source, file: DataFile, scratch: Scratch, problems: Problems
) -> Part:
    """Only the columns that the schema names; others may differ from line to line."""
    names = list(dict.fromkeys(one["source"] for one in definition["schema"]))
    path = scratch.path(".csv")
    with _writing(path, file) as out:
        write = csv.writer(out, lineterminator="\n").writerow
        for line, found in text_rows(definition, source, file, problems):
            if line:
                write([NULL if (value := found.get(name)) is None else value for name in names])
    return Part(file, path, names, 0, True)


def _writing(path: str, file: DataFile) -> Any:
    try:
        return open(path, "w", encoding="utf-8", errors="replace", newline="")
    except OSError as error:
        raise DataError(f"{file.path} cannot be written anew in {path}: {error.strerror}.", "engine") from error


def groups(parts: list[Part]) -> list[list[Part]]:
    """Runs of parts that one read can take: the same columns and the same form, in order."""
    out: list[list[Part]] = []
    for part in parts:
        if out and _form(out[-1][0]) == _form(part):
            out[-1].append(part)
        else:
            out.append([part])
    return out


def _form(part: Part) -> tuple[Any, ...]:
    return (tuple(part.names), part.skip, part.packed, part.anew)
