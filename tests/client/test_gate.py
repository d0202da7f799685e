"""The client in a container: HTTP through a socket of the studio's gate, against a real server on one."""

from __future__ import annotations

import http.client
import io
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest
from atelier import gate, transport
from atelier.data.remote import StudioAddress, bring
from atelier.exceptions import StudioUnreachable
from atelier.transport import Transport

URL = "http://studio.example.test:8700"  # no such host
CONTENT = os.urandom(3 << 20)


class Web(ThreadingMixIn, UnixStreamServer):
    """A web process of the studio. ``seen``: (method, path, headers, body)."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def address_string(self) -> str:
                return "-"

            def any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                web.seen.append((self.command, self.path, dict(self.headers), body))
                first = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
                answer = CONTENT[first:] if self.path.endswith("/content") else b'{"name": "main"}'
                self.send_response(206 if "Range" in self.headers else 200)
                self.send_header("Content-Length", str(len(answer)))
                if "Range" in self.headers:
                    self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = any

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(str(path), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def end(self) -> None:
        """Its socket file stays, as of a killed process."""
        self.shutdown()
        self.server_close()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the gate, its path short enough for a socket; the run's own studio is at URL."""
    folder = Path(tempfile.mkdtemp(prefix="atelier-gate-"))
    monkeypatch.setenv("ATELIER_GATE", str(folder))
    monkeypatch.setenv("AZUREML_SERVICE_ENDPOINT", URL + "/")
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No pauses between attempts."""
    pauses: list[float] = []
    monkeypatch.setattr(transport, "_pause", lambda attempt, asked: pauses.append(attempt))
    return pauses


def left_behind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def test_everything_goes_through(place: Path) -> None:
    web = Web(place / "web-1.sock")
    studio = Transport(URL, lambda: "secret")
    assert studio.request("GET", "/api/v1/me").json() == {"name": "main"}
    assert studio.request("POST", "/up", body=io.BytesIO(CONTENT), headers={"Content-Length": str(len(CONTENT))}).json()
    target = io.BytesIO()
    assert studio.download("/content", target) == len(CONTENT) and target.getvalue() == CONTENT
    method, _path, headers, body = web.seen[1]
    assert method == "POST" and body == CONTENT and headers["Authorization"] == "Bearer secret"
    assert {seen[2]["Host"] for seen in web.seen} == {"studio.example.test:8700"}, "as over the network"

    class Workspace:
        name, endpoint, _transport = "main", URL, studio

        @staticmethod
        def _path(path: str) -> str:
            return f"/{path}"

    target = io.BytesIO()
    assert bring(StudioAddress(Workspace(), "content", "a file"), target, len(CONTENT)) == len(CONTENT)
    web.end()


def test_an_address_with_tls(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web(place / "web-1.sock")
    for url in ("https://studio.example.test", "https://studio.example.test:8443/base"):
        monkeypatch.setenv("AZUREML_SERVICE_ENDPOINT", url)
        assert Transport(url).request("GET", "/me").status == 200
    assert [(seen[2]["Host"], seen[1]) for seen in web.seen] == [
        ("studio.example.test", "/me"),
        ("studio.example.test:8443", "/base/me"),
    ]
    web.end()


def test_newest_first_and_dead_ones_left_out(place: Path) -> None:
    old, new = Web(place / "web-1.sock"), Web(place / "web-2.sock")
    left_behind(place / "web-3.sock")
    (place / "web-4.sock").write_text("no socket at all")
    (place / "far").write_text("")
    now = time.time()
    for age, name in enumerate(["web-4.sock", "web-3.sock", "web-2.sock", "web-1.sock"]):
        os.utime(place / name, (now - age, now - age))
    studio = Transport(URL)
    studio.request("GET", "/me")
    assert (len(old.seen), len(new.seen)) == (0, 1)
    new.end()
    studio.close()
    studio.request("GET", "/me")
    assert (len(old.seen), len(new.seen)) == (1, 1)
    old.end()


def test_started_again_meanwhile(place: Path, quick: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that may not be repeated is sent once the web process listens again, more patiently than elsewhere."""
    first = Web(place / "web-1.sock")
    studio = Transport(URL)
    studio.request("GET", "/me")
    first.end()
    studio.close()
    second: list[Web] = []

    def pause(attempt: int, _asked: str | None) -> None:
        if attempt == transport.RETRIES + 2:
            second.append(Web(place / "web-2.sock"))

    monkeypatch.setattr(transport, "_pause", pause)
    assert studio.request("POST", "/once", data={"a": 1}).status == 200
    assert [seen[:2] for seen in second[0].seen] == [("POST", "/once")]
    second[0].end()


def test_errors_say_what_to_look_at(place: Path, quick: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    studio = Transport(URL)
    with pytest.raises(StudioUnreachable, match=r"is empty: the studio's web process.*AllowStreamLocalForwarding"):
        studio.request("GET", "/me")
    assert len(quick) == transport.GATE_RETRIES - 1
    left_behind(place / "web-1.sock")
    with pytest.raises(StudioUnreachable, match="leads to nobody"):
        studio.request("GET", "/me")
    monkeypatch.setenv("ATELIER_GATE", str(place / "gone"))
    with pytest.raises(StudioUnreachable, match="is not there"):
        Transport(URL).request("GET", "/me")


def test_the_network_where_the_gate_leads_nowhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("AZUREML_SERVICE_ENDPOINT", url)

        def answer() -> None:
            near, _address = listener.accept()
            near.recv(65536)
            near.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        threading.Thread(target=answer, daemon=True).start()
        studio = Transport(url)
        assert studio.request("GET", "/me").status == 200
        connection = studio._local.connection
        assert type(connection) is http.client.HTTPConnection and connection.sock.gettimeout() == studio.timeout
        studio.close()


def test_for_the_runs_own_studio_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another studio's token must not come here; and outside a container there is no gate."""
    assert gate.folder(URL) == str(place) and gate.folder("http://other.example.test") is None
    assert Transport("http://other.example.test")._gate is None
    monkeypatch.delenv("AZUREML_SERVICE_ENDPOINT")
    assert gate.folder(URL) is None
    monkeypatch.setenv("AZUREML_SERVICE_ENDPOINT", URL)
    monkeypatch.delenv("ATELIER_GATE")
    assert gate.folder(URL) is None and not gate.is_far()


def test_a_proxy_of_the_environment_is_no_way_to_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example.test:3128")
    web = Web(place / "web-1.sock")
    assert Transport(URL).request("GET", "/me").status == 200
    assert web.seen[0][1] == "/me"
    web.end()


def test_what_is_registered_goes_ahead(place: Path, unit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the studio has none of the run's files before its end; the same names as it would find them under."""
    from atelier.run import Run

    monkeypatch.setenv("AZUREML_SERVICE_ENDPOINT", URL)
    (unit / "outputs" / "m").mkdir()
    (unit / "outputs" / "m" / "a.bin").write_text("a")
    (unit / "code" / "b.bin").write_text("b")
    run = Run.get_context()
    sent: list[tuple[str, bytes]] = []
    monkeypatch.setattr(run, "_put", lambda name, file, size: sent.append((name, file.read())))
    assert run._ahead("outputs/m") == "outputs/m" and sent == [], "here the studio sees them itself"
    (place / "far").write_text("")
    assert run._ahead("outputs/m") == "outputs/m" and sent == [("outputs/m/a.bin", b"a")]
    assert run._ahead("outputs/b.bin") == "outputs/b.bin" and sent[1:] == [("outputs/b.bin", b"b")]
    assert run._ahead("none.bin") == "none.bin" and len(sent) == 2
