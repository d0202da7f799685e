"""Killing for real under runs in containers: the worker, the engine, the container, the disk."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from tests.compute.test_kill import BACKGROUND, TERMINAL, Runs, paused_at
from tests.gear.docker import SOCKET, clean, need_engine, test_image
from tests.gear.engines import OwnEngine, engine_of_its_own
from tests.stack import Stack, wait_until

pytestmark = pytest.mark.services

SCRIPT = """
import os, sys, time
with open(os.path.join(os.environ["ATELIER_UNIT_DIR"], "outputs", "lives"), "a") as f:
    f.write("life\\n")
for i in range(int(sys.argv[1])):
    print("line %06d" % i)
    with open(os.path.join(os.environ["ATELIER_UNIT_DIR"], "events.jsonl"), "a") as f:
        f.write('{"k":"metric","n":"x","v":%d}\\n' % i)
    time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[3]))
"""

TARGET = """
from compute.services import target_create
from django.contrib.auth import get_user_model
from studio.accounts.services import workspace_create
user = get_user_model().objects.create(username="ann", email="ann@example.test")
workspace = workspace_create(name="main", user=user)
target = target_create(workspace=workspace, user=user, name="boxes", driver="docker", config={"slots": 4})
assert target.state == "Succeeded", target.problems
"""

CREATE = """
import json
from compute.models import Target, UnitKind
from compute.services import unit_create
target = Target.objects.get(name="boxes")
for arguments in json.loads({units!r}):
    unit, _token = unit_create(
        workspace=target.workspace, target=target, kind="command", label="boxed", secrets={{}}, environment=None,
        time_limit_s=None,
        spec={{"argv": ["{{python}}", "train.py", *arguments], "env": {{}},
              "code": [{{"path": "train.py", "source": {source!r}, "mode": 0o644}}]}},
    )
    print(unit.key)
"""


class BoxedRuns(Runs):
    """Units in containers; each counts its lives in its own folder."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self.source.write_text(SCRIPT)
        self.counters = {}

    def create(self, *arguments: tuple[int, float, int]) -> list[str]:
        units = json.dumps([[str(word) for word in words] for words in arguments])
        keys = self.stack.python(CREATE.format(units=units, source=str(self.source))).split()
        self.counters.update({key: str(self.stack.unit_directory(key) / "outputs" / "lives") for key in keys})
        return keys

    def error(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.row(key)["error"])
        return found

    def lived_once(self, key: str) -> None:
        assert Path(self.counters[key]).read_text() == "life\n"

    def prints(self, key: str) -> None:
        """Wait until the command is at work."""
        log = self.stack.unit_directory(key) / "stdout.log"
        wait_until("the first lines", lambda: log.exists() and log.stat().st_size > 50, 60)


def boxed(folder: Path, socket: str, image: str) -> Iterator[BoxedRuns]:
    """Runs on a stack whose target ``boxes`` is the engine behind ``socket``; its containers are removed at the end."""
    environ = {"ATELIER_DOCKER_SOCKET": socket, "ATELIER_BASE_IMAGE": image}
    stack = Stack(folder, services=BACKGROUND, environ=environ)
    try:
        stack.migrate()
        stack.python(TARGET)
        yield BoxedRuns(stack)
    finally:
        stack.stop()
        clean(stack.installation, socket)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[BoxedRuns]:
    """On the machine's own engine."""
    need_engine()
    yield from boxed(tmp_path, SOCKET, test_image())


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[OwnEngine]:
    need_engine()
    with engine_of_its_own(**getattr(request, "param", {})) as engine:
        engine.load()
        yield engine


@pytest.fixture
def own_runs(own: OwnEngine, tmp_path: Path) -> Iterator[BoxedRuns]:
    """On an engine that the test may do anything to."""
    for runs in boxed(tmp_path, own.socket, test_image()):
        yield runs
        own.signal(signal.SIGCONT)
        own.start()


def started(runs: BoxedRuns, key: str, client: APIClient) -> int:
    """How many containers there are of a unit."""
    return len(client.containers(all=True, filters={"label": f"atelier.unit={key}"}))


# The worker.


@pytest.mark.parametrize("failpoint", ["before-submit", "after-submit"])
def test_worker_killed_around_submit(runs: BoxedRuns, failpoint: str) -> None:
    stack, client = runs.stack, APIClient(base_url=f"unix://{SOCKET}", version="1.40")
    stack.start("valkey", "beat")
    stack.start("worker", ATELIER_TEST_PAUSE=failpoint)
    [key] = runs.create((40, 0.05, 0))
    paused_at(stack, failpoint)
    row = runs.row(key)
    assert row["state"] == "submitting"
    assert row["handle"] is None
    assert started(runs, key, client) == (failpoint == "after-submit")
    stack.kill("worker")
    stack.start("worker")
    runs.check_end(key, 40)
    assert started(runs, key, client) == 0, "the container is gone once the run has ended"


def test_worker_and_beat_killed_while_running(runs: BoxedRuns) -> None:
    runs.stack.start(*BACKGROUND)
    good, bad = runs.create((60, 0.05, 0), (60, 0.05, 3))
    for key in (good, bad):
        runs.in_state(key, "running")
    runs.stack.kill("worker", "beat")
    time.sleep(1)
    runs.stack.start("worker", "beat")
    runs.check_end(good, 60)
    runs.check_end(bad, 60, "failed")
    assert runs.error(bad)["exit_code"] == 3


