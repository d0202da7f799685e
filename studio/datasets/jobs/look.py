"""Looking into data, as a process of its own: the web process stays small and never waits for a store that hangs.

Reads one JSON object from its standard input: {"what": "preview"|"inspect", "definition", "rows", "columns", "cells",
"stores", "known", "seconds"}. Writes JSON lines: {"k": "at", "file"} for what is being read, and at the end one of
{"k": "result", ...}, {"k": "same"} (the files are those of ``known``) and {"k": "error", ...}.
"""

from __future__ import annotations

import base64
import codecs
import datetime as dt
import decimal
import hashlib
import json
import math
import os
import resource
import signal
import sys
import uuid
from collections.abc import Iterable
from typing import Any, BinaryIO

from studio.datasets.jobs import setting_up
from studio.lib.names import visible

LISTED = 2000  # files of a definition that a look asks for; its first rows come from the first of them
ASKED = 100  # the same where each of them costs a request
QUERIED, SEARCHED = 1001, 200_000  # rows of a query: those that are shown, and those that steps choose from
HEAD = 64 << 10
LONGEST_TEXT = 500
LONGEST_BYTES = 64
CUT = "…"
HARD_MEMORY = 420 << 20  # that may be reserved; the watcher outside looks at what is really used, every 30 ms


class Watched:
    """A source that says which file is being read, and lists the files of a definition once."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._listed: dict[str, list[Any]] = {}
        self.reading = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def note(self, file: str) -> None:
        if file != self.reading:
            self.reading = file
            say({"k": "at", "file": file})

    def files(self, definition: dict[str, Any], limit: int | None = None) -> list[Any]:
        """At most LISTED files; their order is the source's own."""
        key = json.dumps([definition.get("source"), definition.get("type")], sort_keys=True, default=str)
        if key not in self._listed:
            self.note(_place((definition["source"].get("paths") or [{}])[0]))
            most = ASKED if any("url" in path for path in definition["source"].get("paths") or []) else LISTED
            self._listed[key] = list(self._source.files(definition, limit=most))
            if self._listed[key]:
                self.note(self._listed[key][0].path)
        found = self._listed[key]
        return found if limit is None else found[:limit]

    def open(self, file: Any) -> BinaryIO:
        self.note(file.path)
        opened: BinaryIO = self._source.open(file)
        return opened

    def fetch(self, file: Any) -> str:
        self.note(file.path)
        return str(self._source.fetch(file))

    def query(self, definition: dict[str, Any], limit: int | None = None) -> str:
        """A look never asks for all rows of a query."""
        self.note(str(definition["source"]["query"]["datastore"]))
        most = SEARCHED if definition.get("steps") else QUERIED
        return str(self._source.query(definition, limit=min(limit or most, most)))


def _place(path: dict[str, Any]) -> str:
    """Where a path points, for people: never with the signature of an address."""
    address = str(path.get("url") or path.get("local") or path.get("path") or "")
    return address.partition("?")[0]


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()


def signature(files: Iterable[Any]) -> str:
    """A digest of which files there are and what they hold, as far as the store says."""
    found = hashlib.sha256()
    for file in files:
        found.update(json.dumps([file.path, file.size, file.etag]).encode())
    return found.hexdigest()


