"""What the stores of objects (S3, Azure Blob) share: folders out of keys, reading by ranges, uploads in native parts.

Their libraries are asynchronous; everything runs on fsspec's one loop, in its own thread, and these methods wait for
it. They may be called from any thread but that loop's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from django.utils.translation import gettext as _
from fsspec.asyn import get_loop, sync

from studio.datasets.backends import parts
from studio.datasets.backends.base import Entry, Listing, StoreError
from studio.lib.fields import Problem

PART = 8 << 20  # bytes of a part that is sent at once, and held in memory
CONNECT_S, READ_S = 10, 30  # seconds without an answer
PAGE = 1000  # keys of one answer
AT_ONCE = 16  # files that are removed at the same time
Result = TypeVar("Result")
_LITERAL = re.compile(r"[*?\[].*", re.S)


class Missing(Exception):
    """The store has no such object."""


@dataclass(frozen=True)
class Found:
    """An object: its whole key, bytes, unix seconds, and what changes with its content."""

    key: str
    size: int
    modified: float | None
    etag: str


@dataclass(frozen=True)
class Keys:
    """One page of the store's own listing: common prefixes (each ends with a slash), objects, what asks for more."""

    folders: list[str]
    files: list[Found]
    next: str | None


class ObjectStore(parts.RangeReading):
    """The interface of ``Backend`` on five asynchronous calls that S3 and Azure Blob fill in."""

    writable = True
    max_parts = 10_000
    min_part = 5 << 20  # bytes; only the last part may be smaller
    prefix = ""  # of all keys: "" or ends with a slash

    # --- what a kind fills in ---

    def where(self) -> str:
        """The host, for people."""
        raise NotImplementedError

    async def _keys(self, prefix: str, *, deep: bool, limit: int, token: str | None) -> Keys:
        raise NotImplementedError

    async def _head(self, key: str) -> Found:
        """Raises Missing where there is no such object."""
        raise NotImplementedError

    def _read(self, key: str, start: int, end: int, etag: str) -> AsyncIterator[bytes]:
        """Pieces of the bytes from ``start`` to ``end`` (exclusive) of this very content."""
        raise NotImplementedError

    async def _remove(self, key: str) -> None:
        raise NotImplementedError

    async def _begin(self, key: str) -> str:
        """The store's name for a new upload."""
        raise NotImplementedError

    async def _send(self, key: str, upload: str, number: int, data: bytes) -> str:
        """One part, numbered from 1; its mark, that ``_complete`` needs."""
        raise NotImplementedError

    async def _complete(self, key: str, upload: str, marks: list[str]) -> Found:
        raise NotImplementedError

    async def _abort(self, key: str, upload: str) -> None:
        raise NotImplementedError

    def _fault(self, error: Exception, path: str, *, writing: bool) -> StoreError:
        raise NotImplementedError

    # --- calls ---

    def _ask(self, path: str, call: Callable[..., Awaitable[Result]], *given: Any, **named: Any) -> Result:
        """The result of an asynchronous call. Raises StoreError, and Missing where the call does."""
        writing = bool(named.pop("writing", False))
        try:
            result: Result = sync(get_loop(), call, *given, **named)
            return result
        except (StoreError, Missing):
            raise
        except Exception as error:  # noqa: BLE001 - libraries raise what they like; people get one kind
            # "from None": addresses with signatures stand in the texts of some libraries.
            raise self._fault(error, path, writing=writing) from None

    def _again(self, path: str, call: Callable[..., Awaitable[Result]], *given: Any, **named: Any) -> Result:
        """As ``_ask``, with bounded retries."""
        return parts.retrying(lambda: self._ask(path, call, *given, **named))

    def _key(self, path: str) -> str:
        return self.prefix + path

    def _entry(self, found: Found) -> Entry:
        return Entry(found.key[len(self.prefix) :], False, found.size, found.modified, found.etag)

    def _entries(self, keys: Keys) -> list[Entry]:
        """Folders first, then files; without markers of folders and keys that no path can name (``a//b``)."""
        cut = len(self.prefix)
        folders = [Entry(folder[cut:-1], is_dir=True) for folder in keys.folders if _nameable(folder[cut:-1])]
        files = [self._entry(found) for found in keys.files if _nameable(found.key[cut:])]
        return sorted(folders, key=lambda entry: entry.path) + sorted(files, key=lambda entry: entry.path)

    # --- looking ---

    def check(self) -> tuple[list[Problem], list[Entry]]:
        try:
            # One attempt: somebody waits for the answer.
            found = self._ask("", self._keys, self.prefix, deep=False, limit=parts.SHOWN * 4, token=None)
            return [], self._entries(found)[: parts.SHOWN]
        except StoreError as error:
            return parts.as_problems(error)

    def list(self, path: str = "", *, limit: int = PAGE, after: str | None = None) -> Listing:
        path = parts.clean_path(path)
        prefix = self._key(path + "/") if path else self.prefix
        token, size = after, max(1, min(limit, PAGE))
        while True:
            keys = self._again(path, self._keys, prefix, deep=False, limit=size, token=token)
            entries = self._entries(keys)
            token = keys.next
            if entries or not token:
                break
        if path and after is None and not (keys.folders or keys.files or token):
            raise parts.no_such_file(path)
        return Listing(entries, token)

    def _below(self, prefix: str) -> Iterator[Entry]:
        """Every file whose key begins so, in the store's order, which is that of the keys."""
        token: str | None = None
        while True:
            keys = self._again("", self._keys, prefix, deep=True, limit=PAGE, token=token)
            yield from self._entries(keys)
            token = keys.next
            if not token:
                return

    def find(self, pattern: str) -> Iterator[Entry]:
        glob = parts.Glob(pattern)
        if glob.plain:
            found = self.stat(glob.pattern)
            if found.is_dir:
                yield from self._below(self._key(glob.pattern + "/") if glob.pattern else self.prefix)
            else:
                yield found
        elif glob.deep:
            beginning = self._key(_LITERAL.sub("", glob.pattern))
            yield from (entry for entry in self._below(beginning) if glob.matches(entry.path))
        else:
            yield from parts.walk(glob, self._folder, self.stat)

    def stat(self, path: str) -> Entry:
        path = parts.clean_path(path)
        if not path:
            return Entry("", is_dir=True)
        try:
            return self._entry(self._again(path, self._head, self._key(path)))
        except Missing:
            keys = self._again(path, self._keys, self._key(path + "/"), deep=True, limit=1, token=None)
            if keys.files or keys.folders:
                return Entry(path, is_dir=True)
            raise parts.no_such_file(path) from None

    # --- reading ---

    def _bytes(self, entry: Entry, start: int, end: int) -> Iterator[bytes]:
        """One request, from ``start`` to ``end``; ``parts.steady`` asks for the rest where it broke off."""
        pieces = self._read(self._key(entry.path), start, end, entry.etag)

        async def following() -> bytes | None:
            return await anext(pieces, None)

        async def close() -> None:
            await pieces.aclose()  # type: ignore[attr-defined]

        try:
            while (piece := self._ask(entry.path, following)) is not None:
                yield piece
        except Missing:
            raise parts.no_such_file(entry.path) from None
        finally:
            sync(get_loop(), close)

    # --- writing ---

    def upload_begin(self, path: str, size: int) -> dict[str, Any]:
        path = parts.clean_path(path)
        if not path:
            raise StoreError("forbidden", _("An upload needs the name of a file."), field="path")
        upload = self._again(path, self._begin, self._key(path), writing=True)
        return {"path": path, "size": size, "upload": upload, "done": 0, "marks": []}

    def upload_piece(self, state: dict[str, Any], offset: int, pieces: Iterable[bytes]) -> tuple[dict[str, Any], int]:
        sending = _Sending(self, state, offset)
        for piece in pieces:
            sending.take(piece)
        sending.finish()
        return sending.state, sending.state["done"]

    def upload_commit(self, state: dict[str, Any]) -> Entry:
        path = state["path"]
        if state["done"] != state["size"]:
            raise parts.incomplete(path, state["done"], state["size"])
        key = self._key(path)
        found = self._again(path, self._complete, key, state["upload"], state["marks"], writing=True)
        return Entry(path, False, state["size"], found.modified, found.etag)

    def upload_abort(self, state: dict[str, Any]) -> None:
        self._again(state["path"], self._abort, self._key(state["path"]), state["upload"], writing=True)

    def delete(self, path: str) -> None:
        path = parts.clean_path(path)
        if not path:
            raise StoreError("forbidden", _("The whole datastore cannot be deleted."), field="path")
        if not self.stat(path).is_dir:
            self._again(path, self._remove, self._key(path), writing=True)
            return

        async def remove(keys: list[str]) -> None:
            await asyncio.gather(*(self._remove(key) for key in keys))

        while True:
            # Always the first page: what is removed is no longer listed. Markers of folders go with the rest.
            found = self._again(path, self._keys, self._key(path + "/"), deep=True, limit=PAGE, token=None)
            keys = [one.key for one in found.files]
            for start in range(0, len(keys), AT_ONCE):
                self._again(path, remove, keys[start : start + AT_ONCE], writing=True)
            if not keys:
                return


