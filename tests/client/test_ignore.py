"""What is packed: against git itself on random trees, and the limits."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from atelier import snapshot
from atelier.exceptions import SnapshotException
from atelier.ignore import walk

NAMES = ["a", "b", "data", "build", "x.py", "x.pyc", "y.log", "z.txt", "in put", ".env", "[b]", "logs", "a.b.c"]
PATTERNS = [
    "*.py",
    "*.pyc",
    "build/",
    "/build",
    "data/*",
    "!data/x.py",
    "**/logs",
    "logs/**",
    "a/**/b",
    "!*.log",
    "*.log",
    "#no",
    "x.?y",
    "[a-b]",
    "[!a]*.txt",
    "\\[b\\]",
    "in\\ put",
    "in put",
    "a/b",
    "/a",
    "!/a/b",
    "*",
    "!*/",
    ".env",
    "**",
    "a.*.c",
    "data",
    "  ",
    "z.txt  ",
    "/data/**/x.py",
    "[",
    "b/**",
    "**/data/*.txt",
    "!x.py",
    "[[:alpha:]].txt",
    "a/",
    "!a/",
    "*.[lp]*",
]


def grow(folder: Path, rng: random.Random, depth: int = 0) -> None:
    for name in rng.sample(NAMES, rng.randint(2, 6)):
        path = folder / name
        if "." not in name and depth < 3 and rng.random() < 0.6:
            path.mkdir()
            grow(path, rng, depth + 1)
        else:
            path.write_text("x")
    if rng.random() < 0.4:
        (folder / ".gitignore").write_text("\n".join(rng.sample(PATTERNS, rng.randint(1, 5))) + "\n")


def kept_by_git(folder: Path) -> list[str]:
    """Files that git would add; it answers about each and about every folder above it."""
    git = ["git", "-c", "core.excludesFile=/dev/null", "-c", "core.quotePath=false"]
    subprocess.run([*git, "init", "-q"], cwd=folder, check=True)
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--others", "--exclude-standard"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted(listed.stdout.split("\0")[:-1])


@pytest.mark.parametrize("seed", range(40))
def test_files_are_those_that_git_would_add(tmp_path: Path, seed: int) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    grow(tree, random.Random(seed))
    (tree / ".gitignore").write_text("\n".join(random.Random(seed + 1000).sample(PATTERNS, 6)) + "\n")
    expected = kept_by_git(tree)
    assert sorted(path for path, _entry in walk(tree)) == expected


def test_amlignore_stands_in_the_place_of_gitignore(tmp_path: Path) -> None:
    for name in ("train.py", "notes.txt", "model.bin"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".gitignore").write_text("train.py\n")
    (tmp_path / ".amlignore").write_text("*.bin\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("x")
    assert [path for path, _entry in walk(tmp_path)] == [".amlignore", ".gitignore", "notes.txt", "train.py"]


def test_a_snapshot_is_at_most_300_mb(tmp_path: Path) -> None:
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(301 * 1024 * 1024)
    with pytest.raises(SnapshotException, match=r"^Your total snapshot size exceeds the limit of 300\.0 MB"):
        snapshot.pack(tmp_path)
    (tmp_path / ".amlignore").write_text("*.bin\n")
    assert [entry.path for entry in snapshot.pack(tmp_path)] == [".amlignore"]


def test_a_snapshot_has_at_most_2000_files(tmp_path: Path) -> None:
    for number in range(2001):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(SnapshotException, match="2000 files"):
        snapshot.pack(tmp_path)
    (tmp_path / "0.txt").unlink()
    assert len(snapshot.pack(tmp_path)) == 2000


def test_links_to_files_are_sent_and_links_to_folders_are_not(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("x")
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "file").symlink_to("real/file")
    (tmp_path / "broken").symlink_to("nowhere")
    assert [path for path, _entry in walk(tmp_path)] == ["file", "real/file"]
