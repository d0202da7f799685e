"""The broker that the studio starts for itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from studio.bootstrap import broker
from tests.stack import Stack


def test_the_socket_lies_under_the_data_folder_unless_its_path_is_too_long(tmp_path: Path) -> None:
    assert broker.socket_path(Path("/srv/atelier")) == Path("/srv/atelier/valkey/valkey.sock")
    long = Path("/srv") / ("x" * 120)
    short = broker.socket_path(long)
    assert len(str(short)) < broker.SOCKET_PATH_LIMIT
    assert short == broker.socket_path(long), "every process of the installation finds the same one"
    assert short != broker.socket_path(long / "other")


def test_a_binary_that_runs() -> None:
    done = subprocess.run([broker.server_binary(), "--version"], capture_output=True, text=True, check=True)
    assert "server" in done.stdout.lower()


def test_without_the_wheel_the_path_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(broker.BrokerMissing, match="REDIS_URL"):
        broker.server_binary(packages=tmp_path / "nothing")
    server = tmp_path / "redis-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    assert broker.server_binary(packages=tmp_path / "nothing") == server


@pytest.mark.services
def test_what_was_written_survives_kill_9_even_under_a_long_path(tmp_path: Path) -> None:
    import redis

    stack = Stack(tmp_path / ("long" * 25), services=("valkey",))
    try:
        stack.start("valkey")
        with redis.Redis(unix_socket_path=str(stack.socket)) as client:
            client.rpush("queue", *range(1000))
        stack.kill("valkey")
        stack.start("valkey")
        with redis.Redis(unix_socket_path=str(stack.socket)) as client:
            assert client.llen("queue") == 1000
    finally:
        stack.stop()
