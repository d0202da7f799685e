"""What the files step of the wizard asks of a datastore: a folder's content, how much matches, how files begin."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from studio.accounts.models import Workspace
from studio.data_pages import drafts, guessing
from studio.datasets.backends.base import Entry, StoreError
from studio.datasets.models import Datastore
from studio.datasets.services.datastores import store_open
from studio.lib.errors import AtelierError, Invalid

SHOWN = 200  # entries of a folder on one page
COUNTED = 20_000  # files; beyond it the number is a lower bound
SECONDS = 4.0
FIRST = 5


@dataclass
class Folder:
    """One page of a folder. ``rows``: (entry, the pattern that takes it, whether it is ticked)."""

    rows: list[tuple[Entry, str, bool]] = field(default_factory=list)
    next: str | None = None
    crumbs: list[tuple[str, str]] = field(default_factory=list)
    whole: str = "**"
    whole_picked: bool = False
    error: AtelierError | None = None


@dataclass
class Matches:
    """``bytes`` is None where the store does not say. ``more``: there was no time to count all."""

    files: int = 0
    bytes: int | None = 0
    more: bool = False
    first: list[str] = field(default_factory=list)
    error: AtelierError | None = None


def datastore_of(workspace: Workspace, state: drafts.State) -> Datastore:
    """The chosen datastore. Raises Invalid where it was removed meanwhile."""
    found = Datastore.objects.filter(workspace=workspace, name=state["datastore"]).first()
    if found is None:
        raise Invalid(
            _("There is no datastore %(name)s in this workspace.") % {"name": state["datastore"]}, field="datastore"
        )
    return found


def crumbs(folder: str) -> list[tuple[str, str]]:
    """(name, path) of each folder on the way."""
    parts = [part for part in folder.split("/") if part]
    return [(name, "/".join(parts[: index + 1])) for index, name in enumerate(parts)]


def folder_of(workspace: Workspace, state: drafts.State) -> Folder:
    """The folder that the draft has open; an error is part of the answer."""
    folder = state["folder"]
    below = drafts.escaped(folder) + "/**" if folder else "**"
    found = Folder(crumbs=crumbs(folder), whole=below, whole_picked=below in state["picks"])
    try:
        listing = store_open(datastore_of(workspace, state)).list(folder, limit=SHOWN, after=state["after"] or None)
    except AtelierError as error:
        found.error = error
        return found
    for entry in listing.entries:
        pattern = drafts.escaped(entry.path) + ("/**" if entry.is_dir else "")
        found.rows.append((entry, pattern, pattern in state["picks"]))
    found.next = listing.next
    return found


def matches(workspace: Workspace, state: drafts.State) -> Matches:
    """How many files the draft takes, and their bytes; an error is part of the answer."""
    found = Matches()
    try:
        places = drafts.places_of(state)
        if state["place"] == "web":
            found.files, found.bytes, found.first = (
                len(places),
                None,
                [_shown(place["url"]) for place in places[:FIRST]],
            )
            return found
        backend = store_open(datastore_of(workspace, state))
        seen: set[str] = set()
        end = time.monotonic() + SECONDS
        for place in places:
            for entry in backend.find(place["path"]):
                if entry.path not in seen:
                    seen.add(entry.path)
                    _count(found, entry)
                if found.files >= COUNTED or time.monotonic() > end:
                    found.more = True
                    return found
    except AtelierError as error:
        found.error = error
    return found


def _shown(url: str) -> str:
    return url.partition("?")[0]


def _count(found: Matches, entry: Entry) -> None:
    found.files += 1
    found.bytes = None if found.bytes is None or entry.size is None else found.bytes + entry.size
    if len(found.first) < FIRST:
        found.first.append(entry.path)


def guessed(workspace: Workspace, state: drafts.State) -> tuple[str, dict[str, Any]]:
    """(kind, settings) as the first file looks. Raises AtelierError where it cannot be read."""
    name, head = _head(workspace, state)
    return guessing.guess(name, head)


def _head(workspace: Workspace, state: drafts.State) -> tuple[str, bytes]:
    place = drafts.places_of(state)[0]
    if "url" in place:
        return _shown(place["url"]), _web_head(workspace, place)
    backend = store_open(datastore_of(workspace, state))
    for entry in backend.find(place["path"]):
        if entry.size == 0:
            continue
        return entry.path, b"".join(backend.stream(entry.path, 0, min(guessing.HEAD, entry.size or guessing.HEAD)))
    raise StoreError("no-such-file", _("No file matches %(path)s.") % {"path": place["path"]}, path=place["path"])


def _web_head(workspace: Workspace, place: dict[str, Any]) -> bytes:
    from studio.datasets.services.datasets import source_of

    definition = {
        "format": 1,
        "type": "file",
        "source": {"kind": "files", "paths": [place]},
        "schema": None,
        "steps": [],
    }
    source = source_of(workspace, definition)
    for file in source.files(definition):
        with source.open(file) as opened:
            return bytes(opened.read(guessing.HEAD))
    return b""
