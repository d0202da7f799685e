"""The client library as units see it: one read-only copy per content, under the data folder."""

from __future__ import annotations

import compileall
import hashlib
import os
import shutil
import uuid
from functools import lru_cache
from pathlib import Path

from django.conf import settings

from studio.lib import storage


def client_library() -> Path | None:
    """The folder for PYTHONPATH with ``atelier`` and ``azureml`` in it; None where the client's sources are absent.

    Copied once per content and compiled, so that a run that was started keeps the client that it started with.
    """
    source = Path(settings.BASE_DIR) / "client" / "src"
    if not source.is_dir():
        return None
    files = sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    stamps = tuple((str(path.relative_to(source)), path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    return _copied(source, storage.data("lib"), stamps) if stamps else None


@lru_cache(maxsize=8)
def _copied(source: Path, root: Path, stamps: tuple[tuple[str, int, int], ...]) -> Path:
    content = hashlib.sha256()
    for relative, _modified, _size in stamps:
        content.update(relative.encode() + b"\0" + hashlib.sha256((source / relative).read_bytes()).digest())
    target = root / content.hexdigest()[:32]
    if target.is_dir():
        return target
    partial = root / f"{target.name}.{uuid.uuid4().hex[:8]}"
    for relative, _modified, _size in stamps:
        (partial / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / relative, partial / relative)
    compileall.compile_dir(partial, quiet=2, stripdir=str(partial), prependdir=str(target))
    try:
        os.rename(partial, target)  # noqa: PTH104 - fails where another process was first, unlike shutil.move
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
    return target
