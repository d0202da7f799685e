"""The scoring process by itself: a real process, a real model, real sockets."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models_registry.conftest import IRIS, http, wait
from tests.stack import free_port

SERVING = Path(__file__).resolve().parent.parent.parent / "models_registry" / "serving"
Start = Callable[..., "Server"]


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Server:
    def __init__(self, python: str, model: Path, folder: Path, *more: str, key: str = "first-key") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = key
        self.log = folder / "stdout.log"
        self.keys = folder / "service-keys.json"
        shutil.copytree(SERVING, folder / "serving")  # as in a unit: only the package lies in the working folder
        self.process = subprocess.Popen(
            [
                python,
                "-m",
                "serving.server",
                "--model",
                str(model),
                "--port",
                str(self.port),
                "--keys",
                str(self.keys),
                *more,
            ],
            cwd=folder,
            env={**os.environ, "ATELIER_KEY_DIGESTS": digest(key)},
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
        )

    def ready(self) -> Server:
        wait(lambda: http(self.url + "/healthz")[1]["status"] != "loading", 40, self.log.read_text())
        return self

    def score(self, body: Any, **more: Any) -> tuple[int, Any]:
        return http(self.url + "/score", body, more.pop("key", self.key), **more)

    def raw(self, data: bytes, *, more: bytes = b"", pause: float = 0.0) -> bytes:
        """Everything that comes back until the server closes, or half a second passes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
            client.sendall(data)
            if more:
                time.sleep(pause)
                client.sendall(more)
            client.settimeout(0.7)
            out = b""
            try:
                while part := client.recv(65536):
                    out += part
            except TimeoutError:
                pass
            return out

    def post(self, body: bytes, extra: bytes = b"") -> bytes:
        return (
            b"POST /score HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + self.key.encode() + b"\r\n" + extra
            + b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
        )  # fmt: skip


@pytest.fixture(scope="module")
def server(sklearn_python: str, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(sklearn_python, trained / "iris.joblib", tmp_path_factory.mktemp("service"), "--max-body", "1000000")
    yield found.ready()
    found.process.kill()
    found.process.wait()


@pytest.fixture
def start(sklearn_python: str, trained: Path, tmp_path: Path) -> Iterator[Start]:
    made: list[Server] = []

    def run(model: str | Path, *more: str) -> Server:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Server(sklearn_python, trained / model, folder, *more))
        return made[-1].ready()

    yield run
    for one in made:
        one.process.kill()
        one.process.wait()


class TestScore:
    def test_list_of_answers(self, server: Server) -> None:
        assert server.score(IRIS) == (200, [0, 2])

    def test_named_method(self, server: Server) -> None:
        assert server.score({**IRIS, "method": "predict"}) == (200, {"predict": [0, 2]})
        status, answer = server.score({**IRIS, "method": "predict_proba"})
        assert status == 200
        assert [round(sum(row), 6) for row in answer["predict_proba"]] == [1.0, 1.0]

    def test_no_rows(self, server: Server) -> None:
        assert server.score({"data": []}) == (200, [])

    @pytest.mark.parametrize(
        ("body", "status", "says"),
        [
            ({"data": [[1, 2, 3]]}, 422, "Row 0 has 3 values; the model takes 4"),
            ({"data": [[1, 2, 3, 4], [1]]}, 422, "Row 1 has 1 values"),
            ({"data": [[1, 2, "x", 4]]}, 422, "Row 0, column 2: 'x' is not a number"),
            ({"data": [[1, 2, None, 4]]}, 422, "Row 0, column 2: the value is missing"),
            ({"data": [1, 2, 3, 4]}, 422, "a list of its own"),
            ({"data": [[1, 2, [3], 4]]}, 422, "Row 0, column 2: a single value"),
            ({"data": [{"a": 1}]}, 422, "without column names"),
            ({"data": "x"}, 422, "a list of rows"),
            ({"rows": []}, 422, 'an object with "data"'),
            ([1], 422, 'an object with "data"'),
            ({"data": [[1, 2, 3, 4]], "method": "__class__"}, 422, "method must be one of"),
            (b"{", 400, "not JSON (line 1"),
            (b"\xff\xfe", 400, "not JSON"),
            (b"[" * 200_000, 400, "nested too deeply"),
            (b'{"data": [[1e999, 0, 0, 0]]}', 422, "infinite"),
            (b'{"data": [[' + b"9" * 400 + b", 0, 0, 0]]}", 422, ""),
        ],
    )
    def test_bad_input_is_named(self, server: Server, body: Any, status: int, says: str) -> None:
        got, answer = server.score(body)
        assert got == status
        assert says in answer["detail"]
        assert "Traceback" not in json.dumps(answer)

    def test_wrong_kind_of_content(self, server: Server) -> None:
        assert server.score(b"x", mime="application/octet-stream")[0] == 415

    def test_one_bad_request_does_not_spoil_its_batch(self, server: Server) -> None:
        results: dict[int, Any] = {}

        def call(number: int) -> None:
            body = {"data": [[1, 2, None, 4]]} if number % 4 == 0 else IRIS
            results[number] = server.score(body)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, result in results.items():
            assert result[0] == (422 if number % 4 == 0 else 200)
            if number % 4:
                assert result[1] == [0, 2]


