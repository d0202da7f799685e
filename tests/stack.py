"""Atelier's real processes on a data folder of their own, for tests that start, stop and kill them.

    with Stack(tmp_path) as stack:          # Valkey, Daphne, a worker and beat, on free ports, migrated, all answering
        httpx.get(stack.url + "/")
        stack.kill("worker")                # kill -9; the units that it started go on
        stack.start("worker")

Units are not children of these processes and outlive them: ``stop`` ends those that still run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from studio.bootstrap import broker, gate

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("valkey", "daphne", "worker", "beat")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, check: Any, timeout: float = 30.0, every: float = 0.05) -> Any:
    """The first true value of ``check()``; fails the test with ``what`` after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(every)
    raise AssertionError(f"not within {timeout:g} s: {what}")


class Stack:
    """The services of one installation. ``env`` is what a process of it needs; ``data`` its data folder."""

    def __init__(
        self,
        folder: Path,
        *,
        services: Iterable[str] = SERVICES,
        environ: dict[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.services = tuple(services)
        self.data = self.folder / "data"
        self.logs = self.folder / "service-logs"
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = self.data / "atelier.sqlite3"
        self.socket = broker.socket_path(self.data.resolve())
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ATELIER_", "PYTEST_"))}
        self.env = {
            **inherited,
            "ATELIER_DATA": str(self.data),
            "ATELIER_HOST": "127.0.0.1",
            "ATELIER_PORT": str(self.port),
            "ATELIER_LOCAL_SLOTS": "2",
            "ATELIER_HOME": str(self.folder / "home"),
            "DJANGO_SETTINGS_MODULE": "studio.settings",
            "PYTHONUNBUFFERED": "1",
            **(environ or {}),
        }
        self.env.pop("REDIS_URL", None)
        self.data.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)

    @property
    def installation(self) -> str:
        """Its id, which its containers and images bear; empty as long as nobody has asked for it."""
        path = self.data / "installation"
        return path.read_text().strip() if path.exists() else ""

    # The whole of it.

    def __enter__(self) -> Stack:
        try:
            self.migrate()
            self.start(*self.services)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def collect(self) -> None:
        """Static files as `up` collects them, where that has not been done since one of them changed."""
        manifest = ROOT / "staticfiles" / "staticfiles.json"
        with (Path(tempfile.gettempdir()) / f"atelier-collect-{os.getuid()}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # files of tests run beside each other, in one checkout
            made = manifest.stat().st_mtime if manifest.exists() else 0.0
            if any(path.stat().st_mtime > made for path in (ROOT / "static").rglob("*")):
                self.manage("collectstatic", "--no-input", "-v", "0")

    def migrate(self) -> None:
        """The database, migrated. A fresh SQLite file is a copy of one migrated before from the same sources."""
        if "DATABASE_URL" in self.env or self.database.exists():
            self.manage("migrate", "--no-input", "--skip-checks")
            return
        sources = hashlib.sha256()
        for path in sorted(ROOT.glob("*/migrations/*.py")) + sorted(ROOT.glob("studio/*/migrations/*.py")):
            sources.update(path.read_bytes())
        ready = Path(tempfile.gettempdir()) / f"atelier-migrated-{os.getuid()}-{sources.hexdigest()[:16]}.sqlite3"
        if not ready.exists():
            self.manage("migrate", "--no-input", "--skip-checks")
            with contextlib.closing(sqlite3.connect(self.database)) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            partial = ready.with_suffix(f".{os.getpid()}")
            shutil.copyfile(self.database, partial)
            partial.replace(ready)
        else:
            shutil.copyfile(ready, self.database)

    def stop(self) -> None:
        """End everything that this stack started, units too."""
        for name in reversed(SERVICES):
            self._end(name, signal.SIGTERM)
        self.end_units()
        folder = gate.folder(self.data.resolve())
        if self.data.resolve() not in folder.parents:
            shutil.rmtree(folder, ignore_errors=True)

    # Single services.

    def _command(self, name: str) -> list[str]:
        if name == "valkey":
            return broker.server_arguments(self.data.resolve())
        arguments = {
            "daphne": f"daphne -b 127.0.0.1 -p {self.port} studio.asgi:application",
            "worker": "celery -A studio worker --pool threads -c 4 -l INFO --without-gossip --without-mingle",
            "beat": f"celery -A studio beat -s {self.data}/celerybeat-schedule --pidfile=",
        }[name]
        command = [sys.executable, "-m", *arguments.split()]
        return [*command, *gate.daphne_arguments(self.data.resolve())] if name == "daphne" else command

    def log(self, name: str) -> str:
        """What a service has written since it was last started."""
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, *names: str, **environ: str) -> None:
        """Start services and wait until each answers. ``environ`` is added for these processes alone."""
        if "daphne" in names:
            self.collect()
        for name in names:
            if name in self.processes and self.processes[name].poll() is None:
                continue
            with (self.logs / f"{name}.log").open("wb") as log:
                self.processes[name] = subprocess.Popen(
                    self._command(name),
                    cwd=ROOT,
                    env={**self.env, **environ},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            if name == "valkey":
                self.wait_ready(name)
        for name in names:
            self.wait_ready(name)

    def wait_ready(self, name: str, timeout: float = 60.0) -> None:
        def check() -> bool:
            process = self.processes[name]
            if process.poll() is not None:
                raise AssertionError(f"{name} ended with {process.returncode}:\n{self.log(name)[-4000:]}")
            return self._answers(name)

        try:
            wait_until(f"{name} answers", check, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log(name)[-4000:]}") from None

    def _answers(self, name: str) -> bool:
        if name == "valkey":
            try:
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(2)
                    client.connect(str(self.socket))
                    client.sendall(b"PING\r\n")
                    return client.recv(64).startswith(b"+PONG")
            except OSError:
                return False
        if name == "daphne":
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", "/accounts/login/")
                return connection.getresponse().status > 0  # a redirect to https leads to nobody
            except (OSError, http.client.HTTPException):
                return False
            finally:
                connection.close()
        return {"worker": " ready.", "beat": "LocalTime"}[name] in self.log(name)

    def kill(self, *names: str) -> None:
        """``kill -9``, the whole process group of each service, one right after the other."""
        for name in names:
            self._signal(name, signal.SIGKILL)
        for name in names:
            self._end(name, signal.SIGKILL)

    def running(self, name: str) -> bool:
        return name in self.processes and self.processes[name].poll() is None

    def _signal(self, name: str, number: signal.Signals) -> None:
        process = self.processes.get(name)
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def _end(self, name: str, number: signal.Signals) -> None:
        process = self.processes.get(name)
        if process is None:
            return
        self._signal(name, number)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._signal(name, signal.SIGKILL)
            process.wait(timeout=15)
        del self.processes[name]

    # Looking and touching.

    def manage(self, *arguments: str) -> str:
        """``manage.py`` with these arguments; its output. Fails the test when it fails."""
        return self._run([sys.executable, "manage.py", *arguments])

    def python(self, code: str) -> str:
        """Code run with Django set up on this stack's data; its output."""
        return self._run([sys.executable, "-c", f"import django; django.setup()\n{code}"])

    def _run(self, command: Iterable[str]) -> str:
        done = subprocess.run([*command], cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise AssertionError(f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done.stdout

    def query(self, sql: str, *parameters: Any) -> list[sqlite3.Row]:
        """Rows straight from the SQLite file, without a Django start."""
        with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as database:
            database.row_factory = sqlite3.Row
            return database.execute(sql, parameters).fetchall()

    def unit_directory(self, key: str) -> Path:
        return self.data / "units" / key[:2] / key

    def end_units(self) -> None:
        """Ask every unit of this data folder that still runs to end, and wait for it."""
        waiting = []
        for path in self.data.glob("units/*/*/beat.json"):
            with contextlib.suppress(OSError, ValueError):
                pid = json.loads(path.read_text())["pid"]
                if not (path.parent / "exit.json").exists() and Path(f"/proc/{pid}").exists():
                    (path.parent / "cancel.json").write_text(json.dumps({"grace_s": 0}))
                    waiting.append(path.parent)
        end = time.monotonic() + 10
        while waiting and time.monotonic() < end:
            waiting = [folder for folder in waiting if folder.exists() and not (folder / "exit.json").exists()]
            time.sleep(0.05)
