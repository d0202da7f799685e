"""What the backends share: globs, pages of folders, retries that go on where they were, files read by ranges.

The rules against half files live here: ``steady`` and ``RangeFile`` give the bytes that were promised or raise.
"""

from __future__ import annotations

import io
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar, cast

from atelier.data import globs
from django.utils.translation import gettext as _

from studio.datasets.backends.base import Entry, Listing, StoreError
from studio.lib.fields import Problem

PIECE = 1 << 20  # bytes; no piece of a stream is larger
ATTEMPTS = 5  # in a row without a byte of progress
ALTOGETHER = 40  # for one file, whatever progress each of them made
SHOWN = 5  # entries that the test button shows
Result = TypeVar("Result")


# --- paths and globs ---


def clean_path(raw: str) -> str:
    """``raw`` as a path below the root, "" for the root itself. Raises StoreError forbidden where it could leave."""
    parts = [part for part in raw.split("/") if part not in ("", ".")]
    try:
        too_long = len(raw.encode()) > 2000 or any(len(part.encode()) > 1024 for part in parts)
    except UnicodeEncodeError:
        raise StoreError("forbidden", _("The name of a file is not valid UTF-8: %r.") % raw, path=raw) from None
    if raw.startswith("/") or ".." in parts or "\x00" in raw:
        raise StoreError(
            "forbidden",
            _("%(path)r leaves the datastore.") % {"path": raw},
            hint=_("Use a path below the datastore's root, without '..'."),
            path=raw,
            field="path",
        )
    if too_long:
        raise StoreError("forbidden", _("%(path)r... is too long for a path.") % {"path": raw[:60]}, field="path")
    return "/".join(parts)


class Glob(globs.Glob):
    """A pattern below the root. Raises StoreError forbidden where it could leave."""

    def __init__(self, pattern: str) -> None:
        super().__init__(clean_path(pattern))


def walk(glob: Glob, folder: Callable[[str], Iterable[Entry]], stat: Callable[[str], Entry]) -> Iterator[Entry]:
    """``find`` for stores that list one folder at a time. ``folder`` gives a folder's entries in any order.

    The order is that of the whole paths. Raises StoreError no-such-file for a plain path that is not there.
    """
    if glob.plain:
        found = stat(glob.pattern) if glob.pattern else Entry("", is_dir=True)
        if not found.is_dir:
            yield found
            return
    yield from _walk(glob, glob.pattern if glob.plain else glob.prefix, folder)


def _walk(glob: Glob, start: str, folder: Callable[[str], Iterable[Entry]]) -> Iterator[Entry]:
    try:
        rows = sorted(folder(start), key=lambda entry: entry.path + ("/" if entry.is_dir else ""))
    except StoreError as error:
        # No such folder: a pattern matches nothing there. Anything else would hide files.
        if error.code == "no-such-file" and not glob.plain:
            return
        raise
    for entry in rows:
        if not entry.is_dir:
            if glob.matches(entry.path):
                yield entry
        elif glob.may_hold(entry.path):
            yield from _walk(glob, entry.path, folder)


def page(entries: Iterable[Entry], limit: int, after: str | None) -> Listing:
    """One page of a folder that is known whole: folders first, by name. ``after`` is a page's ``next``."""
    ordered = sorted((("d" if entry.is_dir else "f") + entry.name, entry) for entry in entries)
    rest = [row for row in ordered if after is None or row[0] > after]
    shown = rest[: max(limit, 1)]
    return Listing([entry for _key, entry in shown], shown[-1][0] if len(rest) > len(shown) else None)


# --- what goes wrong with files ---


def no_such_file(path: str, where: str = "") -> StoreError:
    return StoreError("no-such-file", _("There is no file %(path)s.") % {"path": where or path}, path=path)


def changed(path: str, where: str = "") -> StoreError:
    """The file is another one than when it was listed or opened."""
    return StoreError(
        "changed",
        _("%(path)s was changed while it was read.") % {"path": where or path},
        hint=_("Try again when nobody writes to it."),
        path=path,
    )


