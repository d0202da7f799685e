"""The kinds of datastore. A new one is one new file and one row here."""

from __future__ import annotations

import importlib
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


def backend_class(kind: str) -> type[Backend]:
    """Raises KeyError for a kind that this version does not have."""
    module, name = _HOMES[kind].split(":")
    found: type[Backend] = getattr(importlib.import_module(f"studio.datasets.backends.{module}"), name)
    return found


def make(kind: str, config: dict[str, Any], secrets: dict[str, str]) -> Backend:
    return backend_class(kind)(config, secrets)