def test_run_that_ends_while_nobody_is_there(runs: BoxedRuns) -> None:
    runs.stack.start(*BACKGROUND)
    [key] = runs.create((80, 0.05, 0))
    runs.in_state(key, "running")
    runs.stack.kill(*BACKGROUND)
    wait_until("the run's end", (runs.stack.unit_directory(key) / "exit.json").exists)
    assert runs.row(key)["state"] == "running"
    runs.stack.start(*BACKGROUND)
    runs.check_end(key, 80)


# The container.


def test_container_removed_by_hand(runs: BoxedRuns) -> None:
    runs.stack.start(*BACKGROUND)
    [key] = runs.create((2000, 0.05, 0))
    runs.in_state(key, "running")
    runs.prints(key)
    APIClient(base_url=f"unix://{SOCKET}", version="1.40").remove_container(f"atelier-{key}", force=True)
    # Killed is a moment before removed, and a look may fall in between.
    assert runs.in_state(key, *TERMINAL)["state"] in {"lost", "failed"}
    assert re.search("removed|by hand", runs.error(key)["message"])
    runs.lived_once(key)


def test_frozen_container_goes_on_when_it_thaws(runs: BoxedRuns) -> None:
    client = APIClient(base_url=f"unix://{SOCKET}", version="1.40")
    runs.stack.start(*BACKGROUND)
    [key] = runs.create((40, 0.05, 0))
    runs.in_state(key, "running")
    client.pause(f"atelier-{key}")
    time.sleep(8)  # beats are missed, and convict nobody
    assert runs.row(key)["state"] == "running"
    client.unpause(f"atelier-{key}")
    runs.check_end(key, 40)


# The engine.


@pytest.mark.parametrize("own", [{"live_restore": True}], indirect=True)
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_engine_restarted_with_live_restore(own: OwnEngine, own_runs: BoxedRuns, how: str) -> None:
    runs = own_runs
    runs.stack.start(*BACKGROUND)
    [key] = runs.create((200, 0.05, 0))
    runs.in_state(key, "running")
    getattr(own, how)()
    wait_until("it is seen", lambda: runs.row(key)["unreachable_since"])
    own.start()
    runs.check_end(key, 200)
    assert runs.row(key)["unreachable_since"] is None


def test_engine_killed_without_live_restore(own: OwnEngine, own_runs: BoxedRuns) -> None:
    """An engine that comes back ends what it finds running. The run says so, and is not started again."""
    runs = own_runs
    runs.stack.start(*BACKGROUND)
    [key] = runs.create((4000, 0.05, 0))
    runs.in_state(key, "running")
    runs.prints(key)
    own.kill()
    wait_until("it is seen", lambda: runs.row(key)["unreachable_since"])
    assert runs.row(key)["state"] == "running"
    own.start()
    assert runs.in_state(key, *TERMINAL)["state"] == "failed"
    assert runs.error(key)["message"]
    runs.lived_once(key)


def test_engine_stopped_without_live_restore(own: OwnEngine, own_runs: BoxedRuns) -> None:
    runs = own_runs
    runs.stack.start(*BACKGROUND)
    [key] = runs.create((4000, 0.05, 0))
    runs.in_state(key, "running")
    runs.prints(key)
    own.stop()
    own.start()
    assert runs.in_state(key, *TERMINAL)["state"] == "failed"
    assert runs.error(key)["code"] == "MachineStopped"
    runs.lived_once(key)


def test_engine_that_hangs_fails_nothing(own: OwnEngine, own_runs: BoxedRuns) -> None:
    runs = own_runs
    runs.stack.start(*BACKGROUND)
    [key] = runs.create((100, 0.05, 0))
    runs.in_state(key, "running")
    own.signal(signal.SIGSTOP)
    wait_until("it is seen", lambda: runs.row(key)["unreachable_since"], 60)
    own.signal(signal.SIGCONT)
    runs.check_end(key, 100)


def test_run_is_canceled_while_the_engine_is_away(own: OwnEngine, own_runs: BoxedRuns) -> None:
    """The engine is told once it is back; the supervisor, which reads the order itself, does not wait for that."""
    runs = own_runs
    runs.stack.start(*BACKGROUND)
    [key] = runs.create((4000, 0.05, 0))
    runs.in_state(key, "running")
    own.kill()
    cancel = "from compute.models import Unit; from compute.services import unit_cancel"
    runs.stack.python(f"{cancel}; unit_cancel(Unit.objects.get(key={key!r}))")
    wait_until("the command's end", (runs.stack.unit_directory(key) / "exit.json").exists, 60)
    own.start()
    assert runs.in_state(key, *TERMINAL)["state"] == "canceled"
    runs.lived_once(key)


@pytest.mark.parametrize("own", [{"size_mb": 2000}], indirect=True)
def test_engine_with_a_full_disk(own: OwnEngine, own_runs: BoxedRuns) -> None:
    runs = own_runs
    runs.stack.start(*BACKGROUND)
    fill = own.fill_disk()
    check = "from compute.models import Target; from compute.services import target_check"
    found = runs.stack.python(f"{check}; print([p.message for p in target_check(Target.objects.get(name='boxes'))])")
    assert "disk" in found
    [key] = runs.create((10, 0.01, 0))
    assert runs.in_state(key, *TERMINAL)["state"] == "failed"
    assert "no space left on the disk of the Docker engine" in runs.error(key)["message"]
    fill.unlink()
    [again] = runs.create((10, 0.01, 0))
    runs.check_end(again, 10)
