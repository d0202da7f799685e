"""The files behind a definition, through real folders and web servers."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from atelier.data import engine
from atelier.data.definition import make
from atelier.data.errors import DataError

from studio.datasets import cache
from studio.datasets.backends import parts, web
from studio.datasets.backends.base import StoreError
from studio.datasets.backends.http import HttpStore
from studio.datasets.backends.local import LocalFolder
from studio.datasets.sources import AT_ONCE, BackendSource
from tests.datasets import web_server
from tests.datasets.contract import content, raised
from tests.datasets.web_server import WebServer

SECRET = "sig=T0pS3cret"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server.running() as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "READ_S", 0.5)
    monkeypatch.setattr(parts, "pause", lambda _attempt: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def definition(*paths: dict[str, Any]) -> dict[str, Any]:
    return {"format": 1, "type": "file", "source": {"kind": "files", "paths": list(paths)}, "steps": []}


def at(path: str, store: str = "s") -> dict[str, Any]:
    return {"datastore": store, "path": path}


def test_files_of_a_folder(root: Path) -> None:
    for path in ("b/2.csv", "b/1.csv", "a.csv", "b/deep/3.csv"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    source = BackendSource({"s": LocalFolder({"path": str(root)}, {})})
    found = list(source.files(definition(at("b/**"), at("a.csv"))))
    assert [file.path for file in found] == ["s:b/1.csv", "s:b/2.csv", "s:b/deep/3.csv", "s:a.csv"]
    assert [file.name for file in found] == ["1.csv", "2.csv", "deep/3.csv", "a.csv"]
    assert found[0].local == str(root / "b/1.csv") and found[0].size == 7 and found[0].etag
    assert source.fetch(found[0]) == str(root / "b/1.csv")  # no copy of what lies here
    with source.open(found[1]) as opened:
        assert opened.read() == b"b/2.csv"
    assert [file.name for file in source.files(definition(at("b")))] == ["b/1.csv", "b/2.csv", "b/deep/3.csv"]
    assert len(list(source.files(definition(at("**"), at("**")), limit=6))) == 6
    assert list(source.files(definition(at("**")), limit=0)) == []


def test_columns_of_paths_see_the_path_within_the_store(root: Path) -> None:
    (root / "folder=x").mkdir()
    (root / "folder=x" / "12:30.csv").write_text("n\n1\n")
    source = BackendSource({"s": LocalFolder({"path": str(root)}, {})})
    form = "/folder={folder}/{hour}:{minute}.csv"
    made = make("delimited", [at("**/*.csv")], include_path=True, partition_format=form)
    shown = engine.preview(made, source)
    assert shown.rows == [["/folder=x/12:30.csv", "x", "12", "30", 1]]
    assert engine.to_pandas(made, source).values.tolist() == shown.rows


def test_stores_may_be_given_as_what_makes_them(root: Path) -> None:
    (root / "a.csv").write_bytes(b"1")
    source = BackendSource({"s": {"kind": "local", "config": {"path": str(root)}, "secrets": {}}})
    assert [file.path for file in source.files(definition(at("*.csv")))] == ["s:a.csv"]


@pytest.mark.parametrize("path", ["nothing/*.csv", "nothing.csv", "nothing", "*.parquet"])
def test_a_path_that_matches_nothing(root: Path, path: str) -> None:
    (root / "a.csv").write_bytes(b"1")
    source = BackendSource({"s": LocalFolder({"path": str(root)}, {})})
    with pytest.raises(DataError) as caught:
        list(source.files(definition(at("a.csv"), at(path))))
    assert caught.value.kind == "no-such-file" and f"s:{path}" in str(caught.value)


def test_what_cannot_be_read_from_here(root: Path) -> None:
    source = BackendSource({})
    with pytest.raises(DataError, match="'gone'"):
        list(source.files(definition(at("a.csv", "gone"))))
    with pytest.raises(DataError, match="own machine"):
        list(source.files(definition({"local": "/home/ann/a.csv"})))


def test_a_local_file_that_changed_since_it_was_listed(root: Path) -> None:
    (root / "a.csv").write_bytes(b"1")
    source = BackendSource({"s": LocalFolder({"path": str(root)}, {})})
    (file,) = source.files(definition(at("a.csv")))
    (root / "a.csv").write_bytes(b"12")
    raised("changed", lambda: source.fetch(file))
    raised("changed", lambda: source.stream(file))


# The web


def test_addresses(server: WebServer, data_folder: Path) -> None:
    server.put("x/My data.csv", b"1,2\n")
    source = BackendSource({})
    url = f"{server.url}x/My%20data.csv?v=1&{SECRET}"
    (file,) = source.files(definition({"url": url}))
    assert (file.path, file.name, file.size, file.local) == (f"{server.url}x/My data.csv", "My data.csv", 4, None)
    assert "T0pS3cret" not in repr(file)
    fetched = Path(source.fetch(file))
    assert fetched.read_bytes() == b"1,2\n" and fetched.name == "My data.csv"
    assert fetched.resolve().is_relative_to(data_folder.resolve())
    with source.open(file) as opened:
        assert opened.read() == b"1,2\n"
    assert [headers for _path, headers in server.requests]


def test_a_fetched_file_is_not_fetched_again_until_it_changes(server: WebServer, data_folder: Path) -> None:
    server.put("a.bin", content(300_000))
    stores = {"s": HttpStore({"url": server.url}, {})}
    first = BackendSource(stores)
    (file,) = first.files(definition(at("a.bin")))
    assert Path(first.fetch(file)).read_bytes() == content(300_000)
    asked = server.count("a.bin")
    second = BackendSource(stores)
    (again,) = second.files(definition(at("a.bin")))
    assert second.keep(again).hit and server.count("a.bin") == asked + 1  # its head only
    server.put("a.bin", content(300_000, 1))
    (changed,) = second.files(definition(at("a.bin")))
    assert Path(second.fetch(changed)).read_bytes() == content(300_000, 1)
    # What was listed before is another file now, and is never given for it.
    cache.place(
        cache.Content(stores["s"].address(), "a.bin", again.size, again.etag, again.ref["modified"]).digest()
    ).unlink()
    raised("changed", lambda: second.fetch(again))


def test_two_signatures_of_one_address_are_not_mixed_up(server: WebServer, data_folder: Path) -> None:
    server.put("a.csv", b"1")
    source = BackendSource({})
    one, two = source.files(
        definition({"url": f"{server.url}a.csv?{SECRET}1"}, {"url": f"{server.url}a.csv?{SECRET}2"})
    )
    assert source.keep(one).digest != source.keep(two).digest


def test_who_signs_in_differently_is_not_given_what_another_one_fetched(server: WebServer, data_folder: Path) -> None:
    def by_tenant(handler: Any, _data: bytes) -> None:
        """The same head for everybody, another content for each."""
        handler.well(handler.headers["X-Tenant"].encode() * 8, ETag='"same"')

    server.put("a.csv", b"")
    server.tricks["a.csv"] = by_tenant
    found = []
    for tenant in ("ann", "ben", "ann"):
        config = {"url": server.url, "header_name": "X-Tenant"}
        stores = {"s": {"kind": "http", "config": config, "secrets": {"header_value": tenant}}}
        source = BackendSource(stores)
        (file,) = source.files(definition(at("a.csv")))
        kept = source.keep(file)
        found.append((kept.path.read_bytes()[:3], kept.hit))
    assert found == [(b"ann", False), (b"ben", False), (b"ann", True)]


@pytest.mark.parametrize("by", ["addresses", "datastore", "glob"])
def test_one_of_a_thousand_is_missing(server: WebServer, by: str) -> None:
    names = [f"part-{at:04}.csv" for at in range(1000)]
    for name in names:
        server.put(name, b"1,2\n")
    server.tricks["part-0617.csv"] = web_server.answers(404)
    source = BackendSource({"s": HttpStore({"url": server.url}, {})})
    paths = {
        "addresses": [{"url": f"{server.url}{name}?{SECRET}"} for name in names],
        "datastore": [at(name) for name in names],
        "glob": [at("*.csv")],
    }[by]
    with pytest.raises((StoreError, DataError)) as caught:
        list(source.files(definition(*paths)))
    assert "part-0617.csv" in str(caught.value) and "T0pS3cret" not in str(caught.value)
    server.tricks.clear()
    found = list(source.files(definition(*paths)))
    assert [file.name for file in found] == names and all(file.size == 4 for file in found)


def test_only_so_many_requests_at_once(server: WebServer) -> None:
    under_way, most = [0], [0]

    def counted(handler: web_server.Handler, data: bytes) -> None:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        time.sleep(0.02)
        under_way[0] -= 1
        handler.well(data)

    names = [f"{at}.csv" for at in range(60)]
    for name in names:
        server.put(name, b"1")
        server.tricks[name] = counted
    found = BackendSource({}).files(definition(*({"url": f"{server.url}{name}"} for name in names)))
    assert [file.name for file in found] == names
    assert 2 <= most[0] <= AT_ONCE


def test_no_half_file_is_ever_kept(server: WebServer, data_folder: Path) -> None:
    data = content(900_000)
    server.put("a.bin", data)
    source = BackendSource({"s": HttpStore({"url": server.url}, {})})
    (file,) = source.files(definition(at("a.bin")))
    server.tricks["a.bin"] = web_server.drops(after=100_000, times=1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "ALTOGETHER", 3)
        with pytest.raises(StoreError) as caught:
            source.fetch(file)
    assert "a.bin" in caught.value.detail and caught.value.retry
    assert not cache.place(_digest(source, file)).exists()
    server.tricks.clear()
    server.requests.clear()
    assert Path(source.fetch(file)).read_bytes() == data
    assert server.requests[0][1]["range"] != "bytes=0-"  # what came before the drop was kept aside


def _digest(source: BackendSource, file: Any) -> str:
    address = source.backend("s").address()
    return cache.Content(address, file.ref["path"], file.size, file.etag, file.ref["modified"]).digest()


def test_a_file_that_changes_while_it_is_fetched(server: WebServer, data_folder: Path) -> None:
    server.put("a.bin", content(900_000))
    source = BackendSource({"s": HttpStore({"url": server.url}, {})})
    (file,) = source.files(definition(at("a.bin")))
    server.put("a.bin", content(900_000, 1))
    raised("changed", lambda: source.fetch(file))
    assert not cache.place(_digest(source, file)).exists()


class _Elsewhere(LocalFolder):
    """A folder that is read as if it were not of this machine."""

    def local_path(self, path: str) -> None:
        return None


def test_another_file_is_never_taken_for_the_listed_one(root: Path, data_folder: Path) -> None:
    (root / "a.bin").write_bytes(content(900_000))
    source = BackendSource({"s": _Elsewhere({"path": str(root)}, {})})
    (file,) = source.files(definition(at("a.bin")))
    (root / "a.bin").write_bytes(content(900_000, 1))
    for _turn in range(2):
        raised("changed", lambda: source.fetch(file))
        assert not cache.place(_digest(source, file)).exists()
    # All bytes had come when the process that fetched them died: they are looked at again.
    part = cache.place(_digest(source, file)).with_suffix(".part")
    part.write_bytes(content(900_000, 1))
    raised("changed", lambda: source.fetch(file))
    assert not part.exists()
    (now,) = source.files(definition(at("a.bin")))
    assert Path(source.fetch(now)).read_bytes() == content(900_000, 1)


def test_threads_fetch_once(server: WebServer, data_folder: Path) -> None:
    server.put("a.bin", content(2_000_000))
    source = BackendSource({"s": HttpStore({"url": server.url}, {})})
    (file,) = source.files(definition(at("a.bin")))
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _turn: source.fetch(file), range(8)))
    assert len(paths) == 1 and Path(paths.pop()).read_bytes() == content(2_000_000)
    assert server.count("a.bin") == 2  # its head, and its bytes


def _fetch_in_process(data: str, url: str, results: Any) -> None:
    from django.conf import settings

    settings.ATELIER_DATA = Path(data)
    source = BackendSource({"s": HttpStore({"url": url}, {})})
    (file,) = source.files(definition(at("a.bin")))
    results.put(Path(source.fetch(file)).read_bytes() == content(2_000_000))


def test_processes_fetch_once(server: WebServer, data_folder: Path) -> None:
    server.put("a.bin", content(2_000_000))

    def slowly(handler: web_server.Handler, data: bytes) -> None:
        time.sleep(0.2)
        handler.well(data)

    server.tricks["a.bin"] = slowly
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [
        context.Process(target=_fetch_in_process, args=(str(data_folder), server.url, results)) for _turn in range(3)
    ]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=30) for _worker in workers] == [True] * 3
    for worker in workers:
        worker.join(30)
    whole = [headers for path, headers in server.requests if path == "a.bin" and headers.get("range") != "bytes=0-0"]
    assert len(whole) == 1
    assert len([path for path in (data_folder / "cache").rglob("*") if path.is_file() and not path.suffix]) <= 2


def test_a_store_without_queries(root: Path) -> None:
    source = BackendSource({"s": LocalFolder({"path": str(root)}, {})})
    asked = {"source": {"kind": "sql", "query": {"datastore": "s", "text": "select 1"}}}
    assert "no SQL" in raised("unsupported", lambda: source.query(asked)).detail


def test_files_are_json(root: Path, server: WebServer) -> None:
    """What a source says of a file can be written down; for an address, with its key only where asked for."""
    server.put("a.csv", b"1")
    (file,) = BackendSource({}).files(definition({"url": f"{server.url}a.csv?{SECRET}"}))
    assert json.loads(json.dumps([file.path, file.name, file.size, file.etag])) and os.fspath(file.path)