def cell(value: Any) -> Any:
    """A value as JSON that is safe to draw: null, true, a number, or text that is short and hides nothing."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "inf", -math.inf: "-inf"}.get(value, "NaN")
    if isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value[: LONGEST_BYTES + 1])
        return "0x" + raw[:LONGEST_BYTES].hex() + (CUT if len(raw) > LONGEST_BYTES else "")
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat(sep=" ") if isinstance(value, dt.datetime) else value.isoformat()
    if isinstance(value, (dict, list, tuple)):
        value = json.dumps(value, default=_inside, ensure_ascii=False)
    elif isinstance(value, (decimal.Decimal, uuid.UUID, dt.timedelta)):
        value = str(value)
    elif hasattr(value, "item"):  # numpy's scalars
        return cell(value.item())
    text = str(value)
    return visible(text[:LONGEST_TEXT]) + (CUT if len(text) > LONGEST_TEXT else "")


def _inside(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, (bytes, bytearray)) else str(value)


def _files_result(job: dict[str, Any], definition: dict[str, Any], source: Watched) -> dict[str, Any]:
    """A dataset of files shows its files."""
    from atelier.data import engine

    found = list(engine.files(definition, source, limit=job["rows"] + 1))
    return {
        "definition": definition,
        "columns": [{"name": "path", "type": "string"}, {"name": "size", "type": "integer"}],
        "rows": [[cell(file.name or file.path), file.size] for file in found[: job["rows"]]],
        "problems": [],
        "more_rows": len(found) > job["rows"],
    }


def _table_result(job: dict[str, Any], definition: dict[str, Any], source: Watched) -> dict[str, Any]:
    from atelier.data import engine

    problems: list[dict[str, Any]] = []
    if job["what"] == "inspect":
        problems = _first_bytes(definition, source)
        definition, seen = _settled(engine.infer(definition, source))
        problems += seen
    found = engine.preview(definition, source, rows=job["rows"])
    width = max(1, min(job["columns"], len(found.columns)))
    height = max(1, min(job["rows"], job["cells"] // width))
    rows = [[cell(value) for value in row[:width]] for row in found.rows[:height]]
    return {
        "definition": definition,
        "columns": [{**column, "name": str(column["name"])} for column in found.columns],
        "rows": rows,
        "problems": problems + [p for p in map(dict, found.problems) if p not in problems],
        "more_rows": len(found.rows) > len(rows) or not found.complete,
    }


def _first_bytes(definition: dict[str, Any], source: Watched) -> list[dict[str, Any]]:
    """What the beginning of the first file says of an encoding that was not chosen: nothing that a row would show."""
    from atelier.data import errors, tables

    options = definition["source"]
    encoding = str(options.get("encoding", "")).replace("-", "").lower()
    files = source.files(definition, limit=1) if options["kind"] in ("delimited", "json_lines") else []
    if not files or encoding.startswith(("utf16", "utf32")):
        return []
    with tables.opened(source, files[0]) as stream:
        head = stream.read(HEAD)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = "The file begins with the mark of UTF-16: choose the encoding utf-16."
    elif b"\0" in head:
        text = "There are NUL bytes in it: it is in UTF-16 or UTF-32, or it is no text."
    else:
        return []
    return [errors.problem("bytes", text, file=files[0].path, line=head[: head.find(b"\0") + 1].count(b"\n") + 1)]


def _settled(inferred: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """``infer`` gives a definition with its problems."""
    definition, problems = inferred
    return definition, [dict(problem) for problem in problems]


def look(job: dict[str, Any], source: Watched) -> dict[str, Any]:
    """The answer to a job, see the module's own words."""
    from atelier.data import definition as definitions

    definition = definitions.check(job["definition"])
    files: list[Any] = []
    if definition["source"]["kind"] != "sql":
        files = source.files(definition)
        if job.get("known") and job["known"] == signature(files):
            return {"k": "same"}
    if definition["type"] == "file":
        result = _files_result(job, definition, source)
    else:
        result = _table_result(job, definition, source)
    return {
        "k": "result",
        **result,
        "signature": signature(files) if files else "",
        "files": len(files),
        "more_files": len(files) in (ASKED, LISTED),
        "bytes": sum(file.size or 0 for file in files),
        "first_files": [visible(file.path) for file in files[:5]],
    }


def main() -> None:
    job = json.loads(sys.stdin.buffer.read())
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(job["seconds"]) + 2)  # should the watcher die, nothing is left behind
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (HARD_MEMORY, HARD_MEMORY))
    setting_up.configure()
    source = None
    for path in job["definition"]["source"].get("paths") or []:
        setting_up.hide(str(path.get("url", "")).partition("?")[2])
    try:
        source = Watched(setting_up.make_source(job.pop("stores")))
        say(look(job, source))
    except BaseException as error:  # noqa: BLE001 - whatever it was, a person reads what to do
        found = setting_up.explain(error, source.reading if source else "")
        say({"k": "error", **found, "where": setting_up.where(error)})
    sys.stdout.flush()
    os._exit(0)  # threads of libraries that still read would hold the end up


if __name__ == "__main__":
    main()
