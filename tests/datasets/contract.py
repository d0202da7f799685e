"""What every kind of datastore must keep. A kind's test subclasses ``ReadContract`` or ``WriteContract`` and gives
``place``: a real store that is empty, a way to put files into it from outside, and what is not there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from studio.datasets.backends.base import Backend, Entry, StoreError

TREE = {
    "top.csv": b"a,b\n1,2\n",
    "empty.csv": b"",
    "year=2023/part-0.csv": b"2023-0",
    "year=2023/part-1.csv": b"2023-1",
    "year=2024/part-0.csv": b"2024-0",
    "year=2024/notes.txt": b"notes",
    "year=2024/deep/er/part-9.csv": b"deep",
}
ODD_NAMES = [
    "sp ace.csv",
    "grüße/日本語 данные.csv",
    "per%20cent%2Fnot-a-slash.csv",
    "plus+and&amp;.csv",
    "hash#tag.csv",
    "quote'\"s.csv",
    "semi;colon,comma=eq~tilde.csv",
    "brack[et]s/(round) {curly}.csv",
    "-dash.csv",
    ".hidden",
    "trailing.dot.",
]
LEAVING = ["../out.csv", "a/../../out.csv", "/etc/passwd", "a/b/../../../out", "nul\x00.csv"]


@dataclass
class Place:
    """``put`` writes a file past the store. ``missing`` is a store whose container or folder is not there."""

    store: Backend
    put: Callable[[str, bytes], None]
    missing: Backend | None = None


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that are nowhere the same, so that a piece in a wrong place is seen."""
    blocks = (hashlib.sha256(f"{seed}:{at}".encode()).digest() for at in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def raised(code: str, call: Callable[[], Any]) -> StoreError:
    """The StoreError of ``call``, which must have this code; generators are run."""
    with pytest.raises(StoreError) as caught:
        found = call()
        if isinstance(found, Iterator):
            list(found)
    assert caught.value.code == code, f"{caught.value.code}: {caught.value.detail}"
    assert caught.value.detail
    return caught.value


class ReadContract:
    """Browsing, finding and reading."""

    sizes_in_listings = True  # a server's index page names files only
    odd_names = ODD_NAMES

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    @pytest.fixture
    def tree(self, place: Place) -> Place:
        for path, data in TREE.items():
            place.put(path, data)
        return place

    def test_it_says_what_it_is(self, place: Place) -> None:
        assert place.store.kind and str(place.store.label) and str(place.store.summary) and place.store.icon
        assert place.store.address()
        names = [field.name for field in place.store.fields]
        assert len(names) == len(set(names))

    def test_the_test_button_lists_a_few_entries(self, tree: Place) -> None:
        problems, entries = tree.store.check()
        assert problems == []
        assert {entry.path for entry in entries} <= {"top.csv", "empty.csv", "year=2023", "year=2024"}
        assert len(entries) >= 2

    def test_a_container_that_is_not_there(self, place: Place) -> None:
        if place.missing is None:
            return  # this kind has no containers
        problems, entries = place.missing.check()
        assert [problem.code for problem in problems] == ["no-such-container"] and entries == []
        raised("no-such-container", lambda: place.missing.list())  # type: ignore[union-attr]
        raised("no-such-container", lambda: place.missing.find("**"))  # type: ignore[union-attr]

    def test_a_folder_lists_folders_first(self, tree: Place) -> None:
        found = tree.store.list()
        assert [(entry.path, entry.is_dir) for entry in found.entries] == [
            ("year=2023", True),
            ("year=2024", True),
            ("empty.csv", False),
            ("top.csv", False),
        ]
        assert found.next is None
        assert [entry.name for entry in tree.store.list("year=2024").entries] == ["deep", "notes.txt", "part-0.csv"]
        if self.sizes_in_listings:
            assert {entry.name: entry.size for entry in found.entries if not entry.is_dir} == {
                "empty.csv": 0,
                "top.csv": 8,
            }

    def test_a_folder_in_pages(self, place: Place) -> None:
        paths = [f"many/file-{at:02}.bin" for at in range(23)] + ["many/sub/x.bin", "many/tub/x.bin"]
        for path in paths:
            place.put(path, b"x")
        names: list[str] = []
        after, pages = None, 0
        while True:
            found = place.store.list("many", limit=7, after=after)
            assert len(found.entries) <= 7
            names += [entry.name for entry in found.entries]
            after, pages = found.next, pages + 1
            if after is None:
                break
            assert pages < 20
        assert sorted(names) == sorted([*(f"file-{at:02}.bin" for at in range(23)), "sub", "tub"])
        assert len(names) == len(set(names)) and pages >= 4

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("top.csv", ["top.csv"]),
            ("*.csv", ["empty.csv", "top.csv"]),
            ("year=2023", ["year=2023/part-0.csv", "year=2023/part-1.csv"]),
            ("*/part-0.csv", ["year=2023/part-0.csv", "year=2024/part-0.csv"]),
            ("**/part-?.csv", [path for path in sorted(TREE) if "part-" in path]),
            ("year=202[34]/*.csv", ["year=2023/part-0.csv", "year=2023/part-1.csv", "year=2024/part-0.csv"]),
            ("year=202[!3]/*.csv", ["year=2024/part-0.csv"]),
            ("year=2024/**", [path for path in sorted(TREE) if path.startswith("year=2024/")]),
            ("year=2024/**/*.csv", ["year=2024/deep/er/part-9.csv", "year=2024/part-0.csv"]),
            ("**", sorted(TREE)),
            ("", sorted(TREE)),
            ("nothing/*.csv", []),
            ("TOP.csv*", []),
        ],
    )
    def test_find(self, tree: Place, pattern: str, expected: list[str]) -> None:
        found = list(tree.store.find(pattern))
        assert [entry.path for entry in found] == expected
        assert not any(entry.is_dir for entry in found)

    def test_find_a_path_that_is_not_there(self, tree: Place) -> None:
        try:
            assert list(tree.store.find("no/such.csv")) == []
        except StoreError as error:
            assert error.code == "no-such-file" and "no/such.csv" in error.detail

    def test_stat(self, tree: Place) -> None:
        found = tree.store.stat("top.csv")
        assert (found.path, found.size, found.is_dir) == ("top.csv", 8, False)
        assert found.etag or found.modified
        assert tree.store.stat("empty.csv").size == 0
        assert tree.store.stat("year=2024").is_dir
        error = raised("no-such-file", lambda: tree.store.stat("no/such.csv"))
        assert "such.csv" in error.detail

    def test_open_reads_the_ranges_asked_for(self, place: Place) -> None:
        data = content(3_000_000)
        place.put("big.bin", data)
        with place.store.open("big.bin") as source:
            assert source.read(10) == data[:10]
            source.seek(2_000_000)
            assert source.tell() == 2_000_000
            assert source.read(70_000) == data[2_000_000:2_070_000]
            source.seek(-16, 2)
            assert source.read() == data[-16:]
            assert source.read(1) == b""
            source.seek(5)
            assert source.read() == data[5:]
        with place.store.open("big.bin") as source:
            assert hashlib.sha256(source.read()).digest() == hashlib.sha256(data).digest()

    def test_open_an_empty_file(self, tree: Place) -> None:
        with tree.store.open("empty.csv") as source:
            assert source.read() == b""
        assert b"".join(tree.store.stream("empty.csv")) == b""

    def test_open_what_is_not_there(self, tree: Place) -> None:
        error = raised("no-such-file", lambda: tree.store.open("no/such.csv"))
        assert "such.csv" in error.detail
        raised("no-such-file", lambda: tree.store.stream("no/such.csv"))

    def test_stream_from_an_offset(self, place: Place) -> None:
        data = content(2_500_000, 1)
        place.put("big.bin", data)
        pieces = list(place.store.stream("big.bin"))
        assert b"".join(pieces) == data and max(map(len, pieces)) <= 1 << 20
        assert b"".join(place.store.stream("big.bin", 1_234_567)) == data[1_234_567:]
        assert b"".join(place.store.stream("big.bin", 100, 50)) == data[100:150]
        assert b"".join(place.store.stream("big.bin", len(data))) == b""

    def test_odd_names(self, place: Place) -> None:
        for at, name in enumerate(self.odd_names):
            place.put(f"odd/{name}", str(at).encode())
        found = {entry.path for entry in place.store.find("odd")}
        assert found == {f"odd/{name}" for name in self.odd_names}
        for at, name in enumerate(self.odd_names):
            assert place.store.stat(f"odd/{name}").path == f"odd/{name}"
            with place.store.open(f"odd/{name}") as source:
                assert source.read() == str(at).encode(), name
        top = {entry.name for entry in place.store.list("odd").entries}
        assert top == {name.partition("/")[0] for name in self.odd_names}

    @pytest.mark.parametrize("path", LEAVING)
    def test_paths_that_try_to_leave(self, tree: Place, path: str) -> None:
        for call in (tree.store.stat, tree.store.open, tree.store.stream, tree.store.find, tree.store.list):
            raised("forbidden", lambda call=call: call(path))  # type: ignore[misc]


