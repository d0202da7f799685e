"""What a file probably is, from its name and its first bytes. Pure: the person sees the guess and may say otherwise."""

from __future__ import annotations

import codecs
import csv
from typing import Any

HEAD = 64 * 1024
SEPARATORS = (",", "\t", ";", "|")
TABLES = {"csv": ",", "tsv": "\t", "tab": "\t", "psv": "|", "txt": "", "dat": "", "data": ""}
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
PACKED = (".gz", ".bz2", ".zst", ".xz")


def guess(name: str, head: bytes) -> tuple[str, dict[str, Any]]:
    """(kind, settings) for a file called ``name`` that begins with ``head`` (at most HEAD bytes)."""
    plain = name.lower().partition("?")[0]
    packed = plain.endswith(PACKED)
    for ending in PACKED:
        plain = plain.removesuffix(ending)
    ending = plain.rpartition("/")[2].rpartition(".")[2] if "." in plain.rpartition("/")[2] else ""
    if ending in ("parquet", "pq", "parq") or head[:4] == b"PAR1":
        return "parquet", {}
    encoding = _encoding(head) if not packed else "utf8"
    text = head.decode(encoding, "replace") if not packed else ""
    if ending in ("jsonl", "ndjson") or (ending in ("json", "") and _is_json_lines(text)):
        return "json_lines", {"encoding": encoding}
    if ending not in TABLES and (packed or not _is_table(text)):
        return "files", {}
    separator = _separator(text) or TABLES.get(ending) or ","
    return "delimited", {
        "separator": separator,
        "encoding": encoding,
        "header": _has_header(text, separator),
        "multi_line": _is_multi_line(text, separator),
    }


def _encoding(head: bytes) -> str:
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252" if any(0x80 <= byte <= 0x9F for byte in head) else "latin-1"
    return "utf8"


def _lines(text: str, most: int = 50) -> list[str]:
    """Whole lines that are not empty: the last one may be cut."""
    lines = text.splitlines()
    if text and not text.endswith(("\n", "\r")) and len(lines) > 1:
        lines.pop()
    return [line for line in lines if line.strip()][:most]


def _is_json_lines(text: str) -> bool:
    lines = _lines(text, 5)
    return bool(lines) and all(line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in lines)


def _is_table(text: str) -> bool:
    return "\x00" not in text and bool(_separator(text))


def _separator(text: str) -> str:
    """The separator that cuts most lines into the same number of fields, more than one; "" where none does."""
    lines = _lines(text)
    best, score = "", 0.0
    for separator in SEPARATORS:
        counts = [len(row) for row in csv.reader(lines, delimiter=separator)]
        if not counts:
            continue
        usual = max(set(counts), key=counts.count)
        share = counts.count(usual) / len(counts)
        if usual > 1 and share > 0.6 and share * usual > score:
            best, score = separator, share * usual
    return best


def _is_number(value: str) -> bool:
    try:
        float(value.strip().replace(",", "."))
    except ValueError:
        return False
    return True


def _has_header(text: str, separator: str) -> bool:
    """A first row of names: none of its fields is a number or empty, unless all rows look like that."""
    rows = list(csv.reader(_lines(text, 20), delimiter=separator))
    if not rows:
        return True
    return not any(_is_number(value) for value in rows[0])


def _is_multi_line(text: str, separator: str) -> bool:
    """Whether a quoted value goes over the end of its line."""
    quoted = f'{separator}"'
    return any((line.startswith('"') or quoted in line) and line.count('"') % 2 for line in _lines(text, 200))
