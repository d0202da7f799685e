"""What a dataset is: a JSON object that says which bytes, how they are read, and what is made of them.

This module is the format's only home: ``check`` takes anything and gives the one normal form (or raises DataError that
names the key), ``digest`` names its content, and the step constructors make what ``steps`` may hold. Definitions are
never changed in place; every function here gives a new one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

from .errors import DataError
from .steps import (
    MOST_ROWS,
    MOST_STEPS,
    ROW_STEPS,
    STEPS,
    TYPES,
    _Before,
    _known,
    _step,
    _whole,
    _wrong,
    between,
    columns,
    drop,
    filtered,
    keep,
    recent,
    sample,
    skip,
    split,
    take,
    timestamp_columns,
    timestamps,
)

__all__ = [
    "COMMON",
    "DEFAULTS",
    "FORMAT",
    "KINDS",
    "ROW_STEPS",
    "STEPS",
    "TYPES",
    "between",
    "check",
    "columns",
    "describe",
    "digest",
    "drop",
    "filtered",
    "keep",
    "make",
    "recent",
    "sample",
    "skip",
    "split",
    "take",
    "timestamp_columns",
    "timestamps",
    "unique_names",
    "with_schema",
    "with_step",
]

FORMAT = 1
KINDS = ("delimited", "parquet", "json_lines", "sql", "files")
DEFAULTS: dict[str, dict[str, Any]] = {
    "delimited": {
        "separator": ",",
        "header": True,
        "encoding": "utf8",
        "multi_line": False,
        "quote": '"',
        "skip_rows": 0,
        "empty_as_string": False,
    },
    "parquet": {},
    "json_lines": {"encoding": "utf8"},
    "sql": {},
    "files": {},
}
COMMON: dict[str, Any] = {
    "include_path": False,
    "partition_format": None,
    "on_error": "null",
    "on_ragged": "fill",
    "on_bytes": "replace",
}
CHOICES = {
    "on_error": ("null", "skip", "fail"),
    "on_ragged": ("fill", "skip", "fail"),
    "on_bytes": ("replace", "skip", "fail"),
}


def make(
    kind: str,
    paths: Iterable[dict[str, Any]] = (),
    *,
    query: dict[str, Any] | None = None,
    schema: list[dict[str, Any]] | None = None,
    steps: Iterable[dict[str, Any]] = (),
    **options: Any,
) -> dict[str, Any]:
    """A checked definition; ``options`` are the keys of "source" (separator, header, encoding, on_error...)."""
    source: dict[str, Any] = {"kind": kind, **options}
    if query is not None:
        source["query"] = query
    else:
        source["paths"] = list(paths)
    wanted = "file" if kind == "files" else "tabular"
    return check({"format": FORMAT, "type": wanted, "source": source, "schema": schema, "steps": list(steps)})


def check(definition: Any) -> dict[str, Any]:
    """The normal form: all keys there, nothing unknown. Raises DataError (kind definition) that names the key."""
    if not isinstance(definition, dict):
        raise _wrong("definition", definition, "a JSON object")
    _known(definition, ("format", "type", "source", "schema", "steps"), "")
    if definition.get("format", FORMAT) != FORMAT:
        raise _wrong("format", definition["format"], f"{FORMAT}; a newer atelier may know this one")
    source = _source(definition.get("source"))
    wanted = "file" if source["kind"] == "files" else "tabular"
    if definition.get("type", wanted) != wanted:
        raise _wrong("type", definition["type"], f"{wanted!r} for a source of kind {source['kind']!r}")
    schema = _schema(definition.get("schema"), wanted)
    steps = definition.get("steps")
    if not isinstance(steps, (list, tuple, type(None))):
        raise _wrong("steps", steps, "a list")
    if steps and len(steps) > MOST_STEPS:
        raise DataError(f"steps has {len(steps):,} steps; there are at most {MOST_STEPS}.", "definition", field="steps")
    out: dict[str, Any] = {"format": FORMAT, "type": wanted, "source": source, "schema": schema, "steps": []}
    before = _Before(out)
    for at, step in enumerate(steps or ()):
        out["steps"].append(_step(step, f"steps[{at}]", before))
    return out


def digest(definition: dict[str, Any]) -> str:
    """SHA-256 of the definition as canonical JSON."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def with_step(definition: dict[str, Any], *steps: dict[str, Any]) -> dict[str, Any]:
    """A new definition with these steps after its own."""
    return check({**copy.deepcopy(definition), "steps": [*definition["steps"], *steps]})


def with_schema(definition: dict[str, Any], schema: list[dict[str, Any]] | None) -> dict[str, Any]:
    """A new definition with these columns settled."""
    return check({**copy.deepcopy(definition), "schema": schema})


