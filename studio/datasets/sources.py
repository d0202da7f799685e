"""The files behind a definition, read through the backends: what the server and its units give the evaluator.

Implements ``atelier.data.sources.Source``. Nothing here knows a database. Errors are ``StoreError`` of the backends,
and ``DataError`` where nothing matches.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

from atelier.data.errors import DataError
from atelier.data.globs import fixed_part
from atelier.data.sources import DataFile
from django.utils.translation import gettext as _

from studio.datasets import cache
from studio.datasets.backends import parts, registry
from studio.datasets.backends.base import Backend, Entry, StoreError

AT_ONCE = 16  # requests under way when many files are asked for
Asked = TypeVar("Asked")
Given = TypeVar("Given")


class _Address(str):
    """An address whose query may be a key: it is not shown when something prints it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(self.partition("?")[0])


class BackendSource:
    """``stores``: the backends by the datastores' names, or what makes them: {"kind", "config", "secrets"}.

    Safe to use from several threads. Fetched files are kept in ``studio.datasets.cache``, which processes share.
    """

    def __init__(self, stores: Mapping[str, Backend | Mapping[str, Any]]) -> None:
        self._stores = dict(stores)
        self._lock = threading.Lock()
        self._queries: dict[tuple[str, str, int | None], str] = {}
        self._querying = threading.Lock()
        self._named: tempfile.TemporaryDirectory[str] | None = None  # links that bear the files' own endings

    def backend(self, name: str) -> Backend:
        """Raises DataError for a datastore that is not there."""
        with self._lock:
            found = self._stores.get(name)
            if found is None:
                raise DataError(
                    _("There is no datastore %(name)s in this workspace.") % {"name": repr(name)}, "no-such-file"
                )
            if isinstance(found, Mapping):
                found = registry.make(found["kind"], dict(found["config"]), dict(found.get("secrets") or {}))
                self._stores[name] = found
            return found

    # Files

    def files(self, definition: dict[str, Any], limit: int | None = None) -> Iterator[DataFile]:
        """In the order of the definition's paths, each sorted; lazily, many paths at once. Raises DataError
        no-such-file when a path matches nothing, StoreError."""
        places = definition["source"].get("paths") or []
        if limit is not None and limit <= 0:
            return
        if len(places) == 1:
            found: Iterable[DataFile] = self._matches(places[0], limit)
        else:
            found = itertools.chain.from_iterable(
                _ordered(lambda place: list(itertools.islice(self._matches(place, limit), limit)), places)
            )
        yield from itertools.islice(found, limit)

    def _matches(self, place: dict[str, Any], limit: int | None) -> Iterator[DataFile]:
        if "url" in place:
            yield self._web_file(place["url"])
            return
        if "datastore" not in place:
            what = place.get("local", "")
            raise DataError(
                _("%(path)s is a path of somebody's own machine; the studio cannot read it.") % {"path": what},
                "no-such-file",
                file=str(what),
            )
        name, pattern = str(place["datastore"]), str(place.get("path") or "").strip("/")
        backend, count = self.backend(name), 0
        shown = f"{name}:{pattern or '/'}"
        found = itertools.islice(self._found(backend, pattern), limit)
        with _no_match(shown, pattern):
            for entry in self._whole(backend, found):
                count += 1
                yield self._store_file(name, backend, entry, fixed_part(pattern))
        if not count:
            raise DataError(_("No file matches %(pattern)s.") % {"pattern": shown}, "no-such-file", file=shown)

    def _found(self, backend: Backend, pattern: str) -> Iterator[Entry]:
        yield from backend.find(pattern)

    def _whole(self, backend: Backend, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Entries with what the store says of each file where its listing does not."""

        def known(entry: Entry) -> Entry:
            return entry if entry.size is not None or entry.etag else backend.stat(entry.path)

        rows = iter(entries)
        first = next(rows, None)
        if first is None:
            return
        every = itertools.chain([first], rows)
        yield from (every if first.size is not None or first.etag else _ordered(known, every))

    def _store_file(self, name: str, backend: Backend, entry: Entry, fixed: str) -> DataFile:
        local = backend.local_path(entry.path)
        return DataFile(
            path=f"{name}:{entry.path}",
            name=entry.path[len(fixed) :] or entry.name,
            size=entry.size,
            etag=entry.etag,
            local=str(local) if local is not None else None,
            ref={"datastore": name, "path": entry.path, "modified": entry.modified},
            store=name,
        )

    def _web_file(self, url: str) -> DataFile:
        from studio.datasets.backends import web

        file = web.WebFile(url)
        head = file.head()
        name = unquote(urlsplit(file.url).path).rpartition("/")[2]
        name = name if name not in ("", ".", "..") and "\x00" not in name else "file"
        return DataFile(
            path=file.path,
            name=name,
            size=head.size,
            etag=head.tag,
            ref={"url": _Address(file.url), "modified": head.modified},
        )

    # Bytes

    def open(self, file: DataFile) -> BinaryIO:
        """Seekable; reads only the ranges asked for where the store can. Raises StoreError."""
        if "url" in file.ref:
            from studio.datasets.backends import web

            return web.WebFile(file.ref["url"]).open()
        return self.backend(file.ref["datastore"]).open(file.ref["path"])

    def stream(self, file: DataFile, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of a range of the file as it was when it was listed. Raises StoreError, changed too."""
        from studio.datasets.backends import http, web

        backend = None if "url" in file.ref else self.backend(file.ref["datastore"])
        if backend is None or isinstance(backend, http.HttpStore):
            known = web.Head(file.size, file.etag, True, file.ref["modified"], "", "")
            one = web.WebFile(file.ref["url"]) if backend is None else backend.file(file.ref["path"])
            yield from one.stream(offset, length, known)
            return
        path = file.ref["path"]
        yield from backend.stream(path, offset, length)
        # The bytes were those of the listed file when it is still that one.
        now = backend.stat(path)
        same = now.etag == file.etag if file.etag else (now.size, now.modified) == (file.size, file.ref["modified"])
        if not same:
            raise parts.changed(path, file.path)

    def fetch(self, file: DataFile) -> str:
        """Local path of the whole file, under its own ending. Raises StoreError."""
        if file.local:
            self._untouched(file)
            return file.local
        kept = self.keep(file)
        with self._lock:
            if self._named is None:
                self._named = tempfile.TemporaryDirectory(prefix="atelier-files-")
            folder = Path(self._named.name, kept.digest)
        # Readers tell formats and compressions by the ending.
        link = folder / (file.name.rpartition("/")[2][-100:] or "file")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(exist_ok=True)
            link.symlink_to(kept.path)
        return str(link)

    def keep(
        self,
        file: DataFile,
        *,
        progress: Callable[[int], None] | None = None,
        resumed: Callable[[int], None] | None = None,
        pin: Callable[[str], None] | None = None,
    ) -> cache.Kept:
        """The whole file in the cache; the callables as ``cache.fetch`` says. Raises StoreError."""
        ref = file.ref
        if "url" in ref:
            # With its query: what two signatures of one address open may differ.
            content = cache.Content(str(ref["url"]), file.name, file.size, file.etag, ref["modified"])
        else:
            backend = self.backend(ref["datastore"])
            access = registry.access_of(backend)
            content = cache.Content(backend.address(), ref["path"], file.size, file.etag, ref["modified"], access)
        stream = partial(self.stream, file)
        return cache.fetch(content, stream, progress=progress, resumed=resumed, pin=pin)

    def _untouched(self, file: DataFile) -> None:
        found = self.backend(file.ref["datastore"]).stat(file.ref["path"])
        if (found.size, found.etag) != (file.size, file.etag):
            raise parts.changed(file.ref["path"], file.path)

    # SQL

    def query(self, definition: dict[str, Any], limit: int | None = None) -> str:
        """A local Parquet file with the query's result, asked for once by each source. Raises StoreError."""
        asked = definition["source"]["query"]
        backend = self.backend(str(asked["datastore"]))
        export = getattr(backend, "export", None)
        if export is None:
            raise StoreError(
                "unsupported", _("The datastore %(name)s has no SQL queries.") % {"name": asked["datastore"]}
            )
        key = (str(asked["datastore"]), str(asked["text"]), limit)
        with self._querying:
            if key not in self._queries:
                digest = hashlib.sha256(f"{key}{uuid.uuid4()}".encode()).hexdigest()
                place = cache.place(digest).with_suffix(".parquet")
                place.parent.mkdir(parents=True, exist_ok=True)
                export(key[1], place, limit)
                self._queries[key] = str(place)
            return self._queries[key]


@contextlib.contextmanager
def _no_match(shown: str, pattern: str) -> Iterator[None]:
    """A plain path that is not there is a path that matches nothing."""
    try:
        yield
    except StoreError as error:
        if error.code == "no-such-file" and parts.clean_path(error.path) == parts.clean_path(pattern):
            raise DataError(f"{error.detail} ({shown})", "no-such-file", file=shown) from error
        raise


def _ordered(function: Callable[[Asked], Given], items: Iterable[Asked]) -> Iterator[Given]:
    """``map`` with at most AT_ONCE calls under way or done ahead; the first error ends it."""
    waiting: list[Future[Given]] = []
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="files")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= AT_ONCE:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
