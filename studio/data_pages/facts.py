"""What the pages of a dataset say of a definition: where it lies, how it is read, what differs, what came from what."""

from __future__ import annotations

import difflib
import json
from typing import Any
from urllib.parse import quote, urlencode

from atelier.data import sources
from django.utils.translation import gettext as _

from runs import selectors_data
from studio.accounts.models import Workspace
from studio.data_pages.lineage import Edge, Node
from studio.datasets.models import DatasetVersion, Datastore
from studio.templatetags.atelier import status_label

SHOWN_PATHS = 50
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
    ]
    quiet = ("multi_line", "skip_rows", "empty_as_string", "include_path", "partition_format")
    return [(label, _said(source[key])) for key, label in rows if key in source and (source[key] or key not in quiet)]


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
    folder = sources.fixed_part(pattern).strip("/")
    return {
        "datastore": name,
        "text": pattern,
        "store_url": store,
        "url": store + ("?" + urlencode({"path": folder}) if folder else ""),
    }


def difference(a: DatasetVersion, b: DatasetVersion) -> list[dict[str, Any]]:
    """The two definitions line by line, side by side: {"a", "b", "same"}."""
    left, right = (
        json.dumps(one.definition, indent=2, ensure_ascii=False, sort_keys=True).splitlines() for one in (a, b)
    )
    rows = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for offset in range(max(i2 - i1, j2 - j1)):
            rows.append(
                {
                    "a": left[i1 + offset] if i1 + offset < i2 else "",
                    "b": right[j1 + offset] if j1 + offset < j2 else "",
                    "same": tag == "equal",
                }
            )
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
            note=str(status_label(one["status"])) if one["kind"] == "run" else type_label(one["status"]),
            current=one["current"],
        )
        for one in found["nodes"]
    ]
    edges = [Edge(source, target) for source, target in found["edges"]]
    return nodes, edges, len(nodes) >= selectors_data.MAX_NODES


def type_label(kind: str) -> str:
    return _("Tabular") if kind == "tabular" else _("File")
