"""Files on their way into a datastore."""

from __future__ import annotations

import datetime as dt
import errno
import io
import threading
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from studio.accounts.models import AuditEntry
from studio.datasets import selectors
from studio.datasets.backends.base import StoreError
from studio.datasets.models import Datastore, Upload
from studio.datasets.services import datastores, uploads
from studio.datasets.tasks import housekeeping
from studio.lib.errors import Conflict, Invalid, TooLarge, TooManyRequests

pytestmark = pytest.mark.django_db
CONTENT = bytes(range(256)) * 20  # 5,120 bytes


@pytest.fixture
def store(team: Any) -> Datastore:
    return selectors.default_datastore(team.workspace)


def folder(store: Datastore) -> Path:
    return Path(datastores.store_open(store).address())


def put(store: Datastore, team: Any, start: int = 0, stop: int | None = None, **more: Any) -> uploads.UploadState:
    data = CONTENT[start:stop]
    given = {"user": team.contributor, "offset": start, "length": len(data), "total": len(CONTENT), **more}
    return uploads.put_piece(store, "in/a.bin", io.BytesIO(data), **given)


def left_over(store: Datastore) -> list[str]:
    return sorted(path.name for path in folder(store).rglob("*") if path.is_file() and path.name != "a.bin")


class TestPieces:
    def test_whole(self, team: Any, store: Datastore) -> None:
        assert put(store, team) == uploads.UploadState(len(CONTENT), True)
        assert (folder(store) / "in" / "a.bin").read_bytes() == CONTENT
        assert not Upload.objects.exists() and not left_over(store)
        entry = AuditEntry.objects.get(action="datastore.upload")
        assert entry.actor == team.contributor and entry.detail == {"path": "in/a.bin", "bytes": len(CONTENT)}

    def test_a_file_appears_only_when_it_is_whole(self, team: Any, store: Datastore) -> None:
        assert put(store, team, 0, 2000) == uploads.UploadState(2000, False)
        assert not (folder(store) / "in" / "a.bin").exists()
        assert uploads.upload_state(store, "in/a.bin", user=team.contributor) == uploads.UploadState(2000, False)
        assert put(store, team, 2000, 2001) == uploads.UploadState(2001, False)
        assert put(store, team, 1000, 4000) == uploads.UploadState(4000, False)  # the overlap is dropped
        assert put(store, team, 4000) == uploads.UploadState(len(CONTENT), True)
        assert (folder(store) / "in" / "a.bin").read_bytes() == CONTENT
        assert uploads.upload_state(store, "in/a.bin", user=team.contributor).complete

    def test_a_file_that_is_there_stays_until_then(self, team: Any, store: Datastore) -> None:
        put(store, team)
        target = folder(store) / "in" / "a.bin"
        target.write_bytes(b"older")
        put(store, team, 0, 100)
        assert target.read_bytes() == b"older"
        put(store, team, 100)
        assert target.read_bytes() == CONTENT

    def test_empty(self, team: Any, store: Datastore) -> None:
        state = uploads.put_piece(store, "empty.txt", io.BytesIO(), user=team.contributor, offset=0, length=0, total=0)
        assert state.complete and (folder(store) / "empty.txt").read_bytes() == b""

    def test_begins_anew_at_zero(self, team: Any, store: Datastore) -> None:
        put(store, team, 0, 2000)
        assert put(store, team, 0, 10) == uploads.UploadState(10, False)
        assert Upload.objects.count() == 1 and len(left_over(store)) == 1

    def test_gap(self, team: Any, store: Datastore) -> None:
        put(store, team, 0, 2000)
        with pytest.raises(Conflict) as caught:
            put(store, team, 3000)
        assert "go on from 2000" in caught.value.detail
        assert uploads.upload_state(store, "in/a.bin", user=team.contributor).offset == 2000

    def test_without_a_beginning(self, team: Any, store: Datastore) -> None:
        with pytest.raises(Conflict):
            put(store, team, 3000)
        put(store, team, 0, 2000)
        with pytest.raises(Conflict):  # another file, by its size
            put(store, team, 2000, 3000, total=9999)

    def test_last_answer_lost(self, team: Any, store: Datastore) -> None:
        put(store, team, 0, 2000)
        put(store, team, 2000)
        assert put(store, team, 2000) == uploads.UploadState(len(CONTENT), True)
        assert not Upload.objects.exists()

    def test_studio_ended_before_the_file_was_in_its_place(self, team: Any, store: Datastore) -> None:
        """All bytes are there, and nobody put the file into its place: the last byte is asked for again."""
        put(store, team, 0, 2000)
        row = Upload.objects.get()
        row.state, row.offset = datastores.store_open(store).upload_piece(row.state, 2000, [CONTENT[2000:]])
        row.save()
        state = uploads.upload_state(store, "in/a.bin", user=team.contributor, total=len(CONTENT))
        assert state == uploads.UploadState(len(CONTENT) - 1, False)
        assert put(store, team, state.offset).complete
        assert (folder(store) / "in" / "a.bin").read_bytes() == CONTENT

    def test_body_that_ends_early(self, team: Any, store: Datastore) -> None:
        with pytest.raises(StoreError) as caught:
            uploads.put_piece(
                store, "a.bin", io.BytesIO(b"12345"), user=team.contributor, offset=0, length=10, total=10
            )
        assert caught.value.code == "incomplete" and caught.value.retry
        assert not (folder(store) / "a.bin").exists()

    @pytest.mark.parametrize(
        ("offset", "length", "total"), [(-1, 1, 5), (0, 6, 5), (5, 1, 5), (6, 0, 5), (0, 1, -1), (0, 0, 1 << 43)]
    )
    def test_numbers(self, team: Any, store: Datastore, offset: int, length: int, total: int) -> None:
        with pytest.raises(Invalid):
            uploads.put_piece(
                store, "a", io.BytesIO(b"x" * 9), user=team.contributor, offset=offset, length=length, total=total
            )

    @pytest.mark.parametrize("path", ["../a", "/etc/a", "a/../../b", "", "a\\b", "x" * 300])
    def test_paths_stay_inside(self, team: Any, store: Datastore, path: str) -> None:
        with pytest.raises((Invalid, StoreError)):
            uploads.put_piece(store, path, io.BytesIO(b"x"), user=team.contributor, offset=0, length=1, total=1)

    def test_a_folder_is_no_file(self, team: Any, store: Datastore) -> None:
        put(store, team)
        with pytest.raises((Conflict, StoreError)):
            uploads.put_piece(store, "in", io.BytesIO(b"x"), user=team.contributor, offset=0, length=1, total=1)

    def test_do_not_replace(self, team: Any, store: Datastore) -> None:
        put(store, team, 0, 100, replace=False)
        (folder(store) / "in" / "a.bin").write_bytes(b"came meanwhile")
        with pytest.raises(uploads.Exists):
            put(store, team, 100, replace=False)
        assert (folder(store) / "in" / "a.bin").read_bytes() == b"came meanwhile"

    def test_two_people_do_not_meet(self, team: Any, store: Datastore) -> None:
        put(store, team, 0, 100)
        put(store, team, 0, 200, user=team.owner)
        put(store, team, 100)
        assert (folder(store) / "in" / "a.bin").read_bytes() == CONTENT
        assert put(store, team, 200, user=team.owner).complete

    def test_read_only(self, team: Any) -> None:
        web = datastores.datastore_create(
            workspace=team.workspace,
            user=team.owner,
            name="web",
            kind="http",
            config={"url": "http://h.test/"},
            check=False,
        )
        with pytest.raises(StoreError) as caught:
            put(web, team)
        assert caught.value.code == "read-only"


