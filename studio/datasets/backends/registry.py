"""The kinds of datastore. A new one is one new file and one row here."""

from __future__ import annotations

import hashlib
import importlib
import json
from typing import Any

from studio.datasets.backends.base import Backend

# Modules are imported when a kind is first used: the libraries behind them are large.
_HOMES: dict[str, str] = {
    "workspace": "local:WorkspaceStore",
    "local": "local:LocalFolder",
    "http": "http:HttpStore",
    "s3": "s3:S3Store",
    "azure_blob": "azure_blob:AzureBlobStore",
    "hdfs": "hdfs:HdfsStore",
    "postgresql": "postgresql:PostgresStore",
}
KINDS = tuple(_HOMES)
ON_DISK = frozenset({"workspace", "local"})  # files lie on disks of this machine: linked, not fetched; listed at once


def backend_class(kind: str) -> type[Backend]:
    """Raises KeyError for a kind that this version does not have."""
    module, name = _HOMES[kind].split(":")
    found: type[Backend] = getattr(importlib.import_module(f"studio.datasets.backends.{module}"), name)
    return found


def make(kind: str, config: dict[str, Any], secrets: dict[str, str]) -> Backend:
    made = backend_class(kind)(config, secrets)
    made.access = (kind, config, secrets)  # type: ignore[attr-defined]
    return made


def access_of(backend: Backend) -> str:
    """A digest of the settings and secrets that a backend was made with: two who sign in differently may be shown
    different files under one address. Slow on purpose, so that no password can be guessed from it."""
    given = getattr(backend, "access", "")
    if isinstance(given, tuple):
        text = json.dumps(given, sort_keys=True, default=str)
        given = hashlib.pbkdf2_hmac("sha256", text.encode(), b"atelier datastore", 50_000).hex()
        backend.access = given  # type: ignore[attr-defined]
    return str(given)
