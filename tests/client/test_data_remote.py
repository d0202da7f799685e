"""Files over HTTP from servers that behave and servers that do not: what comes is the whole file, or an error."""

from __future__ import annotations

import io
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from atelier.data import remote, store_files
from atelier.data.errors import DataError
from atelier.data.studio_source import StudioSource

BODY = bytes(range(256)) * 20_000  # 5 MB


@dataclass
class Web:
    """A web server on loopback. ``files``: path -> content; ``how``: path -> what is wrong with it."""

    files: dict[str, bytes] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    etag: str = '"1"'
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, *_arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, _mark, query = self.path.partition("?")
        span = self.headers.get("Range", "")
        self.web.asked.append((self.path, span))
        how = self.web.how.get(path, "")
        if how == "busy-twice" and sum(one[0] == self.path for one in self.web.asked) <= 2:
            return self.refuse(503, b"")
        if how == "needs-key" and query != "sig=abc%2F1":
            return self.refuse(403, b"<Error><Message>Signature did not match</Message></Error>")
        if path not in self.web.files:
            return self.refuse(404, b"")
        body = self.web.files[path]
        start, end, status = 0, len(body), 200
        if span and how != "no-ranges":
            first, _dash, last = span.removeprefix("bytes=").partition("-")
            start, status = int(first), 206
            end = min(int(last) + 1, len(body)) if last else len(body)
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
        self.send_response(status)
        total = len(body) * 2 if how == "lies" else len(body)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
        self.send_header("Content-Length", str(total if how == "lies" and status == 200 else end - start))
        self.send_header("ETag", f'"{len(self.web.asked)}"' if how == "changes" else self.web.etag)
        self.end_headers()
        piece = body[start:end]
        if how == "stalls" and (len(piece) > 1 or not span):
            self.wfile.write(piece[:1000])
            self.wfile.flush()
            self.web.over.wait(20)
            return None
        if how in ("resets", "crawls") and len(piece) > 1:
            self.wfile.write(piece[: 60_000 if how == "resets" else 100])
            self.wfile.flush()
            time.sleep(0.01)  # the bytes arrive before the end does
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return None
        if how in ("drops", "changes") and len(piece) > 1_000_000 or how == "lies":
            self.wfile.write(piece[:1_000_000])
            self.wfile.flush()
            self.connection.close()
            return None
        self.wfile.write(piece)
        return None

    def refuse(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def web() -> Iterator[Web]:
    found = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"web": found}))
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield found
    found.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "pause", lambda attempt: None)


def definition(*urls: str) -> dict[str, Any]:
    from atelier.data import definition as form

    return form.make("files", [{"url": url} for url in urls])


def test_a_file_comes_whole_once_and_then_from_the_cache(web: Web) -> None:
    web.files["/a/data.csv"] = BODY
    source = StudioSource(None)
    file = next(source.files(definition(web.url + "/a/data.csv")))
    assert (file.name, file.size, file.path) == ("data.csv", len(BODY), web.url + "/a/data.csv")
    assert Path(source.fetch(file)).read_bytes() == BODY
    count = len(web.asked)
    assert Path(StudioSource(None).fetch(file)).name == "data.csv"
    assert len(web.asked) == count
    web.etag = '"2"'
    web.files["/a/data.csv"] = BODY[:-1] + b"!"
    again = next(source.files(definition(web.url + "/a/data.csv")))
    assert Path(source.fetch(again)).read_bytes()[-1:] == b"!"


@pytest.mark.parametrize("how", ["drops", "busy-twice", "no-ranges"])
def test_what_passes_is_tried_again(web: Web, how: str) -> None:
    web.files["/f"], web.how["/f"] = BODY, how
    target = io.BytesIO()
    assert remote.bring(remote.WebAddress(web.url + "/f"), target, len(BODY)) == len(BODY)
    assert target.getvalue() == BODY


def test_a_connection_that_breaks_every_60_kb_brings_the_file(web: Web) -> None:
    body = BODY[:3_000_000]  # fifty times
    web.files["/f"], web.how["/f"] = body, "resets"
    target = io.BytesIO()
    assert remote.bring(remote.WebAddress(web.url + "/f"), target, len(body)) == len(body)
    assert target.getvalue() == body
    with remote.remote_open(remote.WebAddress(web.url + "/f"), len(body)) as file:
        assert file.read() == body


def test_a_server_that_crawls_is_given_up_in_words(web: Web) -> None:
    web.files["/f.csv"], web.how["/f.csv"] = BODY, "crawls"
    with pytest.raises(DataError) as caught:
        remote.bring(remote.WebAddress(web.url + "/f.csv"), io.BytesIO(), len(BODY))
    said = f"{web.url}/f.csv cannot be read: the server breaks the connection off; 5 attempts were made."
    assert str(caught.value) == said and len(web.asked) == 5


