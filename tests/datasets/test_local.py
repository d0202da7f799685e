"""Folders of this machine."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.datasets.backends import local
from studio.datasets.backends.base import Entry, StoreError
from studio.datasets.backends.local import LocalFolder, WorkspaceStore
from studio.lib import env
from tests.datasets.contract import Place, WriteContract, content, raised


def putter(root: Path):  # noqa: ANN201
    def put(path: str, data: bytes) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)

    return put


class TestLocalFolder(WriteContract):
    odd_names = [*WriteContract.odd_names, "back\\slash.csv", "10:30:00.csv", "new\nline.csv", "n" * 251 + ".csv"]

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        root = tmp_path / "store"
        root.mkdir()
        missing = LocalFolder({"path": str(tmp_path / "absent")}, {})
        return Place(LocalFolder({"path": str(root)}, {}), putter(root), missing)


class TestWorkspaceStore(WriteContract):
    @pytest.fixture
    def place(self, data_folder: Path) -> Place:
        return Place(WorkspaceStore({"workspace": 7}, {}), putter(data_folder / "stores" / "7"))

    def test_another_workspaces_store_is_another_folder(self, place: Place) -> None:
        place.put("mine.csv", b"1")
        assert WorkspaceStore({"workspace": 8}, {}).list().entries == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> LocalFolder:
    return LocalFolder({"path": str(root)}, {})


def test_links_that_leave_are_neither_listed_nor_followed(store: LocalFolder, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.csv").write_bytes(b"secret")
    (root / "inside").mkdir()
    (root / "inside" / "file.csv").write_bytes(b"fine")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "secret.csv").symlink_to(tmp_path / "outside" / "secret.csv")
    (root / "well").symlink_to(root / "inside")
    (root / "nowhere").symlink_to(root / "absent")
    (root / "circle").symlink_to(root / "circle")
    assert [entry.path for entry in store.list().entries] == ["inside", "well"]
    assert [entry.path for entry in store.find("**")] == ["inside/file.csv", "well/file.csv"]
    for path in ("secret.csv", "folder/secret.csv", "folder"):
        for call in (store.stat, store.open, store.stream, store.list, store.local_path):
            raised("forbidden", lambda call=call, path=path: call(path))  # type: ignore[misc]
    raised("forbidden", lambda: store.upload_begin("folder/new.csv", 1))
    raised("forbidden", lambda: store.delete("folder/secret.csv"))
    assert b"".join(store.stream("well/file.csv")) == b"fine"


def test_a_removed_link_leaves_what_it_leads_to(store: LocalFolder, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept.csv").write_bytes(b"kept")
    (root / "folder").symlink_to(tmp_path / "outside")
    store.delete("folder")
    assert not (root / "folder").is_symlink() and (tmp_path / "outside" / "kept.csv").exists()


def test_a_folder_that_becomes_a_link_after_the_check(
    store: LocalFolder, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file.csv").write_bytes(b"secret")
    (root / "folder").mkdir()
    (root / "folder" / "file.csv").write_bytes(b"fine")
    real = os.open

    def swapped(path, flags, *more, **named):  # noqa: ANN001, ANN202
        if str(path).endswith("folder/file.csv"):
            shutil.rmtree(root / "folder")
            (root / "folder").symlink_to(tmp_path / "outside")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(local.os, "open", swapped)
    raised("forbidden", lambda: store.open("folder/file.csv"))


def test_what_is_no_file_is_not_opened(store: LocalFolder, root: Path) -> None:
    os.mkfifo(root / "pipe")
    assert store.list().entries == [] and list(store.find("**")) == []
    raised("unsupported", lambda: store.open("pipe"))
    raised("unsupported", lambda: store.open(""))


def test_a_name_that_is_not_utf8(store: LocalFolder, root: Path) -> None:
    (root / "good.csv").write_bytes(b"1")
    (root / os.fsdecode(b"bad-\xff.csv")).write_bytes(b"2")
    assert [entry.path for entry in store.list().entries] == ["good.csv"]
    assert "UTF-8" in raised("forbidden", lambda: store.find("*.csv")).detail


def test_a_file_that_changes_while_it_is_read(store: LocalFolder, root: Path) -> None:
    data = content(4_000_000)
    (root / "file.bin").write_bytes(data)
    source = store.open("file.bin")
    assert source.read(10) == data[:10]
    (root / "file.bin").write_bytes(data[:1000])
    raised("changed", source.read)
    (root / "file.bin").write_bytes(data)
    pieces = store.stream("file.bin")
    next(pieces)
    with (root / "file.bin").open("ab") as handle:
        handle.write(b"more")
    raised("changed", lambda: pieces)


def test_a_replaced_file_is_read_as_it_was_opened(store: LocalFolder, root: Path) -> None:
    (root / "file.bin").write_bytes(b"before")
    with store.open("file.bin") as source:
        (root / "other").write_bytes(b"after!")
        (root / "other").replace(root / "file.bin")
        assert source.read() == b"before"


def test_a_full_disk(store: LocalFolder, root: Path) -> None:
    error = raised("disk-full", lambda: store.upload_begin("huge.bin", 1 << 60))
    assert "huge.bin" in error.detail and list(root.iterdir()) == []


def test_more_bytes_than_were_announced(store: LocalFolder, root: Path) -> None:
    state = store.upload_begin("file.bin", 3)
    raised("failed", lambda: store.upload_piece(state, 0, [b"1234"]))
    raised("incomplete", lambda: store.upload_piece(state, 3, [b""])[0])
    store.upload_abort(state)
    assert "Start it again" in raised("no-such-file", lambda: store.upload_piece(state, 0, [b"1"])).hint


def test_a_folder_is_not_overwritten(store: LocalFolder, root: Path) -> None:
    (root / "folder").mkdir()
    raised("failed", lambda: store.upload_begin("folder", 1))
    raised("failed", lambda: store.upload_begin("", 1))
    raised("forbidden", lambda: store.delete(""))


@pytest.mark.parametrize(
    ("number", "code", "words", "retry"),
    [
        (errno.ESTALE, "unreachable", "stale NFS handle", True),
        (errno.ETIMEDOUT, "unreachable", "network folder does not answer", True),
        (errno.EACCES, "forbidden", pwd.getpwuid(os.geteuid()).pw_name, False),
        (errno.EROFS, "read-only", "can only be read", False),
        (errno.EDQUOT, "disk-full", "quota", False),
        (errno.EIO, "failed", "Input/output error", False),
    ],
)
def test_errors_of_disks_have_names(
    store: LocalFolder, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str, words: str, retry: bool
) -> None:
    """What a network file system answers cannot be had here: the system's call is made to fail with its number."""
    (root / "data.csv").write_bytes(b"1")

    def fails(path, *_more):  # noqa: ANN001, ANN202
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(local.os, "open", fails)
    error = raised(code, lambda: store.open("data.csv"))
    assert words in error.detail and "data.csv" in error.detail and error.retry is retry


