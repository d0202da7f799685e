"""The servers as fixtures: started once, when the first test asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gear.azurite import Azurite
from tests.gear.s3_server import S3Server
from tests.gear.webhdfs import WebHdfs


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    server = Azurite(tmp_path_factory.mktemp("azurite"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_open(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server that lets everybody in."""
    server = S3Server(tmp_path_factory.mktemp("s3-open"), checked=False)
    yield server
    server.stop()


@pytest.fixture
def webhdfs() -> Iterator[WebHdfs]:
    server = WebHdfs()
    yield server
    server.stop()


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names below ``example`` mean the address at which clouds give out keys."""
    import socket

    real = socket.getaddrinfo

    def lookup(host: object, *rest: object, **options: object) -> object:
        told = "169.254.169.254" if str(host).endswith(".example") else host
        return real(told, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
