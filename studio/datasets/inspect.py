"""A look into data: the first rows, the columns with their types, and what is wrong where.

The reading is done by a process of its own (``studio.datasets.jobs.look``), which is ended when it takes too long or
too much memory. Answers are kept for a short while, so that going back and forth is instant: as they are for
``TRUST_S`` seconds, afterwards as long as the files are still the same ones.

``inspect`` is for a definition that is being made (its schema is settled), ``preview`` for one that there is. Both give
    {"definition": normalised, with its schema after ``inspect``, "columns": [{"name", "type"}], "column_count": int,
     "rows": [[cell]], "problems": [...], "files": int, "more_files": bool, "bytes": int, "first_files": [str],
     "seconds": float, "truncated": {"rows": bool, "columns": bool}}
with cells that are null, true/false, numbers or short text. ``columns`` holds all columns; the cells of a row are those
of the first ``COLUMNS`` only. A problem is {"file", "line", "column", "kind", "text", "count", "hint", "choice"};
``choice``: {"field", "value", "options": [{"value", "label"}]} names the setting of the definition's source that
answers it, None where there is nothing to choose. Everything that goes wrong is Unreadable, a NotFound for a datastore
that is not there, or TooManyRequests.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from studio.accounts.models import Workspace
from studio.datasets import look_process, programs
from studio.datasets.look_process import Unreadable
from studio.datasets.models import DatasetVersion
from studio.datasets.services.datasets import definition_check, opened_definition, split

__all__ = ["Unreadable", "inspect", "preview"]

ROWS = 100
MOST_ROWS = 1000
COLUMNS = 500
CELLS = 50_000
TRUST_S = 5.0
KEEP_S = 600.0
CACHE_BYTES = 24 << 20

# kind of problem -> (the setting that answers it, the settings' values with their words, what to know)
_SKIP = gettext_lazy("Leave the row out")
_FAIL = gettext_lazy("Stop with an error")
CHOICES: dict[str, tuple[str, list[tuple[Any, str | Promise]], str | Promise]] = {
    "ragged": (
        "on_ragged",
        [("fill", gettext_lazy("Fill with nulls, drop what is too much")), ("skip", _SKIP), ("fail", _FAIL)],
        gettext_lazy("The row has more or fewer fields than the header. Another separator may be the right one."),
    ),
    "bytes": (
        "on_bytes",
        [("replace", gettext_lazy("Put � in their place")), ("skip", _SKIP), ("fail", _FAIL)],
        gettext_lazy("The file holds bytes that this encoding does not know. Another encoding may be the right one."),
    ),
    "type": (
        "on_error",
        [("null", gettext_lazy("Make it a null")), ("skip", _SKIP), ("fail", _FAIL)],
        gettext_lazy("The value is not of its column's type. Another type may be the right one."),
    ),
    "quote": (
        "multi_line",
        [(True, gettext_lazy("Quoted values go over several lines")), (False, gettext_lazy("A line is a row"))],
        gettext_lazy("A quote is opened and not closed on its line."),
    ),
    "header": (
        "header",
        [(True, gettext_lazy("The first row names the columns")), (False, gettext_lazy("There is no header"))],
        "",
    ),
}
HINTS: dict[str, str | Promise] = {
    "duplicate": gettext_lazy("Other names can be given to them with the columns."),
    "empty": gettext_lazy("There are no rows in it."),
}


class _Kept:
    """Answers by key, the oldest go first when there are too many bytes. ``at`` is when the files were last seen."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._lock = threading.Lock()
        self._rows: OrderedDict[str, tuple[float, float, bytes]] = OrderedDict()

    def get(self, key: str) -> tuple[float, dict[str, Any]] | None:
        """(when it was last known to be true, the answer)."""
        with self._lock:
            row = self._rows.get(key)
            if row is None or time.monotonic() - row[0] > KEEP_S:
                return None
            self._rows.move_to_end(key)
        return row[1], json.loads(row[2])

    def put(self, key: str, answer: dict[str, Any]) -> None:
        raw = json.dumps(answer).encode()
        now = time.monotonic()
        with self._lock:
            self._bytes -= len(self._rows.pop(key, (0, 0, b""))[2])
            if len(raw) > self._limit // 4:
                return
            self._rows[key] = (now, now, raw)
            self._bytes += len(raw)
            while self._bytes > self._limit:
                self._bytes -= len(self._rows.popitem(last=False)[1][2])

    def confirm(self, key: str) -> None:
        with self._lock:
            if row := self._rows.get(key):
                self._rows[key] = (row[0], time.monotonic(), row[2])

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()
            self._bytes = 0


