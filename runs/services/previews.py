"""The beginning of a file, ready to be shown. Output is never drawn as HTML: an SVG is text here."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from django.utils.translation import gettext as _

from studio.lib import beneath
from studio.lib.errors import NotFound

MAX_TEXT = 256 * 1024
MAX_JSON = 2 * 1024 * 1024
MAX_ROWS = 200
MAX_COLUMNS = 100
IMAGES = {
    ".png": ("image/png", (b"\x89PNG\r\n\x1a\n",)),
    ".jpg": ("image/jpeg", (b"\xff\xd8\xff",)),
    ".jpeg": ("image/jpeg", (b"\xff\xd8\xff",)),
    ".gif": ("image/gif", (b"GIF87a", b"GIF89a")),
    ".webp": ("image/webp", (b"RIFF",)),
    ".bmp": ("image/bmp", (b"BM",)),
}
TABLES = {".csv": ",", ".tsv": "\t"}
TEXTS = frozenset({
    ".txt", ".log", ".py", ".md", ".yml", ".yaml", ".toml", ".cfg", ".ini", ".sh", ".html", ".htm", ".svg", ".xml",
    ".js", ".css", ".sql", ".r", ".tex", ".out", ".err", ".jsonl", ".ndjson", ".rst",
})  # fmt: skip


@dataclass(frozen=True)
class Preview:
    """``kind``: text, image, csv, json, notebook or binary. ``size`` of the file in bytes; ``truncated`` when more
    of it is not shown. ``rows`` of a table: lists of texts, the header first. ``mime`` of an image, else empty."""

    kind: str
    size: int
    text: str = ""
    rows: list[list[str]] = field(default_factory=list)
    truncated: bool = False
    mime: str = ""


def kind_of(name: str) -> str:
    """The kind by the name alone; a file without a telling name is binary until it is looked into."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in IMAGES:
        return "image"
    if suffix in TABLES:
        return "csv"
    if suffix == ".json":
        return "json"
    if suffix == ".ipynb":
        return "notebook"
    return "text" if suffix in TEXTS else "binary"


def preview_file(path: Path, name: str) -> Preview:
    """Reads at most MAX_JSON bytes, of most files MAX_TEXT."""
    suffix, kind = PurePosixPath(name).suffix.lower(), kind_of(name)
    try:
        handle = beneath.reader(path)
    except (FileNotFoundError, beneath.Leaves):
        raise NotFound(_("There is no file %(name)s.") % {"name": name}) from None
    with handle:
        size = os.fstat(handle.fileno()).st_size
        head = handle.read(MAX_JSON if kind in ("json", "notebook") else MAX_TEXT)
    truncated = size > len(head)
    if kind == "image":
        mime, marks = IMAGES[suffix]
        if head.startswith(marks):
            return Preview("image", size, mime=mime)
        kind = "binary"
    text = _text(head, truncated)
    if text is None:
        return Preview("binary", size)
    if kind == "csv":
        rows, cut = _table(text, TABLES[suffix])
        return Preview("csv", size, rows=rows, truncated=truncated or cut)
    if kind in ("json", "notebook") and not truncated:
        shown = _notebook(text) if kind == "notebook" else _pretty(text)
        if shown is not None:
            return Preview(kind, size, text=shown[:MAX_TEXT], truncated=len(shown) > MAX_TEXT)
    return Preview("text", size, text=text[:MAX_TEXT], truncated=truncated or len(text) > MAX_TEXT)


def _text(head: bytes, truncated: bool) -> str | None:
    """The bytes as text; None where they are not. A character that was cut in two at the end is dropped."""
    if b"\x00" in head[:8192]:
        return None
    try:
        return head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if truncated and error.start >= len(head) - 4:
            return head[: error.start].decode("utf-8-sig")
    text = head.decode("utf-8", "replace")
    return text if text.count("\ufffd") <= len(text) * 0.05 else None


def _table(text: str, delimiter: str) -> tuple[list[list[str]], bool]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text), delimiter=delimiter):
            if len(rows) > MAX_ROWS:
                return rows[:-1], True
            rows.append([cell[:500] for cell in row[:MAX_COLUMNS]])
    except csv.Error:
        pass  # what was read before the damage is shown
    return rows, False


def _pretty(text: str) -> str | None:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def _source(value: Any) -> str:
    return "".join(str(line) for line in value) if isinstance(value, list) else str(value or "")


def _notebook(text: str) -> str | None:
    """A notebook as text: its cells with their printed output, images and HTML left out."""
    try:
        cells = json.loads(text)["cells"]
        parts = []
        for number, cell in enumerate(cells, 1):
            parts.append(f"# [{number}] {cell.get('cell_type', '')}\n{_source(cell.get('source'))}")
            for output in cell.get("outputs") or []:
                shown = output.get("text") or (output.get("data") or {}).get("text/plain") or output.get("evalue")
                if shown:
                    parts.append("\n".join(f"> {line}" for line in _source(shown).splitlines()))
        return "\n\n".join(parts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