def test_a_file_without_permission() -> None:
    """As another account, for an administrator may read everything."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        root, other = Path(folder), os.geteuid() == 0
        root.chmod(0o755)
        (root / "closed.csv").write_bytes(b"1")
        (root / "closed.csv").chmod(0)
        store = LocalFolder({"path": folder}, {})
        if other:
            os.seteuid(65534)
        try:
            account = pwd.getpwuid(os.geteuid()).pw_name
            error = raised("forbidden", lambda: store.open("closed.csv"))
            refused = raised("forbidden", lambda: store.upload_begin("new.csv", 1)) if other else error
        finally:
            if other:
                os.seteuid(0)
        assert "closed.csv" in error.detail and account in error.detail
        assert account in refused.detail and "right to read" in error.hint


@pytest.mark.parametrize("path", ["/", "/etc", "/proc/self", "/sys", "/dev/shm", "~/.ssh"])
def test_the_systems_own_folders_are_closed(path: str) -> None:
    problems, entries = LocalFolder({"path": str(Path(path).expanduser())}, {}).check()
    assert [problem.code for problem in problems] == ["forbidden"] and entries == []


def test_the_studios_own_folder_is_closed(data_folder: Path, settings: object, tmp_path: Path) -> None:
    (data_folder / "secrets").mkdir(parents=True)
    for path in (data_folder, data_folder / "secrets", data_folder.parent):
        assert LocalFolder({"path": str(path)}, {}).check()[0][0].code == "forbidden"
    settings.ATELIER_LOCAL_DATA = [str(tmp_path)]  # type: ignore[attr-defined]
    assert LocalFolder({"path": str(data_folder)}, {}).check()[0][0].code == "forbidden"
    (tmp_path / "shortcut").symlink_to(data_folder)
    assert LocalFolder({"path": str(tmp_path / "shortcut")}, {}).check()[0][0].code == "forbidden"


def test_only_the_folders_that_the_administrator_named(root: Path, settings: object, tmp_path: Path) -> None:
    settings.ATELIER_LOCAL_DATA = [str(root)]  # type: ignore[attr-defined]
    (root / "team").mkdir()
    (tmp_path / "store-2").mkdir()
    assert LocalFolder({"path": str(root / "team")}, {}).check() == ([], [])
    problem = LocalFolder({"path": str(tmp_path / "store-2")}, {}).check()[0][0]
    assert problem.code == "forbidden" and str(root) in problem.message and "ATELIER_LOCAL_DATA" in problem.hint


@pytest.mark.parametrize("path", ["relative/path", "", "~/data"])
def test_a_folder_is_an_absolute_path(path: str) -> None:
    problem = LocalFolder({"path": path}, {}).check()[0][0]
    assert problem.code == "no-such-container" and "absolute" in problem.message


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "is a file" in LocalFolder({"path": str(tmp_path / "file")}, {}).check()[0][0].message


def test_where_it_lies(store: LocalFolder, root: Path) -> None:
    (root / "a.csv").write_bytes(b"1")
    assert store.local_path("a.csv") == root / "a.csv" and store.local_path("") == root
    assert store.stat("") == Entry("", is_dir=True, modified=root.stat().st_mtime)


def test_uploads_under_way_are_not_seen(store: LocalFolder, root: Path) -> None:
    state = store.upload_begin("a.csv", 1)
    assert store.list().entries == [] and list(store.find("**")) == [] and len(list(root.iterdir())) == 1
    store.upload_abort(state)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, for an account that may mount one."""
    point = tmp_path / "mnt"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(point)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)


