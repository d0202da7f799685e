"""Bringing files into a unit's folder: names that files have elsewhere, and that no folder of ours may have."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from atelier.data import definition

from studio.datasets.backends import parts
from studio.datasets.jobs import patience, transfer
from studio.datasets.jobs.progress import Course, Progress
from tests.datasets.web_server import WebServer, running


@pytest.fixture
def server() -> Iterator[WebServer]:
    with running() as made:
        yield made


def bring(unit: Path, *urls: str) -> dict[str, Any]:
    made = definition.make("files", [{"url": url} for url in urls])
    plan = {"unit": str(unit), "items": [{"name": "in", "mode": "download", "definition": made, "private": False}]}
    unit.mkdir(exist_ok=True)
    return transfer.bring_in(plan, {}, transfer.Patience(Progress(unit / "events.jsonl")))


def test_a_moment_may_be_a_name(server: WebServer, data_folder: Path, tmp_path: Path) -> None:
    server.put("2020-01-31T12:30:00.csv", b"1")
    found = bring(tmp_path / "unit", server.url + "2020-01-31T12%3A30%3A00.csv")
    assert found["in"]["file"] == "2020-01-31T12:30:00.csv"
    assert (tmp_path / "unit" / "inputs" / "in" / "2020-01-31T12:30:00.csv").read_bytes() == b"1"


def test_a_name_that_cannot_be_laid_is_said_of_its_input(server: WebServer, data_folder: Path, tmp_path: Path) -> None:
    server.put("back\\slash.csv", b"1")
    with pytest.raises(transfer.Named) as caught:
        bring(tmp_path / "unit", server.url + "back%5Cslash.csv")
    assert caught.value.item == "in" and "back" in str(caught.value)


def test_two_files_of_one_name_are_not_one(server: WebServer, data_folder: Path, tmp_path: Path) -> None:
    server.put("a/x.csv", b"1")
    server.put("b/x.csv", b"2")
    with pytest.raises(transfer.Named) as caught:
        bring(tmp_path / "unit", f"{server.url}a/x.csv", f"{server.url}b/x.csv")
    assert "x.csv" in str(caught.value) and caught.value.item == "in"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds instead of minutes: 0.5 s for each 100 new bytes of a file."""
    monkeypatch.setattr(patience, "PATIENCE_S", 0.5)
    monkeypatch.setattr(patience, "LEAST", 200.0)
    monkeypatch.setattr(patience, "PAUSES_S", (0.05, 0.1, 0.2))
    monkeypatch.setattr(parts, "ATTEMPTS", 1)


def served(server: WebServer, first: int, each: int) -> list[int]:
    """A server that gives ``first`` bytes of data.bin and drops, then ``each`` bytes a time; where it was asked to."""
    asked: list[int] = []

    def trick(handler: Any, data: bytes) -> None:
        start, end = handler.span(len(data)) or (0, len(data))
        if end - start > 1:  # not the look at the beginning
            asked.append(start)
        headers = {"Content-Length": str(end - start), "Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
        handler.head(206, {**headers, "ETag": '"x"'})
        handler.wfile.write(data[start : start + (each if start else first)])
        handler.wfile.flush()
        time.sleep(0.01)
        handler.reset()

    server.put("data.bin", bytes(100_000))
    server.tricks["data.bin"] = trick
    return asked


def test_bytes_that_lie_here_are_no_progress(
    server: WebServer, data_folder: Path, tmp_path: Path, hurried: None
) -> None:
    asked, begun = served(server, 100, 0), time.monotonic()
    with pytest.raises(transfer.Named) as caught:
        bring(tmp_path / "unit", server.url + "data.bin")
    assert caught.value.failed.later and "data.bin" in str(caught.value)
    assert 0.4 < time.monotonic() - begun < 10 and asked[-1] == 100
    last = json.loads((tmp_path / "unit" / "events.jsonl").read_text().splitlines()[-1])
    assert last["bytes"][0] <= 100


def test_a_store_that_crawls_is_not_waited_for(
    server: WebServer, data_folder: Path, tmp_path: Path, hurried: None
) -> None:
    asked, begun = served(server, 10, 10), time.monotonic()
    with pytest.raises(transfer.Named):
        bring(tmp_path / "unit", server.url + "data.bin")
    assert time.monotonic() - begun < 10 and len(asked) < 40


def test_a_course_counts_each_byte_once(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "events.jsonl")
    course = Course(progress)
    course.resumed(50)  # of an earlier program
    course.did(30)
    assert (course.new, progress.done) == (30, 80)
    course.resumed(0)
    course.did(80)
    assert (course.new, progress.done) == (30, 80)
    course.did(5)
    assert (course.new, progress.done) == (35, 85)
