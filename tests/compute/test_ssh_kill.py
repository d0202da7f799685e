"""Killing for real under runs on another machine: the worker, the connection, the machine itself, its disk."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from tests.compute.test_docker_kill import SCRIPT
from tests.compute.test_kill import BACKGROUND, TERMINAL, Runs, paused_at
from tests.gear.docker import SOCKET, clean, need_engine, test_image
from tests.gear.sshd import Sshd, User
from tests.stack import Stack, wait_until

pytestmark = pytest.mark.services

TARGET = """
import json
from compute.services import target_create, target_check
from django.contrib.auth import get_user_model
from studio.accounts.services import workspace_create
user = get_user_model().objects.create(username="ann", email="ann@example.test")
workspace = workspace_create(name="main", user=user)
given = json.loads({given!r})
target = target_create(workspace=workspace, user=user, name="far", driver="remotedocker", **given)
target_check(target)
assert target.state == "Succeeded", target.problems
"""

CREATE = """
import json
from compute.models import Target
from compute.services import unit_create
target = Target.objects.get(name="far")
for arguments in json.loads({units!r}):
    unit, _token = unit_create(
        workspace=target.workspace, target=target, kind="command", label="far", secrets={{}}, environment=None,
        time_limit_s=None,
        spec={{"argv": ["{{python}}", "train.py", *arguments], "env": {{}},
              "code": [{{"path": "train.py", "source": {source!r}, "mode": 0o644}}]}},
    )
    print(unit.key)
"""


class FarRuns(Runs):
    """Units in containers behind SSH; each counts its lives in its own folder, which is there and comes back."""

    def __init__(self, stack: Stack, server: Sshd, user: User) -> None:
        super().__init__(stack)
        self.source.write_text(SCRIPT)
        self.counters = {}
        self.server, self.user = server, user

    def create(self, *arguments: tuple[int, float, int]) -> list[str]:
        units = json.dumps([[str(word) for word in words] for words in arguments])
        keys = self.stack.python(CREATE.format(units=units, source=str(self.source))).split()
        self.counters.update({key: str(self.stack.unit_directory(key) / "outputs" / "lives") for key in keys})
        return keys

    def there(self, key: str) -> Path:
        """The unit's folder on the machine."""
        return self.user.home / ".atelier" / self.stack.installation / "units" / key

    def containers(self, key: str) -> int:
        client = APIClient(base_url=f"unix://{SOCKET}", version="1.40")
        return len(client.containers(all=True, filters={"label": f"atelier.unit={key}"}))

    def prints(self, key: str) -> None:
        """Wait until the command is at work, and its output comes here."""
        log = self.stack.unit_directory(key) / "stdout.log"
        wait_until("the first lines", lambda: log.exists() and log.stat().st_size > 50, 60)

    def away(self, key: str) -> Any:
        return wait_until("it is seen", lambda: self.row(key)["unreachable_since"], 90)

    def check_end(self, key: str, lines: int, state: str = "completed") -> None:
        super().check_end(key, lines, state)
        wait_until("nothing is left there", lambda: not self.there(key).exists() and not self.containers(key), 30)
        assert self.row(key)["unreachable_since"] is None


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    need_engine()
    with Sshd() as server:
        yield server


@pytest.fixture(scope="module")
def user(server: Sshd) -> User:
    return server.user(groups=["docker"])


@pytest.fixture
def config() -> dict[str, Any]:
    return {}


@pytest.fixture
def runs(tmp_path: Path, server: Sshd, user: User, config: dict[str, Any]) -> Iterator[FarRuns]:
    stack = Stack(tmp_path, services=BACKGROUND, environ={"ATELIER_BASE_IMAGE": test_image()})
    given = {
        "config": {"address": "127.0.0.1", "port": server.port, "username": user.name, **config},
        "secrets": {"private_key": user.key},
        "host_key": server.host_key(),
    }
    try:
        stack.migrate()
        stack.python(TARGET.format(given=json.dumps(given)))
        yield FarRuns(stack, server, user)
    finally:
        server.thaw()
        stack.stop()
        if server.process is None:
            server.start()
        clean(stack.installation)


# The worker.


@pytest.mark.parametrize("failpoint", ["before-submit", "after-submit"])
def test_worker_killed_around_submit(runs: FarRuns, failpoint: str) -> None:
    stack = runs.stack
    stack.start("valkey", "beat")
    stack.start("worker", ATELIER_TEST_PAUSE=failpoint)
    [key] = runs.create((40, 0.05, 0))
    paused_at(stack, failpoint)
    assert runs.row(key)["state"] == "submitting"
    assert runs.containers(key) == (failpoint == "after-submit")
    stack.kill("worker")
    stack.start("worker")
    runs.check_end(key, 40)


def test_worker_and_beat_killed_while_running(runs: FarRuns) -> None:
    runs.stack.start(*BACKGROUND)
    good, bad = runs.create((100, 0.05, 0), (100, 0.05, 3))
    for key in (good, bad):
        runs.in_state(key, "running")
    runs.prints(good)
    runs.stack.kill("worker", "beat")
    time.sleep(1)
    runs.stack.start("worker", "beat")
    runs.check_end(good, 100)
    runs.check_end(bad, 100, "failed")


