"""Queries of a real PostgreSQL server on loopback."""

from __future__ import annotations

import datetime as dt
import decimal
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from studio.bootstrap.testing import Postgres
from studio.datasets.backends import postgresql
from studio.datasets.backends.postgresql import PostgresStore
from studio.datasets.sources import BackendSource
from tests.datasets.contract import raised
from tests.gear.servers import missing

pytestmark = [pytest.mark.services, pytest.mark.postgres]
PASSWORD = "s3cret-of-reader"
SETUP = f"""
create table people (id int8 primary key, name text, born date, height float4, rich bool, seen timestamptz,
  local timestamp, at time, money numeric(12, 2), big numeric, raw bytea, doc jsonb, tags text[], small int2, key uuid);
insert into people values
  (1, 'Änne', '1990-02-03', 1.5, true, '2024-01-01 12:00+02', '2024-01-01 12:00', '08:30', 12.34, 1e20, '\\x00ff',
   '{{"a": [1]}}', '{{x,y}}', 7, '00000000-0000-0000-0000-00000000000a'),
  (2, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
create table many as select i as id, repeat('x', 50) as text from generate_series(1, 50000) as i;
create schema closed; create table closed.secret (a int);
create role reader login password '{PASSWORD}'; grant select on people, many to reader;
create role empty login password 'none'; create function change() returns int language sql as
  'insert into people (id) values (99) returning 1';
"""


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, object]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    postgres = Postgres(port=port)
    try:
        if postgres.start() is None:
            missing("PostgreSQL", "Debian: apt-get install postgresql.")
        with psycopg.connect(host=str(postgres.home), port=port, user="atelier", dbname="postgres") as connection:
            connection.execute(SETUP)
        # From now on people of loopback have to say their password.
        rules = postgres.home / "data" / "pg_hba.conf"
        rules.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        with psycopg.connect(host=str(postgres.home), port=port, user="atelier", dbname="postgres") as connection:
            connection.execute("select pg_reload_conf()")
        yield {"host": "127.0.0.1", "port": port, "database": "postgres", "user": "reader"}
    finally:
        postgres.stop()


@pytest.fixture
def store(server: dict[str, object]) -> PostgresStore:
    return PostgresStore(dict(server), {"password": PASSWORD})


def test_the_test_button_lists_tables(store: PostgresStore) -> None:
    problems, entries = store.check()
    assert problems == [] and [entry.path for entry in entries] == ["public.many", "public.people"]


def test_types_come_over_as_they_are(store: PostgresStore, tmp_path: Path) -> None:
    assert store.export("select * from people order by id;", tmp_path / "out.parquet") == 2
    table = parquet.read_table(tmp_path / "out.parquet")
    kinds = {field.name: field.type for field in table.schema}
    assert kinds == {
        "id": arrow.int64(),
        "name": arrow.string(),
        "born": arrow.date32(),
        "height": arrow.float32(),
        "rich": arrow.bool_(),
        "seen": arrow.timestamp("us", "UTC"),
        "local": arrow.timestamp("us"),
        "at": arrow.time64("us"),
        "money": arrow.decimal128(12, 2),
        "big": arrow.float64(),
        "raw": arrow.binary(),
        "doc": arrow.string(),
        "tags": arrow.string(),
        "small": arrow.int16(),
        "key": arrow.string(),
    }
    first, second = table.to_pylist()
    assert first["name"] == "Änne" and first["born"] == dt.date(1990, 2, 3) and first["rich"] is True
    assert first["seen"] == dt.datetime(2024, 1, 1, 10, tzinfo=dt.UTC) and first["money"] == decimal.Decimal("12.34")
    assert first["raw"] == b"\x00\xff" and first["doc"] == '{"a": [1]}' and first["tags"] == '["x", "y"]'
    assert first["key"].endswith("a") and first["big"] == 1e20
    assert second["id"] == 2 and {value for name, value in second.items() if name != "id"} == {None}
    assert [path.name for path in tmp_path.glob("*") if path.is_file()] == ["out.parquet"]


def test_many_rows_and_a_limit(store: PostgresStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "ROWS", 7000)
    assert store.export("select * from many order by id", tmp_path / "all.parquet") == 50_000
    assert parquet.read_table(tmp_path / "all.parquet").column("id").to_pylist() == list(range(1, 50_001))
    assert store.export("select * from many order by id", tmp_path / "some.parquet", limit=7001) == 7001
    assert store.export("select * from many where id < 0", tmp_path / "none.parquet") == 0
    assert parquet.read_table(tmp_path / "none.parquet").column_names == ["id", "text"]


