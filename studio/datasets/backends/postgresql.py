"""A PostgreSQL database: the place of SQL queries, whose results become Parquet files. It holds no files itself.

A query is one statement in a read-only transaction with a time limit; rows are read through a cursor of the server's,
so that a result larger than memory passes through.
"""

from __future__ import annotations

import contextlib
import decimal
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from studio.datasets.backends import guard, parts
from studio.datasets.backends.base import Entry, Listing, StoreError
from studio.lib.fields import FormField, Problem

CONNECT_S = 10
STATEMENT_S = 1800  # the server ends a query that takes longer
ROWS = 20_000  # fetched, and written, at a time
_HOST = re.compile(r"[A-Za-z0-9_.:\[\]-]+")
_TABLES = """
select format('%%I.%%I', schema.nspname, relation.relname)
from pg_class as relation join pg_namespace as schema on schema.oid = relation.relnamespace
where relation.relkind in ('r', 'p', 'v', 'm', 'f') and schema.nspname !~ '^(pg_|information_schema$)'
  and has_schema_privilege(schema.oid, 'usage') and has_table_privilege(relation.oid, 'select')
order by schema.nspname, relation.relname limit %s
"""
Names = list[str]  # within the class, ``list`` is a method
Columns = list[tuple[str, Any, Callable[[Any], Any]]]  # name, Arrow type, how a value becomes one of that type