class WriteContract(ReadContract):
    """Uploads in pieces, and removing."""

    def upload(self, store: Backend, path: str, data: bytes, piece: int = 6 << 20) -> Entry:
        """As the API does it: the state goes through JSON between calls, and an offset may be lower than was sent."""
        state, offset = store.upload_begin(path, len(data)), 0
        for _turn in range(1000):
            if offset >= len(data):
                break
            part = data[offset : offset + piece]
            pieces = [part[at : at + 65536] for at in range(0, len(part), 65536)]
            state, offset = store.upload_piece(json.loads(json.dumps(state)), offset, pieces)
        assert offset == len(data)
        return store.upload_commit(json.loads(json.dumps(state)))

    def read(self, store: Backend, path: str) -> bytes:
        return b"".join(store.stream(path))

    def test_it_can_be_written(self, place: Place) -> None:
        assert place.store.writable

    @pytest.mark.parametrize("size", [0, 1, 70_000, 13_000_000])
    def test_upload(self, place: Place, size: int) -> None:
        data = content(size, 2)
        entry = self.upload(place.store, "new/folder/file.bin", data)
        assert (entry.path, entry.size, entry.is_dir) == ("new/folder/file.bin", size, False)
        assert self.read(place.store, "new/folder/file.bin") == data
        assert [one.path for one in place.store.find("**")] == ["new/folder/file.bin"]

    def test_nothing_is_there_before_the_commit(self, place: Place) -> None:
        data = content(6_000_000, 3)
        state = place.store.upload_begin("half.bin", len(data))
        state, offset = place.store.upload_piece(state, 0, [data[:5_500_000]])
        assert 0 <= offset <= 5_500_000
        assert list(place.store.find("**")) == [] and place.store.list().entries == []
        raised("no-such-file", lambda: place.store.stat("half.bin"))
        raised("incomplete", lambda: place.store.upload_commit(state))
        raised("no-such-file", lambda: place.store.stat("half.bin"))

    def test_an_upload_goes_on_where_it_was(self, place: Place) -> None:
        data = content(12_000_000, 4)
        state = place.store.upload_begin("resumed.bin", len(data))
        state, offset = place.store.upload_piece(state, 0, [data[:6_000_000]])
        kept = json.loads(json.dumps(state))

        def breaks_off() -> Iterator[bytes]:
            yield data[offset : offset + 100_000]
            raise ConnectionResetError("the sender went away")

        with pytest.raises((ConnectionResetError, StoreError)):
            place.store.upload_piece(json.loads(json.dumps(kept)), offset, breaks_off())
        for _turn in range(100):
            try:
                state, done = place.store.upload_piece(kept, offset, [data[offset:]])
                break
            except StoreError as error:  # the server may still be busy with what the sender left behind
                assert error.code in ("failed", "incomplete") and (error.retry or "begin again" in error.detail)
                if not error.retry:
                    kept, offset = place.store.upload_begin("resumed.bin", len(data)), 0
                time.sleep(0.05)
        assert done == len(data)
        place.store.upload_commit(state)
        assert self.read(place.store, "resumed.bin") == data

    def test_what_was_there_stays_until_the_commit(self, place: Place) -> None:
        place.put("file.bin", b"before")
        data = b"after " * 10
        state = place.store.upload_begin("file.bin", len(data))
        state, _offset = place.store.upload_piece(state, 0, [data])
        assert self.read(place.store, "file.bin") == b"before"
        place.store.upload_commit(state)
        assert self.read(place.store, "file.bin") == data

    def test_an_overwritten_file_has_another_etag(self, place: Place) -> None:
        first = self.upload(place.store, "file.bin", b"one")
        second = self.upload(place.store, "file.bin", b"two")
        assert place.store.stat("file.bin").etag == second.etag != first.etag

    def test_an_aborted_upload_leaves_nothing(self, place: Place) -> None:
        state = place.store.upload_begin("gone.bin", 10)
        state, _offset = place.store.upload_piece(state, 0, [b"12345"])
        place.store.upload_abort(state)
        place.store.upload_abort(state)
        assert list(place.store.find("**")) == []

    def test_odd_names_are_written(self, place: Place) -> None:
        for name in self.odd_names:
            self.upload(place.store, f"odd/{name}", name.encode())
        assert {entry.path for entry in place.store.find("odd")} == {f"odd/{name}" for name in self.odd_names}
        for name in self.odd_names:
            assert self.read(place.store, f"odd/{name}") == name.encode()

    def test_delete(self, tree: Place) -> None:
        tree.store.delete("top.csv")
        raised("no-such-file", lambda: tree.store.stat("top.csv"))
        tree.store.delete("year=2024")
        assert [entry.path for entry in tree.store.find("**")] == [
            "empty.csv",
            "year=2023/part-0.csv",
            "year=2023/part-1.csv",
        ]
        raised("no-such-file", lambda: tree.store.delete("no/such.csv"))

    @pytest.mark.parametrize("path", LEAVING)
    def test_writing_cannot_leave(self, place: Place, path: str) -> None:
        raised("forbidden", lambda: place.store.upload_begin(path, 1))
        raised("forbidden", lambda: place.store.delete(path))
