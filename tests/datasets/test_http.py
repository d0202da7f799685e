"""Files of the web, from servers that behave and from those that do not."""

from __future__ import annotations

import datetime as dt
import functools
import gzip
import hashlib
import logging
import re
import socket
import time
from collections.abc import Iterator

import pytest

from studio.datasets.backends import parts, web
from studio.datasets.backends.base import StoreError
from studio.datasets.backends.http import HttpStore
from studio.datasets.backends.web import WebFile
from tests.datasets import web_server
from tests.datasets.contract import Place, ReadContract, content, raised
from tests.datasets.web_server import WebServer


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server.running() as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real waiting, shorter: half a second without a byte is a stall."""
    monkeypatch.setattr(web, "READ_S", 0.5)
    monkeypatch.setattr(parts, "pause", lambda _attempt: None)


class _HttpContract(ReadContract):
    sizes_in_listings = False

    @pytest.fixture
    def place(self, server: WebServer) -> Place:
        self.settle(server)
        return Place(HttpStore({"url": server.url}, {}), server.put)

    def settle(self, server: WebServer) -> None:
        """How this server answers."""


class TestHttp(_HttpContract):
    pass


class TestHttpWithoutRanges(_HttpContract):
    def settle(self, server: WebServer) -> None:
        server.ranges = False


class TestHttpInChunks(_HttpContract):
    """No lengths at all: neither of what was asked for nor of the file."""

    def settle(self, server: WebServer) -> None:
        server.ranges, server.chunked = False, True

    def test_stat(self, tree: Place) -> None:
        assert tree.store.stat("top.csv").size is None
        raised("no-such-file", lambda: tree.store.stat("no/such.csv"))


class TestHttpBelowAPath(_HttpContract):
    @pytest.fixture
    def place(self, server: WebServer) -> Place:
        server.put("elsewhere.csv", b"not of this store")
        store = HttpStore({"url": f"{server.url}some/folder"}, {})
        return Place(store, lambda path, data: server.put(f"some/folder/{path}", data))


@pytest.fixture
def store(server: WebServer) -> HttpStore:
    return HttpStore({"url": server.url}, {})


def test_it_cannot_be_written(store: HttpStore) -> None:
    assert store.writable is False
    assert "can only be read" in raised("unsupported", lambda: store.upload_begin("a.csv", 1)).detail
    raised("unsupported", lambda: store.delete("a.csv"))


def test_a_server_without_an_index(server: WebServer, store: HttpStore) -> None:
    server.index = False
    server.put("a.csv", b"1,2")
    assert store.check() == ([], [])
    error = raised("unsupported", store.list)
    assert "cannot be browsed" in error.detail and "by their paths" in error.hint
    raised("unsupported", lambda: store.find("*.csv"))
    assert [entry.path for entry in store.find("a.csv")] == ["a.csv"]


# Lengths that are not true


def test_a_server_that_promises_more_than_it_sends(server: WebServer, store: HttpStore) -> None:
    server.put("short.csv", content(1000))
    server.tricks["short.csv"] = web_server.claims(5000)
    error = raised("incomplete", lambda: store.stream("short.csv"))
    assert f"{server.url}short.csv" in error.detail and "attempts were made" in error.detail
    assert server.count("short.csv") <= parts.ALTOGETHER + 1
    with store.open("short.csv") as source:
        raised("incomplete", source.read)


def test_a_server_that_sends_more_than_it_promises(server: WebServer, store: HttpStore) -> None:
    server.put("long.csv", content(5000))
    server.tricks["long.csv"] = web_server.claims(1000)
    error = raised("incomplete", lambda: store.stream("long.csv"))
    assert "longer than the 1000 bytes" in error.detail and "long.csv" in error.detail


def test_a_file_whose_end_nobody_can_see(server: WebServer, store: HttpStore) -> None:
    server.put("endless.csv", content(5000))
    server.tricks["endless.csv"] = web_server.endless()
    assert "where the file ends" in raised("incomplete", lambda: store.stream("endless.csv")).detail


def test_a_range_that_gives_less_than_was_asked_for(server: WebServer, store: HttpStore) -> None:
    server.put("file.bin", content(400_000))

    def less(handler: web_server.Handler, data: bytes) -> None:
        start, end = handler.span(len(data)) or (0, len(data))
        end = min(start + 100_000, end)
        handler.head(206, {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}", "Content-Length": str(end - start)})
        handler.wfile.write(data[start:end])

    server.tricks["file.bin"] = less
    with store.open("file.bin") as source:
        assert source.read() == content(400_000)


def test_a_range_that_begins_elsewhere(server: WebServer, store: HttpStore) -> None:
    server.put("file.bin", content(400_000))

    def elsewhere(handler: web_server.Handler, data: bytes) -> None:
        start, end = handler.span(len(data)) or (0, len(data))
        span = f"bytes {start + 7}-{end - 1}/{len(data)}" if start else f"bytes {start}-{end - 1}/{len(data)}"
        handler.head(206, {"Content-Range": span, "Content-Length": str(end - start)})
        handler.wfile.write(data[start:end])

    server.tricks["file.bin"] = elsewhere
    with store.open("file.bin") as source:
        source.seek(200_000)
        raised("changed", lambda: source.read(10))


# Connections that break


@pytest.mark.parametrize("ranges", [True, False])
def test_a_dropped_connection_is_taken_up_where_it_was(server: WebServer, store: HttpStore, ranges: bool) -> None:
    data = content(600_000)
    server.ranges = ranges
    server.put("file.bin", data)
    server.tricks["file.bin"] = web_server.drops(after=200_000, times=2)
    assert b"".join(store.stream("file.bin")) == data
    starts = [headers.get("range") for path, headers in server.requests if path == "file.bin"]
    if ranges:
        # The first byte for the head, all of it, and then from where each connection broke.
        assert len(starts) == 4 and starts[1] is None
        resumed = [int(re.match(r"bytes=(\d+)-", start)[1]) for start in starts[2:]]  # type: ignore[index,arg-type]
        assert 0 < resumed[0] <= 200_000 and resumed[0] < resumed[1]


def test_retries_are_bounded(server: WebServer, store: HttpStore) -> None:
    server.put("file.bin", content(500_000))
    server.tricks["file.bin"] = web_server.drops(after=0, times=10_000)
    error = raised("unreachable", lambda: store.stream("file.bin"))
    assert f"{server.url}file.bin" in error.detail and "5 attempts" in error.detail
    assert server.count("file.bin") == parts.ATTEMPTS + 1


def test_a_stall(server: WebServer, store: HttpStore) -> None:
    server.put("slow.csv", content(5000))
    server.tricks["slow.csv"] = web_server.stalls(after=100, seconds=1.5)
    start = time.monotonic()
    error = raised("timeout", lambda: store.stream("slow.csv"))
    assert error.retry and f"{server.url}slow.csv" in error.detail
    assert time.monotonic() - start < 10 * web.READ_S


def test_a_drip_is_a_stall(server: WebServer, store: HttpStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SLOW_S", 0.3)
    monkeypatch.setattr(parts, "ALTOGETHER", 3)
    server.put("drip.csv", content(400))
    server.tricks["drip.csv"] = web_server.drips(0.02)
    raised("timeout", lambda: store.stream("drip.csv"))


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_busy_server_is_asked_again(server: WebServer, store: HttpStore, status: int) -> None:
    data = content(100)
    server.put("busy.csv", data)
    left = [2]

    def busy(handler: web_server.Handler, data: bytes) -> None:
        left[0] -= 1
        handler.plain(status, b"later") if left[0] >= 0 else handler.well(data)

    server.tricks["busy.csv"] = busy
    assert b"".join(store.stream("busy.csv")) == data
    server.tricks["busy.csv"] = web_server.answers(status)
    error = raised("unreachable", lambda: store.stream("busy.csv"))
    assert error.retry and str(status) in error.detail


def test_a_file_that_changes_while_it_is_read(server: WebServer, store: HttpStore) -> None:
    server.put("file.bin", content(2_000_000))
    server.tricks["file.bin"] = web_server.changes(after_requests=2)
    with store.open("file.bin") as source:
        assert source.read(10) == content(10)
        source.seek(1_500_000)
        assert "was changed" in raised("changed", lambda: source.read(10)).detail


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    problem = HttpStore({"url": f"http://127.0.0.1:{port}/"}, {}).check()[0][0]
    assert problem.code == "unreachable" and f"127.0.0.1:{port}" in problem.message
    problem = HttpStore({"url": "http://no-such-host.invalid/"}, {}).check()[0][0]
    assert problem.code == "no-such-host" and "no-such-host.invalid" in problem.message


def test_what_answers_is_not_http(server: WebServer) -> None:
    problem = HttpStore({"url": server.url.replace("http:", "https:")}, {}).check()[0][0]
    assert problem.code == "unreachable" and "TLS" in problem.message


# Redirects


def test_redirects_are_followed(server: WebServer, store: HttpStore) -> None:
    server.put("file.csv", b"1,2\n")
    for hop in range(5):
        server.tricks[f"hop-{hop}"] = web_server.redirects(f"/hop-{hop + 1}" if hop < 4 else "/file.csv")
    assert b"".join(store.stream("hop-0")) == b"1,2\n"
    server.tricks["hop-4"] = web_server.redirects("/hop-0")
    assert "more than 5 times" in raised("failed", lambda: store.stat("hop-0")).detail


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://0xA9FEA9FE/",
        "http://0/",
        "http://[fe80::1]/",
    ],
)
def test_a_redirect_to_a_forbidden_address(server: WebServer, store: HttpStore, target: str) -> None:
    server.tricks["trap"] = web_server.redirects(target)
    error = raised("forbidden-address", lambda: store.stat("trap"))
    assert "not allowed" in error.detail and "ATELIER_DATA_ALLOW" in error.hint


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", ""])
def test_a_redirect_to_what_is_not_the_web(server: WebServer, store: HttpStore, target: str) -> None:
    server.tricks["trap"] = web_server.answers(302, Location=target)
    raised("failed", lambda: store.stat("trap"))


def test_the_sign_in_stays_with_its_server(server: WebServer) -> None:
    server.put("file.csv", b"1")
    with web_server.running() as other:
        other.put("file.csv", b"elsewhere")
        server.tricks["away"] = web_server.redirects(f"{other.url}file.csv")
        server.tricks["here"] = web_server.redirects("/file.csv")
        store = HttpStore({"url": server.url, "user": "ann"}, {"password": "hunter2"})
        assert b"".join(store.stream("away")) == b"elsewhere"
        assert all("authorization" not in headers for _path, headers in other.requests)
        assert b"".join(store.stream("here")) == b"1"
        assert all("authorization" in headers for _path, headers in server.requests)


# Sign-in, and secrets


def test_a_name_and_password(server: WebServer) -> None:
    server.put("file.csv", b"1")
    server.wanted = ("Authorization", "Basic YW5uOmh1bnRlcjI=")
    store = HttpStore({"url": server.url, "user": "ann"}, {"password": "hunter2"})
    assert store.check()[0] == [] and b"".join(store.stream("file.csv")) == b"1"
    problem = HttpStore({"url": server.url, "user": "ann"}, {"password": "wrong-secret"}).check()[0][0]
    assert problem.code == "refused-key" and "wrong-secret" not in problem.message
    error = raised("forbidden", lambda: HttpStore({"url": server.url}, {}).stat("file.csv"))
    assert "sign-in" in error.detail


def test_a_fixed_header(server: WebServer) -> None:
    server.put("file.csv", b"1")
    server.wanted = ("X-Api-Key", "k-123")
    store = HttpStore({"url": server.url, "header_name": "X-Api-Key"}, {"header_value": "k-123"})
    assert b"".join(store.stream("file.csv")) == b"1"
    broken = HttpStore({"url": server.url, "header_name": "X-Api-Key"}, {"header_value": "k-123\r\nHost: x"})
    error = raised("failed", lambda: broken.stat("file.csv"))
    assert error.errors == {"header_value": [error.detail]} and "k-123" not in error.detail
    for own in ("Host", "content-length", "Transfer-Encoding"):
        store = HttpStore({"url": server.url, "header_name": own}, {"header_value": "x"})
        raised("failed", functools.partial(store.stat, "a"))
    raised("failed", lambda: HttpStore({"url": server.url, "header_name": "a b"}, {"header_value": "x"}).stat("a"))


@pytest.mark.parametrize(
    ("url", "field"),
    [("ftp://x/y", "url"), ("http://", "url"), ("", "url"), ("http://u:p4ss@h/", "url"), ("http://h/?sig=k3y", "url")],
)
def test_addresses_that_cannot_be_used(url: str, field: str) -> None:
    error = raised("failed", lambda: HttpStore({"url": url}, {}).stat("a.csv"))
    assert list(error.errors) == [field] and "p4ss" not in error.detail and "k3y" not in error.detail
    assert "p4ss" not in HttpStore({"url": url}, {}).address() and "k3y" not in HttpStore({"url": url}, {}).address()


def test_an_address_with_a_password(server: WebServer) -> None:
    error = raised("failed", lambda: WebFile(server.url.replace("//", "//ann:p4ss@")))
    assert "p4ss" not in error.detail and "as a datastore" in error.hint
    server.tricks["away"] = web_server.redirects(server.url.replace("//", "//ann:p4ss@"))
    assert "p4ss" not in raised("failed", lambda: WebFile(f"{server.url}away").head()).detail


SECRET = "sig=T0pS3cret%2Bkey%3D"


@pytest.mark.parametrize(
    "trick",
    [
        web_server.answers(403),
        web_server.answers(404),
        web_server.answers(418),
        web_server.answers(500),
        web_server.claims(9000),
        web_server.claims(10),
        web_server.endless(),
        web_server.stalls(seconds=1.0),
        web_server.drops(after=10, times=1000),
        web_server.changes(after_requests=1),
        web_server.redirects(f"http://169.254.169.254/x?{SECRET}"),
        web_server.redirects(f"ftp://host/x?{SECRET}"),
        web_server.redirects(f"/file.csv?{SECRET}&again=1"),
    ],
)
def test_no_error_shows_a_signature(server: WebServer, trick: web_server.Trick) -> None:
    server.put("file.csv", content(5000))
    server.tricks["file.csv"] = trick
    with pytest.raises(StoreError) as caught:
        list(WebFile(f"{server.url}file.csv?{SECRET}").stream())
    error: BaseException | None = caught.value
    while error is not None:
        assert "T0pS3cret" not in f"{error} {error!r} {vars(error)}"
        error = error.__cause__
    assert "file.csv" in caught.value.detail or "169.254" in caught.value.detail or "ftp://host" in caught.value.detail


def test_a_signed_address_is_read_with_its_query(server: WebServer) -> None:
    server.put("blob.csv", b"1,2")
    asked: list[str] = []

    def signed(handler: web_server.Handler, data: bytes) -> None:
        asked.append(handler.path)
        handler.well(data) if SECRET in handler.path else handler.plain(403, b"no")

    server.tricks["blob.csv"] = signed
    file = WebFile(f"{server.url}blob.csv?sv=2024&{SECRET}")
    assert b"".join(file.stream()) == b"1,2" and file.path == f"{server.url}blob.csv"
    assert all(SECRET in path for path in asked)


def test_no_log_shows_a_signature(server: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    """Also where an administrator asked for every detail."""
    with caplog.at_level("DEBUG"):
        server.put("blob.csv", b"1")
        list(WebFile(f"{server.url}blob.csv?{SECRET}").stream())
        logging.getLogger("studio").debug("every detail")
    assert "every detail" in caplog.text and "T0pS3cret" not in caplog.text


def test_an_expired_signature_says_when(server: WebServer) -> None:
    server.tricks["blob.csv"] = web_server.answers(403)
    error = raised(
        "expired-signature", lambda: WebFile(f"{server.url}blob.csv?se=2020-01-02T03:04:05Z&{SECRET}").head()
    )
    assert "2020-01-02 03:04 UTC" in error.detail
    amazon = "X-Amz-Date=20200102T030405Z&X-Amz-Expires=60&X-Amz-Signature=abc"
    assert web.expiry(f"{server.url}x?{amazon}") == dt.datetime(2020, 1, 2, 3, 5, 5, tzinfo=dt.UTC)
    assert web.expiry(f"{server.url}x?Expires=1577934245") == dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert web.expiry(f"{server.url}x?se=soon") is None and web.expiry(f"{server.url}x") is None
    raised("refused-key", lambda: WebFile(f"{server.url}blob.csv?se=2999-01-02T03:04:05Z&{SECRET}").head())


# Encodings


def test_an_answer_that_is_compressed_on_its_way(server: WebServer, store: HttpStore) -> None:
    data = b"a,b\n1,2\n" * 50_000
    server.put("file.csv", data)
    server.tricks["file.csv"] = web_server.zipped
    assert store.stat("file.csv").size is None
    assert b"".join(store.stream("file.csv")) == data
    assert b"".join(store.stream("file.csv", 8, 8)) == data[8:16]
    with store.open("file.csv") as source:
        source.seek(0, 2)
        assert source.tell() == len(data)
        source.seek(16)
        assert source.read(8) == data[16:24]


def test_a_compressed_file_stays_as_it_is(server: WebServer, store: HttpStore) -> None:
    server.put("file.csv.gz", b"a,b\n1,2\n" * 500)
    server.tricks["file.csv.gz"] = web_server.zipped
    assert gzip.decompress(b"".join(store.stream("file.csv.gz"))) == b"a,b\n1,2\n" * 500


def test_a_server_is_asked_for_no_more_than_needed(server: WebServer, store: HttpStore) -> None:
    server.put("big.bin", content(20_000_000))
    with store.open("big.bin") as source:
        assert hashlib.sha256(source.read(1000)).digest() == hashlib.sha256(content(1000)).digest()
    ranges = [headers["range"] for _path, headers in server.requests]
    assert len(ranges) == 2
    start, end = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", ranges[1]).groups())  # type: ignore[union-attr]
    assert end - start < 300_000