class _Sending:
    """Bytes on their way up: one part in memory. Where the store fails after some parts, those count."""

    def __init__(self, store: ObjectStore, state: dict[str, Any], offset: int) -> None:
        self.store, self.state = store, {**state, "marks": list(state["marks"])}
        if offset != state["done"]:
            text = _("The upload of %(path)s goes on from byte %(done)d, not from %(offset)d.")
            words = {"path": state["path"], "done": state["done"], "offset": offset}
            raise StoreError("incomplete", text % words, path=state["path"])
        # Files of more than 80 GB have larger parts.
        self.part = max(PART, -(-state["size"] // (store.max_parts - 1)))
        self.held = bytearray()
        self.began = offset
        self.broken = False

    def take(self, piece: bytes) -> None:
        if self.broken:
            return
        if self.state["done"] + len(self.held) + len(piece) > self.state["size"]:
            text = _("%(path)s is longer than the %(size)d bytes that were announced.") % self.state
            raise StoreError("incomplete", text, path=self.state["path"])
        view = memoryview(piece)
        while view:
            room = self.part - len(self.held)
            self.held += view[:room]
            view = view[room:]
            if len(self.held) == self.part and not self._send():
                return

    def finish(self) -> None:
        """The rest goes up when it is the end of the file, or when parts of its size can carry the whole file."""
        rest = len(self.held)
        if not rest or self.broken:
            return
        left = self.state["size"] - self.state["done"]
        enough = rest >= self.store.min_part and left <= rest * (self.store.max_parts - len(self.state["marks"]) - 1)
        if rest == left or enough:
            self._send()

    def _send(self) -> bool:
        """False when the store failed, but not before some of what this call brought was safely there."""
        state, path = self.state, self.state["path"]
        number = len(state["marks"]) + 1
        try:
            mark = self.store._again(
                path, self.store._send, self.store._key(path), state["upload"], number, bytes(self.held), writing=True
            )
        except StoreError as error:
            if not error.retry or state["done"] == self.began:
                raise
            self.broken = True
            return False
        state["marks"].append(mark)
        state["done"] += len(self.held)
        self.held.clear()
        return True


def _nameable(path: str) -> bool:
    return bool(path) and all(part not in ("", ".", "..") for part in path.split("/"))


def clean_prefix(raw: Any) -> str:
    """A prefix as people write it, as the beginning of all keys."""
    path = parts.clean_path(str(raw or "").strip().strip("/"))
    return path + "/" if path else ""
