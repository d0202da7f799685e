"""What the pages of a dataset say of a definition: where it lies, how it is read, what differs, what came from what."""

from __future__ import annotations

import difflib
import itertools
import json
from typing import Any
from urllib.parse import quote, urlencode

from atelier.data import globs
from django.utils.translation import gettext as _

from runs import selectors_data
from studio.accounts.models import Workspace
from studio.data_pages.lineage import Edge, Node
from studio.datasets.models import DatasetVersion, Datastore
from studio.templatetags.atelier import status_label

SHOWN_PATHS = 50
AROUND = 4  # equal lines shown beside those that differ
_WORDS = {"\t": "Tab", " ": "Space"}


def kind_label(kind: str) -> str:
    labels = {
        "delimited": _("Delimited text"),
        "parquet": _("Parquet"),
        "json_lines": _("JSON lines"),
        "sql": _("SQL query"),
        "files": _("Files"),
    }
    return labels.get(kind, kind)


def _settings(source: dict[str, Any]) -> list[tuple[str, str]]:
    """The settings that matter for reading, as (label, value)."""
    rows = [
        ("separator", _("Separator")),
        ("header", _("First row names the columns")),
        ("encoding", _("Encoding")),
        ("multi_line", _("Values over several lines")),
        ("skip_rows", _("Lines skipped")),
        ("empty_as_string", _("Empty is text")),
        ("include_path", _("Path as a column")),
        ("partition_format", _("Partitions")),
        ("on_ragged", _("Rows with too few or too many values")),
        ("on_error", _("Values that do not fit their column's type")),
        ("on_bytes", _("Bytes that the encoding does not know")),
    ]
    quiet = ("multi_line", "skip_rows", "empty_as_string", "include_path", "partition_format")
    shown = [(key, label) for key, label in rows if key in source and (source[key] or key not in quiet)]
    return [(label, _answer(source[key]) if key.startswith("on_") else _said(source[key])) for key, label in shown]


def _answer(choice: str) -> str:
    """What happens with what does not fit."""
    words = {
        "fill": _("filled with nulls, what is too much is dropped"),
        "null": _("become nulls"),
        "replace": _("become �"),
        "skip": _("the row is left out"),
        "fail": _("reading stops with an error"),
    }
    return words.get(choice, choice)


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return _WORDS.get(str(value), str(value))


def _steps(definition: dict[str, Any]) -> list[str]:
    """The steps as words: name and values."""
    said = []
    for step in definition.get("steps") or []:
        values = [f"{key} {_value(value)}" for key, value in step.items() if key != "op" and value is not None]
        said.append(f"{step['op']}: {', '.join(values)}" if values else step["op"])
    return said


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


def source_facts(workspace: Workspace, version: DatasetVersion) -> dict[str, Any]:
    """Where the data lies, with links into the datastore browser, and how it is read."""
    source = version.definition["source"]
    paths = source.get("paths") or []
    there = set(Datastore.objects.filter(workspace=workspace).values_list("name", flat=True))
    rows = [_path_row(workspace, path, there) for path in paths[:SHOWN_PATHS]]
    if source["kind"] == "sql":
        rows = [_path_row(workspace, {"datastore": source["query"]["datastore"], "path": ""}, there)]
    return {
        "kind": kind_label(source["kind"]),
        "paths": rows,
        "more": len(paths) - len(paths[:SHOWN_PATHS]),
        "query": source["query"]["text"] if source["kind"] == "sql" else "",
        "settings": _settings(source),
        "steps": _steps(version.definition),
        "definition": json.dumps(version.definition, indent=2, ensure_ascii=False),
    }


def _path_row(workspace: Workspace, path: dict[str, Any], there: set[str]) -> dict[str, str]:
    """{"datastore", "text", "url", "store_url"}; no link to what is gone or anywhere outside the studio."""
    if "url" in path:
        return {"datastore": "", "text": path["url"].partition("?")[0], "url": "", "store_url": ""}
    name, pattern = str(path.get("datastore", "")), str(path.get("path") or path.get("local") or "")
    if name not in there:
        return {"datastore": name, "text": pattern, "url": "", "store_url": ""}
    store = f"/w/{workspace.name}/datastores/{quote(name)}/"
    folder = globs.fixed_part(pattern).strip("/")
    return {
        "datastore": name,
        "text": pattern,
        "store_url": store,
        "url": store + ("?" + urlencode({"path": folder}) if folder else ""),
    }


def definition_lines(definition: dict[str, Any]) -> list[str]:
    """A definition as lines to compare: a setting, a path, a column or a step each."""
    source = definition["source"]
    lines = [f"{key}: {_json(value)}" for key, value in source.items() if key not in ("paths", "query")]
    lines += [f"path: {_json(path)}" for path in source.get("paths") or []]
    if source.get("query"):
        lines += [f"datastore: {source['query']['datastore']}", *source["query"]["text"].splitlines()]
    for column in definition.get("schema") or []:
        renamed = f" ({column['source']})" if column["source"] != column["name"] else ""
        lines.append(f"column: {column['name']}{renamed} {column['type']}")
    return [*lines, *(f"then: {text}" for text in _steps(definition))]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def difference(a: DatasetVersion, b: DatasetVersion) -> list[dict[str, Any]]:
    """The two definitions line by line, side by side: {"a", "b", "same"}; {"left_out": n} where n equal lines stand."""
    left, right = definition_lines(a.definition), definition_lines(b.definition)
    rows: list[dict[str, Any]] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        pairs = list(itertools.zip_longest(left[i1:i2], right[j1:j2], fillvalue=""))
        same = tag == "equal"
        if same and len(pairs) > 2 * AROUND + 1:
            rows += [{"a": one, "b": other, "same": True} for one, other in pairs[:AROUND]]
            rows.append({"left_out": len(pairs) - 2 * AROUND})
            pairs = pairs[-AROUND:]
        rows += [{"a": one, "b": other, "same": same} for one, other in pairs]
    return rows


def graph_of(version: DatasetVersion) -> tuple[list[Node], list[Edge], bool]:
    """The runs and datasets around a version, and whether some were left out."""
    found = selectors_data.lineage(version)
    nodes = [
        Node(
            key=one["id"],
            kind=one["kind"],
            label=one["label"],
            url=one["url"],
            note=_note(one),
            current=one["current"],
        )
        for one in found["nodes"]
    ]
    edges = [Edge(source, target) for source, target in found["edges"]]
    return nodes, edges, len(nodes) >= selectors_data.MAX_NODES


def _note(node: dict[str, Any]) -> str:
    """The second line of a node: how a run goes, what a dataset is and where it lies."""
    if node["kind"] == "run":
        return str(status_label(node["status"]))
    return f"{type_label(node['status'])} · {node['place']}" if node["place"] else type_label(node["status"])


def type_label(kind: str) -> str:
    return _("Tabular") if kind == "tabular" else _("File")
