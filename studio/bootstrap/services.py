"""``up``, ``down`` and ``status``: Valkey, the web server, a worker and the beat, watched by one small process."""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from studio.bootstrap import broker, gate, processes
from studio.bootstrap.console import SetupError, disk_check, explain, fail, say, step
from studio.bootstrap.packages import ROOT
from studio.bootstrap.processes import Process
from studio.lib import env

START_SECONDS = 60
STOP_ORDER = ("beat", "worker", "web", "valkey")


class Place:
    """Where this installation lives and listens, read from the same variables as the settings."""

    def __init__(self) -> None:
        try:
            self.data = Path(env.text("ATELIER_DATA") or ROOT / "data").resolve()
            self.host = env.text("ATELIER_HOST", "127.0.0.1")
            self.port = env.integer("ATELIER_PORT", 8700, minimum=1)
        except env.ConfigurationError as error:
            raise SetupError(str(error)) from error
        self.near = "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 - compared, not bound
        self.url = env.text("ATELIER_URL") or f"http://{self.near}:{self.port}"
        self.state = self.data / "run" / "services.json"
        self.logs = self.data / "log"


def commands(place: Place) -> dict[str, list[str]]:
    python = sys.executable
    celery = [python, "-m", "celery", "-A", "studio"]
    found = {
        "web": [python, "-m", "daphne", "-v", "0", "-b", place.host, "-p", str(place.port), "studio.asgi:application"],
        "worker": [
            *celery, "worker", "--pool", "threads", "--concurrency", "4", "--loglevel", "WARNING",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ],
        "beat": [*celery, "beat", "--loglevel", "WARNING", "--pidfile=", "-s", str(place.data / "run" / "beat")],
    }  # fmt: skip
    if not env.text("REDIS_URL"):
        try:
            found = {"valkey": broker.server_arguments(place.data), **found}
        except broker.BrokerMissing as error:
            raise SetupError(str(error)) from error
    return found


def _environment(place: Place) -> dict[str, str]:
    environment = {**os.environ, "ATELIER_DATA": str(place.data), "DJANGO_SETTINGS_MODULE": "studio.settings"}
    # Cold starts take twice as long without the bytecode cache.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    # glibc keeps an arena per thread; two are plenty and keep the services small.
    environment.setdefault("MALLOC_ARENA_MAX", "2")
    return environment


class Services:
    """Starts the processes, waits until they answer, and starts again what dies."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.commands = commands(place)
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.died: dict[str, float] = {}

    def start(self, name: str) -> None:
        self.place.logs.mkdir(parents=True, exist_ok=True)
        log = self.place.logs / f"{name}.log"
        if log.is_file() and log.stat().st_size > 20 * 2**20:
            log.replace(log.with_suffix(".log.1"))
        (self.place.data / "run" / f"{name}.ready").unlink(missing_ok=True)
        with log.open("ab") as output:
            self.children[name] = subprocess.Popen(
                [*self.commands[name], *(gate.daphne_arguments(self.place.data) if name == "web" else [])],
                cwd=ROOT,
                env=_environment(self.place),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self) -> list[Process]:
        own = Process("up", os.getpid(), processes.born(os.getpid()))
        return [own] + [Process(name, child.pid, processes.born(child.pid)) for name, child in self.children.items()]

    def save(self) -> None:
        processes.save(self.place.state, self.processes(), url=self.place.url, since=time.time())

    def answers(self, name: str) -> bool:
        if name == "valkey":
            return _ping(broker.socket_path(self.place.data))
        if name == "web":
            return answers(self.place.near, self.place.port)
        return (self.place.data / "run" / f"{name}.ready").exists()

    def wait(self, name: str) -> None:
        """Until the service answers. Raises SetupError with the end of its log when it ends or stays silent."""
        deadline = time.monotonic() + START_SECONDS
        while not self.answers(name):
            ended = self.children[name].poll() is not None
            if ended or time.monotonic() > deadline:
                log = self.place.logs / f"{name}.log"
                tail = log.read_text(errors="replace")[-3000:]
                raise explain(f"Starting {name}" if ended else f"{name} does not answer; starting it", tail)
            time.sleep(0.03)

    def stop(self) -> None:
        found = {process.name: process for process in self.processes()}
        processes.stop([found[name] for name in STOP_ORDER if name in found])
        self.place.state.unlink(missing_ok=True)

    def watch(self) -> None:
        """Start again what died, with a pause that grows when it dies young."""
        for name, child in self.children.items():
            if child.poll() is None:
                continue
            last = self.died.get(name, 0.0)
            if time.monotonic() - last < 5:
                continue
            self.died[name] = time.monotonic()
            say(f"  {name} ended with {child.returncode}; starting it again (its log: {self.place.logs / name}.log)")
            self.start(name)
            self.save()


def _ping(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def answers(host: str, port: int) -> bool:
    """Whether the web server answers at all: a redirect to https, or a host that is not allowed, says so too."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _port_check(place: Place) -> None:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((place.host, place.port))
        except OSError as error:
            raise SetupError(
                f"Port {place.port} on {place.host} cannot be used: {error.strerror}.",
                f"Stop what listens there, or choose another port: ATELIER_PORT={place.port + 1} python3 manage.py up",
            ) from error


