"""What may be given as the ``path`` of a dataset."""

from __future__ import annotations

import os
from typing import Any, Dict

from atelier.data.references import DataPath, inner_path
from atelier.exceptions import UserErrorException

Entry = Dict[str, Any]


def entries_of(path: Any) -> tuple[list[Entry], Any | None]:
    """``(paths of a definition, workspace)``: a URL, ``(datastore, 'glob')``, a DataPath or DataReference, a datastore,
    or a list of any of these. The workspace is that of the datastores, None for addresses of the web.

    Raises UserErrorException, for a local path with the ways out.
    """
    entries: list[Entry] = []
    workspaces: list[Any] = []
    _gather(path, entries, workspaces)
    if not entries:
        raise UserErrorException("Which files? path= names none.")
    first = next((one for one in workspaces if one is not None), None)
    for other in workspaces:
        if other is not None and (other.name, other.endpoint) != (first.name, first.endpoint):  # type: ignore[union-attr]
            raise UserErrorException(
                f"A dataset has datastores of one workspace; these are of {first.name} and {other.name}."  # type: ignore[union-attr]
            )
    return entries, first


def _gather(path: Any, entries: list[Entry], workspaces: list[Any]) -> None:
    if isinstance(path, DataPath):
        _store(path._datastore, path.path_on_datastore, entries, workspaces)
    elif isinstance(path, (str, os.PathLike)):
        entries.append(_address(os.fspath(path)))
    elif isinstance(path, tuple) and len(path) == 2 and _is_store(path[0]):
        for one in path[1] if isinstance(path[1], (list, tuple)) else [path[1]]:
            _store(path[0], one, entries, workspaces)
    elif isinstance(path, (list, tuple)):
        for one in path:
            _gather(one, entries, workspaces)
    elif _is_store(path):
        _store(path, "**", entries, workspaces)
    else:
        raise UserErrorException(
            f"path={path!r}: give an address (https://...), (datastore, 'glob'), a DataPath, or a list of these."
        )


def _is_store(value: Any) -> bool:
    from atelier.data.store_files import StoreFiles

    return isinstance(value, StoreFiles)


def _store(datastore: Any, path: Any, entries: list[Entry], workspaces: list[Any]) -> None:
    if not _is_store(datastore):
        raise UserErrorException(f"{datastore!r} is not a datastore: Datastore.get(workspace, name) gives one.")
    inner = inner_path(path)
    entries.append({"datastore": datastore.name, "path": inner or "**"})
    workspaces.append(datastore.workspace)


def _address(text: str) -> Entry:
    lower = text.lower()
    if lower.startswith(("http://", "https://")):
        return {"url": text}
    if "://" in text and not lower.startswith("file://"):
        raise UserErrorException(
            f"{text!r}: datasets read http:// and https:// addresses. Register what lies elsewhere as a datastore "
            "(Datastore.register_s3, register_azure_blob_container, register_hdfs) and give (datastore, 'path')."
        )
    raise UserErrorException(
        f"{text!r} is a path on this machine, which runs and other people cannot read. Upload it: "
        "ws.get_default_datastore().upload_files([...], target_path='...'), or Dataset.File.upload_directory, then "
        "give (datastore, 'path'). Or register its folder with Datastore.register_local. Files that are only read "
        "here: azureml.dataprep.read_csv."
    )
