"""Files of datastores through a real Daphne: flat memory both ways, and what breaks off never looks whole."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench._client import Client, prepare
from tests.datasets.web_server import WebServer, claims, running
from tests.stack import Stack

pytestmark = pytest.mark.services

SIZE = 96 << 20
SLACK = 48 << 20  # far below SIZE: a file held in memory would show
BLOCK = bytes(range(256)) * 4096
DATA = "/api/v1/workspaces/bench/datastores"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, dict[str, str]]]:
    stack = Stack(tmp_path_factory.mktemp("data-flow"))
    try:
        stack.migrate()
        stack.start("valkey", "daphne")
        yield stack, prepare(stack)
    finally:
        stack.stop()


@pytest.fixture
def web(stack: Any) -> Iterator[tuple[WebServer, str]]:
    """A web server and the name of the datastore on it."""
    services, made = stack
    with running() as server:
        server.put("big.bin", BLOCK * 32)
        name = f"web-{server.url.rpartition(':')[2].strip('/')}"
        body = {"name": name, "kind": "http", "config": {"url": server.url}}
        client = Client(services, {"Authorization": f"Bearer {made['token']}", "Content-Type": "application/json"})
        client.call("POST", DATA, json.dumps(body).encode())
        yield server, name


def memory(stack: Stack) -> int:
    """Most bytes that Daphne has ever held."""
    status = Path(f"/proc/{stack.processes['daphne'].pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_up_and_down_with_flat_memory(stack: Any, tmp_path: Path) -> None:
    services, made = stack
    client = Client(services, {"Authorization": f"Bearer {made['token']}"})
    path = f"{DATA}/workspaceblobstore/content/in/big.bin"
    client.call("PUT", path, b"x" * 200_000)  # everything is imported
    source = tmp_path / "big.bin"
    with source.open("wb") as handle:
        for _number in range(SIZE // len(BLOCK)):
            handle.write(BLOCK)
    before = memory(services)
    half = SIZE // 2
    with source.open("rb") as handle:
        headers = {"Content-Length": str(half), "Content-Range": f"bytes 0-{half - 1}/{SIZE}"}
        answer = json.loads(client.call("PUT", path, _Part(handle, half), **headers))
        assert answer == {"path": "in/big.bin", "offset": half, "complete": False}
        headers = {"Content-Length": str(half), "Content-Range": f"bytes {half}-{SIZE - 1}/{SIZE}"}
        assert json.loads(client.call("PUT", path, _Part(handle, half), **headers))["complete"]
    client.connection.request("GET", path, headers=client.headers)
    response = client.connection.getresponse()
    with source.open("rb") as handle:
        while piece := response.read(1 << 20):
            assert piece == handle.read(len(piece))
        assert not handle.read(1)
    assert memory(services) - before < SLACK


class _Part:
    """The next bytes of a file, at most so many."""

    def __init__(self, handle: Any, size: int) -> None:
        self.handle, self.left = handle, size

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.handle.read(min(self.left, size if size >= 0 else self.left))
        self.left -= len(data)
        return data


def test_from_elsewhere_with_flat_memory(stack: Any, web: tuple[WebServer, str]) -> None:
    services, made = stack
    connection = http.client.HTTPConnection("127.0.0.1", services.port, timeout=60)
    before = memory(services)
    connection.request("GET", f"{DATA}/{web[1]}/content/big.bin", headers={"Authorization": f"Bearer {made['token']}"})
    response = connection.getresponse()
    assert response.status == 200
    seen = 0
    while piece := response.read(len(BLOCK)):
        assert piece == BLOCK
        seen += len(piece)
    assert seen == 32 * len(BLOCK) and memory(services) - before < SLACK


@pytest.mark.parametrize("known", [True, False])
def test_what_breaks_off_never_looks_whole(stack: Any, web: tuple[WebServer, str], known: bool) -> None:
    """The server ends before the length that it announced, again and again."""
    services, made = stack
    server, name = web
    server.ranges = known
    server.tricks["big.bin"] = claims(64 << 20)
    connection = http.client.HTTPConnection("127.0.0.1", services.port, timeout=45)
    connection.request("GET", f"{DATA}/{name}/content/big.bin", headers={"Authorization": f"Bearer {made['token']}"})
    response = connection.getresponse()
    if response.status == 200:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            response.read()
    else:
        assert response.status == 422
