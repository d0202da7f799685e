"""What a container of the studio runs, tried without containers."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from compute.drivers import ending
from compute.drivers.local import LocalDriver
from compute.spec import Phase, UnitSpec
from studio.bootstrap import container


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgres://somewhere/atelier")
    monkeypatch.setenv("REDIS_URL", "redis://somewhere")
    return tmp_path


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The programs that the process would have turned into; the working folder stays."""
    found: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, words: found.append(words))
    monkeypatch.setattr(os, "chdir", lambda _folder: None)
    return found


@pytest.mark.parametrize(("name", "word"), [("web", "daphne"), ("worker", "celery"), ("beat", "celery")])
def test_a_service_takes_the_place_of_its_starter(place: Path, became: list[list[str]], name: str, word: str) -> None:
    container._serve(name)
    assert word in became[0]
    assert container.alive_file("role").read_text() == name


def test_other_words_are_for_manage_py(place: Path, became: list[list[str]]) -> None:
    container.main(["changepassword", "owner"])
    assert became[0][1:] == ["manage.py", "changepassword", "owner"]


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
def test_a_missing_address_is_named(
    place: Path, became: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Any, name: str
) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        container.main(["worker"])
    assert f"{name} is not set" in capsys.readouterr().err
    assert not became


def test_a_data_folder_of_somebody_else_is_named(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with pytest.raises(SystemExit):
        container.main(["web"])
    words = capsys.readouterr().err
    assert str(place) in words
    assert f"chown {os.getuid()}" in words


@pytest.mark.parametrize("name", ["worker", "beat"])
def test_health_is_a_fresh_sign_of_life(place: Path, name: str) -> None:
    assert container.main(["health"]) == 1, "nothing was started"
    container.alive_file("role").write_text(name)
    assert container.main(["health"]) == 1, "it has not answered yet"
    container.alive_file(name).touch()
    assert container.main(["health"]) == 0
    old = time.time() - 2 * container.FRESH_S
    os.utime(container.alive_file(name), (old, old))
    assert container.main(["health"]) == 1, "its loop stands still"


def test_units_here_are_told_before_their_machine_goes(db: None) -> None:
    driver = LocalDriver({}, {})
    key = "e" * 32
    code = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"
    spec = UnitSpec(key=key, kind="run", argv=["{python}", "-u", "-c", code])
    handle = driver.submit(spec)
    try:
        assert ending.end_units_here(grace_s=30) == 1
        seen = driver.observe([handle])[key]
        assert seen.phase is Phase.EXITED
        assert seen.exit is not None and seen.exit["reason"] == "terminated"
        assert ending.end_units_here(grace_s=1) == 0
    finally:
        driver.cancel(handle, 0)