def test_a_disk_that_becomes_full(mounted: Path) -> None:
    store = LocalFolder({"path": str(mounted)}, {})
    state = store.upload_begin("file.bin", 900_000)
    (mounted / "other").write_bytes(b"x" * 600_000)
    assert "file.bin" in raised("disk-full", lambda: store.upload_piece(state, 0, [b"x" * 900_000])).detail
    store.upload_abort(state)
    assert [path.name for path in mounted.iterdir()] == ["other"]


def test_a_mounted_file_system_that_can_only_be_read(mounted: Path) -> None:
    (mounted / "a.csv").write_bytes(b"1")
    store = LocalFolder({"path": str(mounted)}, {})
    assert store.writable and [entry.path for entry in store.find("*.csv")] == ["a.csv"]
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    assert not store.writable
    raised("read-only", lambda: store.upload_begin("b.csv", 1))
    raised("read-only", lambda: store.delete("a.csv"))


def test_settings_are_checked_at_the_start() -> None:
    with pytest.raises(env.ConfigurationError, match="ATELIER_LOCAL_DATA.*'data'"):
        env.folders("ATELIER_LOCAL_DATA", environ={"ATELIER_LOCAL_DATA": "/mnt:data"})
    with pytest.raises(env.ConfigurationError, match="ATELIER_DATA_DENY.*10.0.0.0/99"):
        env.reach("ATELIER_DATA_DENY", environ={"ATELIER_DATA_DENY": "10.0.0.0/99"})


def test_an_error_is_a_problem() -> None:
    assert StoreError("failed", "It failed.", hint="Do this.").problem().hint == "Do this."
