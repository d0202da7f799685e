"""Buckets, on a real S3 server that checks signatures and rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from studio.datasets.backends import parts
from studio.datasets.backends.s3 import S3Store
from tests.datasets.contract import Place, WriteContract, content, raised
from tests.gear.s3_server import S3Server
from tests.gear.servers import Wire

pytestmark = pytest.mark.services


def store_on(server: S3Server, bucket: str, **config: Any) -> S3Store:
    secrets = {"access_key": server.access_key, "secret_key": server.secret_key}
    return S3Store({"bucket": bucket, "endpoint": server.url, **config}, secrets)


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    name = f"data-{uuid.uuid4().hex[:12]}"
    s3_server.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def store(s3_server: S3Server, bucket: str) -> S3Store:
    return store_on(s3_server, bucket)


def putter(server: S3Server, bucket: str, prefix: str = "") -> Callable[[str, bytes], None]:
    client = server.client()
    return lambda path, data: client.put_object(Bucket=bucket, Key=prefix + path, Body=data) and None


class TestS3(WriteContract):
    @pytest.fixture
    def place(self, s3_server: S3Server, bucket: str, store: S3Store) -> Place:
        return Place(store, putter(s3_server, bucket), store_on(s3_server, "no-such-bucket"))


class TestS3Folder(WriteContract):
    """A datastore that sees one folder of a bucket."""

    @pytest.fixture
    def place(self, s3_server: S3Server, bucket: str) -> Place:
        putter(s3_server, bucket)("elsewhere.csv", b"not seen")
        putter(s3_server, bucket)("team/database.csv", b"not seen either")
        return Place(store_on(s3_server, bucket, prefix="/team/data/"), putter(s3_server, bucket, "team/data/"))


# --- what is wrong, in exact codes ---


def test_every_wrong_setting_has_its_own_code(s3_server: S3Server, bucket: str) -> None:
    right = {"access_key": s3_server.access_key, "secret_key": s3_server.secret_key}
    config = {"bucket": bucket, "endpoint": s3_server.url}
    cases: list[tuple[str, dict[str, Any], dict[str, str]]] = [
        ("refused-key", config, {**right, "access_key": "AKIAUNKNOWN"}),
        ("refused-key", config, {**right, "secret_key": "s3cret-that-is-wrong"}),
        ("refused-key", config, {"access_key": s3_server.access_key}),
        ("no-such-container", {**config, "bucket": "no-such-bucket"}, right),
        ("no-such-container", {**config, "bucket": "Not a Bucket!"}, right),
        ("no-such-container", {**config, "bucket": ""}, right),
        ("no-such-host", {**config, "endpoint": "http://no-such-host.invalid:9000"}, right),
        ("unreachable", {**config, "endpoint": "http://127.0.0.1:1"}, right),
        ("unreachable", {**config, "endpoint": s3_server.url.replace("http:", "https:")}, right),
    ]
    for code, settings, secrets in cases:
        problems, entries = S3Store(settings, secrets).check()
        assert [problem.code for problem in problems] == [code], (settings, problems)
        assert entries == []
        for secret in secrets.values():
            assert secret not in repr(problems) or secret == s3_server.access_key
    raised("no-such-host", lambda: S3Store({**config, "endpoint": "http://user:pw@host"}, right))


def test_keys_that_may_only_read(s3_server: S3Server, bucket: str) -> None:
    putter(s3_server, bucket)("a.csv", b"1")
    reader = dict(zip(("access_key", "secret_key"), s3_server.reader, strict=True))
    store = S3Store({"bucket": bucket, "endpoint": s3_server.url}, reader)
    assert store.check()[0] == [] and b"".join(store.stream("a.csv")) == b"1"
    raised("read-only", lambda: store.upload_begin("b.csv", 1))
    raised("read-only", lambda: store.delete("a.csv"))


def test_a_bucket_that_everybody_may_read(s3_open: S3Server) -> None:
    s3_open.client().create_bucket(Bucket="public", ACL="public-read")
    s3_open.client().put_object(Bucket="public", Key="a.csv", Body=b"1", ACL="public-read")
    store = S3Store({"bucket": "public", "endpoint": s3_open.url}, {})
    assert store.anonymous
    assert b"".join(store.stream("a.csv")) == b"1"


def test_the_machines_own_keys_are_never_used(
    monkeypatch: pytest.MonkeyPatch, s3_server: S3Server, bucket: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    putter(s3_server, bucket)("a.csv", b"1")
    problems, _entries = S3Store({"bucket": bucket, "endpoint": s3_server.url}, {}).check()
    assert problems, "a store without keys was let in"


# --- the guard ---


def test_metadata_addresses_are_refused() -> None:
    keys = {"access_key": "a", "secret_key": "b"}
    for endpoint in ("http://169.254.169.254", "http://[fd00:ec2::254]", "http://0xa9fea9fe"):
        problems, _entries = S3Store({"bucket": "b", "endpoint": endpoint}, keys).check()
        assert [problem.code for problem in problems] == ["forbidden-address"], (endpoint, problems)


def test_a_name_that_means_a_metadata_address_is_refused(resolving: None) -> None:
    keys = {"access_key": "a", "secret_key": "b"}
    problems, _entries = S3Store({"bucket": "b", "endpoint": "http://innocent.example"}, keys).check()
    assert [problem.code for problem in problems] == ["forbidden-address"]


def test_a_redirect_to_a_metadata_address_is_not_followed(redirector: str) -> None:
    keys = {"access_key": "a", "secret_key": "b"}
    problems, _entries = S3Store({"bucket": "b", "endpoint": redirector}, keys).check()
    assert problems and problems[0].code in ("failed", "forbidden-address")


@pytest.fixture
def redirector() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(307)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


# --- many keys, large files, lines that break ---


def test_more_keys_than_one_page_holds(s3_open: S3Server) -> None:
    from concurrent.futures import ThreadPoolExecutor

    s3_open.client().create_bucket(Bucket="many")
    put, store = putter(s3_open, "many"), store_on(s3_open, "many")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: put(f"many/{at:05}.csv", b""), range(2001)))
    found = [entry.path for entry in store.find("many/*.csv")]
    assert found == [f"many/{at:05}.csv" for at in range(2001)]
    assert len(list(store.find("many"))) == 2001
    first = store.list("many")
    assert len(first.entries) == 1000 and first.next
    assert len(store.check()[1]) == 1


def test_a_listing_is_never_a_kept_one(s3_server: S3Server, bucket: str, store: S3Store) -> None:
    assert store.list().entries == []
    putter(s3_server, bucket)("new.csv", b"1")
    assert [entry.path for entry in store.list().entries] == ["new.csv"]
    putter(s3_server, bucket)("new.csv", b"22")
    assert store.stat("new.csv").size == 2


def test_a_file_that_changes_while_it_is_read(s3_server: S3Server, bucket: str, store: S3Store) -> None:
    put = putter(s3_server, bucket)
    put("big.bin", content(20 << 20))
    with store.open("big.bin") as source:
        source.read(10)
        put("big.bin", content(20 << 20, 1))
        source.seek(15 << 20)
        error = raised("changed", lambda: source.read(10))
    assert "big.bin" in error.detail


def test_a_line_that_breaks_goes_on_where_it_was(s3_server: S3Server, bucket: str) -> None:
    data = content(12 << 20)
    putter(s3_server, bucket)("big.bin", data)
    wire = Wire(s3_server.port)
    store = store_on(s3_server, bucket, endpoint=f"http://127.0.0.1:{wire.port}")
    wire.cut_after, wire.cuts = 3 << 20, 2
    assert b"".join(store.stream("big.bin")) == data
    assert wire.connections >= 3
    wire.close()


def test_a_store_that_goes_away_names_the_file(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "pause", lambda attempt: None)
    putter(s3_server, bucket)("big.bin", content(12 << 20))
    wire = Wire(s3_server.port)
    store = store_on(s3_server, bucket, endpoint=f"http://127.0.0.1:{wire.port}")
    stream = store.stream("big.bin")
    next(stream)
    wire.close()
    with pytest.raises(Exception) as caught:
        list(stream)
    error = caught.value
    assert error.code in ("unreachable", "incomplete") and error.path == "big.bin"
    assert s3_server.secret_key not in str(error)


RESUME = """
import json, os, sys
from django.conf import settings
settings.configure(USE_I18N=False)
from studio.datasets.backends.s3 import S3Store
given = json.load(sys.stdin)
store = S3Store(given["config"], given["secrets"])
state, offset = given["state"], given["offset"]
data = open(given["file"], "rb")
data.seek(offset)
state, offset = store.upload_piece(state, offset, iter(lambda: data.read(1 << 20), b""))
entry = store.upload_commit(state)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps({"offset": offset, "size": entry.size, "peak": int(peak)}))
"""


def test_an_upload_of_200_mb_goes_on_in_a_fresh_process_with_little_memory(
    s3_server: S3Server, bucket: str, store: S3Store, tmp_path: Path
) -> None:
    size = 200 << 20
    block = content(1 << 20)
    source = tmp_path / "big.bin"
    with source.open("wb") as target:
        for at in range(200):
            target.write(at.to_bytes(8, "big") + block[8:])
    state = store.upload_begin("big.bin", size)
    with source.open("rb") as data:
        state, offset = store.upload_piece(state, 0, (data.read(1 << 20) for _at in range(60)))
    assert 50 << 20 < offset <= 60 << 20
    given = {
        "config": {"bucket": bucket, "endpoint": s3_server.url},
        "secrets": {"access_key": s3_server.access_key, "secret_key": s3_server.secret_key},
        "state": state,
        "offset": offset,
        "file": str(source),
    }
    done = subprocess.run(
        [sys.executable, "-c", RESUME],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    answer = json.loads(done.stdout)
    assert answer["offset"] == answer["size"] == size
    assert answer["peak"] < 220_000, f"{answer['peak']} KiB at the peak"
    with source.open("rb") as data:
        for piece in store.stream("big.bin"):
            assert piece == data.read(len(piece))
        assert not data.read(1)
    s3_server.client().delete_object(Bucket=bucket, Key="big.bin")


def test_the_form_marks_what_is_secret() -> None:
    secret = {field.name for field in S3Store.fields if field.secret}
    assert secret == {"access_key", "secret_key", "session_token"}