def incomplete(path: str, got: int, expected: int | None, where: str = "") -> StoreError:
    """Fewer or more bytes came than the store said."""
    return StoreError(
        "incomplete",
        _("%(path)s ended after %(got)d of %(expected)d bytes.")
        % {"path": where or path, "got": got, "expected": expected}
        if expected is not None
        else _("%(path)s broke off after %(got)d bytes.") % {"path": where or path, "got": got},
        path=path,
        retry=True,
    )


def unsupported(what: str, path: str = "", hint: str = "") -> StoreError:
    return StoreError("unsupported", what, path=path, hint=hint)


def as_problems(error: StoreError) -> tuple[list[Problem], list[Entry]]:
    """What ``check`` gives for a store that failed."""
    return [error.problem()], []


# --- retries ---


def pause(attempt: int) -> None:
    """Wait before the next attempt: 0.2 s, doubled each time, at most 5 s, spread a little."""
    time.sleep(min(0.2 * 2 ** (attempt - 1), 5.0) * random.uniform(0.7, 1.3))  # noqa: S311 - spreads retries


def retrying(ask: Callable[[], Result]) -> Result:
    """``ask()``, again where its StoreError says that this may help, ``ATTEMPTS`` times at most."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except StoreError as error:
            if not error.retry or attempt == ATTEMPTS:
                raise _after(error, attempt) from error.__cause__
        pause(attempt)
    raise AssertionError("unreachable")  # pragma: no cover - the loop returns or raises


def _after(error: StoreError, attempts: int) -> StoreError:
    """The same error, which says how often it was tried."""
    if attempts == 1:
        return error
    detail = _("%(detail)s %(attempts)d attempts were made.") % {"detail": error.detail, "attempts": attempts}
    return StoreError(error.code, detail, hint=error.hint, path=error.path, retry=error.retry)


def steady(path: str, read: Callable[[int], Iterable[bytes]], start: int, end: int | None) -> Iterator[bytes]:
    """The bytes from ``start`` to ``end`` (exclusive; None: until ``read`` ends well).

    ``read(offset)`` gives the bytes from an offset on and raises StoreError; where that may pass it is asked again
    from the offset reached. Raises StoreError incomplete when the bytes do not come, or when more come.
    """
    done, stuck = start, 0
    for attempt in range(1, ALTOGETHER + 1):
        before = done
        try:
            for whole in read(done):
                for piece in _pieces(whole):
                    done += len(piece)
                    if end is not None and done > end:
                        raise incomplete(path, done, end)
                    yield piece
            if end is None or done == end:
                return
            raise incomplete(path, done, end)
        except StoreError as error:
            stuck = stuck + 1 if done == before else 1
            if not error.retry or stuck >= ATTEMPTS or attempt == ALTOGETHER or (end is not None and done > end):
                raise _after(error, attempt) from error.__cause__
        pause(stuck)


def _pieces(data: bytes) -> Iterator[bytes]:
    if len(data) <= PIECE:
        if data:
            yield data
        return
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


# --- files ---


class RangeFile(io.RawIOBase):
    """A file of known size that is read by ranges, with read-ahead: the window doubles while reading goes straight
    on, and is small again after a jump. ``opened(...)`` wraps it for use.

    ``read(start, end)`` gives exactly the bytes asked for (end exclusive) or raises StoreError.
    """

    SMALL, LARGE = 128 << 10, 8 << 20

    def __init__(self, path: str, size: int, read: Callable[[int, int], Iterable[bytes]]) -> None:
        self.path, self.size, self._read = path, size, read
        self._at, self._from, self._held, self._window = 0, 0, b"", self.SMALL

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self.size - self._at)
        if wanted <= 0:
            return 0
        if not self._from <= self._at < self._from + len(self._held):
            straight = self._at == self._from + len(self._held)
            self._window = min(self._window * 2, self.LARGE) if straight and self._held else self.SMALL
            end = min(self._at + max(wanted, self._window), self.size)
            held = b"".join(self._read(self._at, end))
            if len(held) != end - self._at:
                raise incomplete(self.path, self._at + len(held), end)
            self._from, self._held = self._at, held
        start = self._at - self._from
        piece = self._held[start : start + wanted]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


class SpoolFile(io.RawIOBase):
    """A file whose store can only send it from its beginning: read as far as needed, what came is kept on disk (in
    memory up to 8 MiB). ``size`` may be unknown; seeking to the end then reads all of it."""

    def __init__(self, pieces: Iterable[bytes], size: int | None) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._kept = tempfile.SpooledTemporaryFile(8 << 20)  # noqa: SIM115 - closed with this file
        self._have, self._at, self._size = 0, 0, size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and self._size is None:
            self._load(None)
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size or 0}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._load(self._at + len(buffer))
        self._kept.seek(self._at)
        piece = self._kept.read(len(buffer))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _load(self, until: int | None) -> None:
        """Keep bytes up to an offset, or all of them."""
        self._kept.seek(self._have)
        while until is None or self._have < until:
            piece = next(self._pieces, None)
            if piece is None:
                self._size = self._have
                return
            self._kept.write(piece)
            self._have += len(piece)

    def close(self) -> None:
        if not self.closed:
            self._kept.close()
            closing = getattr(self._pieces, "close", None)  # a generator holds its connection until then
            if closing:
                closing()
        super().close()


def opened(raw: io.RawIOBase) -> BinaryIO:
    """The raw file with a buffer for small reads."""
    return cast(BinaryIO, io.BufferedReader(raw, 64 << 10))


class RangeReading:
    """The reading half of the interface, for kinds that ask for ranges: on ``list``, ``stat`` and ``_bytes``."""

    def list(self, path: str = "", *, limit: int = 1000, after: str | None = None) -> Listing:
        raise NotImplementedError

    def stat(self, path: str) -> Entry:
        raise NotImplementedError

    def _bytes(self, entry: Entry, start: int, end: int) -> Iterator[bytes]:
        """One request for the bytes from ``start`` to ``end`` (exclusive) of this very content; it may break off."""
        raise NotImplementedError

    def _folder(self, path: str) -> Iterator[Entry]:
        """Everything in a folder, page by page."""
        after: str | None = None
        while True:
            listing = self.list(path, after=after)
            yield from listing.entries
            after = listing.next
            if after is None:
                return

    def _file(self, path: str) -> Entry:
        found = self.stat(clean_path(path))
        if found.is_dir:
            raise no_such_file(found.path)
        return found

    def _range(self, entry: Entry, start: int, end: int) -> Iterator[bytes]:
        if start >= end:
            return iter(())
        return steady(entry.path, lambda offset: self._bytes(entry, offset, end), start, end)

    def open(self, path: str) -> BinaryIO:
        entry = self._file(path)
        return opened(RangeFile(entry.path, entry.size or 0, lambda start, end: self._range(entry, start, end)))

    def stream(self, path: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        entry = self._file(path)
        size = entry.size or 0
        return self._range(entry, max(0, offset), size if length is None else min(size, offset + length))

    def local_path(self, path: str) -> Path | None:
        return None


class ReadOnly:
    """The writing half of the interface, for kinds that cannot be written."""

    writable = False
    label: ClassVar[Any] = ""

    def _refuse(self, path: str) -> StoreError:
        text = _("A datastore of this kind (%(kind)s) can only be read.") % {"kind": self.label}
        return StoreError("unsupported", text, hint=_("Write to another datastore."), path=path)

    def upload_begin(self, path: str, size: int) -> dict[str, Any]:
        raise self._refuse(path)

    def upload_piece(self, state: dict[str, Any], offset: int, pieces: Iterable[bytes]) -> tuple[dict[str, Any], int]:
        raise self._refuse(str(state.get("path", "")))

    def upload_commit(self, state: dict[str, Any]) -> Entry:
        raise self._refuse(str(state.get("path", "")))

    def upload_abort(self, state: dict[str, Any]) -> None:
        """Nothing was begun."""

    def delete(self, path: str) -> None:
        raise self._refuse(path)
