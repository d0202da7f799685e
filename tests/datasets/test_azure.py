"""Azure Blob Storage, on Azurite: a public container, a key, SAS tokens: valid, expired, early and read-only."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from studio.datasets.backends import parts
from studio.datasets.backends.azure_blob import AzureBlobStore
from studio.datasets.backends.base import StoreError
from tests.datasets.contract import Place, ReadContract, WriteContract, content, raised
from tests.gear.azurite import Azurite
from tests.gear.servers import Wire

pytestmark = pytest.mark.services


def store_on(server: Azurite, container: str, secrets: dict[str, str], **config: Any) -> AzureBlobStore:
    given = {"account_name": server.account, "container": container, "endpoint": server.host}
    return AzureBlobStore({**given, **config}, secrets)


@pytest.fixture
def container(azurite: Azurite) -> str:
    name = f"data-{uuid.uuid4().hex[:12]}"
    azurite.container(name)
    return name


@pytest.fixture
def store(azurite: Azurite, container: str) -> AzureBlobStore:
    return store_on(azurite, container, {"account_key": azurite.key})


def putter(server: Azurite, container: str, prefix: str = "") -> Callable[[str, bytes], None]:
    client = server.client().get_container_client(container)
    return lambda path, data: client.upload_blob(prefix + path, data, overwrite=True) and None


class TestWithTheAccountKey(WriteContract):
    @pytest.fixture
    def place(self, azurite: Azurite, container: str, store: AzureBlobStore) -> Place:
        missing = store_on(azurite, "no-such-container", {"account_key": azurite.key})
        return Place(store, putter(azurite, container), missing)


class TestWithASasToken(WriteContract):
    @pytest.fixture
    def place(self, azurite: Azurite, container: str) -> Place:
        store = store_on(azurite, container, {"sas_token": "?" + azurite.sas(container)})
        return Place(store, putter(azurite, container))


class TestOneAddressWithItsSas(ReadContract):
    """The whole address of a folder, pasted: only reading and listing is signed."""

    @pytest.fixture
    def place(self, azurite: Azurite, container: str) -> Place:
        putter(azurite, container)("elsewhere.csv", b"not seen")
        url = f"{azurite.url}/{container}/team/data?{azurite.sas(container, 'rl')}"
        return Place(AzureBlobStore({}, {"url": url}), putter(azurite, container, "team/data/"))


class TestAPublicContainer(ReadContract):
    @pytest.fixture
    def place(self, azurite: Azurite) -> Place:
        name = f"open-{uuid.uuid4().hex[:12]}"
        azurite.container(name, public=True)
        return Place(
            store_on(azurite, name, {}),
            putter(azurite, name),
            store_on(azurite, "no-such", {"account_key": azurite.key}),
        )


def test_every_wrong_setting_has_its_own_code(azurite: Azurite, container: str) -> None:
    key = {"account_key": azurite.key}
    wrong_key = "d3Jvbmcgd3Jvbmcgd3Jvbmc="
    sas = azurite.sas(container)
    cases: list[tuple[str, str, dict[str, str], dict[str, Any]]] = [
        ("refused-key", container, {"account_key": wrong_key}, {}),
        ("refused-key", container, {"account_key": "not base64!"}, {}),
        ("refused-key", container, {"sas_token": sas.replace("sig=", "sig=AAAA")}, {}),
        ("refused-key", container, {"sas_token": "sv=2020-01-01&sp=rl"}, {}),
        ("refused-key", container, {}, {}),
        ("no-such-container", "no-such-container", key, {}),
        ("no-such-container", "", key, {}),
        ("no-such-host", container, key, {"endpoint": "http://no-such-host.invalid:10000"}),
        ("unreachable", container, key, {"endpoint": "http://127.0.0.1:1"}),
        ("forbidden", container, {"sas_token": azurite.sas(container, "r")}, {}),
    ]
    for code, name, secrets, config in cases:
        problems, entries = store_on(azurite, name, secrets, **config).check()
        assert [problem.code for problem in problems] == [code], (code, problems)
        assert entries == []
        for secret in (azurite.key, sas, sas.rpartition("sig=")[2], wrong_key):
            assert secret not in repr(problems)
    raised("no-such-host", lambda: AzureBlobStore({"container": "c"}, {}))
    error = raised("no-such-container", lambda: AzureBlobStore({}, {"url": f"https://host?{sas}"}))
    assert "sig" not in error.detail.replace("signature", "")


def test_an_expired_token_is_said_with_its_time(azurite: Azurite, container: str) -> None:
    expiry = datetime.now(UTC) - timedelta(seconds=3)
    sas = azurite.sas(container, begins=-600, ends=-3)
    store = store_on(azurite, container, {"sas_token": sas})
    problem = store.check()[0][0]
    assert problem.code == "expired-signature"
    told = re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", problem.message)
    assert told
    shown = datetime.strptime(told.group(), "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    assert abs((shown - expiry).total_seconds()) < 3
    for call in (lambda: store.stat("a.csv"), lambda: store.stream("a.csv"), lambda: store.list()):
        raised("expired-signature", call)
    early = store_on(azurite, container, {"sas_token": azurite.sas(container, begins=600)})
    problem = early.check()[0][0]
    assert problem.code == "expired-signature" and "only from" in problem.message


def test_a_token_that_only_reads(azurite: Azurite, container: str) -> None:
    putter(azurite, container)("a.csv", b"1")
    store = store_on(azurite, container, {"sas_token": azurite.sas(container, "rl")})
    assert b"".join(store.stream("a.csv")) == b"1"
    raised("read-only", lambda: store.upload_begin("b.csv", 1))
    raised("read-only", lambda: store.delete("a.csv"))
    # Where the token does not say what it allows, the store does.
    hidden = store_on(azurite, container, {"sas_token": azurite.sas(container, "rl")})
    hidden.signature.given.pop("sp")
    state = hidden.upload_begin("b.csv", 1)
    raised("read-only", lambda: hidden.upload_piece(state, 0, [b"1"]))


def test_a_public_container_is_read_only(azurite: Azurite) -> None:
    azurite.container("open-to-all", public=True)
    store = store_on(azurite, "open-to-all", {})
    raised("read-only", lambda: store.upload_begin("b.csv", 1))


def test_one_blob_with_its_sas(azurite: Azurite, container: str) -> None:
    name = "folder/year 2024/part%20one.csv"
    putter(azurite, container)(name, b"a,b\n1,2\n")
    putter(azurite, container)("folder/year 2024/other.csv", b"not signed")
    url = f"{azurite.url}/{container}/folder/year%202024/part%2520one.csv?{azurite.blob_sas(container, name)}"
    store = AzureBlobStore({}, {"url": url})
    assert [entry.path for entry in store.check()[1]] == ["part%20one.csv"]
    assert [entry.path for entry in store.find("**")] == ["part%20one.csv"]
    assert b"".join(store.stream("part%20one.csv")) == b"a,b\n1,2\n"
    raised("no-such-file", lambda: store.stat("other.csv"))
    assert "sig" not in store.address()


def test_addresses_of_the_public_cloud_are_split() -> None:
    store = AzureBlobStore({}, {"url": "https://acct.blob.core.windows.net/box/a/b?sv=1&sr=c&sp=rl&sig=x"})
    assert (store.account, store.container, store.prefix, store.auth) == ("acct", "box", "a/b/", "sas")
    assert store.address() == "https://acct.blob.core.windows.net/box/a/b/"
    assert AzureBlobStore({"account_name": "acct", "container": "box"}, {}).address().startswith("https://acct.blob.")


def test_metadata_addresses_are_refused(azurite: Azurite, resolving: None) -> None:
    for endpoint in ("http://169.254.169.254", "http://metadata.example", "http://[fd00:ec2::254]"):
        problems, _entries = store_on(azurite, "c", {}, endpoint=endpoint).check()
        assert [problem.code for problem in problems] == ["forbidden-address"], (endpoint, problems)


def test_a_redirect_is_not_followed_and_the_signature_stays(azurite: Azurite) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(307)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    problems, _entries = store_on(azurite, "c", {"sas_token": azurite.sas("c")}, endpoint=endpoint).check()
    server.shutdown()
    server.server_close()
    assert [problem.code for problem in problems] == ["failed"] and len(asked) == 1


def test_more_blobs_than_one_page_holds(azurite: Azurite, container: str, store: AzureBlobStore) -> None:
    put = putter(azurite, container)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: put(f"many/{at:05}.csv", b""), range(2001)))
    assert [entry.path for entry in store.find("many/*.csv")] == [f"many/{at:05}.csv" for at in range(2001)]
    first = store.list("many")
    assert len(first.entries) == 1000 and first.next


def test_a_file_that_changes_while_it_is_read(azurite: Azurite, container: str, store: AzureBlobStore) -> None:
    put = putter(azurite, container)
    put("big.bin", content(12 << 20))
    with store.open("big.bin") as source:
        source.read(10)
        put("big.bin", content(12 << 20, 1))
        source.seek(11 << 20)
        raised("changed", lambda: source.read(10))


@pytest.fixture
def wire(azurite: Azurite) -> Iterator[Wire]:
    made = Wire(azurite.port)
    yield made
    made.close()


def test_a_line_that_breaks(azurite: Azurite, container: str, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(12 << 20)
    putter(azurite, container)("big.bin", data)
    store = store_on(azurite, container, {"account_key": azurite.key}, endpoint=f"http://127.0.0.1:{wire.port}")
    wire.cut_after, wire.cuts = 5 << 20, 1
    assert b"".join(store.stream("big.bin")) == data
    monkeypatch.setattr(parts, "pause", lambda attempt: None)
    stream = store.stream("big.bin")
    next(stream)
    wire.close()
    with pytest.raises(StoreError) as caught:
        list(stream)
    assert caught.value.code in ("unreachable", "incomplete") and caught.value.path == "big.bin"
    assert azurite.key not in caught.value.detail
