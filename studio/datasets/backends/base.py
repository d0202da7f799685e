"""The one interface behind every kind of datastore.

A backend is made from a datastore's config and opened secrets. It blocks, it may be used from several threads, it
knows no ORM and no request (units of work use it without a database). Paths are relative POSIX paths that
``studio.lib.storage.clean_relative`` accepts ("" is the root); they cannot leave the datastore. Everything that goes
wrong is a ``StoreError``: a sentence for a person that names the file, never a bare exception of a library.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol

from studio.lib.errors import AtelierError
from studio.lib.fields import FormField, Problem


class StoreError(AtelierError):
    """``code``: no-such-host, unreachable, timeout, refused-key, expired-signature, no-such-container, no-such-file,
    forbidden, read-only, forbidden-address, changed, incomplete, disk-full, unsupported, failed.

    ``retry``: the same request may succeed later (unreachable, timeout, incomplete, busy servers).
    """

    status = 422

    def __init__(
        self, code: str, detail: str, *, hint: str = "", path: str = "", field: str | None = None, retry: bool = False
    ) -> None:
        super().__init__(detail, field=field)
        self.code, self.hint, self.path, self.retry = code, hint, path, retry

    def problem(self) -> Problem:
        return Problem(self.code, self.detail, self.hint, next(iter(self.errors), ""))


@dataclass(frozen=True)
class Entry:
    """A file or a folder. ``path`` is relative to the datastore's root. ``size`` in bytes, None where the store does
    not say; ``modified`` in unix seconds. ``etag`` changes when the content changes; "" where the store has none."""

    path: str
    is_dir: bool = False
    size: int | None = None
    modified: float | None = None
    etag: str = ""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Listing:
    """One page of a folder, folders first, each part sorted by name. ``next`` asks for the rest."""

    entries: list[Entry]
    next: str | None = None


class Backend(Protocol):
    """One datastore. Class attributes describe the kind: the registration page is drawn from them."""

    kind: ClassVar[str]
    label: ClassVar[Any]
    summary: ClassVar[Any]  # one sentence for the page that offers the kinds
    icon: ClassVar[str]
    fields: ClassVar[list[FormField]]
    writable: bool  # whether files can be written at all; a read-only signature is found out by trying

    def __init__(self, config: dict[str, Any], secrets: dict[str, str]) -> None: ...

    def address(self) -> str:
        """Where it is, for people; holds no secret."""
        ...

    def check(self) -> tuple[list[Problem], list[Entry]]:
        """The test button: everything that is wrong, and the first few entries where nothing is."""
        ...

    def list(self, path: str = "", *, limit: int = 1000, after: str | None = None) -> Listing:
        """One folder, not deep. ``after`` is the ``next`` of the page before."""
        ...

    def find(self, pattern: str) -> Iterator[Entry]:
        """Files (never folders) that match a glob: ``*`` and ``?`` within a name, ``**`` across folders, ``[ab]``.
        A path without wildcards is that file, or everything below that folder. Sorted by path."""
        ...

    def stat(self, path: str) -> Entry:
        """Raises StoreError no-such-file."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Seekable, reads only the ranges asked for, buffered ahead. Reading a file that has changed or ends before
        its length raises StoreError, never gives a short file for a whole one."""
        ...

    def stream(self, path: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of a range in pieces of at most 1 MiB, with bounded retries that go on where they were."""
        ...

    def local_path(self, path: str) -> Path | None:
        """Where it lies on this machine's own disk, None for stores that do not."""
        ...

    def upload_begin(self, path: str, size: int) -> dict[str, Any]:
        """Start a file of ``size`` bytes; JSON that the next calls are given."""
        ...

    def upload_piece(self, state: dict[str, Any], offset: int, pieces: Iterable[bytes]) -> tuple[dict[str, Any], int]:
        """Bytes from ``offset`` on; the state to keep and the offset that is safely there (it may be lower than what
        was sent: stores take parts of at least 5 MiB). Only in order."""
        ...

    def upload_commit(self, state: dict[str, Any]) -> Entry:
        """The file appears, whole, in place of what was there. Raises StoreError incomplete."""
        ...

    def upload_abort(self, state: dict[str, Any]) -> None:
        """Idempotent."""
        ...

    def delete(self, path: str) -> None:
        """A file, or a folder with all below it."""
        ...