class PostgresStore(parts.ReadOnly):
    """Tables of a database, read by queries."""

    kind: ClassVar[str] = "postgresql"
    label: ClassVar[Any] = gettext_lazy("PostgreSQL")
    summary: ClassVar[Any] = gettext_lazy("A database whose tables are read by SQL queries.")
    icon: ClassVar[str] = "table"
    fields: ClassVar[list[FormField]] = [
        FormField("host", gettext_lazy("Host"), required=True),  # type: ignore[arg-type]  # lazy
        FormField("port", gettext_lazy("Port"), kind="number", default=5432, minimum=1, maximum=65535),  # type: ignore[arg-type]
        FormField("database", gettext_lazy("Database"), required=True),  # type: ignore[arg-type]  # lazy
        FormField(
            "user",
            gettext_lazy("User name"),  # type: ignore[arg-type]  # lazy
            required=True,
            help=gettext_lazy("Best one that may only read the tables that datasets need."),  # type: ignore[arg-type]
        ),
        FormField("password", gettext_lazy("Password"), kind="password", secret=True),  # type: ignore[arg-type]  # lazy
        FormField(
            "sslmode",
            gettext_lazy("TLS"),  # type: ignore[arg-type]  # lazy
            kind="select",
            default="prefer",
            choices=[
                ("prefer", gettext_lazy("where the server offers it")),  # type: ignore[list-item]  # lazy
                ("require", gettext_lazy("always")),  # type: ignore[list-item]  # lazy
                ("verify-full", gettext_lazy("always, and the certificate must be the host's")),  # type: ignore[list-item]
                ("disable", gettext_lazy("never")),  # type: ignore[list-item]  # lazy
            ],
        ),
    ]

    def __init__(self, config: dict[str, Any], secrets: dict[str, str]) -> None:
        self._config, self._password = config, secrets.get("password", "")

    def address(self) -> str:
        found = self._config
        return (
            f"postgresql://{found.get('user')}@{found.get('host')}:{found.get('port') or 5432}/{found.get('database')}"
        )

    def check(self) -> tuple[list[Problem], list[Entry]]:
        """The first few tables that the user may read, as entries ``schema.table``."""
        try:
            with self._reading() as connection:
                rows = connection.execute(_TABLES, [parts.SHOWN]).fetchall()
            return [], [Entry(row[0]) for row in rows]
        except StoreError as error:
            return parts.as_problems(error)

    def export(self, query: str, path: Path | str, limit: int | None = None) -> int:
        """Write the result of one reading statement to ``path`` as Parquet, whole or not at all; the number of rows.

        ``limit``: at most so many rows. Raises StoreError with what the server says of the query.
        """
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
        try:
            name = f"atelier_{uuid.uuid4().hex}"
            # The server counts characters from the statement that declares the cursor; people from their query.
            before = len(f'DECLARE "{name}" CURSOR FOR ') - (len(query) - len(query.lstrip()))
            with self._reading() as connection, _server_words(self._scrub, before):
                count = _write(connection, name, _one_statement(query), temporary, limit)
            temporary.replace(target)
        except OSError as error:
            text = _("The result of the query could not be written: %(why)s.") % {"why": error.strerror or error}
            raise StoreError("disk-full" if error.errno in (28, 122) else "failed", text) from error
        finally:
            temporary.unlink(missing_ok=True)
        return count

    # Files: there are none

    def list(self, path: str = "", *, limit: int = 1000, after: str | None = None) -> Listing:
        raise self._no_files(path)

    def find(self, pattern: str) -> Iterator[Entry]:
        raise self._no_files(pattern)

    def stat(self, path: str) -> Entry:
        raise self._no_files(path)

    def open(self, path: str) -> BinaryIO:
        raise self._no_files(path)

    def stream(self, path: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        raise self._no_files(path)

    def local_path(self, path: str) -> Path | None:
        return None

    def _no_files(self, path: str) -> StoreError:
        return parts.unsupported(
            _("A database holds tables, not files."), path, _("Make a dataset from a query of it.")
        )

    # The connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Any]:
        """A connection in a read-only transaction with a time limit."""
        import psycopg

        host, port = str(self._config.get("host") or "").strip(), int(self._config.get("port") or 5432)
        if not _HOST.fullmatch(host):
            raise StoreError(
                "no-such-host",
                _("%(host)r is not the name or address of a host.") % {"host": host},
                hint=_("Sockets of this machine cannot be used: give 127.0.0.1."),
                field="host",
            )
        addresses = self._addresses(host, port)
        with (
            _server_words(self._scrub),
            psycopg.connect(
                # The host's name is for the certificate only; what is connected to was looked at above.
                host=",".join([host.strip("[]")] * len(addresses)),
                hostaddr=",".join(addresses),
                port=",".join([str(port)] * len(addresses)),
                dbname=str(self._config.get("database") or ""),
                user=str(self._config.get("user") or ""),
                password=self._password,
                sslmode=str(self._config.get("sslmode") or "prefer"),
                sslrootcert="system" if self._config.get("sslmode") == "verify-full" else "",
                connect_timeout=CONNECT_S,
                application_name="atelier",
                # None of the sign-ins that lie in the account of the studio.
                passfile=os.devnull,
                sslcertmode="disable",
                gssencmode="disable",
                require_auth="password,md5,scram-sha-256,none",
                keepalives_idle=30,
                prepare_threshold=None,
            ) as connection,
        ):
            connection.read_only = True
            connection.execute(f"set statement_timeout = {STATEMENT_S * 1000}")
            connection.execute("set idle_in_transaction_session_timeout = 600000")
            yield connection

    def _addresses(self, host: str, port: int) -> Names:
        try:
            found = guard.resolve(host, port)
        except guard.ForbiddenAddress as refused:
            raise guard.store_error(refused) from refused
        except OSError:
            raise StoreError(
                "no-such-host", _("There is no host named %(host)s.") % {"host": host}, field="host"
            ) from None
        return list(dict.fromkeys(str(row[4][0]) for row in found))[:4]

    def _scrub(self, text: str) -> str:
        return text.replace(self._password, "***") if self._password else text


def _one_statement(query: str) -> str:
    """The statement without a semicolon at its end. Raises StoreError for an empty one; the server refuses several."""
    plain = query.strip().rstrip(";").strip()
    if not plain:
        raise StoreError("failed", _("The query is empty."), field="query")
    if "\x00" in plain:
        raise StoreError("failed", _("The query holds a NUL character."), field="query")
    return plain


def _write(connection: Any, name: str, query: str, path: Path, limit: int | None) -> int:
    """Rows through a cursor of the server's, called ``name``, into a Parquet file; how many."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    count = 0
    # Encoded once and sent as it stands: percent signs are the query's own.
    with connection.cursor(name=name) as cursor:
        cursor.itersize = ROWS
        cursor.execute(query.encode())
        columns = _columns(cursor.description or [], connection)
        schema = arrow.schema([(name, kind) for name, kind, _plain in columns])
        with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            while limit is None or count < limit:
                rows = cursor.fetchmany(ROWS if limit is None else min(ROWS, limit - count))
                if not rows:
                    break
                values = zip(*rows, strict=True)
                arrays = [
                    arrow.array([None if one is None else plain(one) for one in column], kind)
                    for column, (_name, kind, plain) in zip(values, columns, strict=True)
                ]
                writer.write_batch(arrow.record_batch(arrays, schema=schema))
                count += len(rows)
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
    return count


def _columns(description: Any, connection: Any) -> Columns:
    """The columns of a result. Names that come twice get a suffix."""
    import pyarrow as arrow

    def same(value: Any) -> Any:
        return value

    known: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "bool": (arrow.bool_(), same),
        "int2": (arrow.int16(), same),
        "int4": (arrow.int32(), same),
        "int8": (arrow.int64(), same),
        "oid": (arrow.int64(), same),
        "float4": (arrow.float32(), same),
        "float8": (arrow.float64(), same),
        "date": (arrow.date32(), same),
        "time": (arrow.time64("us"), same),
        "timestamp": (arrow.timestamp("us"), same),
        "timestamptz": (arrow.timestamp("us", "UTC"), same),
        "bytea": (arrow.binary(), bytes),
    }
    found, taken = [], {column.name for column in description}
    seen: set[str] = set()
    for column in description:
        name, suffix = column.name, 0
        while name in seen or (suffix and name in taken):
            suffix += 1
            name = f"{column.name}_{suffix}"
        seen.add(name)
        info = connection.adapters.types.get(column.type_code)
        kind = info.name if info is not None and column.type_code == info.oid else ""
        if kind == "numeric":
            found.append((name, *_numeric(column)))
        else:
            found.append((name, *known.get(kind, (arrow.string(), _text))))
    return found


def _numeric(column: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Exact where the column says its digits, else a float: no type holds all numbers of a numeric without bounds."""
    import pyarrow as arrow

    if column.precision and column.precision <= 38 and column.scale is not None and column.scale >= 0:
        return arrow.decimal128(column.precision, column.scale), lambda value: value if value.is_finite() else None
    return arrow.float64(), float


def _text(value: Any) -> str:
    """Values without a type of their own: JSON as JSON, all others as they print."""
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        import json

        return json.dumps(value, default=str, ensure_ascii=False)
    return format(value, "f") if isinstance(value, decimal.Decimal) else str(value)


@contextlib.contextmanager
def _server_words(scrub: Callable[[str], str], before: int = 0) -> Iterator[None]:
    """What psycopg raises as StoreError. ``before``: characters of a statement before what a person wrote."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise _translated(error, scrub, before) from None


def _translated(error: Any, scrub: Callable[[str], str], before: int) -> StoreError:
    import psycopg

    state = error.sqlstate or ""
    said = error.diag.message_primary or str(error).strip().splitlines()[-1] if str(error).strip() else ""
    said = scrub(str(said)).strip().rstrip(".")
    if "authentication" in said or "no password supplied" in said or state in ("28000", "28P01"):
        return StoreError("refused-key", _("The database refused the sign-in: %(said)s.") % {"said": said})
    if state == "3D000" or re.search(r'database ".*" does not exist', said):
        return StoreError("no-such-container", _("%(said)s.") % {"said": said}, field="database")
    if state == "57014":
        text = _("The query took longer than %(minutes)d minutes and was ended.") % {"minutes": STATEMENT_S // 60}
        return StoreError("timeout", text, hint=_("Ask for fewer rows, or for an indexed column."), field="query")
    if state == "25006":
        text = _("The query would change the database: %(said)s.") % {"said": said}
        return StoreError("read-only", text, hint=_("Datasets are read by queries that only read."), field="query")
    if state == "42501":
        return StoreError("forbidden", _("The database refused: %(said)s.") % {"said": said}, field="query")
    if state[:2] in ("08", "57") or isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        timed_out = "timeout" in said or "timed out" in said
        text = _("The database cannot be reached: %(said)s.") % {"said": said}
        return StoreError("timeout" if timed_out else "unreachable", text, retry=True)
    place = int(error.diag.statement_position or 0) - before
    where = _(" (at character %(place)s)") % {"place": place} if place > 0 else ""
    return StoreError(
        "failed", _("The database says: %(said)s%(where)s.") % {"said": said, "where": where}, field="query"
    )