class _Slow(io.BytesIO):
    """A body of which the rest comes when ``go`` is set."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.begun, self.go = threading.Event(), threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        self.begun.set()
        assert self.go.wait(20)
        return super().read(size)


@pytest.mark.django_db(transaction=True)
class TestTogether:
    def test_one_request_at_a_time(self, team: Any, store: Datastore) -> None:
        put(store, team, 0, 1000)
        slow = _Slow(CONTENT[1000:2000])
        done: list[Any] = []

        def first() -> None:
            from django.db import connections

            try:
                done.append(
                    uploads.put_piece(
                        store, "in/a.bin", slow, user=team.contributor, offset=1000, length=1000, total=len(CONTENT)
                    )
                )
            finally:
                connections.close_all()

        thread = threading.Thread(target=first)
        thread.start()
        assert slow.begun.wait(20)
        for start, stop in ((1000, 2000), (0, 10)):  # to go on, and to begin anew
            with pytest.raises(Conflict) as caught:
                put(store, team, start, stop)
            assert "another request" in caught.value.detail
        slow.go.set()
        thread.join(20)
        assert done == [uploads.UploadState(2000, False)]
        assert put(store, team, 2000).complete and (folder(store) / "in" / "a.bin").read_bytes() == CONTENT

    def test_a_request_that_died_blocks_for_a_minute_only(self, team: Any, store: Datastore) -> None:
        put(store, team, 0, 1000)
        Upload.objects.update(busy_until=timezone.now() + uploads.LEASE)
        with pytest.raises(Conflict):
            put(store, team, 1000)
        Upload.objects.update(busy_until=timezone.now() - dt.timedelta(seconds=1))
        assert put(store, team, 1000).complete


class TestFull:
    def test_more_than_the_disk_has(self, team: Any, store: Datastore) -> None:
        with pytest.raises(TooLarge):
            uploads.put_piece(
                store, "big", io.BytesIO(b"x"), user=team.contributor, offset=0, length=1, total=uploads.MAX_BYTES
            )
        assert not Upload.objects.exists() and not left_over(store)

    def test_on_the_way(self, team: Any, store: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
        """The disk fills up while a piece is written; afterwards the upload goes on where it was."""
        import os

        put(store, team, 0, 1000)
        with monkeypatch.context() as patched:

            def full(_descriptor: int) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            patched.setattr(os, "fsync", full)
            with pytest.raises(TooLarge):
                put(store, team, 1000)
        assert uploads.upload_state(store, "in/a.bin", user=team.contributor).offset == 1000
        assert put(store, team, 1000).complete
        assert (folder(store) / "in" / "a.bin").read_bytes() == CONTENT


class TestSweep:
    def test_stale_ones_go(self, team: Any, store: Datastore) -> None:
        put(store, team, 0, 1000)
        assert housekeeping() == 0
        Upload.objects.update(updated_at=timezone.now() - uploads.STALE - dt.timedelta(hours=1))
        assert housekeeping() == 1
        assert not Upload.objects.exists() and not left_over(store)

    def test_a_store_that_is_away_is_asked_again(self, team: Any, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        disk = datastores.datastore_create(
            workspace=team.workspace,
            user=team.owner,
            name="disk",
            kind="local",
            config={"path": str(tmp_path / "disk")},
        )
        put(disk, team, 0, 1000)
        Upload.objects.update(updated_at=timezone.now() - uploads.STALE * 2)
        (tmp_path / "disk").rename(tmp_path / "away")
        assert housekeeping() == 0 and Upload.objects.count() == 1
        (tmp_path / "away").rename(tmp_path / "disk")
        assert housekeeping() == 1 and not list((tmp_path / "disk").rglob(".atelier*"))

    def test_of_a_removed_store(self, team: Any, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        disk = datastores.datastore_create(
            workspace=team.workspace,
            user=team.owner,
            name="disk",
            kind="local",
            config={"path": str(tmp_path / "disk")},
        )
        put(disk, team, 0, 1000)
        datastores.datastore_remove(disk, user=team.owner)
        assert not Upload.objects.exists() and not list((tmp_path / "disk").rglob(".atelier*"))


def test_begun_and_never_ended(store: Datastore, team: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_OPEN", 3)

    def begin(name: str, user: Any = team.contributor) -> None:
        uploads.put_piece(store, name, io.BytesIO(b"12"), user=user, offset=0, length=2, total=4)

    for name in ("a", "b", "c"):
        begin(name)
    begin("a")  # the same one anew
    with pytest.raises(TooManyRequests):
        begin("d")
    begin("d", team.owner)  # another person's are counted for themselves
    Upload.objects.filter(path="b").update(updated_at=timezone.now() - uploads.LEFT * 2)
    begin("d")
    assert set(Upload.objects.filter(created_by=team.contributor).values_list("path", flat=True)) == {"a", "c", "d"}
    assert len(left_over(store)) == Upload.objects.count() == 4
