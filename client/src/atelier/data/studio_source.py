"""Files of datasets for programs outside the studio: listed by the studio, read from local disk where they lie on it,
by ranges or whole over HTTP where they do not."""

from __future__ import annotations

import os
from itertools import groupby
from typing import Any, BinaryIO, Iterator, Sequence
from urllib.parse import unquote, urlsplit

from atelier.data import cache, remote
from atelier.data.errors import DataError
from atelier.data.sources import DataFile, LocalSource

AT_ONCE = 8  # files fetched at a time


class StudioSource:
    """``workspace`` is None for definitions that have addresses of the web and local paths only.

    ``origin`` is the id of a version with the same query. ``stores``: datastores whose folders are on this machine.
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
        for home, group in groupby(definition["source"].get("paths") or [], self._home):
            entries = list(group)
            if home == "web":
                for entry in entries:
                    yield self._on_the_web(entry["url"])
            elif home == "local":
                yield from self._local.files(_only(definition, entries), limit)
            else:
                body = {"definition": _only(definition, entries)}
                yield from self._listed(body, limit)

    def _home(self, entry: dict[str, Any]) -> str:
        if "url" in entry:  # the key of a signed one is with the studio, which reads it for us
            return "studio" if entry.get("signed") else "web"
        return "local" if "local" in entry or entry["datastore"] in self._local.stores else "studio"

    def _listed(self, body: dict[str, Any], limit: int | None) -> Iterator[DataFile]:
        if self._workspace is None:
            raise DataError("The dataset's files lie in a datastore, and it belongs to no workspace.", "source")
        after = None
        while True:
            asked: dict[str, Any] = {"after": after, "limit": limit}
            page = self._workspace._call("POST", "data/files", params=asked, data=body)
            for item in page["files"]:
                yield self._file(item)
            after = page.get("next")
            if not after:
                return

    def _file(self, item: dict[str, Any]) -> DataFile:
        ref = {"href": item["href"]} if item.get("href") else {"url": item.get("url") or item["path"]}
        found = item.get("local")
        local = found if found and _is_it(found, item.get("size")) else None
        return DataFile(item["path"], item["name"], item.get("size"), item.get("etag") or "", local, ref)

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
        version = self._origin
        if version is None:
            version = str(self._workspace._call("POST", "data/definitions", data={"definition": definition})["id"])
        items = self._workspace._call("GET", f"data/{version}/files", params={"limit": limit})["files"]
        return self.fetch(self._file(items[0]))


def _only(definition: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The definition of these paths alone, as they are listed: without columns and steps."""
    return {**definition, "source": {**definition["source"], "paths": entries}, "schema": None, "steps": []}


def _is_it(path: str, size: int | None) -> bool:
    """Whether this machine has the studio's file at this path: readable, and of the right size."""
    try:
        return os.path.isfile(path) and os.access(path, os.R_OK) and (size is None or os.path.getsize(path) == size)
    except OSError:
        return False
