"""Files of a run: names, links, previews, uploads in pieces, and the model beside the script."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from runs.models import Run
from runs.services import artifacts, places, previews, snapshots
from studio.lib import beneath
from studio.lib.errors import Conflict, Invalid, NotFound

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(run: Run) -> Path:
    root = places.directory(run)
    for name, content in {
        "outputs/model.pkl": b"\x80\x00", "outputs/deep/a.txt": b"hello", "logs/x.log": b"line\n",
        "stdout.log": b"out\n", "artifacts/models/m.bin": b"m", "spec.json": b"secret", "exit.json": b'{"code": 0}',
        "code/train.py": b"print()",
    }.items():  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_names(run: Run, folder: Path) -> None:
    assert [info.path for info in artifacts.list_files(run)] == [
        "user_logs/std_log.txt", "logs/x.log", "models/m.bin", "outputs/deep/a.txt", "outputs/model.pkl",
        "system_logs/exit.json",
    ]  # fmt: skip
    assert [info.path for info in artifacts.list_files(run, prefix="outputs/", limit=1)] == ["outputs/deep/a.txt"]
    for alias in ("user_logs/std_log.txt", "azureml-logs/70_driver_log.txt", "logs/azureml/stdoutlogs.txt"):
        assert artifacts.open_file(run, alias).read_bytes() == b"out\n"
    assert artifacts.open_file(run, "./outputs/deep/a.txt").read_bytes() == b"hello"
    assert artifacts.open_file(run, "models/m.bin").read_bytes() == b"m"
    for name in ("outputs", "outputs/deep", "outputs/none", "spec.json", "code/train.py", "user_logs/other"):
        with pytest.raises(NotFound):
            artifacts.open_file(run, name)
    for name in ("../x", "/etc/passwd", "outputs/../spec.json", ""):
        with pytest.raises(Invalid):
            artifacts.open_file(run, name)
    assert artifacts.run_bytes(run) == 2 + 5 + 5 + 4 + 1


def test_odd_entries_hide_no_other_file(run: Run, folder: Path) -> None:
    """A link to itself, a link to nothing, a pipe, and a name that is no text."""
    (folder / "outputs" / "circle").symlink_to("circle")
    (folder / "outputs" / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "outputs" / "pipe")
    for name in (b"bad\xff.txt", b"bad\xff/in.txt"):
        path = Path(os.fsdecode(os.fsencode(folder / "outputs") + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    listed = [info.path for info in artifacts.list_files(run, prefix="outputs/")]
    odd = ["outputs/bad⟦0xFF⟧.txt", "outputs/bad⟦0xFF⟧/in.txt"]
    assert sorted(listed) == sorted(["outputs/deep/a.txt", "outputs/model.pkl", *odd])
    entries = [info.path for info in artifacts.list_folder(run, "outputs").items]
    assert entries == ["outputs/bad⟦0xFF⟧", "outputs/bad⟦0xFF⟧.txt", "outputs/deep", "outputs/model.pkl"]
    assert [info.path for info in artifacts.list_folder(run, "outputs/bad⟦0xFF⟧").items] == odd[1:]
    assert all(artifacts.open_file(run, name).read_bytes() == b"x" for name in odd)
    zipped = zipfile.ZipFile(io.BytesIO(b"".join(artifacts.zip_stream(run))))
    assert all(zipped.read(name) == b"x" for name in odd)
    for name in ("outputs/circle", "outputs/gone"):
        with pytest.raises(NotFound):
            artifacts.open_file(run, name)


def test_a_mark_for_a_byte_does_not_lead_out(run: Run, folder: Path) -> None:
    (folder / "outputs" / os.fsdecode(b"spec\xff")).symlink_to("../spec.json")
    assert "outputs/spec⟦0xFF⟧" not in {info.path for info in artifacts.list_files(run)}
    with pytest.raises(NotFound, match="leads out"):
        artifacts.open_file(run, "outputs/spec⟦0xFF⟧")


@pytest.mark.parametrize("name", ["spec.json", "code/x.py", "./artifacts/a", "user_logs/a.txt", "lock", "outputs"])
def test_nobody_uploads_under_a_name_of_the_directory(run: Run, folder: Path, name: str) -> None:
    with pytest.raises(Invalid, match="keeps for itself|is a folder"):
        artifacts.put_chunk(run, name, 0, io.BytesIO(b"x"))
    assert artifacts.put_chunk(run, f"models/{name}", 0, io.BytesIO(b"x")).complete


@pytest.mark.parametrize("area", ["outputs", "logs", "artifacts"])
def test_a_folder_replaced_by_a_link_is_empty(run: Run, folder: Path, tmp_path: Path, area: str) -> None:
    """A run in a container sees less than the studio does: the studio must not read the rest to it."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("open-sesame")
    if (folder / area).exists():
        (folder / area).rename(tmp_path / f"was-{area}")
    (folder / area).symlink_to(tmp_path / "secrets")
    (folder / "exit.json").unlink(missing_ok=True)
    (folder / "exit.json").symlink_to(tmp_path / "secrets" / "key")
    name = "key" if area == "artifacts" else f"{area}/key"
    assert name not in {info.path for info in artifacts.list_files(run)}
    assert name not in {info.path for info in artifacts.list_folder(run, name.rpartition("/")[0]).items}
    for path in (name, "system_logs/exit.json"):
        with pytest.raises(NotFound):
            artifacts.open_file(run, path)


