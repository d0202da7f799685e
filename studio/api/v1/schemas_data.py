"""Datastores and datasets, as they go over the wire."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any

from ninja import Field, Schema
from pydantic import ConfigDict

from studio.api.v1.schemas import Input

Definition = Annotated[
    dict[str, Any],
    Field(
        description="Which bytes, how they are read, and what is made of them.",
        examples=[
            {
                "format": 1,
                "type": "tabular",
                "source": {
                    "kind": "delimited",
                    "paths": [{"datastore": "workspaceblobstore", "path": "titanic/*.csv"}],
                },
                "schema": None,
                "steps": [{"op": "take", "count": 10}],
            }
        ],
    ),
]
Tags = dict[str, str | None]


class KindField(Schema):
    """A setting of a kind. ``kind``: text, number, select, textarea, checkbox, password."""

    name: str
    label: str
    kind: str
    help: str
    required: bool
    secret: bool = Field(..., description="Encrypted, and never shown again.")
    default: Any = None
    choices: list[list[str]] = Field(..., description="Value and label of each choice.")
    minimum: int | None
    maximum: int | None
    address: bool = Field(..., description="Another value makes stored secrets be asked for again.")


class KindOut(Schema):
    """A kind of datastore: its settings go into `config`, those that are secret into `secrets`."""

    kind: str
    label: str
    summary: str
    icon: str
    fields: list[KindField]


class StoreProblem(Schema):
    """One thing that is wrong with a datastore."""

    code: str
    message: str
    hint: str
    field: str


class DatastoreOut(Schema):
    name: str
    kind: str
    description: str
    config: dict[str, Any] = Field(..., description="The settings without secrets.")
    secrets: list[str] = Field(..., description="Names of the secrets that it has; never their values.")
    address: str = Field(..., description="Where it is, for people.")
    writable: bool
    is_default: bool
    builtin: bool = Field(..., description="The workspace's own: it cannot be changed or removed.")
    problems: list[StoreProblem] = Field(..., description="What the last test found.")
    checked_at: dt.datetime | None
    created_by: str | None
    created_at: dt.datetime
    url: str


class DatastoreIn(Input):
    name: str = Field(..., max_length=64, description="Letters, digits, hyphens and underscores.")
    kind: str = Field(..., max_length=32)
    config: dict[str, Any] = {}
    secrets: dict[str, Any] = {}
    description: str = Field("", max_length=10_000)
    check: bool = Field(True, description="Try it first, and save nothing when something is wrong.")


class DatastorePatch(Input):
    """What is not given stays. A given `config` replaces all settings; of `secrets` those that are not named stay, and
    an empty one is removed. When the address changes, stored secrets are dropped unless they are given again."""

    config: dict[str, Any] | None = None
    secrets: dict[str, Any] | None = None
    description: str | None = Field(None, max_length=10_000)
    check: bool = True


class EntryOut(Schema):
    """A file or a folder."""

    path: str = Field(..., description="Below the datastore's root.")
    name: str
    is_dir: bool
    size: int | None = Field(..., description="Bytes; null where the store does not say.")
    modified: float | None = Field(..., description="Unix seconds.")
    etag: str


class EntriesOut(Schema):
    """One page of a folder, folders first."""

    entries: list[EntryOut]
    next: str | None = Field(..., description="`after` of the next page; null on the last one.")


class CheckOut(Schema):
    """What the test of a datastore found."""

    problems: list[StoreProblem]
    entries: list[EntryOut] = Field(..., description="The first few, where nothing is wrong.")


class ContentState(Schema):
    """How far the upload of a file is."""

    path: str
    offset: int = Field(..., description="Bytes that are safely there: go on from here.")
    complete: bool = Field(..., description="Whether the file is whole and in its place.")


class VersionOut(Schema):
    """One definition. It never changes; description and tags may."""

    model_config = ConfigDict(populate_by_name=True)

    id: uuid.UUID
    name: str | None = Field(..., description="null for a definition that was used and never named.")
    version: int | None
    type: str = Field(..., examples=["tabular", "file"])
    definition: Definition
    columns: list[dict[str, Any]] | None = Field(
        ..., alias="schema", description="Settled columns with name, type and source; null: found out when read."
    )
    description: str
    tags: dict[str, Any]
    created_by: str | None
    created_at: dt.datetime
    latest: bool
    registered: bool
    url: str


class DatasetOut(Schema):
    """A name for a series of versions, with its newest one."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    description: str
    type: str
    tags: dict[str, Any] = Field(..., description="Of the newest version.")
    versions: int = Field(..., description="How many there are.")
    latest: VersionOut
    archived: bool
    created_by: str | None
    created_at: dt.datetime
    updated_at: dt.datetime
    url: str


class DatasetIn(Input):
    name: str = Field(..., max_length=255)
    definition: Definition
    description: str = Field("", max_length=10_000)
    tags: Tags = {}
    create_new_version: bool = Field(False, description="Where the name is taken: make this its next version.")


class DatasetPatch(Input):
    description: str | None = Field(None, max_length=10_000)
    archived: bool | None = None


class DatasetUsesOut(Schema):
    """What deleting a dataset would take away."""

    versions: int
    runs: int = Field(..., description="Runs that had or made one of the versions.")
    newest_runs: list[str] = Field(..., description="Ids of the newest of them.")


class VersionPatch(Input):
    description: str | None = Field(None, max_length=10_000)
    tags: Tags | None = Field(None, description="Replaces all tags.")


class DefinitionIn(Input):
    definition: Definition


class InspectIn(Input):
    definition: Definition
    rows: int = Field(100, ge=1, le=1000)


class LookOut(Schema):
    """The first rows of data, and what is wrong with them."""

    definition: dict[str, Any]
    columns: list[dict[str, Any]]
    column_count: int
    rows: list[list[Any]]
    problems: list[dict[str, Any]] = Field(..., description="file, line, column, kind, text, count, hint, choice.")
    files: int
    bytes: int | None
    first_files: list[str]
    seconds: float
    truncated: dict[str, bool]


class DataFileOut(Schema):
    """A file of a dataset. `href`: where this API has its bytes, below the workspace's address; null: read `url`."""

    path: str = Field(..., description="As people see it.")
    store: str | None = Field(None, description="The datastore that `path` begins with, before a colon.")
    name: str = Field(..., description="Below the fixed part of its pattern.")
    size: int | None = Field(..., description="Bytes.")
    etag: str
    local: str | None = Field(None, description="Its path on this machine, for callers on it.")
    href: str | None = None
    url: str | None = Field(None, description="An address of the web that needs no key.")


class DataFilesOut(Schema):
    files: list[DataFileOut]
    next: str | None = Field(..., description="`after` of the next page; null on the last one.")


class ProfileOut(Schema):
    """The figures of a version's columns, or how far they are."""

    state: str = Field(..., examples=["running", "ready", "failed"])
    progress: float = Field(..., description="0 to 1.")
    result: dict[str, Any] = Field(..., description="rows, bytes, files, columns with their figures; empty at first.")
    error: dict[str, Any] | None
    created_at: dt.datetime
    ended_at: dt.datetime | None


class LineageOut(Schema):
    """Runs and datasets around a version: `edges` are pairs of the ids of `nodes`, from the earlier to the later."""

    nodes: list[dict[str, Any]]
    edges: list[list[str]]
