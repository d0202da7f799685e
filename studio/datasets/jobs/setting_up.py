"""What the programs of datasets have in common: Django's settings without a database, the source, plain errors."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import unquote

STORES = "ATELIER_STORES"
SIGNATURES = "ATELIER_SIGNATURES"
_SHORT = 6  # what is shorter cannot be told from other text
_hidden: set[str] = set()


def configure() -> None:
    """The few settings that stores and texts ask for. Idempotent."""
    from django.conf import settings

    if settings.configured:
        return
    base = Path(__file__).resolve().parents[3]
    data = Path(os.environ.get("ATELIER_DATA") or base / "data").resolve()
    # The rules for addresses and folders are read from the environment, where the studio put its own.
    keys = os.environ.get("ATELIER_KEYS_FILE") or data / "secrets" / "fernet.keys"
    settings.configure(USE_I18N=False, BASE_DIR=base, ATELIER_DATA=data, ATELIER_KEYS_FILE=Path(keys))


def secret_json(name: str) -> dict[str, Any]:
    """A JSON object from an environment variable, which is taken out so that no child process inherits it."""
    content = json.loads(os.environ.pop(name, "") or "{}")
    return content if isinstance(content, dict) else {}


def hide(*secrets: str) -> None:
    """Nothing that this process says of an error holds these, nor a part of an address's query."""
    for secret in filter(None, secrets):
        parts = [part.partition("=")[2] or part for part in secret.split("&")]
        _hidden.update(form for part in [secret, *parts] for form in (part, unquote(part)) if len(form) >= _SHORT)


def scrubbed(text: str) -> str:
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def make_source(stores: dict[str, dict[str, Any]]) -> Any:
    """The files behind a definition. ``stores``: {datastore name: {"kind", "config", "secrets"}}."""
    from studio.datasets.sources import BackendSource

    for store in stores.values():
        hide(*map(str, (store.get("secrets") or {}).values()))
    return BackendSource(stores)


def sign(definition: dict[str, Any], signatures: dict[str, str]) -> dict[str, Any]:
    """The definition with the query strings of its blob URLs put back: {"<index of the path>": "<query>"}."""
    if not signatures:
        return definition
    source = dict(definition["source"])
    paths = [dict(path) for path in source.get("paths", [])]
    for index, query in signatures.items():
        path = paths[int(index)]
        hide(query)
        path["url"] = f"{path['url']}?{query}"
        path.pop("signed", None)
    return {**definition, "source": {**source, "paths": paths}}


def explain(error: BaseException, reading: str = "") -> dict[str, Any]:
    """An error as a person reads it: {"message", "kind", "file", "line", "field", "hint"}; never a trace or a secret.

    ``reading``: the file that was being read when it happened, for errors that do not name theirs.
    """
    found = _explained(error, reading)
    return {key: scrubbed(value) if isinstance(value, str) else value for key, value in found.items()}


def _explained(error: BaseException, reading: str) -> dict[str, Any]:
    from atelier.exceptions import AzureMLException

    from studio.lib.errors import AtelierError

    file = str(getattr(error, "file", None) or getattr(error, "path", None) or "")
    found: dict[str, Any] = {"file": file or reading, "line": getattr(error, "line", None), "hint": "", "field": ""}
    if isinstance(error, AtelierError):
        field = next(iter(error.errors), "")
        hint = str(getattr(error, "hint", "") or "")
        return {**found, "message": str(error.detail), "kind": str(error.code), "hint": hint, "field": field}
    if isinstance(error, AzureMLException):
        kind = str(getattr(error, "kind", "") or "unreadable")
        message = str(error)
        if reading and not file and kind != "definition":
            message = f"{reading}: {message}"
        return {**found, "message": message, "kind": kind}
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryException":
        what = f"{reading} needs" if reading else "It needs"
        hint = "Is a line, or a row group, far larger than usual? A profile gets more by ATELIER_PROFILE_MEMORY."
        return {**found, "message": f"{what} more memory than there is for it.", "kind": "memory", "hint": hint}
    if isinstance(error, OSError):
        what = error.filename or reading or "the data"
        message = f"{what} could not be read: {error.strerror or type(error).__name__}."
        return {**found, "message": message, "kind": "failed"}
    first = next(iter(str(error).strip().splitlines()), "")[:300]
    message = f"{reading or 'The data'} could not be read: {first or type(error).__name__}"
    return {**found, "message": message, "kind": "failed"}


def where(error: BaseException) -> str:
    """The places of an error for the studio's log. Without its text, which may hold an address with its signature."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return " < ".join([type(error).__name__, *(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))])
