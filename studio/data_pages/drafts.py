"""What somebody has typed in the wizard so far: one draft per dataset that is being described.

A draft's state is a JSON object (``blank`` has every key). It becomes a definition by ``definition_of``; ``state_of``
is the way back, for the next version of a dataset that there is.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import re
import uuid
from typing import Any

from atelier.data import definition as definitions
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _

from studio.accounts.models import User, Workspace
from studio.datasets.models import DatasetDraft, DatasetVersion
from studio.lib import secrets
from studio.lib.errors import Invalid, NotFound

KEPT = 20  # drafts of one person in one workspace
KEPT_FOR = dt.timedelta(days=14)
WILD = re.compile(r"[*?\[]")

State = dict[str, Any]


def blank(datastore: str = "") -> State:
    """A draft in which nothing has been said. ``kind`` stays empty until it has been guessed or chosen."""
    return {
        "dataset": "",
        "place": "store",
        "datastore": datastore,
        "folder": "",
        "after": "",
        "picks": [],
        "pattern": "",
        "urls": "",
        "signed": {},
        "database": "",
        "query": "",
        "kind": "",
        "guessed_for": "",
        "settings": {},
        "columns": [],
        "columns_for": "",
        "timestamp": "",
        "partition": "",
        "steps": [],
        "name": "",
        "description": "",
        "tags": "",
    }


def draft_new(workspace: Workspace, user: User, state: State) -> DatasetDraft:
    """A new draft; the oldest ones of the same person go."""
    mine = DatasetDraft.objects.filter(workspace=workspace, user=user)
    mine.filter(updated_at__lt=timezone.now() - KEPT_FOR).delete()
    surplus = list(mine.order_by("-updated_at").values_list("pk", flat=True)[KEPT - 1 :])
    mine.filter(pk__in=surplus).delete()
    draft = DatasetDraft(workspace=workspace, user=user)
    draft_save(draft, state)
    return draft


def draft_get(workspace: Workspace, user: User, key: uuid.UUID) -> tuple[DatasetDraft, State]:
    """Raises NotFound for another person's draft as for one that is gone."""
    try:
        draft = DatasetDraft.objects.filter(workspace=workspace, user=user, pk=key).first()
    except ValidationError:
        draft = None
    if draft is None:
        raise NotFound(_("This draft is gone: it was registered, or put aside for two weeks. Start again."))
    return draft, {**blank(), **json.loads(secrets.decrypt(draft.state))}


def draft_save(draft: DatasetDraft, state: State) -> None:
    draft.state = secrets.encrypt(json.dumps(state))
    draft.save()


def escaped(path: str) -> str:
    """A file's path as a pattern that matches it alone."""
    return WILD.sub(lambda found: f"[{found[0]}]", path)


def places_of(state: State) -> list[dict[str, Any]]:
    """The ``paths`` of the definition. Raises Invalid where nothing has been chosen."""
    if state["place"] == "web":
        urls = [line.strip() for line in state["urls"].splitlines() if line.strip()]
        if not urls:
            raise Invalid(_("Give at least one address."), field="urls")
        for url in urls:
            if not re.match(r"https?://[^\s/]+", url, re.IGNORECASE):
                raise Invalid(
                    _("%(url)s is not a web address: it must begin with https:// or http://.") % {"url": url[:200]},
                    field="urls",
                )
        return [{"url": _signed(url, state["signed"])} for url in urls]
    patterns = [*state["picks"], *([state["pattern"]] if state["pattern"] else [])]
    if not patterns:
        raise Invalid(_("Tick files or folders, or type a pattern."), field="pattern")
    return [{"datastore": state["datastore"], "path": pattern} for pattern in patterns]


def _signed(url: str, signed: dict[str, str]) -> str:
    return f"{url}?{signed[url]}" if url in signed and "?" not in url else url


def source_of(state: State) -> dict[str, Any]:
    """The ``source`` of the definition, with the settings that its kind has."""
    kind = "sql" if state["place"] == "sql" else state["kind"] or "delimited"
    source: dict[str, Any] = {"kind": kind}
    if kind == "sql":
        if not state["query"].strip():
            raise Invalid(_("Type a query."), field="query")
        source["query"] = {"datastore": state["database"], "text": state["query"].strip()}
    else:
        source["paths"] = places_of(state)
    if kind != "files":
        known = {**definitions.DEFAULTS[kind], **definitions.COMMON}
        source.update({name: value for name, value in state["settings"].items() if name in known})
    return source


