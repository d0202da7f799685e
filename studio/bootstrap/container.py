"""What a container of the studio runs: ``python -m studio.bootstrap.container web|worker|beat|prepare|health|...``.

Each service replaces this process, so the engine's signals reach it and its words are the container's log. Any other
word is one of ``manage.py``'s. Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from studio.bootstrap import gate
from studio.bootstrap.console import SetupError, fail, say
from studio.bootstrap.packages import ROOT
from studio.bootstrap.services import Place, answers, commands
from studio.lib import env

SERVICES = ("web", "worker", "beat")
FRESH_S = 30.0  # how old a sign of life may be; the worker and the beat give one every few seconds


def alive_file(name: str) -> Path:
    """What the worker and the beat of this container touch while their loops turn. Not in the shared data folder."""
    return Path(tempfile.gettempdir()) / f"atelier-{name}.alive"


def _place() -> Place:
    """Raises SetupError where the data folder cannot be used or an address is missing."""
    place = Place()
    if not os.access(place.data, os.W_OK | os.X_OK):
        raise SetupError(
            f"The data folder {place.data} cannot be written by user {os.getuid()}, as whom the studio runs.",
            f"On the machine that has the folder: chown {os.getuid()}:{os.getgid()} FOLDER",
        )
    for name in ("DATABASE_URL", "REDIS_URL"):
        if not env.text(name):
            raise SetupError(
                f"{name} is not set: in containers the database and the broker are services of their own.",
                'compose.yaml sets it from .env; docs/operations.md, "In containers", lists the settings.',
            )
    return place


def _serve(name: str) -> None:
    """Become the service. Its role is written down for the health check, which the image has only one of."""
    place = _place()
    (place.data / "run").mkdir(parents=True, exist_ok=True)
    alive_file("role").write_text(name)
    command = [*commands(place)[name], *(gate.daphne_arguments(place.data) if name == "web" else [])]
    os.chdir(ROOT)
    os.execv(command[0], command)  # noqa: S606 - our own interpreter with our own arguments


def _healthy() -> bool:
    """Whether this container's service answers (web), or its loop turned a moment ago (worker, beat)."""
    try:
        name = alive_file("role").read_text()
        if name == "web":
            return answers("127.0.0.1", Place().port)
        return time.time() - alive_file(name).stat().st_mtime < FRESH_S
    except OSError:
        return False


def _prepare() -> int:
    """Migrate, and make the first owner where there is none."""
    place = _place()
    done = subprocess.run(
        [sys.executable, "manage.py", "prepare", "--in-container"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stdout.write(done.stdout)
        return done.returncode
    made = json.loads(done.stdout.strip().splitlines()[-1])
    say(f"The database is ready. Sign in at {place.url} as {made['owner']}.")
    if made["password"] and not env.text("ATELIER_OWNER_PASSWORD"):
        say(f"The password was made up and is shown only now: {made['password']}")
    return 0


def main(words: list[str]) -> int:
    name = words[0] if words else "web"
    try:
        if name in SERVICES and len(words) <= 1:
            _serve(name)
        if name == "prepare":
            return _prepare()
        if name == "health":
            return 0 if _healthy() else 1
    except SetupError as error:
        fail(error)
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, "manage.py", *words])  # noqa: S606 - our own program
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