def unique_names(names: Iterable[Any]) -> tuple[list[str], list[str]]:
    """Names of which none comes twice, and those that did: later ones get ``_1``, ``_2``; empty ones ``ColumnN``.

    Case counts as no difference: engines differ in whether "A" and "a" are two columns.
    """
    wanted = [str(name).strip() or f"Column{at + 1}" for at, name in enumerate(names)]
    taken = {name.casefold() for name in wanted}
    seen: set[str] = set()
    out: list[str] = []
    doubled: list[str] = []
    for name in wanted:
        if name.casefold() in seen:
            doubled.append(name)
            number = 1
            while f"{name}_{number}".casefold() in taken:
                number += 1
            name = f"{name}_{number}"
            taken.add(name.casefold())
        seen.add(name.casefold())
        out.append(name)
    return out, doubled


def describe(definition: dict[str, Any]) -> str:
    """One line for people: what is read and what is made of it. Holds no query string of a URL."""
    source = definition["source"]
    if source["kind"] == "sql":
        what = f"query on {source['query']['datastore']}"
    else:
        shown = [_shown(path) for path in source["paths"]]
        what = f"{source['kind'].replace('_', ' ')} {', '.join(shown[:3])}"
        if len(shown) > 3:
            what += f" and {len(shown) - 3} more"
    done = [step["op"] for step in definition["steps"]]
    return " | ".join([what, *done])


def label(definition: dict[str, Any]) -> str:
    """A few words for a dataset that nobody named: ``Titanic.csv``, ``raw/**/*.csv``, ``made/ | take``."""
    source = definition["source"]
    if source["kind"] == "sql":
        what = " ".join(source["query"]["text"].split())
        what = what if len(what) <= 60 else what[:59] + "…"
    else:
        paths = source["paths"]
        what = _last(paths[0]) + (f" + {len(paths) - 1}" if len(paths) > 1 else "")
    return " | ".join([what, *(step["op"] for step in definition["steps"])])


def place(definition: dict[str, Any]) -> str:
    """Where what it reads lies: the datastore, or the server of an address; the first of several."""
    source = definition["source"]
    if source["kind"] == "sql":
        return str(source["query"]["datastore"])
    path = source["paths"][0]
    if "url" in path:
        return str(path["url"]).partition("://")[2].partition("/")[0].rpartition("@")[2]
    return str(path.get("datastore") or "")


def _last(path: dict[str, Any]) -> str:
    """The end of a path that tells what it is: its file, its folder with a slash, or its wildcards with the folder
    before them."""
    if "url" in path:
        address = str(path["url"]).partition("?")[0].partition("://")[2].rstrip("/")
        return address.rpartition("/")[2]
    text = str(path["local"] if "local" in path else path["path"]).strip("/")
    whole = text == "**" or text.endswith("/**")
    parts = (text[:-2] if whole else text).strip("/").split("/")
    wild = next((at for at, part in enumerate(parts) if _wild(part)), len(parts) - 1)
    if whole and not any(parts):
        return f"{path.get('datastore') or ''}/"
    first = max(0, wild - 1) if _wild(parts[wild]) else wild
    return "/".join(parts[first:]) + ("/" if whole else "")


def _wild(part: str) -> bool:
    return any(char in part for char in "*?[")


def _shown(path: dict[str, Any]) -> str:
    if "url" in path:
        return str(path["url"]).partition("?")[0]
    return str(path["local"]) if "local" in path else f"{path['datastore']}:{path['path']}"


def _source(source: Any) -> dict[str, Any]:
    if not isinstance(source, dict):
        raise _wrong("source", source, "an object with kind and paths")
    kind = source.get("kind")
    if kind not in KINDS:
        raise _wrong("source.kind", kind, "one of " + ", ".join(KINDS))
    options: dict[str, Any] = {} if kind == "files" else {**DEFAULTS[kind], **COMMON}
    _known(source, ["kind", "query" if kind == "sql" else "paths", *options], "source.")
    out: dict[str, Any] = {"kind": kind}
    if kind == "sql":
        out["query"] = _query(source.get("query"))
    else:
        out["paths"] = _paths(source.get("paths"))
    for key, default in options.items():
        value = source.get(key, default)
        out[key] = _option(key, default if value is None else value, default)
    if kind == "delimited" and out["separator"] == out["quote"]:
        raise _wrong("source.quote", out["quote"], "another character than the separator")
    return out


def _query(query: Any) -> dict[str, Any]:
    if not isinstance(query, dict) or not all(
        isinstance(query.get(k), str) and query[k] for k in ("datastore", "text")
    ):
        raise _wrong("source.query", query, 'an object {"datastore": name, "text": "select ..."}')
    _known(query, ("datastore", "text", "timeout"), "source.query.")
    return dict(query)


