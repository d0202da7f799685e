"""Records that a container's user wrote by hand: whatever they hold, all units can be looked at, and one ends."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from compute.drivers import unit_records
from compute.drivers.base import NotFound
from compute.drivers.container_files import LocalFiles
from studio.lib import storage

DEEP = b'{"reason": ' + b"[" * 30_000
NOT_OURS = [DEEP, b"[]", b"7", b"", b"\xff", b'{"code": 1', b"{" + b" " * unit_records.LIMIT + b"}"]


@pytest.mark.parametrize("content", NOT_OURS)
def test_what_is_no_record(content: bytes) -> None:
    assert unit_records.parsed(content) is None


def test_values_of_other_kinds() -> None:
    wrong = b"""{"code": "0", "signal": [], "started": "now", "ended": NaN, "reason": {}, "message": ["x"],
        "oom_kills": true, "attempt": 1e400, "spec": {"a": 1}}"""
    assert unit_records.parsed(wrong) == {
        "code": None, "signal": None, "started": None, "ended": None, "reason": "", "message": "", "oom_kills": None,
        "attempt": None,
    }  # fmt: skip
    odd = unit_records.parsed(b'{"message": "a\\u0000b\\ud800c", "ended": 1e30, "started": -5, "code": 3}')
    assert odd == {"message": "ab?c", "ended": None, "started": None, "code": 3}
    long = unit_records.parsed(b'{"message": "' + b"x" * 9000 + b'", "started": 1700000000.5}')
    assert long is not None and len(long["message"]) == unit_records.LONGEST and long["started"] == 1700000000.5


@pytest.fixture
def unit() -> tuple[str, Path]:
    key = uuid.uuid4().hex
    folder = storage.unit_directory(key)
    folder.mkdir(parents=True)
    return key, folder


def put(path: Path, kind: Any, tmp_path: Path) -> None:
    if isinstance(kind, bytes):
        path.write_bytes(kind)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "giant":
        path.touch()
        os.truncate(path, 1 << 42)
    else:
        (tmp_path / "keys").write_text('{"reason": "open-sesame"}')
        path.symlink_to(tmp_path / "keys")


@pytest.mark.parametrize("kind", [*NOT_OURS, "pipe", "giant", "link"])
def test_a_look_bears_what_lies_there(unit: tuple[str, Path], kind: Any, tmp_path: Path) -> None:
    key, folder = unit
    put(folder / "beat.json", kind, tmp_path)
    assert LocalFiles().look([key])[key].beat is None
    put(folder / "exit.json", kind, tmp_path)
    look = LocalFiles().look([key])[key]
    assert look.exit == {"reason": "unreadable", "code": None, "signal": None}


def test_no_container_has_the_group_of_the_engines_socket(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = tmp_path / "docker.sock"
    socket.touch()
    if os.geteuid() == 0:  # its own group is the one that keeps all rights
        os.chown(socket, -1, 4711)
    group = socket.stat().st_gid
    settings.ATELIER_DOCKER_SOCKET = str(socket)
    monkeypatch.setattr(os, "getgid", lambda: 4713)
    monkeypatch.setattr(os, "getgroups", lambda: [group, 4712, 4713])
    assert LocalFiles().user()[2] == [4712]


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_reading_follows_no_link_and_waits_for_no_pipe(unit: tuple[str, Path], kind: str, tmp_path: Path) -> None:
    key, folder = unit
    put(folder / "events.jsonl", kind, tmp_path)
    with pytest.raises(NotFound):
        LocalFiles().read(key, "events.jsonl", 0, 100)