class TestOtherModels:
    def test_columns_by_name(self, start: Start) -> None:
        server = start("named.joblib")
        rows = [{"colour": "red", "size": 1.0}, {"size": 2, "colour": "blue"}]
        assert server.score({"data": rows}) == (200, ["a", "b"])
        assert server.score({"data": [["red", 1.0], ["blue", 2]]}) == (200, ["a", "b"])
        assert (
            "lacks 'size' and has the unknown 'weight'"
            in server.score({"data": [{"colour": "red", "weight": 1}]})[1]["detail"]
        )
        wrong = server.score({"data": [["red", "heavy"]]})
        assert wrong[0] == 422
        assert "'size'" in wrong[1]["detail"]
        document = http(server.url + "/swagger.json")[1]
        body = document["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert server.score(body)[0] == 200

    def test_texts(self, start: Start) -> None:
        assert start("text.joblib").score({"data": ["good", "bad night"]}) == (200, ["+", "-"])

    def test_a_slow_model_leaves_the_loop_free(self, start: Start) -> None:
        server = start("forest.joblib")
        threads = [threading.Thread(target=server.score, args=(IRIS,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        begun = time.perf_counter()
        assert http(server.url + "/healthz")[0] == 200
        assert time.perf_counter() - begun < 2
        for thread in threads:
            thread.join()
        metrics = http(server.url + "/metrics", key=server.key)[1]
        assert metrics["by_status"] == {"200": 20}
        assert metrics["largest_batch"] > 2

    def test_a_file_that_is_no_model(self, start: Start, tmp_path: Path) -> None:
        (tmp_path / "bad.joblib").write_bytes(b"nothing of the kind")
        server = start(tmp_path / "bad.joblib")
        status, health = http(server.url + "/healthz")
        assert (status, health["status"]) == (503, "failed")
        assert "bad.joblib is not a model" in health["error"]
        assert server.score(IRIS)[0] == 503
        assert "Traceback" in server.log.read_text()


class TestKeys:
    def test_wrong_missing_and_right(self, server: Server) -> None:
        assert server.score(IRIS, key="") == (
            401,
            {"status": 401, "title": "Unauthorized", "detail": "Send the endpoint's key: Authorization: Bearer <key>."},
        )
        assert server.score(IRIS, key="other")[0] == 401
        assert http(server.url + "/metrics")[0] == 401
        assert http(server.url + "/healthz")[0] == 200

    def test_rotation_without_restart(self, start: Start) -> None:
        server = start("iris.joblib")
        fresh = server.keys.with_suffix(".new")
        fresh.write_text(json.dumps({"digests": [digest("second-key")]}))
        fresh.replace(server.keys)
        assert server.score(IRIS)[0] == 401
        assert server.score(IRIS, key="second-key") == (200, [0, 2])
        server.keys.write_text("{half")  # never believed
        assert server.score(IRIS, key="second-key")[0] == 200

    def test_keys_are_not_in_the_log(self, server: Server) -> None:
        assert server.key not in server.log.read_text()
        assert digest(server.key) not in server.log.read_text()


class TestProtocol:
    def test_keep_alive_and_pipelining_in_order(self, server: Server) -> None:
        first = server.post(json.dumps({"data": [[5.1, 3.5, 1.4, 0.2]]}).encode())
        second = server.post(json.dumps({"data": [[6.7, 3.0, 5.2, 2.3]]}).encode())
        out = server.raw((first + second) * 100)
        assert out.count(b"HTTP/1.1 200 OK") == 200
        answers = [part.partition(b"\r\n\r\n")[2].strip() for part in out.split(b"HTTP/1.1 200 OK")[1:]]
        assert answers == [b"[0]", b"[2]"] * 100

    def test_chunked_body(self, server: Server) -> None:
        body = json.dumps(IRIS).encode()
        head = (
            b"POST /score HTTP/1.1\r\nAuthorization: Bearer "
            + server.key.encode()
            + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunks = b"".join(b"%x;x=y\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:]))
        assert server.raw(head + chunks + b"0\r\nA: b\r\n\r\n").endswith(b"[0, 2]")
        assert server.raw(head + chunks[:9], more=chunks[9:] + b"0\r\n\r\n", pause=0.1).endswith(b"[0, 2]")

    def test_byte_by_byte(self, server: Server) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in server.post(json.dumps(IRIS).encode()):
                client.sendall(bytes([byte]))
            assert client.recv(4096).endswith(b"[0, 2]")

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"hello\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
            (b"GET / HTTP/2.0\r\n\r\n", 505),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nA: " + b"a" * 20_000 + b"\r\n\r\n", 431),
            (b"GET /" + b"a" * 20_000, 431),
            (b"POST /score HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
            (b"POST /score HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            (b"POST /score HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"POST /score HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
            (b"POST /score HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
            (b"POST /score HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
            (b"POST /score HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"fffff\r\n" + b"x" * 0xFFFFF, 413),
            (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
            (b"DELETE /healthz HTTP/1.1\r\n\r\n", 405),
        ],
    )
    def test_bad_requests_have_clean_answers(self, server: Server, data: bytes, status: int) -> None:
        out = server.raw(data)
        assert out.startswith(b"HTTP/1.1 %d " % status)
        assert json.loads(out.partition(b"\r\n\r\n")[2])["status"] == status
        assert http(server.url + "/healthz")[0] == 200

    async def test_slow_sender(self) -> None:
        from models_registry.serving import protocol

        sent: list[bytes] = []

        class Transport:
            def write(self, data: bytes) -> None:
                sent.append(data)

            def close(self) -> None: ...

            def write_eof(self) -> None: ...

            def is_closing(self) -> bool:
                return False

        connection = protocol.Connection(lambda request: None, set())
        connection.connection_made(Transport())
        connection.data_received(b"POST /score HTTP/1.1\r\nContent-Le")
        connection.sweep(connection.since + protocol.SLOW_S + 1)
        assert sent[0].startswith(b"HTTP/1.1 408 ")

    def test_head_and_close(self, server: Server) -> None:
        out = server.raw(b"HEAD /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert b"Connection: close" in out
        assert out.endswith(b"\r\n\r\n")


class TestLife:
    def test_sigterm_answers_what_was_asked(self, start: Start) -> None:
        server = start("iris.joblib")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert "open requests are answered first" in server.log.read_text()

    def test_a_taken_port_is_waited_for(self, sklearn_python: str, trained: Path, tmp_path: Path) -> None:
        shutil.copytree(SERVING, tmp_path / "serving")
        with socket.socket() as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = holder.getsockname()[1]
            process = subprocess.Popen(
                [
                    sklearn_python,
                    "-m",
                    "serving.server",
                    "--model",
                    str(trained / "iris.joblib"),
                    "--port",
                    str(port),
                    "--auth",
                    "none",
                ],
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
            )
            time.sleep(1.0)
            assert process.poll() is None
        try:
            wait(lambda: http(f"http://127.0.0.1:{port}/score", IRIS)[1] == [0, 2], 40)
        finally:
            process.kill()
            process.wait()