def _paths(paths: Any) -> list[dict[str, Any]]:
    if not isinstance(paths, (list, tuple)) or not paths:
        raise _wrong("source.paths", paths, 'a list of {"datastore": name, "path": glob} or {"url": address}')
    out = []
    for at, path in enumerate(paths):
        where = f"source.paths[{at}]"
        if not isinstance(path, dict):
            raise _wrong(where, path, 'an object {"datastore": name, "path": glob} or {"url": address}')
        if "url" in path:
            _known(path, ("url", "signed"), where + ".")
            good = isinstance(path["url"], str) and bool(re.match(r"https?://[^\s/]+", path["url"], re.IGNORECASE))
            entry = {"url": path["url"], **({"signed": True} if path.get("signed") else {})}
        elif "local" in path:
            _known(path, ("local",), where + ".")
            good, entry = isinstance(path["local"], str) and bool(path["local"]), dict(path)
        else:
            _known(path, ("datastore", "path"), where + ".")
            good = isinstance(path.get("datastore"), str) and path["datastore"] and isinstance(path.get("path"), str)
            entry = dict(path)
            if good and ".." in entry["path"].replace("\\", "/").split("/"):
                raise _wrong(where + ".path", entry["path"], "a path inside the datastore, without '..'")
        if not good:
            raise _wrong(where, path, 'an object {"datastore": name, "path": glob} or {"url": "https://..."}')
        out.append(entry)
    return out


def _option(key: str, value: Any, default: Any) -> Any:
    name = f"source.{key}"
    if key in CHOICES:
        if value not in CHOICES[key]:
            raise _wrong(name, value, "one of " + ", ".join(CHOICES[key]))
    elif key == "encoding":
        return _encoding(value)
    elif key in ("separator", "quote"):
        if not isinstance(value, str) or len(value) > 1 or value in ("\n", "\r", "\0"):
            raise _wrong(name, value, "one character" + (" (or empty: no quoting)" if key == "quote" else ""))
        if key == "separator" and not value:
            raise _wrong(name, value, "one character")
    elif key == "partition_format":
        if value is not None and not _is_partition_format(value):
            raise _wrong(name, value, "a pattern such as 'folder={name}/{date:yyyy/MM/dd}/data.csv'")
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise _wrong(name, value, "true or false")
    elif not _whole(value, 0) or value >= MOST_ROWS:
        raise _wrong(name, value, "a whole number, 0 or more")
    return value


def _is_partition_format(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > 1000 or not re.search(r"\{\w+(:[^{}]*)?\}", value):
        return False
    from .partitions import Partitions

    try:
        Partitions({"partition_format": value})
    except re.error:  # a name that comes twice, or is none
        return False
    return True


def _encoding(value: Any) -> str:
    import codecs

    names = {"utf8": "utf8", "utf-8": "utf8", "utf8bom": "utf-8-sig", "iso88591": "latin-1", "windows1252": "cp1252"}
    try:
        found = names.get(str(value).lower(), str(value).lower())
        if not codecs.lookup(found)._is_text_encoding:
            raise LookupError
    except (LookupError, ValueError):
        raise _wrong("source.encoding", value, "an encoding such as utf8, latin-1, cp1252, utf-16 or cp949") from None
    return found


def _schema(schema: Any, wanted: str) -> list[dict[str, Any]] | None:
    if schema is None:
        return None
    if wanted == "file" or not isinstance(schema, (list, tuple)) or not schema:
        raise _wrong("schema", schema, "null" if wanted == "file" else "null or a list of columns")
    out: list[dict[str, Any]] = []
    for at, column in enumerate(schema):
        where = f"schema[{at}]"
        if not isinstance(column, dict) or not isinstance(column.get("name"), str) or not column["name"]:
            raise _wrong(where, column, 'an object {"name", "type", "source"}')
        _known(column, ("name", "type", "source", "formats"), where + ".")
        if column.get("type", "string") not in TYPES:
            raise _wrong(where + ".type", column["type"], "one of " + ", ".join(TYPES))
        if not isinstance(column.get("source", ""), str):
            raise _wrong(where + ".source", column["source"], "a column's name")
        one = {k: column.get(k) or d for k, d in (("name", ""), ("type", "string"), ("source", column["name"]))}
        if column.get("formats"):
            if one["type"] != "datetime" or not all(isinstance(f, str) and "%" in f for f in column["formats"]):
                raise _wrong(where + ".formats", column["formats"], "a list of strptime formats of a datetime column")
            one["formats"] = list(column["formats"])
        out.append(one)
    _, doubled = unique_names([one["name"] for one in out])
    if doubled:
        raise DataError(f"schema names {doubled[0]!r} twice; every column needs a name of its own.", "definition")
    return out
