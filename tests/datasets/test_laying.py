"""What a command left of its output: only what lies in its own unit counts, however it was laid there."""

from __future__ import annotations

from pathlib import Path

import pytest

from compute.data import outputs
from studio.datasets.backends.local import LocalFolder
from studio.datasets.jobs import laying


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    folder = tmp_path / "unit"
    (folder / "produced").mkdir(parents=True)
    return folder


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A folder that is none of the unit's business."""
    folder = tmp_path / "others"
    folder.mkdir()
    (folder / "precious.csv").write_text("a,b\n")
    return folder


def moved(unit: Path, store: Path) -> dict[str, object]:
    store.mkdir(exist_ok=True)
    backend = LocalFolder({"path": str(store)}, {})
    return outputs._move(unit, {"name": "made", "path": "to", "store": "s"}, backend, store / "to")


@pytest.mark.parametrize("what", ["folder", "file", "above"])
def test_an_output_that_is_a_link_to_elsewhere_moves_nothing(
    unit: Path, others: Path, tmp_path: Path, what: str
) -> None:
    if what == "above":
        (others / "made").mkdir()
        (others / "made" / "precious.csv").write_text("a,b\n")
        (unit / "produced").rmdir()
        (unit / "produced").symlink_to(others)
    else:
        (unit / "produced" / "made").symlink_to(others if what == "folder" else others / "precious.csv")
    found = moved(unit, tmp_path / "store")
    assert (found["files"], found["links"]) == (0, ["made"])
    assert not any(path.is_symlink() for path in others.rglob("*"))
    assert [path.read_text() for path in others.rglob("*.csv")] == ["a,b\n"] * (2 if what == "above" else 1)
    assert not (tmp_path / "store" / "to").exists()


def test_an_output_that_is_a_link_within_the_unit_is_what_it_leads_to(unit: Path, tmp_path: Path) -> None:
    (unit / "outputs").mkdir()
    (unit / "outputs" / "model.bin").write_text("weights")
    (unit / "produced" / "made").symlink_to(unit / "outputs")
    assert moved(unit, tmp_path / "store")["files"] == 1
    assert (tmp_path / "store" / "to" / "model.bin").read_text() == "weights"


def test_an_output_that_is_the_unit_itself_moves_nothing(unit: Path) -> None:
    (unit / "spec.json").write_text("{}")
    (unit / "produced" / "made").symlink_to(unit)
    found = laying.produced(unit, "made")
    assert (found.files, found.links) == ([], ["made"])


def test_handing_over_again_finds_what_was_handed_over(unit: Path, tmp_path: Path) -> None:
    (unit / "produced" / "made").write_text("one file")
    for _time in range(2):
        assert moved(unit, tmp_path / "store")["single"] is True
    assert (tmp_path / "store" / "to").read_text() == "one file"
