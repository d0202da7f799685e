"""File trees and text for the file views. Pure: nothing here reads the database."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

MAX_TEXT = 512 * 1024
MAX_LINES = 5000
IMAGES = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif",
    ".webp": "image/webp", ".bmp": "image/bmp",
}  # fmt: skip


@dataclass
class Node:
    """A folder (``children``, its files counted in ``count`` and ``size``) or a file of a tree."""

    name: str
    path: str
    size: int = 0
    count: int = 0
    folder: bool = False
    open: bool = False
    active: bool = False
    icon: str = "file"
    children: list[Node] = field(default_factory=list)


def icon_of(name: str) -> str:
    suffix = name.rpartition(".")[2].lower()
    if suffix in {"png", "jpg", "jpeg", "gif", "webp", "bmp", "svg"}:
        return "photo"
    if suffix in {"csv", "tsv", "parquet"}:
        return "table"
    if suffix in {"pkl", "joblib", "pt", "pth", "onnx", "h5", "safetensors", "bin", "zip", "gz", "tar"}:
        return "package"
    return "file-text"


def tree_of(files: Iterable[tuple[str, int]], *, active: str = "", open_to: int = 1) -> list[Node]:
    """The files (path, size in bytes) as nested nodes, folders first. Folders on the way to ``active`` are open, and so
    are the first ``open_to`` levels."""
    root = Node("", "", folder=True)
    folders: dict[str, Node] = {"": root}

    def folder(path: str) -> Node:
        if path not in folders:
            parent, _slash, name = path.rpartition("/")
            is_open = path.count("/") < open_to or active.startswith(path + "/")
            node = Node(name, path, folder=True, open=is_open, icon="folder")
            folders[path] = node
            folder(parent).children.append(node)
        return folders[path]

    for path, size in files:
        parent, _slash, name = path.rpartition("/")
        folder(parent).children.append(Node(name, path, size, active=path == active, icon=icon_of(name)))
        while True:
            folders[parent].count += 1
            folders[parent].size += size
            if not parent:
                break
            parent = parent.rpartition("/")[0]
    for node in folders.values():
        node.children.sort(key=lambda child: (not child.folder, child.name.lower()))
    return root.children


def text_preview(content: bytes, name: str, *, whole: bool) -> dict[str, Any]:
    """What to show of a file's first bytes: {"kind": "text"|"csv"|"notebook"|"binary", ...}.

    ``whole`` says that ``content`` is all of it. Anything with a NUL or that is not UTF-8 is binary, but for a
    character cut in two at the end.
    """
    if b"\0" in content[:8192]:
        return {"kind": "binary"}
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        if whole or error.start < len(content) - 4:
            return {"kind": "binary"}
        text = content[: error.start].decode("utf-8")
    suffix = name.rpartition(".")[2].lower()
    if suffix in {"csv", "tsv"}:
        return _csv(text, "\t" if suffix == "tsv" else None, whole)
    if suffix == "ipynb" and whole:
        cells = _notebook(text)
        if cells is not None:
            return {"kind": "notebook", "cells": cells}
    if suffix == "json" and whole:
        text = _pretty(text)
    lines = text.splitlines()
    return {"kind": "text", "lines": lines[:MAX_LINES], "cut": not whole or len(lines) > MAX_LINES}


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _csv(text: str, delimiter: str | None, whole: bool) -> dict[str, Any]:
    if delimiter is None:
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
    try:
        rows = [
            row[:60] for row, _n in zip(csv.reader(io.StringIO(text), delimiter=delimiter), range(502), strict=False)
        ]
    except csv.Error:
        lines = text.splitlines()
        return {"kind": "text", "lines": lines[:MAX_LINES], "cut": not whole}
    cut = not whole or len(rows) > 501
    return {"kind": "csv", "columns": rows[0] if rows else [], "rows": rows[1:501], "cut": cut}


def _notebook(text: str) -> list[dict[str, Any]] | None:
    """The cells of a notebook as text: source, and the text of its outputs. None when it is not one."""
    try:
        cells = json.loads(text)["cells"]
        return [
            {
                "type": str(cell.get("cell_type", "raw")),
                "source": _joined(cell.get("source")),
                "output": "\n".join(_output(one) for one in cell.get("outputs") or []),
            }
            for cell in cells[:500]
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _joined(value: Any) -> str:
    return "".join(str(part) for part in value) if isinstance(value, list) else str(value or "")


def _output(output: dict[str, Any]) -> str:
    if "text" in output:
        return _joined(output["text"])
    if "traceback" in output:
        return "\n".join(str(line) for line in output["traceback"])
    return _joined((output.get("data") or {}).get("text/plain"))