def test_links_do_not_lead_out(run: Run, folder: Path) -> None:
    (folder / "outputs" / "passwd").symlink_to("/etc/passwd")
    (folder / "outputs" / "spec").symlink_to("../spec.json")
    (folder / "outputs" / "etc").symlink_to("/etc")
    (folder / "outputs" / "loop").symlink_to(".")
    (folder / "outputs" / "latest.txt").symlink_to("deep/a.txt")
    names = {info.path for info in artifacts.list_files(run)}
    assert "outputs/latest.txt" in names and not {"outputs/passwd", "outputs/spec", "outputs/etc"} & names
    assert not any(name.startswith(("outputs/etc", "outputs/loop")) for name in names)
    for name in ("outputs/passwd", "outputs/spec", "outputs/etc/hosts"):
        with pytest.raises(NotFound):
            artifacts.open_file(run, name)
    with zipfile.ZipFile(io.BytesIO(b"".join(artifacts.zip_stream(run)))) as archive:
        assert set(archive.namelist()) == names


def test_folders_in_pages(run: Run, folder: Path) -> None:
    for index in range(30):
        (folder / "outputs" / f"f{index:02d}").write_bytes(b"x")
    page = artifacts.list_folder(run)
    assert [(item.path, item.kind) for item in page.items] == [
        ("logs", "folder"), ("models", "folder"), ("outputs", "folder"), ("system_logs", "folder"),
        ("user_logs", "folder"),
    ]  # fmt: skip
    names: list[str] = []
    cursor = None
    while True:
        page = artifacts.list_folder(run, "outputs/", cursor=cursor, limit=7)
        names += [item.path for item in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert names == ["outputs/deep", *(f"outputs/f{index:02d}" for index in range(30)), "outputs/model.pkl"]
    assert [item.path for item in artifacts.list_folder(run, "user_logs").items] == ["user_logs/std_log.txt"]
    assert [item.path for item in artifacts.list_folder(run, "models").items] == ["models/m.bin"]


def test_zip_of_a_prefix(run: Run, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(b"".join(artifacts.zip_stream(run, "outputs/deep")))) as archive:
        assert archive.namelist() == ["outputs/deep/a.txt"] and archive.read("outputs/deep/a.txt") == b"hello"
    with pytest.raises(NotFound):
        artifacts.zip_stream(run, "nothing")


def test_an_upload_goes_on_where_it_stopped(run: Run) -> None:
    def put(offset: int, data: bytes, total: int | None = 10, path: str = "outputs/m.bin") -> artifacts.UploadState:
        return artifacts.put_chunk(run, path, offset, io.BytesIO(data), total)

    assert put(0, b"01234") == artifacts.UploadState(5, False)
    with pytest.raises(NotFound):
        artifacts.open_file(run, "outputs/m.bin")
    with pytest.raises(Conflict, match="go on from 5") as refused:
        put(7, b"789")
    assert refused.value.size == 5  # type: ignore[attr-defined]
    assert put(3, b"3456") == artifacts.UploadState(7, False)
    with pytest.raises(Invalid, match="More bytes"):
        put(7, b"789abc")
    assert artifacts.upload_state(run, "outputs/m.bin") == artifacts.UploadState(7, False)
    assert put(7, b"789") == artifacts.UploadState(10, True)
    assert put(7, b"789") == artifacts.UploadState(10, True)  # its answer was lost
    assert artifacts.open_file(run, "outputs/m.bin").read_bytes() == b"0123456789"
    assert put(0, b"whole", None) == artifacts.UploadState(5, True)
    run.refresh_from_db()
    assert run.output_bytes == 5 == artifacts.run_bytes(run)
    assert put(0, b"", 0, "empty.txt") == artifacts.UploadState(0, True)
    for name in ("user_logs/std_log.txt", "system_logs/x", "../x"):
        with pytest.raises(Invalid):
            put(0, b"x", None, name)


@pytest.mark.parametrize(
    ("name", "content", "kind", "shown"),
    [
        ("a.txt", "grüß".encode(), "text", "grüß"),
        ("a.svg", b"<svg onload=alert(1)>", "text", "<svg onload=alert(1)>"),
        ("a.html", b"<script>", "text", "<script>"),
        ("a.png", b"\x89PNG\r\n\x1a\n123", "image", ""),
        ("fake.png", b"\x00<script>", "binary", ""),
        ("a.json", b'{"a":[1]}', "json", '{\n  "a": [\n    1\n  ]\n}'),
        ("bad.json", b"{", "text", "{"),
        ("a.bin", b"\x00\x01", "binary", ""),
        ("Makefile", b"all:\n", "text", "all:\n"),
    ],
)
def test_previews(tmp_path: Path, name: str, content: bytes, kind: str, shown: str) -> None:
    (tmp_path / name).write_bytes(content)
    preview = previews.preview_file(tmp_path / name, name)
    assert (preview.kind, preview.text, preview.size) == (kind, shown, len(content))


def test_bounded_previews(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f'{index},"a,b"\n' for index in range(5000)))
    table = previews.preview_file(tmp_path / "a.csv", "a.csv")
    assert table.kind == "csv" and table.truncated and len(table.rows) == 200 and table.rows[1] == ["0", "a,b"]
    (tmp_path / "a.log").write_text("é" * 400_000)
    text = previews.preview_file(tmp_path / "a.log", "a.log")
    assert text.truncated and len(text.text.encode()) <= previews.MAX_TEXT
    cells = [
        {"cell_type": "code", "source": ["print(1)\n"], "outputs": [{"text": ["1\n"]}, {"data": {"text/html": "<b>"}}]}
    ]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    notebook = previews.preview_file(tmp_path / "n.ipynb", "n.ipynb")
    assert notebook.kind == "notebook" and "print(1)" in notebook.text and "> 1" in notebook.text
    assert "<b>" not in notebook.text