def _fingerprint(place: Place) -> str:
    """Of everything that the preparation depends on: equal to the last one, it can be skipped."""
    total = hashlib.sha256(f"{env.text('DATABASE_URL')}|{place.data}|{sys.version}".encode())
    found = [*ROOT.glob("*/migrations/*.py"), *ROOT.glob("studio/*/migrations/*.py"), *(ROOT / "static").rglob("*")]
    for path in sorted([*found, ROOT / "requirements.txt"]):
        stat = path.stat()
        total.update(f"{path}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    return total.hexdigest()


def _prepare(place: Place) -> dict[str, str]:
    """Migrate, collect static files, make the first owner. What ``manage.py prepare`` found or made."""
    stamp = place.data / "run" / "prepared.json"
    fingerprint = _fingerprint(place)
    database = place.data / "atelier.sqlite3"
    try:
        kept: dict[str, str] = json.loads(stamp.read_text())
    except (OSError, ValueError):
        kept = {}
    if kept.get("fingerprint") == fingerprint and (env.text("DATABASE_URL") or database.exists()):
        return kept
    with step("Preparing the database and the pages"):
        done = subprocess.run(
            [sys.executable, "manage.py", "prepare"],
            cwd=ROOT, env=_environment(place), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise explain("Preparing the database and the pages", done.stdout + done.stderr)
        made: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(json.dumps({"owner": made["owner"], "workspace": made["workspace"], "fingerprint": fingerprint}))
    return made


def _running(place: Place) -> list[Process]:
    found, _ = processes.load(place.state)
    return [process for process in found if process.alive]


def _greet(place: Place, made: dict[str, str]) -> None:
    say(f"\nAtelier is ready:  {place.url}\n")
    if made.get("password"):
        say(f"  Sign in as       {made['owner']}")
        say(f"  with password    {made['password']}")
        say("  It is shown only now. Change it under your name, top right; a forgotten one is set again with")
        say(f"  `python3 manage.py changepassword {made['owner']}`.\n")
    else:
        say(f"  Sign in as {made['owner']} (forgotten: python3 manage.py changepassword {made['owner']})\n")
    say("  Next: open the address, press New run, and paste a script.")
    say(f"  From a notebook or a shell: pip install --index-url {place.url}/client/simple/ atelier-client")
    say(f"  and put {place.data / 'config.json'} beside your scripts.")


def _detach(place: Place) -> int:
    """Start ``up`` in the background and pass on what it says until it is ready."""
    place.logs.mkdir(parents=True, exist_ok=True)
    log = place.logs / "up.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    shown = 0
    while True:
        ended = child.poll()
        text = log.read_text(errors="replace")
        sys.stdout.write(text[shown:])
        sys.stdout.flush()
        shown = len(text)
        if ended is not None:
            return ended
        if "beside your scripts" in text:
            say("\n  Stop it with: python3 manage.py down")
            return 0
        time.sleep(0.1)


def up(arguments: list[str]) -> int:
    """Set up what is missing, start everything and stay in front until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="manage.py up")
    parser.add_argument("--detach", action="store_true", help="return to the shell once everything answers")
    parser.add_argument("--no-sample", action="store_true", help="do not run the sample experiment in a new workspace")
    options = parser.parse_args(arguments)
    place = Place()
    if _running(place):
        url = processes.load(place.state)[1].get("url", place.url)  # it may have been started with another port
        say(f"Atelier is running already: {url}  (python3 manage.py status; python3 manage.py down)")
        return 0
    if options.no_sample:
        os.environ["ATELIER_NO_SAMPLE"] = "1"
    disk_check(str(place.data), 200 * 2**20)
    # The database holds names, notes and digests of a whole team: not for the other accounts of this machine.
    place.data.mkdir(parents=True, exist_ok=True)
    place.data.chmod(0o700)
    _port_check(place)
    if options.detach:
        return _detach(place)
    # Ctrl-C too: a shell that starts this in the background has it ignored, and so would Python.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    return _stay(place)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _stay(place: Place) -> int:
    services = Services(place)
    sample: subprocess.Popen[bytes] | None = None
    try:
        if "valkey" in services.commands:
            services.start("valkey")
            services.wait("valkey")
        made = _prepare(place)
        with step("Starting the web server, the worker and the beat"):
            for name in services.commands:
                if name != "valkey":
                    services.start(name)
            services.save()
            for name in services.commands:
                services.wait(name)
        _greet(place, made)
        sample = _sample(place, made["workspace"]) if made.get("sample") == "wanted" else None
        while True:
            services.watch()
            if sample is not None:
                sample.poll()
            time.sleep(0.5)
    except SetupError as error:
        services.stop()
        fail(error)
    except KeyboardInterrupt:
        say("\nStopping. Runs that are going on go on, and are found again at the next start.")
        if sample is not None and sample.poll() is None:
            sample.terminate()
        services.stop()
    return 0


def _sample(place: Place, workspace: str) -> subprocess.Popen[bytes] | None:
    """The sample experiment of a new workspace; it says by itself how it goes."""
    if env.flag("ATELIER_NO_SAMPLE"):
        return None
    say(f"\n  Meanwhile a sample is run in your workspace: {place.url}/w/{workspace}/experiments/iris-sample/")
    return subprocess.Popen([sys.executable, "manage.py", "sample"], cwd=ROOT, env=_environment(place))


def down(arguments: list[str]) -> int:
    """Stop everything that ``up`` started. Running units go on."""
    argparse.ArgumentParser(prog="manage.py down").parse_args(arguments)
    place = Place()
    alive = {process.name: process for process in _running(place)}
    if not alive:
        say("Nothing runs.")
        return 0
    if "up" in alive:
        alive["up"].signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        while _running(place) and time.monotonic() < deadline:
            time.sleep(0.1)
    killed = processes.stop([process for name in ("up", *STOP_ORDER) if (process := alive.get(name))])
    place.state.unlink(missing_ok=True)
    say("Stopped." + (f" Had to be killed: {', '.join(killed)}." if killed else " Running units go on."))
    return 0


def status(arguments: list[str]) -> int:
    """What runs, since when, with how much memory; status 0 when all of it does."""
    argparse.ArgumentParser(prog="manage.py status").parse_args(arguments)
    place = Place()
    found, more = processes.load(place.state)
    if not found:
        say("Atelier is not running. Start it with: python3 manage.py up")
        return 3
    say(f"{more.get('url', place.url)}\n")
    total, well = 0, True
    for process in found:
        memory = processes.proportional_memory(process.pid) if process.alive else None
        total += memory or 0
        well = well and process.alive
        word = "runs" if process.alive else "ENDED"
        size = f"{memory / 2**20:6.0f} MB" if memory is not None else ""
        say(f"  {process.name:<8} {word:<6} process {process.pid:<8} {size}")
    say(f"\n  together {total / 2**20:.0f} MB of memory")
    if well:
        _units(place)
    return 0 if well else 3


def _units(place: Place) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "units"],
        cwd=ROOT, env=_environment(place), capture_output=True, text=True, check=False,
    )  # fmt: skip
    say("\n" + done.stdout.rstrip() if done.returncode == 0 else "\n  The database does not answer.")