def definition_of(state: State, *, settled: bool = True) -> dict[str, Any]:
    """The checked definition. ``settled``: with the columns, the timestamps and what is left out; without them it is
    what there is to look into. Raises Invalid, or DataError that names the key."""
    source = source_of(state)
    schema, steps = None, []
    if settled and source["kind"] != "files" and state["columns"]:
        schema = [{name: column[name] for name in ("name", "type", "source")} for column in state["columns"]]
        left_out = [column["name"] for column in state["columns"] if not column["keep"]]
        if left_out:
            steps.append(definitions.drop(left_out))
        if state["timestamp"] or state["partition"]:
            steps.append(definitions.timestamp_columns(state["timestamp"] or None, state["partition"] or None))
    if settled:
        steps += copy.deepcopy(state["steps"])
    wanted = "file" if source["kind"] == "files" else "tabular"
    return definitions.check({"format": 1, "type": wanted, "source": source, "schema": schema, "steps": steps})


def mark(state: State) -> str:
    """A digest of what the columns are read from: when it changes they are read anew."""
    return definitions.digest(definition_of(state, settled=False))


def settle(state: State, schema: list[dict[str, Any]]) -> None:
    """Takes the columns that were found; what was said of one of the same source before stays."""
    before = {column["source"]: column for column in state["columns"]}
    state["columns"] = [
        before.get(column["source"])
        or {"source": column["source"], "name": column["name"], "type": column["type"], "keep": True}
        for column in schema
    ]
    names = {column["name"] for column in state["columns"] if column["keep"]}
    for name in ("timestamp", "partition"):
        state[name] = state[name] if state[name] in names else ""


def state_of(version: DatasetVersion, opened: dict[str, Any] | None = None) -> State:
    """A draft that says what ``version`` says. ``opened``: its definition with the signatures of its addresses, which
    the draft keeps without showing them."""
    definition = version.definition
    source = definition["source"]
    state = blank()
    state["kind"] = source["kind"]
    state["settings"] = {name: value for name, value in source.items() if name not in ("kind", "paths", "query")}
    paths = source.get("paths") or []
    if source["kind"] == "sql":
        state.update(place="sql", database=source["query"]["datastore"], query=source["query"]["text"])
    elif paths and "url" in paths[0]:
        state.update(place="web", urls="\n".join(path["url"] for path in paths if "url" in path))
        for path in ((opened or {}).get("source") or {}).get("paths") or []:
            url, mark_, query = str(path.get("url", "")).partition("?")
            if mark_ and path.get("url") not in {one["url"] for one in paths if "url" in one}:
                state["signed"][url] = query
    elif paths:
        state.update(datastore=paths[0]["datastore"], picks=[path["path"] for path in paths])
    for column in definition.get("schema") or []:
        state["columns"].append({**{key: column[key] for key in ("source", "name", "type")}, "keep": True})
    for step in definition.get("steps") or []:
        _take_step(state, step)
    if version.dataset is not None:
        state.update(dataset=version.dataset.name, name=version.dataset.name)
    state["guessed_for"] = "given"
    state["description"] = version.description or (version.dataset.description if version.dataset else "")
    state["tags"] = write_tags(version.tags)
    return state


def _take_step(state: State, step: dict[str, Any]) -> None:
    """A step that the wizard has fields for goes into them; the others are kept as they are."""
    first = not state["steps"]
    if step["op"] == "drop" and first and state["columns"]:
        for column in state["columns"]:
            column["keep"] = column["keep"] and column["name"] not in step["columns"]
    elif step["op"] == "timestamps" and first:
        state.update(timestamp=step["timestamp"] or "", partition=step["partition"] or "")
    else:
        state["steps"].append(step)


def read_tags(text: str) -> dict[str, str]:
    """One ``name=value`` or ``name`` per line."""
    tags: dict[str, str] = {}
    for line in text.splitlines():
        name, _sign, value = line.strip().partition("=")
        if name.strip():
            tags[name.strip()] = value.strip()
    return tags


def write_tags(tags: dict[str, Any]) -> str:
    return "\n".join(f"{name}={value}" if value else name for name, value in (tags or {}).items())
