"""HDFS, on a server that speaks WebHDFS as the documentation says: a name node and a data node of their own ports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from studio.datasets.backends import parts
from studio.datasets.backends.base import StoreError
from studio.datasets.backends.hdfs import HdfsStore
from tests.datasets.contract import Place, WriteContract, content, raised
from tests.gear.webhdfs import WebHdfs

pytestmark = pytest.mark.services
TOKEN = "KAAEdGVhbQR0ZWFtAIoBkd9tokEn"


def putter(server: WebHdfs, root: str = "") -> Callable[[str, bytes], None]:
    return lambda path, data: server.put(f"{root}/{path}", data, "team")


def store_on(server: WebHdfs, secrets: dict[str, str] | None = None, **config: Any) -> HdfsStore:
    return HdfsStore({"url": server.url, "user": "team", **config}, secrets or {})


class TestHdfs(WriteContract):
    @pytest.fixture
    def place(self, webhdfs: WebHdfs) -> Place:
        return Place(store_on(webhdfs), putter(webhdfs), store_on(webhdfs, root="/no/such/folder"))


class TestHdfsFolderOnAnOldServer(WriteContract):
    """A folder as the root, on a server without LISTSTATUS_BATCH and without RENAME's options, as HttpFS is."""

    @pytest.fixture
    def place(self, webhdfs: WebHdfs) -> Place:
        webhdfs.batched = webhdfs.options_known = False
        webhdfs.put("/elsewhere.csv", b"not seen")
        webhdfs.folders("/user/team", "team")
        return Place(store_on(webhdfs, root="/user/team/"), putter(webhdfs, "/user/team"))


def test_bytes_go_to_the_data_node_only(webhdfs: WebHdfs) -> None:
    store = store_on(webhdfs)
    state = store.upload_begin("a/b.bin", 5)
    state, _offset = store.upload_piece(state, 0, [b"12345"])
    store.upload_commit(state)
    assert b"".join(store.stream("a/b.bin")) == b"12345"
    for operation in ("PUT CREATE", "POST APPEND", "GET OPEN"):
        assert f"name {operation}" in webhdfs.requests and f"data {operation}" in webhdfs.requests
    assert [name for name in webhdfs.nodes if "upload" in name] == []


def test_every_wrong_setting_has_its_own_code(webhdfs: WebHdfs) -> None:
    for code, config in {
        "no-such-host": {"url": "no-such-host.invalid:9870"},
        "unreachable": {"url": "127.0.0.1:1"},
        "forbidden-address": {"url": "http://169.254.169.254:80"},
        "no-such-container": {"url": webhdfs.url, "root": "/nowhere"},
    }.items():
        problems, entries = HdfsStore(config, {}).check()
        assert [problem.code for problem in problems] == [code], problems
        assert entries == []
    raised("no-such-host", lambda: HdfsStore({"url": "http://user:pw@host:1"}, {}))


def test_tokens(webhdfs: WebHdfs) -> None:
    webhdfs.put("/a.csv", b"1", "team")
    webhdfs.token = TOKEN
    assert store_on(webhdfs, {"token": TOKEN}).check()[0] == []
    assert b"".join(store_on(webhdfs, {"token": TOKEN}).stream("a.csv")) == b"1"
    for secrets in ({}, {"token": "another-secret-token"}):
        problems, _entries = store_on(webhdfs, secrets).check()
        assert [problem.code for problem in problems] == ["refused-key"]
        assert "another-secret-token" not in repr(problems)
    webhdfs.expired = True
    problems, _entries = store_on(webhdfs, {"token": TOKEN}).check()
    assert [problem.code for problem in problems] == ["expired-signature"]
    assert TOKEN not in repr(problems)


def test_no_token_stands_in_an_error_of_the_network(webhdfs: WebHdfs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "pause", lambda attempt: None)
    for url in ("http://no-such-host.invalid:9870", "http://127.0.0.1:1", "http://169.254.169.254"):
        store = HdfsStore({"url": url}, {"token": TOKEN, "password": "p4ssw0rd"})
        with pytest.raises(StoreError) as caught:
            store.stat("a.csv")
        error = caught.value
        assert error.__cause__ is None and error.__suppress_context__
        assert TOKEN not in f"{error.detail}{error.hint}" and "p4ssw0rd" not in f"{error.detail}{error.hint}"


def test_rights(webhdfs: WebHdfs) -> None:
    webhdfs.put("/private/a.csv", b"1", "other", mode=0o700)
    webhdfs.nodes["/private"].mode = 0o755
    store = store_on(webhdfs)
    raised("forbidden", lambda: store.stream("private/a.csv"))
    raised("read-only", lambda: store.upload_begin("private/b.csv", 1))
    raised("read-only", lambda: store.delete("private/a.csv"))


