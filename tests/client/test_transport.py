"""HTTP against a real server on a socket: kept connections, what is tried again and what is not, errors, addresses."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from atelier import config
from atelier.exceptions import AuthenticationException, ServiceException, StudioUnreachable, UserErrorException
from atelier.run import Run
from atelier.transport import Transport
from atelier.workspace import Workspace


class Studio:
    """``answers`` are called one after another, the last one again and again; ``seen`` are the requests."""

    def __init__(self) -> None:
        self.answers: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections = 0
        studio = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                studio.connections += 1
                super().setup()

            def any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                studio.seen.append((self.command, self.path, dict(self.headers), body))
                answer = studio.answers.pop(0) if len(studio.answers) > 1 else studio.answers[0]
                answer(self)

            do_GET = do_POST = do_PUT = do_DELETE = any

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


def say(body: bytes = b"{}", status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


def half(body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer that promises more than comes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) * 2))
        handler.end_headers()
        handler.wfile.write(body)
        handler.wfile.flush()
        hang_up(handler)

    return answer


@pytest.fixture
def studio() -> Iterator[Studio]:
    found = Studio()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_one_connection_serves_many_calls(studio: Studio) -> None:
    studio.answers = [say(b'{"a": 1}')]
    transport = Transport(studio.url, lambda: "secret")
    for _ in range(5):
        assert transport.request("GET", "/x", params={"q": "a b", "none": None}).json() == {"a": 1}
    assert studio.connections == 1
    assert studio.seen[0][1] == "/x?q=a+b" and studio.seen[0][2]["Authorization"] == "Bearer secret"


def test_what_may_be_repeated_is_tried_again(studio: Studio) -> None:
    studio.answers = [hang_up, say(b"", 503), say(b'"done"')]
    assert Transport(studio.url).request("GET", "/").json() == "done"
    studio.answers = [hang_up, say(b'"made"')]
    key = {"Idempotency-Key": "k"}
    assert Transport(studio.url).request("POST", "/", data={"a": 1}, headers=key).json() == "made"
    assert [seen[3] for seen in studio.seen[-2:]] == [b'{"a": 1}'] * 2
    studio.answers = [hang_up, say(b'"put"')]
    assert Transport(studio.url).request("PUT", "/", body=io.BytesIO(b"12345"), headers={"Content-Length": "5"})
    assert studio.seen[-1][3] == b"12345"


def test_a_plain_post_is_sent_once(studio: Studio) -> None:
    studio.answers = [hang_up]
    with pytest.raises(StudioUnreachable, match="does not answer"):
        Transport(studio.url).request("POST", "/", data={})
    assert len(studio.seen) == 1


def test_a_connection_that_the_studio_closed_is_opened_again(studio: Studio) -> None:
    def last(handler: BaseHTTPRequestHandler) -> None:
        say(b"1")(handler)
        hang_up(handler)

    studio.answers = [last, say(b"2")]
    transport = Transport(studio.url)
    assert transport.request("GET", "/").json() == 1
    threading.Event().wait(0.05)
    assert transport.request("POST", "/", data={}).json() == 2


def test_errors_are_in_the_studio_s_words(studio: Studio) -> None:
    problem = {"type": "urn:x", "detail": "Not so.", "errors": {"name": ["is taken"]}}
    studio.answers = [say(json.dumps(problem).encode(), 422)]
    with pytest.raises(ServiceException, match=r"Not so\.\n  name: is taken") as caught:
        Transport(studio.url).request("POST", "/", data={})
    assert caught.value.status_code == 422 and caught.value.problem["type"] == "urn:x"
    studio.answers = [say(b"<html>", 500)]
    with pytest.raises(ServiceException, match=r"500 to GET /x"):
        Transport(studio.url).request("GET", "/x")
    studio.answers = [say(b'{"detail": "expired"}', 401)]
    with pytest.raises(AuthenticationException, match="expired.*atelier login"):
        Transport(studio.url).request("GET", "/x")


def test_nobody_there_is_said_with_the_address() -> None:
    with pytest.raises(StudioUnreachable, match=r"The studio at http://127\.0\.0\.1:9 does not answer"):
        Transport("127.0.0.1:9").request("GET", "/", retries=1)
    with pytest.raises(AuthenticationException, match="not the address"):
        Transport("ftp://x")


def test_a_download_goes_on_where_it_broke_off(studio: Studio) -> None:
    studio.answers = [half(b"abc"), say(b"def", 206)]
    target = io.BytesIO()
    assert Transport(studio.url).download("/file", target) == 6
    assert target.getvalue() == b"abcdef" and studio.seen[1][2]["Range"] == "bytes=3-"


def test_loopback_goes_past_a_proxy(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    studio.answers = [say(b"1")]
    assert Transport(studio.url).request("GET", "/").json() == 1
    assert Transport("http://studio.example")._proxy == ("127.0.0.1", 9)


def test_a_log_is_given_once_over_broken_and_repeated_answers(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_TOKEN", "t")
    ws = Workspace(workspace_name="main", endpoint=studio.url, _disable_service_check=True)

    def piece(start: int, body: bytes, size: int, sealed: str = "false") -> Callable[[BaseHTTPRequestHandler], None]:
        return say(body, X_Atelier_Offset=str(start), X_Atelier_Size=str(size), X_Atelier_Sealed=sealed)

    studio.answers = [
        piece(0, b"one\n", 4),
        hang_up,
        half(b"two\n"),
        piece(0, b"one\ntwo\n", 8),  # begins before what was asked for: the beginning is known already
        piece(8, b"", 8),
        say(b'{"status": "Running"}'),
        piece(8, b"three\n", 14, "true"),
        piece(14, b"", 14, "true"),
    ]
    received: list[bytes] = []
    run = Run(ws.experiments, "r", _data={})  # type: ignore[arg-type]
    monkeypatch.setattr(Run, "workspace", ws)
    assert run.stream(received.append) == 14
    assert b"".join(received) == b"one\ntwo\nthree\n"


def test_where_the_configuration_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    with pytest.raises(UserErrorException, match=r"aml_config/config\.json in .*a/b"):
        config.config_find()
    for place in ("aml_config", ".azureml", "."):
        (tmp_path / place).mkdir(exist_ok=True)
        file = tmp_path / place / "config.json"
        file.write_text('{"workspace_name": "w"}')
        assert config.config_find() == file.resolve()
    assert config.config_find(tmp_path / "aml_config" / "config.json").parent.name == "aml_config"
    (tmp_path / "other.json").write_text('{"workspace_name": "w"}')
    assert config.config_find(None, "other.json").name == "other.json"


def test_a_token_goes_to_its_own_studio_only(monkeypatch: pytest.MonkeyPatch) -> None:
    config.credentials_save("http://one:1/", "token-one", "ann")
    config.credentials_save("http://two:2", "token-two", "ann")
    assert config.token_find("http://one:1") == "token-one" and config.token_find("http://three:3") is None
    assert config.endpoint_resolve() == "http://two:2"
    assert config.endpoint_resolve("http://one:1") == "http://one:1"
    monkeypatch.setenv("AZUREML_RUN_TOKEN", "unit")
    monkeypatch.setenv("AZUREML_SERVICE_ENDPOINT", "http://own:3")
    assert config.token_find("http://own:3") == "unit" and config.token_find("http://three:3") is None
    assert (config.home() / "credentials").stat().st_mode & 0o777 == 0o600
