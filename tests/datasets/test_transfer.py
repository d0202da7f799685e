"""Bringing files into a unit's folder: names that files have elsewhere, and that no folder of ours may have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from atelier.data import definition

from studio.datasets.jobs import transfer
from studio.datasets.jobs.progress import Progress
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
