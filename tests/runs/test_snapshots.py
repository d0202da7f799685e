"""Snapshots: dedup, limits, and zip files that mean harm."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from runs import tasks
from runs.models import Blob, Snapshot
from runs.services import blobs, snapshots
from studio.lib import storage
from studio.lib.errors import AtelierError, Invalid, NotFound, TooLarge

pytestmark = pytest.mark.django_db


def zipped(files: dict[str, bytes], *, mode: int = stat.S_IFREG | 0o644) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    buffer.seek(0)
    return buffer


def paths(snapshot: Snapshot) -> list[str]:
    return [file["path"] for file in snapshot.files]


def tmp_files(team: Any) -> list[Path]:
    return list(storage.data("blobs", str(team.workspace.pk), "tmp").glob("*"))


def test_the_same_folder_is_one_snapshot_and_a_file_is_kept_once(team: Any) -> None:
    first = snapshots.snapshot_from_texts(team.workspace, {"a.py": "x", "b.py": "x"})
    again = snapshots.snapshot_from_texts(team.workspace, {"b.py": "x", "a.py": "x"})
    other = snapshots.snapshot_from_texts(team.workspace, {"c.py": "x"})
    assert first == again != other
    blob = Blob.objects.get()
    assert (blob.references, blob.size) == (2, 1)
    with snapshots.snapshot_open(first, "a.py") as handle:
        assert handle.read() == b"x"
    with pytest.raises(NotFound):
        snapshots.snapshot_open(first, "z.py")
    assert not tmp_files(team)


def test_blobs_of_one_workspace_are_not_there_for_another(team: Any) -> None:
    from studio.accounts.models import Workspace

    snapshot = snapshots.snapshot_from_texts(team.workspace, {"a.py": "secret"})
    elsewhere = Workspace.objects.get(name="elsewhere")
    assert snapshots.blobs_missing(team.workspace, snapshot.files) == []
    assert snapshots.blobs_missing(elsewhere, snapshot.files) == [snapshot.files[0]["sha256"]]
    with pytest.raises(Invalid, match="was not sent: a.py"):
        snapshots.snapshot_commit(elsewhere, snapshot.files)


def test_sending_what_is_missing(team: Any) -> None:
    content = b"print(1)\n"
    sha256 = hashlib.sha256(content).hexdigest()
    files = [{"path": "./train.py", "sha256": sha256, "size": 1, "mode": 0o100755}]
    assert snapshots.blobs_missing(team.workspace, files) == [sha256]
    with pytest.raises(Invalid, match="it changed on the way"):
        snapshots.blob_put(team.workspace, sha256, io.BytesIO(b"other"))
    assert snapshots.blob_put(team.workspace, sha256, io.BytesIO(content)) == len(content)
    snapshot = snapshots.snapshot_commit(team.workspace, files)
    # The size that was claimed does not count, the real one does.
    assert snapshot.files == [{"path": "train.py", "sha256": sha256, "size": len(content), "mode": 0o755}]
    with pytest.raises(Invalid):
        snapshots.blob_put(team.workspace, "../../etc/passwd", io.BytesIO(content))
    assert not tmp_files(team)


def test_too_large(team: Any, settings: Any) -> None:
    settings.ATELIER_SNAPSHOT_MAX_BYTES = 300 * 1024 * 1024
    files = [{"path": "big.bin", "sha256": "a" * 64, "size": 301 * 1024 * 1024}]
    with pytest.raises(TooLarge) as refused:
        snapshots.blobs_missing(team.workspace, files)
    assert refused.value.detail.startswith("Your total snapshot size exceeds the limit of 300.0 MB")
    assert "big.bin (301.0 MB)" in refused.value.detail and ".amlignore" in refused.value.detail
    team.workspace.preferences = {"snapshot_max_bytes": 1000, "snapshot_max_files": 3}
    with pytest.raises(TooLarge, match="limit of 0.0 MB"):
        snapshots.snapshot_from_texts(team.workspace, {"a": "x" * 600, "b": "y" * 600})
    with pytest.raises(TooLarge, match="has 4 files; the limit is 3. The fullest folders: d "):
        snapshots.snapshot_from_texts(team.workspace, {f"d/{index}": str(index) for index in range(4)})
    assert not Blob.objects.exists() and not Snapshot.objects.exists() and not tmp_files(team)


def test_a_zip_of_a_folder(team: Any) -> None:
    files = {
        "project/.amlignore": b"*.bin\n",
        "project/train.py": b"x",
        "project/big.bin": b"0" * 5000,
        "project/sub/util.py": b"y",
        "project/__pycache__/train.pyc": b"z",
    }
    assert paths(snapshots.snapshot_from_zip(team.workspace, zipped(files))) == [
        ".amlignore",
        "sub/util.py",
        "train.py",
    ]
    whole = snapshots.snapshot_from_zip(team.workspace, zipped(files), strip_root=False)
    assert "project/train.py" in paths(whole)


def test_a_folder_dropped_on_the_page(team: Any) -> None:
    given = [
        ("p/.gitignore", io.BytesIO(b"data\n"), 0o644),
        ("p/a.py", io.BytesIO(b"1"), 0o644),
        ("p/data/x", io.BytesIO(b"2"), 0),
    ]
    assert paths(snapshots.snapshot_from_uploads(team.workspace, given)) == [".gitignore", "a.py"]
    one = [("train.py", io.BytesIO(b"1"), 0o644)]
    assert paths(snapshots.snapshot_from_uploads(team.workspace, one)) == ["train.py"]


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../evil", "C:/x", "a\\..\\b", "a/" * 600 + "x"])
def test_paths_in_a_zip_cannot_leave(team: Any, name: str) -> None:
    with pytest.raises(Invalid):
        snapshots.snapshot_from_zip(team.workspace, zipped({name: b"x", "ok.py": b"y"}))
    assert not Snapshot.objects.exists() and not Blob.objects.exists() and not tmp_files(team)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip(team: Any, kind: int) -> None:
    with pytest.raises(Invalid, match="is a link or a device"):
        snapshots.snapshot_from_zip(team.workspace, zipped({"a": b"/etc/passwd"}, mode=kind | 0o777))


def test_zip_bombs(team: Any) -> None:
    with pytest.raises(Invalid, match="more than 200 times its size"):
        snapshots.snapshot_from_zip(team.workspace, zipped({"zeros": b"\0" * (20 * 1024 * 1024)}))
    team.workspace.preferences = {"snapshot_max_bytes": 1_000_000}
    with pytest.raises(TooLarge):
        snapshots.snapshot_from_zip(team.workspace, zipped({f"{index}.txt": b"\0" * 300_000 for index in range(9)}))
    team.workspace.preferences = {"snapshot_max_files": 10}
    with pytest.raises(TooLarge, match="has 20 files"):
        snapshots.snapshot_from_zip(team.workspace, zipped({f"{index}.txt": b"" for index in range(20)}))
    assert not Blob.objects.exists() and not tmp_files(team)


def test_a_zip_that_lies_about_its_sizes(team: Any) -> None:
    raw = bytearray(zipped({"a.txt": b"\0" * 200_000, "b.txt": b"b"}).getvalue())
    real, lie = (200_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    with pytest.raises(Invalid, match="cannot be read|larger than it says"):
        snapshots.snapshot_from_zip(team.workspace, io.BytesIO(bytes(raw.replace(real, lie))))
    assert not Snapshot.objects.exists() and not tmp_files(team)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\0" * 100])
def test_what_is_no_zip(team: Any, content: bytes) -> None:
    with pytest.raises(Invalid):
        snapshots.snapshot_from_zip(team.workspace, io.BytesIO(content))


def test_damaged_and_doubled_entries(team: Any) -> None:
    good = zipped({"a.py": b"hello world, hello world"}).getvalue()
    broken = bytearray(good)
    broken[40] ^= 0xFF
    with pytest.raises(AtelierError):
        snapshots.snapshot_from_zip(team.workspace, io.BytesIO(bytes(broken)))
    with pytest.raises(Invalid, match="same path twice"):
        snapshots.snapshot_from_zip(team.workspace, zipped({"a.py": b"1", "./a.py": b"2"}))
    with pytest.raises(Invalid, match="as if it were a folder"):
        snapshots.snapshot_from_zip(team.workspace, zipped({"a": b"1", "a/b": b"2", "c": b""}))
    with pytest.raises(Invalid, match="at least one file"):
        snapshots.snapshot_from_zip(team.workspace, zipped({".git/config": b"1", "x.pyc": b"2"}))


def test_a_directory_without_links_out_of_it(team: Any, tmp_path: Path) -> None:
    root = tmp_path / "source"
    (root / "sub").mkdir(parents=True)
    (root / "run.sh").write_text("echo")
    (root / "run.sh").chmod(0o755)
    (root / "sub" / "x.py").write_text("1")
    (root / "out").symlink_to("/etc/passwd")
    (root / "in").symlink_to("run.sh")
    snapshot = snapshots.snapshot_from_directory(team.workspace, root)
    assert [(file["path"], file["mode"]) for file in snapshot.files] == [
        ("in", 0o755), ("run.sh", 0o755), ("sub/x.py", 0o644),
    ]  # fmt: skip


def test_housekeeping_drops_what_nobody_uses(team: Any, django_capture_on_commit_callbacks: Any) -> None:
    snapshot = snapshots.snapshot_from_texts(team.workspace, {"a.py": "old"})
    path = snapshots.snapshot_path(snapshot, "a.py")
    assert tasks.housekeeping() == 0 and path.exists()
    long_ago = timezone.now() - timedelta(days=2)
    Snapshot.objects.update(created_at=long_ago)
    Blob.objects.update(created_at=long_ago)
    with django_capture_on_commit_callbacks(execute=True):
        tasks.housekeeping()
    assert not Snapshot.objects.exists() and not Blob.objects.exists() and not path.exists()


def test_a_blob_that_came_back_keeps_its_file(team: Any, django_capture_on_commit_callbacks: Any) -> None:
    content = b"again"
    sha256 = hashlib.sha256(content).hexdigest()
    snapshots.blob_put(team.workspace, sha256, io.BytesIO(content))
    with django_capture_on_commit_callbacks(execute=True):
        blobs.drop_unreferenced(team.workspace)
        snapshots.blob_put(team.workspace, sha256, io.BytesIO(content))
    assert storage.blob_path(team.workspace.pk, sha256).exists()
