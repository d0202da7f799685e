"""Files of a dataset brought to a folder: several at a time, each whole or not there at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .errors import DataError
from .sources import DataFile, Source

AT_ONCE = 8
PIECE = 1 << 20


class _Progress:
    def __init__(self, files: list[DataFile], told: Any) -> None:
        self._told, self._done, self._lock = told, 0, threading.Lock()
        self._total = sum(file.size or 0 for file in files)

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._told is not None:
                self._told(self._done, max(self._total, self._done))


def copy_files(files: list[DataFile], source: Source, target: str, overwrite: bool, told: Any) -> list[str]:
    """The local paths, in the order of the files. The first error ends it; files already brought stay."""
    root = os.path.abspath(target)
    paths = [_below(root, file) for file in files]
    _once(files, paths)
    if not overwrite:
        for file, path in zip(files, paths):
            if os.path.lexists(path) and not _is_it(path, file):
                raise DataError(
                    f"{path} is there already and is another file; pass overwrite=True, or another target.",
                    "exists",
                    file.path,
                )
    os.makedirs(root, exist_ok=True)
    progress = _Progress(files, told)
    stop = threading.Event()

    def one(pair: tuple[DataFile, str]) -> None:
        if not stop.is_set():
            try:
                _copy(pair[0], pair[1], source, overwrite, progress)
            except BaseException:
                stop.set()
                raise

    with ThreadPoolExecutor(max_workers=min(AT_ONCE, max(1, len(files)))) as pool:
        list(pool.map(one, zip(files, paths)))
    return paths


def _below(root: str, file: DataFile) -> str:
    names = [name for name in file.name.replace("\\", "/").split("/") if name not in ("", ".")]
    if not names or ".." in names:
        raise DataError(f"{file.name!r} leaves its folder.", "definition", file.path)
    return os.path.join(root, *names)


def _once(files: list[DataFile], paths: list[str]) -> None:
    seen: dict[str, DataFile] = {}
    for file, path in zip(files, paths):
        if path in seen and seen[path].path != file.path:
            raise DataError(
                f"{seen[path].path} and {file.path} would be the same file {file.name}; download them separately.",
                "exists",
                file.path,
            )
        seen[path] = file


def _is_it(path: str, file: DataFile) -> bool:
    return os.path.isfile(path) and file.size is not None and os.path.getsize(path) == file.size


def _copy(file: DataFile, path: str, source: Source, overwrite: bool, progress: _Progress) -> None:
    if not overwrite and _is_it(path, file):
        progress.add(file.size or 0)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    half = f"{path}.{os.getpid()}-{threading.get_ident():x}.part"
    try:
        stream = open(file.local, "rb") if file.local else source.open(file)  # noqa: SIM115 - closed below
        done = 0
        with contextlib.closing(stream), open(half, "wb") as out:
            while True:
                piece = stream.read(PIECE)
                if not piece:
                    break
                out.write(piece)
                done += len(piece)
                progress.add(len(piece))
        if file.size is not None and done != file.size:
            raise DataError(
                f"{file.path} ended after {done} of {file.size} bytes; nothing was kept of it.", "incomplete", file.path
            )
        if file.local:
            with contextlib.suppress(OSError):
                shutil.copystat(file.local, half)
        os.replace(half, path)
    except OSError as error:
        raise DataError(f"{file.path}: {error.strerror or error} ({path}).", "source", file.path) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(half)
