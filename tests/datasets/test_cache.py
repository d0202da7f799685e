"""The cache of whole files within its size."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.datasets import cache
from studio.datasets.backends.base import StoreError


def lay(name: str, size: int, age_s: float) -> Path:
    place = cache.place(name.ljust(64, "0"))
    place = place.with_suffix(".parquet") if name.startswith("q") else place
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"\0" * size)
    os.utime(place, (time.time() - age_s,) * 2)
    return place


def test_results_of_queries_count_and_go_too(data_folder: Path) -> None:
    file, young, old = lay("a", 100, 3000), lay("q1", 100, 3000), lay("q2", 100, 4000)
    assert cache.sweep(1000, set) == 0
    assert cache.sweep(250, set) == 100
    assert (file.exists(), young.exists(), old.exists()) == (True, True, False)
    assert cache.sweep(0, set) == 100
    assert (file.exists(), young.exists()) == (False, True)  # somebody may still be reading what was just asked for


def test_results_of_yesterday_go_whatever_room_there_is(data_folder: Path) -> None:
    file, old = lay("a", 100, 200_000), lay("q1", 100, 200_000)
    cache.sweep(1000, set)
    assert (file.exists(), old.exists()) == (True, False)


@pytest.mark.parametrize("size", [None, 10**15])
def test_a_server_that_sends_without_end_does_not_fill_the_disk(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    monkeypatch.setattr(cache, "LOOK", 1 << 20)
    monkeypatch.setattr(cache, "RESERVE", 1 << 62)
    sent = 0

    def endless(_offset: int) -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 20
            if sent > 3 << 20:
                monkeypatch.setattr(cache, "SHARE", 1)  # as if others had filled the disk meanwhile
            yield b"\0" * (1 << 20)

    with pytest.raises(StoreError) as caught:
        cache.fetch(cache.Content("http://h.test", "a.bin", size, "tag"), endless)
    assert caught.value.code == "disk-full" and sent <= 5 << 20
    assert not [path for path in cache.root().rglob("*") if path.suffix == ".part"]
