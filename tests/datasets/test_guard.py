"""Which addresses datastores may connect to, asked of each library that connects."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest

from studio.datasets.backends import guard
from studio.datasets.backends.guard import ForbiddenAddress, Rules
from studio.lib import env
from tests.datasets import web_server
from tests.datasets.web_server import WebServer

FORBIDDEN = [
    "169.254.169.254",
    "169.254.0.1",
    "2852039166",  # 169.254.169.254 in decimal
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",
    "0",
    "[::]",
    "224.0.0.1",
    "255.255.255.255",
    "[ff02::1]",
]


def with_urllib3(url: str) -> None:
    guard.pool_manager().request("GET", url, retries=False, timeout=5)


def with_requests(url: str) -> None:
    guard.requests_session().get(url, timeout=5)


def with_aiohttp(url: str) -> None:
    async def go() -> None:
        connector = aiohttp.TCPConnector(**guard.connector_arguments())
        session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(5))
        async with session, session.get(url) as answer:
            await answer.read()

    asyncio.run(go())


def with_a_socket(url: str) -> None:
    host, _colon, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    guard.connect(host, int(port), 5).close()


LIBRARIES = [with_urllib3, with_requests, with_aiohttp, with_a_socket]


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server.running() as running:
        running.put("", b"")
        yield running


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("host", FORBIDDEN)
def test_forbidden_addresses_are_not_connected_to(library: Callable[[str], None], host: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011 - each library has its own
        library(f"http://{host}:80/")
    # aiohttp itself refuses some ways of writing an address before anything is looked up.
    refused = guard.refusal(caught.value)
    assert refused is not None or isinstance(caught.value, aiohttp.InvalidURL), repr(caught.value)
    if refused is not None:
        error = guard.store_error(refused, "data.csv")
        assert error.code == "forbidden-address" and not error.retry and "not allowed" in error.detail


@pytest.mark.parametrize("library", LIBRARIES)
def test_loopback_is_reached(library: Callable[[str], None], server: WebServer) -> None:
    library(server.url)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_name_counts_by_what_it_means(library: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in somebody's DNS may mean any address: it is what the system resolves that is looked at."""
    real = socket.getaddrinfo

    def resolve(host: str, *more: Any, **named: Any) -> Any:
        return real("169.254.169.254" if host == "innocent.example" else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011
        library("http://innocent.example:80/")
    refused = guard.refusal(caught.value)
    assert refused is not None and refused.where == "innocent.example (169.254.169.254)"


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_the_administrator_denies(library: Callable[[str], None], server: WebServer, settings: Any) -> None:
    settings.ATELIER_DATA_DENY = ["127.0.0.0/8"]
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011
        library(server.url)
    assert guard.refusal(caught.value)
    settings.ATELIER_DATA_DENY, settings.ATELIER_DATA_ALLOW = ["127.0.0.0/8"], ["127.0.0.1"]
    library(server.url)
    settings.ATELIER_DATA_DENY, settings.ATELIER_DATA_ALLOW = ["localhost"], []
    library(server.url)
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011
        library(server.url.replace("127.0.0.1", "localhost"))
    assert guard.refusal(caught.value)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_name_that_is_allowed_wins(library: Callable[[str], None], server: WebServer, settings: Any) -> None:
    settings.ATELIER_DATA_DENY, settings.ATELIER_DATA_ALLOW = ["127.0.0.0/8", "::1"], ["localhost"]
    library(server.url.replace("127.0.0.1", "localhost"))


@pytest.mark.parametrize("library", [with_requests, with_aiohttp])
def test_redirects_are_looked_at(library: Callable[[str], None], server: WebServer) -> None:
    server.tricks[""] = web_server.redirects("http://169.254.169.254/latest/")
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011
        library(server.url)
    assert guard.refusal(caught.value)


def test_proxies_of_the_environment_are_not_asked(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    for library in LIBRARIES:
        library(server.url)


def test_rules() -> None:
    rules = Rules.parse(["10.0.0.0/8", "*.internal.example", "Bad.Example."], ["10.1.0.0/16", "good.internal.example"])
    assert not rules.permits("10.2.3.4") and rules.permits("10.1.3.4") and rules.permits("192.168.1.1")
    assert not rules.permits("::ffff:10.2.3.4") and rules.permits("::ffff:10.1.3.4")
    assert not rules.permits("2002:0a02:0304::1") and not rules.permits("fe80::1%eth0")
    assert rules.name_allowed("GOOD.internal.example") and not rules.name_allowed("other.example")
    for name in ("x.internal.example", "bad.example", "BAD.EXAMPLE."):
        with pytest.raises(ForbiddenAddress):
            rules.name_allowed(name)
    assert not rules.name_allowed("internal.example")


@pytest.mark.parametrize("entry", ["10.0.0.0/99", "not a host", "1.2.3", "http://host/"])
def test_a_rule_that_cannot_be_read(entry: str) -> None:
    with pytest.raises(env.ConfigurationError, match="ATELIER_DATA_ALLOW"):
        Rules.parse([], [entry])


def test_a_refusal_is_found_in_what_libraries_make_of_it() -> None:
    refusal = ForbiddenAddress("host", "169.254.169.254")
    try:
        try:
            raise refusal
        except OSError as error:
            raise RuntimeError("a library's own") from error
    except RuntimeError as error:
        assert guard.refusal(error) is refusal
    assert guard.refusal(ExceptionGroup("several", [ValueError(), refusal])) is refusal
    assert guard.refusal(ValueError(refusal)) is refusal and guard.refusal(ValueError()) is None
    assert guard.refusal(None) is None