def test_a_redirect_to_a_metadata_address_is_refused(webhdfs: WebHdfs, resolving: None) -> None:
    webhdfs.put("/a.csv", b"1", "team")
    store = store_on(webhdfs)
    for target in ("http://169.254.169.254", "http://metadata.example:80", "http://[fd00:ec2::254]"):
        webhdfs.sends_to = target
        raised("forbidden-address", lambda: store.stream("a.csv"))
        raised("forbidden-address", lambda: store.upload_begin("b.csv", 1))


def test_the_password_does_not_follow_to_another_host(webhdfs: WebHdfs) -> None:
    """The data node has another address: what it is sent holds no user and password."""
    seen: list[str | None] = []
    handler = webhdfs.data_server.RequestHandlerClass
    before = handler._any  # type: ignore[attr-defined]
    handler.do_GET = lambda self: (seen.append(self.headers.get("Authorization")), before(self))  # type: ignore[attr-defined]
    webhdfs.put("/a.csv", b"1", "team")
    assert b"".join(store_on(webhdfs, {"password": "p4ssw0rd"}).stream("a.csv")) == b"1"
    assert seen == [None]


def test_more_files_than_one_page_holds(webhdfs: WebHdfs) -> None:
    put = putter(webhdfs)
    for at in range(5001):
        put(f"many/{at:05}.csv", b"")
    store = store_on(webhdfs)
    assert [entry.path for entry in store.find("many/*.csv")] == [f"many/{at:05}.csv" for at in range(5001)]
    assert sum("LISTSTATUS_BATCH" in request for request in webhdfs.requests) <= 8


@pytest.mark.parametrize("known", [True, False])
def test_bytes_that_come_late_are_never_taken_for_others(
    webhdfs: WebHdfs, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """The end of a request that broke off is written between the look at the size and the next append."""
    webhdfs.options_known = known
    store, data = store_on(webhdfs), content(3_000_000)
    state, offset = store.upload_piece(store.upload_begin("a.bin", len(data)), 0, [data[:1_000_000]])
    before = store._put

    def late(method: str, operation: str, path: str, *rest: Any, **options: Any) -> None:
        webhdfs.nodes[f"/{path}"].data += data[1_000_000:1_100_000]  # type: ignore[operator]
        before(method, operation, path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_put", late)
        error = raised("incomplete", lambda: store.upload_piece(state, offset, [data[1_000_000:2_000_000]]))
    if known:
        state, offset = store.upload_piece(state, offset, [data[1_000_000:]])
        store.upload_commit(state)
        assert b"".join(store.stream("a.bin")) == data
    else:
        assert not error.retry and list(store.find("**")) == []


def test_a_data_node_that_breaks_off(webhdfs: WebHdfs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "pause", lambda attempt: None)
    data = content(3_000_000)
    webhdfs.put("/big.bin", data, "team")
    store = store_on(webhdfs)
    webhdfs.read_limit = 700_000
    assert b"".join(store.stream("big.bin")) == data
    stream = store.stream("big.bin")
    next(stream)
    webhdfs.data_server.shutdown()
    webhdfs.data_server.server_close()
    with pytest.raises(StoreError) as caught:
        list(stream)
    assert caught.value.code in ("unreachable", "incomplete") and caught.value.path == "big.bin"


def test_a_file_that_changes_while_it_is_read(webhdfs: WebHdfs) -> None:
    webhdfs.put("/big.bin", content(3_000_000), "team")
    stream = store_on(webhdfs).stream("big.bin")
    next(stream)
    webhdfs.put("/big.bin", content(3_000_000, 1), "team")
    raised("changed", lambda: stream)


def test_a_server_that_is_no_webhdfs(webhdfs: WebHdfs) -> None:
    problems, _entries = store_on(webhdfs, url=webhdfs.url + "/webhdfs/v1/../").check()
    assert problems == [] or problems[0].code in ("failed", "no-such-container")


def test_fsspecs_own_client_understands_the_server(webhdfs: WebHdfs) -> None:
    """The server of these tests is ours: another client, written against real clusters, reads and writes it too."""
    from fsspec.implementations.webhdfs import WebHDFS

    port = webhdfs.name_server.server_address[1]
    other = WebHDFS("127.0.0.1", port=port, user="team", skip_instance_cache=True, use_listings_cache=False)
    with other.open("/from/fsspec.bin", "wb") as target:
        target.write(content(100_000))
    store = store_on(webhdfs)
    assert b"".join(store.stream("from/fsspec.bin")) == content(100_000)
    assert [row["name"].rpartition("/")[2] for row in other.ls("/from", detail=True)] == ["fsspec.bin"]
    assert other.cat_file("/from/fsspec.bin", start=5, end=50) == content(100_000)[5:50]