def test_run_that_ends_while_nobody_is_there(runs: FarRuns) -> None:
    runs.stack.start(*BACKGROUND)
    [key] = runs.create((80, 0.05, 0))
    runs.in_state(key, "running")
    runs.stack.kill(*BACKGROUND)
    wait_until("the run's end", (runs.there(key) / "exit.json").exists)
    assert runs.row(key)["state"] == "running"
    runs.stack.start(*BACKGROUND)
    runs.check_end(key, 80)


# The connection.


def test_connection_cut_again_and_again(runs: FarRuns) -> None:
    """While it is submitted, while its output streams, while its files are fetched: whenever it happens to be."""
    runs.stack.start(*BACKGROUND)
    keys = runs.create((150, 0.05, 0), (150, 0.05, 0), (150, 0.05, 0))
    for _time in range(12):
        time.sleep(0.7)
        runs.server.cut()
    for key in keys:
        runs.check_end(key, 150)


def test_machine_frozen_and_thawed(runs: FarRuns) -> None:
    runs.stack.start(*BACKGROUND)
    going, short = runs.create((400, 0.05, 0), (60, 0.05, 0))
    for key in (going, short):
        runs.in_state(key, "running")
        runs.prints(key)
    runs.server.freeze()
    since = runs.away(going)
    wait_until("the run's end", (runs.there(short) / "exit.json").exists, 60)
    assert runs.row(short)["state"] == "running"
    [waiting] = runs.create((10, 0.01, 0))
    time.sleep(3)
    assert runs.row(going)["unreachable_since"] == since, "the run page says since when"
    assert runs.row(waiting)["state"] not in TERMINAL
    runs.server.thaw()
    runs.check_end(going, 400)
    runs.check_end(short, 60)
    runs.check_end(waiting, 10)


def test_server_gone_and_back(runs: FarRuns) -> None:
    """As after an hour without a network: what was written meanwhile is there, from the byte at which it broke off."""
    runs.stack.start(*BACKGROUND)
    [key] = runs.create((200, 0.05, 0))
    runs.prints(key)
    runs.server.stop()
    runs.away(key)
    here = (runs.stack.unit_directory(key) / "stdout.log").stat().st_size
    wait_until("it writes on", lambda: (runs.there(key) / "stdout.log").stat().st_size > here + 500)
    runs.stack.kill("worker")
    runs.stack.start("worker")
    wait_until("the run's end", (runs.there(key) / "exit.json").exists, 60)
    runs.server.start()
    runs.check_end(key, 200)


def test_run_is_canceled_while_the_machine_is_away(runs: FarRuns) -> None:
    runs.stack.start(*BACKGROUND)
    [key] = runs.create((4000, 0.05, 0))
    runs.prints(key)
    runs.server.stop()
    runs.away(key)
    cancel = "from compute.models import Unit; from compute.services import unit_cancel"
    runs.stack.python(f"{cancel}; unit_cancel(Unit.objects.get(key={key!r}))")
    time.sleep(2)
    runs.server.start()
    assert runs.in_state(key, *TERMINAL)["state"] == "canceled"
    assert Path(runs.counters[key]).read_text() == "life\n"


# Its disk.


@pytest.fixture
def small_disk(user: User) -> Iterator[Path]:
    place = user.home / f"small-{time.monotonic_ns()}"
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size=1100m,uid={user.uid},mode=700", "tmpfs", str(place)], check=True
    )
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


class TestFullDisk:
    @pytest.fixture
    def config(self, small_disk: Path) -> dict[str, Any]:
        return {"folder": str(small_disk)}

    def test_a_run_waits_until_there_is_room(self, runs: FarRuns, small_disk: Path) -> None:
        subprocess.run(["dd", "if=/dev/zero", f"of={small_disk}/filler", "bs=1M"], check=False, capture_output=True)
        runs.stack.start(*BACKGROUND)
        [key] = runs.create((20, 0.01, 0))
        time.sleep(8)
        assert runs.row(key)["state"] not in TERMINAL, runs.row(key)["error"]
        (small_disk / "filler").unlink()
        Runs.check_end(runs, key, 20)

    def test_a_disk_that_fills_while_it_runs(self, runs: FarRuns, small_disk: Path) -> None:
        runs.stack.start(*BACKGROUND)
        [key] = runs.create((200, 0.05, 0))
        runs.prints(key)
        subprocess.run(["dd", "if=/dev/zero", f"of={small_disk}/filler", "bs=1M"], check=False, capture_output=True)
        time.sleep(5)
        (small_disk / "filler").unlink()
        row = runs.in_state(key, *TERMINAL)
        log = (runs.stack.unit_directory(key) / "stdout.log").read_text()
        assert log.splitlines()[: len(log.splitlines())] == [f"line {n:06d}" for n in range(len(log.splitlines()))]
        assert row["state"] in ("completed", "failed"), "a script whose own writes fail may fail itself"
        assert Path(runs.counters[key]).read_text() == "life\n"
