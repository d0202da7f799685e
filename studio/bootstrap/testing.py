"""``manage.py test``: everything this machine can check, each part with its own line, pytest's summary last."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from studio.bootstrap.console import SetupError, say, step
from studio.bootstrap.engine import Engine, answers
from studio.bootstrap.packages import ROOT, ensure_gear

NO_SERVICES = "not services and not browser"
PYTEST = [sys.executable, "-m", "pytest", "-q"]
# What a machine may say about its own gear; all other settings of ours would change what is tested.
KEPT = {
    "ATELIER_TEST_IMAGE",
    "ATELIER_TEST_IMAGE_SCRIPT",
    "ATELIER_TEST_POSTGRES_IMAGE",
    "ATELIER_TEST_REDIS_IMAGE",
    "ATELIER_TEST_CHROMIUM",
}


def _run(title: str, command: list[str], environment: dict[str, str]) -> bool:
    started = time.monotonic()
    say(f"\n== {title}: {' '.join(command)}")
    well = subprocess.run(command, cwd=ROOT, env=environment, check=False, stdin=subprocess.DEVNULL).returncode == 0
    say(f"== {title}: {'ok' if well else 'FAILED'} in {time.monotonic() - started:.0f} s")
    return well


def _tools(environment: dict[str, str]) -> dict[str, bool]:
    """Style, types, layers, templates, migrations and the deployment check."""
    binary = Path(sys.executable).parent
    deploy = {
        **environment,
        "ATELIER_URL": "https://atelier.example",
        "ATELIER_DEBUG": "",
        "ATELIER_HSTS_SUBDOMAINS": "1",
        "ATELIER_HSTS_PRELOAD": "1",
        "ATELIER_SECRET_KEY": "only-for-this-check-" + "x7Kq" * 12,
    }
    manage = [sys.executable, "manage.py"]
    parts = {
        "style": ([str(binary / "ruff"), "check", "."], environment),
        "format": ([str(binary / "ruff"), "format", "--check", "--quiet", "."], environment),
        "templates": ([str(binary / "djlint"), "templates", "--lint", "--quiet"], environment),
        "layers": ([str(binary / "lint-imports")], environment),
        "types": ([str(binary / "mypy")], environment),
        "migrations": ([*manage, "makemigrations", "--check", "--dry-run"], environment),
        "deployment": ([*manage, "check", "--deploy", "--fail-level", "WARNING"], deploy),
    }
    return {name: _run(name, command, variables) for name, (command, variables) in parts.items()}


class Postgres:
    """A PostgreSQL server of the tests' own, on a socket in a temporary folder, and with ``port`` on loopback too;
    None where there is no server."""

    def __init__(self, port: int | None = None) -> None:
        self.listen = f"-c listen_addresses=127.0.0.1 -c port={port}" if port else "-c listen_addresses=''"
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
        on_path = shutil.which("initdb")
        self.bin = found[0].parent if found else Path(on_path).parent if on_path else None
        self.home = Path(tempfile.mkdtemp(prefix="atelier-pg-"))

    def _as_user(self, command: list[str]) -> list[str]:
        """PostgreSQL refuses to run as root."""
        return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else command

    def start(self) -> str | None:
        """The database's URL, or None when no server is installed."""
        if self.bin is None:
            return None
        if os.geteuid() == 0:
            shutil.chown(self.home, "postgres", "postgres")
        data = str(self.home / "data")
        options = f"-k {self.home} {self.listen} -c fsync=off -c max_connections=60"
        for command in (
            [str(self.bin / "initdb"), "-D", data, "-U", "atelier", "--auth=trust", "-E", "UTF8", "--no-sync"],
            [str(self.bin / "pg_ctl"), "-D", data, "-w", "-l", str(self.home / "log"), "-o", options, "start"],
        ):
            subprocess.run(self._as_user(command), check=True, cwd="/", stdout=subprocess.DEVNULL)
        return f"postgres://atelier@%2F{str(self.home).strip('/').replace('/', '%2F')}/postgres"

    def stop(self) -> None:
        if self.bin is not None and (self.home / "data" / "postmaster.pid").exists():
            command = [str(self.bin / "pg_ctl"), "-D", str(self.home / "data"), "-m", "immediate", "stop"]
            subprocess.run(self._as_user(command), check=False, cwd="/", stdout=subprocess.DEVNULL)
        shutil.rmtree(self.home, ignore_errors=True)


def run(arguments: list[str]) -> int:
    """Everything, or with arguments just pytest with them."""
    parser = argparse.ArgumentParser(prog="manage.py test", add_help=False)
    parser.add_argument("--fast", action="store_true")
    options, rest = parser.parse_known_args(arguments)
    environment = {name: value for name, value in os.environ.items() if name in KEPT or not name.startswith("ATELIER_")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    engine = Engine()
    if environment.get("CI") == "true" and not options.fast:
        engine.start()
    try:
        if rest:
            _gear(environment)
            return subprocess.run([*PYTEST, *rest], cwd=ROOT, env=environment, check=False).returncode
        return _everything(environment, fast=options.fast)
    finally:
        engine.stop()  # silent: the last line stays pytest's


def _everything(environment: dict[str, str], *, fast: bool) -> int:
    done = _tools(environment)
    parallel = ["-n", str(max(2, os.cpu_count() or 2)), "--dist", "worksteal"]
    command = [*PYTEST, *parallel, "-m", NO_SERVICES]
    done["plain tests"] = _run("plain tests", command, environment)
    if not fast:
        done |= _on_postgres(command, environment)
    say("\n" + "\n".join(f"{'ok    ' if well else 'FAILED'}  {name}" for name, well in done.items()))
    if fast:
        return 0 if all(done.values()) else 1
    _gear(environment)
    # Files side by side, each whole in one process: their servers are started once. One more than there are processors,
    # because much of their time is waiting; and the long ones first.
    parallel = ["-n", str((os.cpu_count() or 2) + 1), "--dist", "loadfile", "--no-loadscope-reorder"]
    command = [*PYTEST, *parallel, "-p", "tests.gear.schedule", "-m", "services or browser"]
    well = _run_last(command, environment)
    return 0 if well and all(done.values()) else 1


def _on_postgres(command: list[str], environment: dict[str, str]) -> dict[str, bool]:
    """The same tests with PostgreSQL. Nothing where it is not installed; a failure where nothing may be left out."""
    title = "plain tests on PostgreSQL"
    postgres = Postgres()
    try:
        url = postgres.start()
        if url:
            return {title: _run(title, command, {**environment, "DATABASE_URL": url})}
    finally:
        postgres.stop()
    if environment.get("CI"):
        say("PostgreSQL is not installed, and with CI=true nothing may be left out.")
        return {title: False}
    return {}


def _gear(environment: dict[str, str]) -> None:
    """Fetch the servers that tests run against, and make the images that several test processes would wait for.
    Without them their tests skip, and with CI=true they fail."""
    try:
        ensure_gear()
    except SetupError as error:
        say(f"The servers that some tests use could not be fetched: {error}")
    if answers():
        with step("Making the images that tests run in"):
            subprocess.run(
                [sys.executable, "-m", "tests.gear.ready"],
                cwd=ROOT, env=environment, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip


def _run_last(command: list[str], environment: dict[str, str]) -> bool:
    """The tests with real services and a real browser; pytest's summary is the last thing that is printed."""
    say(f"\n== tests with real services and a browser: {' '.join(command)}")
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, stdin=subprocess.DEVNULL).returncode == 0