def test_names_and_percent_signs(store: PostgresStore, tmp_path: Path) -> None:
    query = "select 1 as a, 2 as a, 3 as a_1, 'x%sy' || '%' as \"p %\" -- a comment; with a semicolon\n"
    store.export(query, tmp_path / "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == [{"a": 1, "a_2": 2, "a_1": 3, "p %": "x%sy%"}]


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("insert into people (id) values (5) returning id", "failed", "syntax error"),
        ("delete from people", "failed", "syntax error"),
        ("select change()", "read-only", "read-only transaction"),
        ("select nextval('nothing')", "failed", "does not exist"),
        ("select 1; drop table people", "failed", "multiple commands"),
        ("select 1; commit; drop table people", "failed", "multiple commands"),
        ("select set_config('transaction_read_only', 'off', false)", "failed", "read-write mode"),
        ("select * from closed.secret", "forbidden", "permission denied"),
        ("select * from nowhere", "failed", "(at character 15)."),
        ("\n  select *\nfrom nowhere;", "failed", "(at character 18)."),
        ("select pg_read_file('/etc/passwd')", "forbidden", "permission denied"),
        ("  ;", "failed", "empty"),
    ],
)
def test_queries_that_are_refused(store: PostgresStore, tmp_path: Path, query: str, code: str, words: str) -> None:
    error = raised(code, lambda: store.export(query, tmp_path / "out.parquet"))
    assert words in error.detail and list(error.errors) == ["query"] and not error.retry
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
    assert store.export("select count(*) from people", tmp_path / "count.parquet") == 1
    assert parquet.read_table(tmp_path / "count.parquet").to_pylist() == [{"count": 2}]


def test_a_query_that_takes_too_long(store: PostgresStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "STATEMENT_S", 1)
    error = raised("timeout", lambda: store.export("select pg_sleep(30)", tmp_path / "out.parquet"))
    assert not error.retry and "longer than" in error.detail


def test_refused_sign_ins(server: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = PostgresStore(dict(server), {"password": "wr0ng-pass"})
    problem = wrong.check()[0][0]
    assert problem.code == "refused-key" and "wr0ng-pass" not in problem.message
    # The password of the studio's own account is not tried for somebody else's.
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert PostgresStore(dict(server), {}).check()[0][0].code == "refused-key"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"database": "nothing"}, "no-such-container"),
        ({"host": "no-such-host.invalid"}, "no-such-host"),
        ({"host": "/var/run/postgresql"}, "no-such-host"),
        ({"host": "127.0.0.1,10.0.0.1"}, "no-such-host"),
        ({"host": "169.254.169.254"}, "forbidden-address"),
        ({"host": "::ffff:169.254.169.254"}, "forbidden-address"),
        ({"port": 1}, "unreachable"),
        ({"sslmode": "require"}, "unreachable"),
    ],
)
def test_what_the_test_button_says(server: dict[str, object], change: dict[str, object], code: str) -> None:
    problems, entries = PostgresStore({**server, **change}, {"password": PASSWORD}).check()
    assert [problem.code for problem in problems] == [code] and entries == []
    assert PASSWORD not in problems[0].message and problems[0].message.endswith(".")


def test_it_holds_no_files(store: PostgresStore) -> None:
    for call in (store.list, lambda: store.find("*"), lambda: store.open("a"), lambda: store.upload_begin("a", 1)):
        raised("unsupported", call)
    assert PASSWORD not in store.address() and store.writable is False


def test_a_source_asks_a_query_once(store: PostgresStore, data_folder: Path) -> None:
    asked = {"source": {"kind": "sql", "query": {"datastore": "pg", "text": "select now() as at, id from people"}}}
    source = BackendSource({"pg": store})
    first = source.query(asked)
    assert source.query(asked) == first and Path(first).is_relative_to(data_folder)
    assert parquet.read_table(first).num_rows == 2
    assert parquet.read_table(source.query(asked, limit=1)).num_rows == 1
    assert BackendSource({"pg": store}).query(asked) != first  # tables change


def test_a_source_that_cannot_be_asked_leaves_nothing(store: PostgresStore, data_folder: Path) -> None:
    asked = {"source": {"kind": "sql", "query": {"datastore": "pg", "text": "select * from nowhere"}}}
    raised("failed", lambda: BackendSource({"pg": store}).query(asked))
    assert not [path for path in data_folder.rglob("*") if path.is_file()]
