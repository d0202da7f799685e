"""Large bodies through a real Daphne: the same bytes, and memory that stays flat however slow the client is."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import RequestAborted
from django.db import connection

from bench._client import Client, prepare
from studio.lib.flow import Body, Query, _spool
from tests.stack import Stack

pytestmark = pytest.mark.services

SIZE = 96 << 20
SLACK = 48 << 20  # far below SIZE: a body held in memory would show


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, dict[str, str]]]:
    stack = Stack(tmp_path_factory.mktemp("flow"))
    try:
        stack.migrate()
        stack.start("valkey", "daphne")
        yield stack, prepare(stack)
    finally:
        stack.stop()


def memory(stack: Stack) -> int:
    """Most bytes that Daphne has ever held."""
    status = Path(f"/proc/{stack.processes['daphne'].pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_up_and_down_with_flat_memory(stack: Any, tmp_path: Path) -> None:
    services, made = stack
    client = Client(services, {"Authorization": f"Bearer {made['token']}"})
    path = f"/api/v1/workspaces/bench/runs/{made['run']}/files/content/outputs/big.bin"
    client.call("PUT", path, b"x" * 200_000)  # everything is imported
    source = tmp_path / "big.bin"
    block = bytes(range(256)) * 4096
    with source.open("wb") as handle:
        for _number in range(SIZE >> 20):
            handle.write(block)
    before = memory(services)
    with source.open("rb") as handle:
        answer = json.loads(client.call("PUT", path, handle, **{"Content-Length": str(SIZE)}))
    assert answer == {"path": "outputs/big.bin", "offset": SIZE, "complete": True}
    client.connection.request("GET", path, headers=client.headers)
    response = client.connection.getresponse()
    with source.open("rb") as handle:
        while piece := response.read(1 << 20):
            assert piece == handle.read(len(piece))
        assert not handle.read(1)
    assert memory(services) - before < SLACK


def test_a_body_gets_its_name_without_a_copy(tmp_path: Path, settings: Any) -> None:
    settings.ATELIER_DATA = tmp_path
    spool = _spool()
    spool.write(b"hello")
    body = Body(io.FileIO(os.dup(spool.fileno()), "rb"))
    assert body.link(tmp_path / "named") == 5 and (tmp_path / "named").read_bytes() == b"hello"
    assert (tmp_path / "named").stat().st_ino == os.fstat(spool.fileno()).st_ino


def test_a_client_that_does_not_read_fills_no_memory(stack: Any) -> None:
    services, made = stack
    path = f"/api/v1/workspaces/bench/runs/{made['run']}/files/content/outputs/big.bin"
    before = memory(services)
    with socket.create_connection(("127.0.0.1", services.port)) as slow:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {made['token']}\r\n\r\n"
        slow.sendall(request.encode())
        assert slow.recv(12).startswith(b"HTTP/1.1 200")
        time.sleep(2)
        assert memory(services) - before < SLACK
    connection = http.client.HTTPConnection("127.0.0.1", services.port, timeout=30)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()


SLOW = "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 50000000) SELECT COUNT(*) FROM n"


@pytest.mark.django_db
def test_a_reader_who_goes_away_ends_the_query() -> None:
    query = Query(readonly=True)
    threading.Timer(0.3, query.stop).start()
    began = time.monotonic()
    with pytest.raises(RequestAborted), query.watched(), connection.cursor() as cursor:
        cursor.execute(SLOW)
    assert time.monotonic() - began < 2
    with pytest.raises(RequestAborted), query.watched(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@pytest.mark.django_db
def test_what_a_writer_began_goes_on() -> None:
    query = Query(readonly=False)
    with query.watched(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        query.stop()
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