kept = _Kept(CACHE_BYTES)


def preview(version: DatasetVersion, rows: int = ROWS) -> dict[str, Any]:
    """The first rows of a version."""
    return _looked("preview", opened_definition(version), rows, version.workspace)


def preview_of(definition: dict[str, Any], rows: int = ROWS, *, workspace: Workspace) -> dict[str, Any]:
    """The same for a definition whose columns are settled already."""
    return _looked("preview", definition, rows, workspace)


def inspect(definition: dict[str, Any], rows: int = ROWS, *, workspace: Workspace) -> dict[str, Any]:
    """The same for a definition that is being made: names and types of its columns are found out and settled."""
    return _looked("inspect", definition, rows, workspace)


def _looked(what: str, definition: dict[str, Any], rows: int, workspace: Workspace) -> dict[str, Any]:
    whole = definition_check(workspace, definition)
    return look_into(what, whole, rows, scope=str(workspace.pk), stores=programs.stores_of(workspace, whole))


def look_into(
    what: str, definition: dict[str, Any], rows: int, *, scope: str, stores: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """``what``: preview or inspect. ``scope`` keeps what one workspace has seen from the others."""
    rows = max(1, min(int(rows), MOST_ROWS))
    began = time.monotonic()
    job = {"what": what, "definition": definition, "rows": rows, "columns": COLUMNS, "cells": CELLS, "stores": stores}
    key = hashlib.sha256(json.dumps([scope, job], sort_keys=True, default=str).encode()).hexdigest()
    known = kept.get(key)
    if known is not None and time.monotonic() - known[0] < TRUST_S:
        return _drawn(known[1], time.monotonic() - began)
    answer = look_process.run_look({**job, "known": known[1]["signature"] if known else None})
    if answer["k"] == "same" and known is not None:
        kept.confirm(key)
        answer = known[1]
    else:
        kept.put(key, answer)
    return _drawn(answer, time.monotonic() - began)


def _drawn(answer: dict[str, Any], seconds: float) -> dict[str, Any]:
    columns = answer["columns"]
    definition = answer["definition"]
    shown = len(answer["rows"][0]) if answer["rows"] else min(len(columns), COLUMNS)
    return {
        "definition": split(definition)[0],
        "columns": columns,
        "column_count": len(columns),
        "rows": answer["rows"],
        "problems": [_problem(problem, definition) for problem in answer["problems"]],
        "files": answer["files"],
        "more_files": answer["more_files"],
        "bytes": answer["bytes"],
        "first_files": answer["first_files"],
        "seconds": round(seconds, 3),
        "truncated": {"rows": bool(answer["more_rows"]), "columns": shown < len(columns)},
    }


def _problem(found: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    """A problem in words, with the setting that answers it."""
    kind = str(found.get("kind") or "")
    choice, hint = None, HINTS.get(kind, "")
    if kind in CHOICES:
        field, options, hint = CHOICES[kind]
        choice = {
            "field": field,
            "value": definition["source"].get(field),
            "options": [{"value": value, "label": str(label)} for value, label in options],
        }
    return {
        "file": str(found.get("file") or ""),
        "line": found.get("line"),
        "column": str(found.get("column") or ""),
        "kind": kind,
        "text": str(found.get("text") or _("Something is not as it should be.")),
        "count": int(found.get("count") or 1),
        "hint": str(hint),
        "choice": choice,
    }