def test_a_server_that_lies_about_its_length_gives_no_file(web: Web, tmp_path: Path) -> None:
    web.files["/f.csv"], web.how["/f.csv"] = BODY, "lies"
    source = StudioSource(None)
    with pytest.raises(DataError, match=r"/f\.csv cannot be read") as caught:
        source.fetch(next(source.files(definition(web.url + "/f.csv"))))
    assert caught.value.file == web.url + "/f.csv"
    assert len(web.asked) < 60
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size]


def test_a_server_that_stalls_is_given_up(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_TIMEOUT", 0.2)
    web.files["/f.csv"], web.how["/f.csv"] = BODY, "stalls"
    source = StudioSource(None)
    with pytest.raises(
        DataError, match=r"/f\.csv cannot be read: the server has not sent anything for 0\.2 seconds; 5 at"
    ):
        source.fetch(next(source.files(definition(web.url + "/f.csv"))))


def test_a_file_that_changes_while_it_is_read_is_an_error(web: Web) -> None:
    web.files["/f"], web.how["/f"] = BODY, "changes"
    with pytest.raises(DataError, match="it was changed while it was read"):
        remote.bring(remote.WebAddress(web.url + "/f"), io.BytesIO(), len(BODY))


def test_a_file_of_another_size_than_was_listed_is_an_error(web: Web) -> None:
    web.files["/f"] = BODY
    with pytest.raises(DataError, match=f"has {len(BODY)} bytes, and was listed with 3"):
        remote.bring(remote.WebAddress(web.url + "/f"), io.BytesIO(), 3)


def test_one_missing_file_of_many_is_named(web: Web) -> None:
    web.files.update({f"/{number}.csv": b"a\n1\n" for number in range(200)})
    source = StudioSource(None)
    found = list(source.files(definition(*(f"{web.url}/{number}.csv" for number in range(200)))))
    del web.files["/137.csv"]
    with pytest.raises(DataError, match=r"/137\.csv cannot be read: 404 Not Found\.") as caught:
        source.fetch_all(found)
    assert caught.value.kind == "no-such-file"


def test_nobody_there_and_no_such_host() -> None:
    with pytest.raises(DataError, match="127.0.0.1:9/x cannot be read: nobody answers there"):
        remote.ask(remote.WebAddress("http://127.0.0.1:9/x"))
    with pytest.raises(DataError, match="there is no such host"):
        remote.ask(remote.WebAddress("http://nowhere.invalid/x"))


def test_a_signature_goes_to_the_server_and_into_no_message(web: Web) -> None:
    web.files["/c/b.csv"], web.how["/c/b.csv"] = b"a\n1\n", "needs-key"
    source = StudioSource(None)
    file = next(source.files(definition(web.url + "/c/b.csv?sig=abc%2F1")))
    assert Path(source.fetch(file)).read_bytes() == b"a\n1\n"
    with pytest.raises(DataError, match="403 Forbidden: Signature did not match") as caught:
        next(source.files(definition(web.url + "/c/b.csv?sig=secret")))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("how", ["", "no-ranges", "drops"])
def test_a_range_is_read_where_it_is_asked_for(web: Web, how: str) -> None:
    web.files["/f"], web.how["/f"] = BODY, how
    source = StudioSource(None)
    with source.open(next(source.files(definition(web.url + "/f")))) as file:
        file.seek(-1000, os.SEEK_END)
        assert file.read() == BODY[-1000:]
        file.seek(2_500_000)
        assert file.read(100_000) == BODY[2_500_000:2_600_000]
        file.seek(0)
        assert file.read() == BODY


def test_an_empty_file_is_empty(web: Web) -> None:
    web.files["/f"] = b""
    source = StudioSource(None)
    file = next(source.files(definition(web.url + "/f")))
    assert file.size == 0
    assert source.open(file).read() == b""
    assert Path(source.fetch(file)).read_bytes() == b""


def test_the_cache_keeps_to_its_size(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_CACHE_BYTES", "25000")
    web.files.update({f"/{number}": bytes(10_000) for number in range(6)})
    source = StudioSource(None)
    for number, file in enumerate(source.files(definition(*(f"{web.url}/{number}" for number in range(6))))):
        path = source.fetch(file)
        os.utime(path, (number, number))
        (tmp_path / "cache" / "data" / ".trimmed").unlink()
    source.fetch(next(source.files(definition(web.url + "/5"))))
    left = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert 10_000 <= left <= 30_000


def test_the_first_error_of_several_at_once_is_raised() -> None:
    def work(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    assert store_files.in_parallel(work, [1, 2, 3]) == [1, 2, 3]
    with pytest.raises(ValueError, match="five"):
        store_files.in_parallel(work, list(range(50)))
