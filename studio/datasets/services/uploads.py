"""Files on their way into a datastore, piece by piece.

A broken upload goes on where it stopped, and a file appears only when it is whole.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from studio.accounts.models import User
from studio.accounts.services import audit
from studio.datasets.backends.base import Backend, StoreError
from studio.datasets.models import Datastore, Upload
from studio.datasets.services.datastores import store_open, store_writable
from studio.lib import storage
from studio.lib.errors import AtelierError, Conflict, Invalid, TooLarge, TooManyRequests

log = logging.getLogger(__name__)

PIECE = 1 << 20
MAX_BYTES = 1 << 42
LEASE = dt.timedelta(seconds=60)  # of the request that sends; renewed while it does
RENEW_S = 15.0
STALE = dt.timedelta(days=7)
MOST_OPEN = 500  # uploads of one person into one datastore
LEFT = dt.timedelta(hours=1)  # after which one that nobody goes on with makes room for another


class Exists(AtelierError):
    """There is a file already, and the caller said that it must not be replaced."""

    status = 412
    code = "exists"


@dataclass(frozen=True)
class UploadState:
    """How much of a file is safely there, in bytes, and whether it is whole and in its place."""

    offset: int
    complete: bool


def _full(error: StoreError) -> AtelierError:
    """A full disk as the error that says so over HTTP; every other one as it is."""
    if error.code == "disk-full":
        return TooLarge(f"{error.detail} {error.hint}".strip())
    return error


def _size(store: Backend, path: str) -> int | None:
    """Bytes of the file that is there now; None where there is none."""
    try:
        found = store.stat(path)
    except StoreError as error:
        if error.code == "no-such-file":
            return None
        raise
    if found.is_dir:
        raise Conflict(_("%(path)s is a folder.") % {"path": path}, field="path")
    return found.size if found.size is not None else -1


def upload_state(datastore: Datastore, path: str, *, user: User, total: int | None = None) -> UploadState:
    """Where an upload of this path goes on."""
    path = storage.clean_relative(path)
    row = Upload.objects.filter(datastore=datastore, path=path, created_by=user).first()
    if row is not None and total in (None, row.size):
        # All is there and the file is not in its place: the last byte is asked for again, with it the file appears.
        return UploadState(min(row.offset, max(0, row.size - 1)), False)
    size = _size(store_open(datastore), path)
    return UploadState(size, True) if size is not None and total in (None, size) else UploadState(0, False)


def put_piece(
    datastore: Datastore,
    path: str,
    stream: IO[bytes],
    *,
    user: User,
    offset: int,
    length: int,
    total: int,
    replace: bool = True,
    by_person: bool = True,
    request: HttpRequest | None = None,
) -> UploadState:
    """``length`` bytes of a file of ``total`` bytes, from ``offset`` on; with the last of them the file appears.

    An offset equal to what is here goes on, a lower one drops the overlap, 0 begins anew, a higher one raises Conflict.
    What is answered may be less than what was sent: some stores take parts of a certain size only. Raises Exists where
    ``replace`` is False and there is a file, Conflict while another request sends, TooLarge when the disk is full.
    """
    path = storage.clean_relative(path)
    if not 0 <= total <= MAX_BYTES or not 0 <= offset <= total or length > total - offset:
        raise Invalid(_("The piece does not lie within the size that was announced."), field="Content-Range")
    store = store_writable(datastore)
    if not replace:
        _refuse_existing(store, path)
    rows = Upload.objects.filter(datastore=datastore, path=path, created_by=user)
    row = rows.first()
    if offset and row is None and _size(store, path) == total and offset + length == total:
        return UploadState(total, True)  # the answer to the last piece was lost, and it is sent again
    try:
        row = _row(datastore, path, user, store, row, total, anew=offset == 0)
        with _Lease(row) as lease:
            state = _send(lease, store, stream, offset, length)
            if state.complete:
                if not replace:
                    _refuse_existing(store, path)
                store.upload_commit(row.state)
                row.delete()
                if by_person:
                    detail = {"path": path, "bytes": total}
                    place = datastore.workspace
                    audit(user, "datastore.upload", workspace=place, object=datastore, detail=detail, request=request)
    except StoreError as error:
        raise _full(error) from error
    return state


def _refuse_existing(store: Backend, path: str) -> None:
    if _size(store, path) is not None:
        raise Exists(_("%(path)s is there already.") % {"path": path}, field="path")


def _row(
    datastore: Datastore, path: str, user: User, store: Backend, row: Upload | None, total: int, *, anew: bool
) -> Upload:
    """The upload that goes on, or a new one in its place. Raises Conflict for one that is not there."""
    if row is not None and not anew and row.size == total:
        return row
    if not anew:
        raise Conflict(
            _("There is no upload of %(path)s with %(total)d bytes to go on with: begin at 0.")
            % {"path": path, "total": total}
        )
    busy = Conflict(_("%(path)s is being sent by another request right now.") % {"path": path})
    if row is not None:
        if not _free(row).delete()[0]:
            raise busy
        _abort(store, row)
    _make_room(datastore, user, store)
    state = store.upload_begin(path, total)
    try:
        with transaction.atomic():
            return Upload.objects.create(datastore=datastore, path=path, size=total, state=state, created_by=user)
    except IntegrityError:
        store.upload_abort(state)
        raise busy from None


def _make_room(datastore: Datastore, user: User, store: Backend) -> None:
    """Raises TooManyRequests where somebody has begun too many files and ended none."""
    mine = Upload.objects.filter(datastore=datastore, created_by=user)
    if mine.count() < MOST_OPEN:
        return
    oldest = mine.filter(updated_at__lt=timezone.now() - LEFT).order_by("updated_at").first()
    if oldest is None or not _free(oldest).delete()[0]:
        raise TooManyRequests(
            _("%(count)d of your files are on their way to %(name)s already: let some of them arrive first.")
            % {"count": MOST_OPEN, "name": datastore.name}
        )
    _abort(store, oldest)


def _free(row: Upload) -> Any:
    return Upload.objects.filter(pk=row.pk).filter(Q(busy_until=None) | Q(busy_until__lt=timezone.now()))


class _Lease:
    """The one request that sends to an upload. Others are refused until it ends, or was not renewed for ``LEASE``."""

    def __init__(self, row: Upload) -> None:
        self.row = row

    def __enter__(self) -> _Lease:
        until = timezone.now() + LEASE
        if not _free(self.row).filter(offset=self.row.offset).update(busy_until=until):
            raise Conflict(_("%(path)s is being sent by another request right now.") % {"path": self.row.path})
        self.row.busy_until, self._renewed = until, time.monotonic()
        return self

    def __exit__(self, *_error: object) -> None:
        if self.row.pk is not None:
            self._mine().update(busy_until=None)

    def _mine(self) -> Any:
        return Upload.objects.filter(pk=self.row.pk, busy_until=self.row.busy_until)

    def renew(self) -> None:
        if time.monotonic() - self._renewed > RENEW_S:
            until = timezone.now() + LEASE
            if not self._mine().update(busy_until=until):
                raise Conflict(_("The upload of %(path)s was ended meanwhile.") % {"path": self.row.path})
            self.row.busy_until, self._renewed = until, time.monotonic()

    def save(self, state: dict[str, Any], offset: int) -> None:
        """Keep how far it is. Raises Conflict where the upload was ended meanwhile."""
        if not self._mine().update(state=state, offset=offset, updated_at=timezone.now()):
            raise Conflict(_("The upload of %(path)s was ended meanwhile.") % {"path": self.row.path})
        self.row.state, self.row.offset = state, offset


def _send(lease: _Lease, store: Backend, stream: IO[bytes], offset: int, length: int) -> UploadState:
    """Hand the bytes that are not there yet to the backend, and keep what it says of them."""
    row = lease.row
    if offset > row.offset:
        raise Conflict(
            _("%(path)s has %(size)d bytes here, and the piece begins at %(offset)d: go on from %(size)d.")
            % {"path": row.path, "size": row.offset, "offset": offset}
        )
    fresh = offset + length - row.offset
    if fresh > 0:
        pieces = _pieces(stream, row.offset - offset, length, lease.renew)
        state, reached = store.upload_piece(row.state, row.offset, pieces)
        before = row.offset
        lease.save(state, reached)
        if reached == before and offset + length < row.size:
            raise Invalid(
                _("The store takes larger parts than %(bytes)d bytes: send pieces of 8 MiB or more.")
                % {"bytes": fresh},
                field="Content-Range",
            )
    return UploadState(row.offset, row.offset == row.size)


def _pieces(stream: IO[bytes], skip: int, length: int, renew: Callable[[], None]) -> Iterator[bytes]:
    """The body after its first ``skip`` bytes, ``length`` altogether. Raises StoreError for a body that ends early."""
    left = length
    while left:
        piece = stream.read(min(PIECE, left))
        if not piece:
            raise StoreError("incomplete", _("The body ended %(bytes)d bytes early.") % {"bytes": left}, retry=True)
        left -= len(piece)
        dropped = min(skip, len(piece))
        skip -= dropped
        renew()
        if len(piece) > dropped:
            yield piece[dropped:]


def _abort(store: Backend, row: Upload) -> bool:
    """Drop what the backend has of an upload; False where it could not."""
    try:
        store.upload_abort(row.state)
    except StoreError as error:
        log.warning("the upload of %s to datastore %s could not be dropped: %s", row.path, row.datastore_id, error)
        return False
    return True


def uploads_abort(datastore: Datastore) -> None:
    """End every upload into a datastore that is removed."""
    rows = list(Upload.objects.filter(datastore=datastore))
    if rows:
        try:
            store = store_open(datastore)
        except StoreError:
            store = None
        for row in rows:
            if store is not None:
                _abort(store, row)
            row.delete()


def sweep_stale() -> int:
    """Drop uploads that nobody went on with for ``STALE``; how many. One that the store does not let go of is tried
    again the next day, and forgotten after a month."""
    now = timezone.now()
    gone = 0
    old = Upload.objects.filter(updated_at__lt=now - STALE).select_related("datastore")
    for row in old.filter(Q(busy_until=None) | Q(busy_until__lt=now)).iterator(chunk_size=200):
        try:
            dropped = _abort(store_open(row.datastore), row)
        except StoreError:
            dropped = False
        if dropped or row.updated_at < now - 4 * STALE:
            gone += Upload.objects.filter(pk=row.pk, updated_at=row.updated_at).delete()[0]
    return gone