def test_a_model_that_the_script_saved_beside_itself(run: Run, folder: Path, team: Any) -> None:
    run.snapshot = snapshots.snapshot_from_texts(
        team.workspace, {"train.py": "print()", "old.joblib": "v1", "changed.pkl": "aa"}
    )
    run.save()
    code = folder / "code"
    (code / "model.joblib").write_bytes(b"model")
    (code / "old.joblib").write_bytes(b"v1")
    (code / "changed.pkl").write_bytes(b"bb")
    (code / "saved").mkdir()
    (code / "saved" / "weights").write_bytes(b"w")
    assert artifacts.find_model_file(run, "outputs/model.pkl") == folder / "outputs" / "model.pkl"
    assert artifacts.find_model_file(run, "outputs/model.joblib") == code / "model.joblib"
    assert artifacts.find_model_file(run, "changed.pkl") == code / "changed.pkl"
    assert artifacts.find_model_file(run, "outputs/saved") == code / "saved"
    assert artifacts.find_model_file(run, "outputs") == folder / "outputs"
    for name in ("outputs/old.joblib", "train.py", "outputs/none.pkl"):
        with pytest.raises(NotFound, match="It has: .*outputs/model.pkl"):
            artifacts.find_model_file(run, name)


def test_an_upload_writes_nowhere_else(run: Run, folder: Path, tmp_path: Path) -> None:
    """What runs in a container knows the name of the part, and may change folders while the bytes come."""
    (tmp_path / "keys").write_text("open-sesame")
    (folder / "uploads").mkdir()
    part = hashlib.sha256(str(folder / "artifacts" / "x").encode()).hexdigest()[:32] + ".part"
    (folder / "uploads" / part).symlink_to(tmp_path / "keys")
    with pytest.raises(Invalid, match="in the way"):
        artifacts.put_chunk(run, "x", 0, io.BytesIO(b"evil"))
    assert artifacts.upload_state(run, "x").size == 0
    (folder / "uploads" / part).unlink()
    os.mkfifo(folder / "uploads" / part)
    with pytest.raises(Invalid, match="in the way"):
        artifacts.put_chunk(run, "x", 0, io.BytesIO(b"evil"))
    (folder / "uploads" / part).unlink()
    (folder / "uploads").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "uploads").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Invalid, match="in the way"):
        artifacts.put_chunk(run, "x", 0, io.BytesIO(b"evil"))
    (folder / "uploads").unlink()

    class Swaps(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if not (folder / "artifacts" / "deep").is_symlink():
                (folder / "artifacts" / "deep").rmdir()
                (folder / "artifacts" / "deep").symlink_to(tmp_path / "elsewhere")
            return super().read(size)

    (folder / "artifacts" / "deep").mkdir()
    with pytest.raises(Invalid, match="in the way"):
        artifacts.put_chunk(run, "deep/authorized_keys", 0, Swaps(b"evil"))
    assert not list((tmp_path / "elsewhere").iterdir()) and (tmp_path / "keys").read_text() == "open-sesame"


def test_a_file_replaced_by_a_link_while_it_is_asked_for(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("open-sesame")
    found = artifacts.open_file(run, "outputs/deep/a.txt")
    found.unlink()
    found.symlink_to(tmp_path / "keys")
    with pytest.raises(OSError, match="leads out"):
        beneath.reader(found)
    with pytest.raises(NotFound):
        previews.preview_file(found, "a.txt")
    found.unlink()
    os.mkfifo(found)
    with pytest.raises(OSError, match="no plain file"):
        beneath.reader(found)
