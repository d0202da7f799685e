"""Files of datasets for programs outside the studio: listed by the studio, read from local disk where they lie on it,
by ranges or whole over HTTP where they do not."""

from __future__ import annotations

import os
import uuid
from itertools import groupby
from typing import Any, BinaryIO, Iterator, Sequence
from urllib.parse import unquote, urlsplit

from atelier.data import cache, remote
from atelier.data.errors import DataError
from atelier.data.sources import DataFile, LocalSource

AT_ONCE = 8  # files fetched at a time


class StudioSource:
    """``workspace`` is None for definitions that have addresses of the web and local paths only.

    ``origin`` is the id of a version with the same paths or query. ``stores``: datastores whose folders are on this
    machine.
    """

    def __init__(self, workspace: Any, origin: str | None = None, stores: dict[str, str] | None = None) -> None:
        self._workspace, self._origin = workspace, origin
        self._local = LocalSource(stores)

    # -- which ----------------------------------------------------------------------------------------------------

    def files(self, definition: dict[str, Any], limit: int | None = None) -> Iterator[DataFile]:
        """In the order of the definition's paths. Raises DataError when one matches nothing, or cannot be listed."""
        left = limit
        for file in self._all(definition, limit):
            if left is not None:
                if left <= 0:
                    return
                left -= 1
            yield file

    def _all(self, definition: dict[str, Any], limit: int | None) -> Iterator[DataFile]:
        paths = definition["source"].get("paths") or []
        if any(path.get("signed") for path in paths):  # the studio has their keys, and reads them for us
            yield from self._listed("GET", f"data/{self._version(definition)}/files", None, limit)
            return
        for home, group in groupby(paths, self._home):
            entries = list(group)
            if home == "web":
                for entry in entries:
                    yield self._on_the_web(entry["url"])
            elif home == "local":
                yield from self._local.files(_only(definition, entries), limit)
            else:
                body = {"definition": _only(definition, entries)}
                yield from self._listed("POST", "data/files", body, limit)

    def _home(self, entry: dict[str, Any]) -> str:
        if "url" in entry:
            return "web"
        return "local" if "local" in entry or entry["datastore"] in self._local.stores else "studio"

    def _listed(self, method: str, path: str, body: dict[str, Any] | None, limit: int | None) -> Iterator[DataFile]:
        if self._workspace is None:
            raise DataError("The dataset's files lie in a datastore, and it belongs to no workspace.", "source")
        after = None
        while True:
            asked: dict[str, Any] = {"after": after, "limit": limit}
            page = self._workspace._call(method, path, params=asked, data=body)
            for item in page["files"]:
                yield self._file(item)
            after = page.get("next")
            if not after:
                return

    def _file(self, item: dict[str, Any]) -> DataFile:
        ref = {"href": item["href"]} if item.get("href") else {"url": item.get("url") or item["path"]}
        found = item.get("local")
        local = found if found and _is_it(found, item.get("size")) else None
        etag, store = item.get("etag") or "", item.get("store") or ""
        return DataFile(item["path"], item["name"], item.get("size"), etag, local, ref, store)

    def _on_the_web(self, url: str) -> DataFile:
        """What a server says of an address; one request for its first byte."""
        address = remote.WebAddress(url)
        answer = remote.ask(address, 0, 0)
        answer.close()
        size = 0 if answer.status == 416 else answer.total
        name = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2] or "file"
        return DataFile(address.shown, name, size, answer.etag, None, {"url": url})

    # -- their bytes ----------------------------------------------------------------------------------------------

    def open(self, file: DataFile) -> BinaryIO:
        """Seekable; reads the ranges that are asked for."""
        if file.local:
            return self._local.open(file)
        return remote.remote_open(self._address(file), file.size)  # type: ignore[return-value]

    def fetch(self, file: DataFile) -> str:
        """The path here of the whole file, from the cache where it was fetched before. Raises DataError."""
        if file.local:
            return self._local.fetch(file)
        address = self._address(file)
        return os.fspath(
            cache.kept(
                address.identity,
                file.name,
                file.size,
                file.etag,
                lambda target: remote.bring(address, target, file.size),
            )
        )

    def fetch_all(self, files: Sequence[DataFile]) -> list[str]:
        """As ``fetch``, a few at a time; the first error ends it."""
        from atelier.data.store_files import in_parallel

        return in_parallel(self.fetch, list(files), AT_ONCE)

    def _address(self, file: DataFile) -> Any:
        if "url" in file.ref:
            return remote.WebAddress(file.ref["url"])
        return remote.StudioAddress(self._workspace, file.ref["href"], file.path)

    def query(self, definition: dict[str, Any], limit: int | None = None) -> str:
        """The rows of a query, run by the studio, as a Parquet file here."""
        if self._workspace is None:
            raise DataError("The query is one of a datastore, and the dataset belongs to no workspace.", "source")
        path = f"data/{self._version(definition)}/files"
        result = self._file(self._workspace._call("GET", path, params={"limit": limit})["files"][0])
        shown = f"The result of the query on {definition['source']['query']['datastore']}"
        address = remote.StudioAddress(self._workspace, result.ref["href"], shown)
        # A query is asked again each time: what it gives changes without a sign.
        mark = uuid.uuid4().hex
        return os.fspath(
            cache.kept(address.identity, result.name, None, mark, lambda target: remote.bring(address, target))
        )

    def _version(self, definition: dict[str, Any]) -> str:
        """The id under which the studio has this definition's source."""
        if self._workspace is None:
            raise DataError(
                "The keys of the dataset's addresses are with the studio, and it has no workspace.", "source"
            )
        if self._origin is None:
            saved = self._workspace._call("POST", "data/definitions", data={"definition": definition})
            self._origin = str(saved["id"])
        return self._origin


def _only(definition: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The definition of these paths alone, as they are listed: without columns and steps."""
    return {**definition, "source": {**definition["source"], "paths": entries}, "schema": None, "steps": []}


def _is_it(path: str, size: int | None) -> bool:
    """Whether this machine has the studio's file at this path: readable, and of the right size."""
    try:
        return os.path.isfile(path) and os.access(path, os.R_OK) and (size is None or os.path.getsize(path) == size)
    except OSError:
        return False
