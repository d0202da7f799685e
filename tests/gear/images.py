"""Images of PostgreSQL and Valkey from this machine's own files, for tests where no registry can be asked.

Both stand on ``docker.test_image()`` and take the settings that the public images take, as far as compose.yaml uses
them. ``ATELIER_TEST_POSTGRES_IMAGE`` and ``ATELIER_TEST_REDIS_IMAGE`` name others. Made once per machine, under a
digest of what they are made from.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

from studio.bootstrap import broker
from tests.gear.docker import SOCKET, missing, test_image

POSTGRES_PATHS = (
    *("bin/initdb", "bin/postgres", "bin/pg_isready", "bin/pg_dump", "bin/pg_restore"),
    *("lib/dict_snowball.so", "lib/plpgsql.so"),
)
POSTGRES_ENTRY = """#!/bin/bash
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb -D "$PGDATA" -U "$POSTGRES_USER" -E UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256 \\
    --pwfile=<(printf %s "$POSTGRES_PASSWORD") >/dev/null
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  echo "CREATE DATABASE \\"$POSTGRES_DB\\"" | postgres --single -D "$PGDATA" postgres >/dev/null
fi
exec postgres -D "$PGDATA" -c listen_addresses='*'
"""
POSTGRES_FILE = """FROM {base}
ADD files.tar /
RUN ldconfig && echo postgres:x:999:999::/tmp:/bin/sh >>/etc/passwd \\
 && mkdir -p /var/lib/postgresql/data /var/run/postgresql \\
 && chown 999:999 /var/lib/postgresql/data /var/run/postgresql && chmod 700 /var/lib/postgresql/data
ENV PATH={home}/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data
USER 999:999
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/entry"]
"""
VALKEY_CLI = """#!/usr/local/bin/python3
import os, socket, sys
connection = socket.create_connection(("127.0.0.1", 6379), 3)
connection.sendall(f"AUTH {os.environ.get('REDISCLI_AUTH', '')}\\r\\n{sys.argv[1]}\\r\\n".encode())
words = b""
while words.count(b"\\r\\n") < 2 and (more := connection.recv(256)):
    words += more
print(words.decode())
"""
VALKEY_FILE = """FROM {base}
ADD files.tar /
RUN mkdir -p /data && chown 999:999 /data
USER 999:999
WORKDIR /data
VOLUME /data
ENTRYPOINT ["valkey-server", "--bind", "0.0.0.0"]
"""


def _docker(*words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = ["docker", "-H", f"unix://{SOCKET}", *words]
    return subprocess.run(command, capture_output=True, check=False, timeout=240, **options)  # type: ignore[call-overload, no-any-return]


def _libraries(*binaries: Path) -> set[Path]:
    """The shared libraries that the binaries need, as the loader finds them here."""
    found = set()
    for binary in binaries:
        done = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False)
        found |= {Path(word) for line in done.stdout.splitlines() for word in line.split() if word.startswith("/")}
    return found


def _tar(files: dict[str, bytes | Path]) -> bytes:
    """A tar of paths without a leading slash: given bytes (executable), or files of this machine."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for name, source in sorted(files.items()):
            if isinstance(source, Path):
                tar.add(source, name)
            else:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(source), 0o755
                tar.addfile(entry, io.BytesIO(source))
    return out.getvalue()


def _image(name: str, recipe: str, files: dict[str, bytes | Path]) -> str:
    """The tag of the image, made unless it is there."""
    what = [
        recipe,
        *(f"{path} {source if isinstance(source, bytes) else _mark(source)}" for path, source in files.items()),
    ]
    tag = f"atelier-test-{name}:{hashlib.sha256(repr(what).encode()).hexdigest()[:12]}"
    with (Path(tempfile.gettempdir()) / f"{tag.partition(':')[0]}-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _docker("image", "inspect", tag).returncode != 0:
            context = _tar({"Dockerfile": recipe.encode(), "files.tar": _tar(files)})
            done = _docker("build", "--force-rm", "-t", tag, "-", input=context)
            assert done.returncode == 0, (done.stdout + done.stderr).decode()[-2000:]
    return tag


def _mark(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


@functools.cache
def postgres_image() -> str:
    """PostgreSQL with this machine's server: POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB."""
    given = os.environ.get("ATELIER_TEST_POSTGRES_IMAGE")
    if given:
        return given
    base = test_image()
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    if not homes:
        missing("PostgreSQL is not installed (Debian: postgresql), and ATELIER_TEST_POSTGRES_IMAGE is not set")
    home = homes[0].parent.parent
    paths = [home / path for path in POSTGRES_PATHS]
    wanted = {*paths, *_libraries(*paths), *home.glob("lib/utf8_and_*.so")}
    share = Path("/usr/share/postgresql") / home.name
    wanted |= {path for path in share.rglob("*") if path.is_file() and path.parent.name not in {"extension", "man1"}}
    wanted |= {*share.glob("extension/plpgsql*"), Path("/usr/share/zoneinfo/UTC")}
    files: dict[str, bytes | Path] = {str(path).lstrip("/"): path for path in wanted}
    files = {("usr/" + name if name.startswith("lib") else name): path for name, path in files.items()}
    files["usr/local/bin/entry"] = POSTGRES_ENTRY.encode()
    return _image("postgres", POSTGRES_FILE.format(base=base, home=home), files)


@functools.cache
def redis_image() -> str:
    """Valkey with the server that the studio itself uses: arguments, and a ``valkey-cli`` that can PING."""
    given = os.environ.get("ATELIER_TEST_REDIS_IMAGE")
    if given:
        return given
    base = test_image()
    server = broker.server_binary()
    files: dict[str, bytes | Path] = {"usr/local/bin/valkey-server": server}
    files["usr/local/bin/valkey-cli"] = VALKEY_CLI.encode()
    return _image("valkey", VALKEY_FILE.format(base=base), files)
