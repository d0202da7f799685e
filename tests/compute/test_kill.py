"""Killing for real: whatever dies, wherever it was, each run gets its right end, each byte once, and runs once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack import SERVICES, Stack, wait_until

pytestmark = pytest.mark.services

BACKGROUND = ("valkey", "worker", "beat")
TERMINAL = {"completed", "failed", "canceled", "lost"}

# Appends one line per life to a file that nobody else writes, then prints numbered lines while the test kills.
SCRIPT = """
import os, sys, time
with open(os.environ["COUNTER"], "a") as f:
    f.write("life\\n")
for i in range(int(sys.argv[1])):
    print("line %06d" % i)
    with open(os.path.join(os.environ["ATELIER_UNIT_DIR"], "events.jsonl"), "a") as f:
        f.write('{"k":"metric","n":"x","v":%d}\\n' % i)
    time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[3]))
"""

CREATE = """
import json, sys
from compute.models import Unit
from compute.services import unit_create
from django.contrib.auth import get_user_model
from studio.accounts.models import Workspace
from studio.accounts.services import workspace_create
user, _ = get_user_model().objects.get_or_create(username="ann", email="ann@example.test")
workspace = Workspace.objects.filter(name="main").first() or workspace_create(name="main", user=user)
target = workspace.targets.get(name="local")
for one in json.loads({units!r}):
    unit, token = unit_create(
        workspace=workspace, target=target, kind="command", label=one["label"], secrets={{}}, environment=None,
        time_limit_s=None,
        spec={{"argv": ["{{python}}", "train.py", *one["arguments"]], "env": {{"COUNTER": one["counter"]}},
              "code": [{{"path": "train.py", "source": one["source"], "mode": 0o644}}]}},
    )
    print(unit.key)
"""


class Runs:
    """Units on a stack, each with a counter of its lives."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.source = stack.folder / "train.py"
        self.source.write_text(SCRIPT)

    def create(self, *arguments: tuple[int, float, int]) -> list[str]:
        """Units that print ``lines``, sleep ``pause`` seconds after each, and end with ``code``; their keys."""
        units = [
            {
                "label": f"run-{index}",
                "arguments": [str(word) for word in words],
                "counter": str(self.stack.folder / f"counter-{time.time_ns()}-{index}"),
                "source": str(self.source),
            }
            for index, words in enumerate(arguments)
        ]
        keys = self.stack.python(CREATE.format(units=json.dumps(units))).split()
        self.counters = {**getattr(self, "counters", {}), **{k: u["counter"] for k, u in zip(keys, units, strict=True)}}
        return keys

    def row(self, key: str) -> Any:
        return self.stack.query("SELECT * FROM compute_unit WHERE key = ?", key)[0]

    def in_state(self, key: str, *states: str, timeout: float = 60.0) -> Any:
        def check() -> Any:
            row = self.row(key)
            return row if row["state"] in states else None

        try:
            return wait_until(f"{key} is {states}", check, timeout)
        except AssertionError as error:
            logs = "".join(self.stack.log(name)[-3000:] for name in ("worker", "beat"))
            raise AssertionError(f"{error}; it is {self.row(key)['history']}\n{logs}") from None

    def check_end(self, key: str, lines: int, state: str = "completed") -> None:
        """The right end, one life, every byte of the log and every event exactly once."""
        row = self.in_state(key, *TERMINAL)
        assert row["state"] == state, (row["history"], row["error"])
        assert Path(self.counters[key]).read_text() == "life\n"
        log = (self.stack.unit_directory(key) / "stdout.log").read_bytes()
        assert log == b"".join(b"line %06d\n" % index for index in range(lines))
        assert row["events_offset"] == (self.stack.unit_directory(key) / "events.jsonl").stat().st_size
        states = [entry[0] for entry in json.loads(row["history"])]
        assert len(states) == len(set(states)), "each state was entered once"
        stream = self.stack.query("SELECT size, sealed FROM compute_logstream WHERE unit_id = ?", row["id"])[0]
        assert (stream["size"], stream["sealed"]) == (len(log), 1)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path, services=BACKGROUND)
    try:
        stack.migrate()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def runs(stack: Stack) -> Runs:
    return Runs(stack)


def paused_at(stack: Stack, name: str) -> None:
    """Wait until a process of the stack stands still at a failpoint."""
    wait_until(f"the failpoint {name}", (stack.data / f"failpoint-{name}").exists)


@pytest.mark.parametrize("failpoint", ["before-submit", "after-submit"])
def test_worker_killed_around_submit(stack: Stack, runs: Runs, failpoint: str) -> None:
    stack.start("valkey", "beat")
    stack.start("worker", ATELIER_TEST_PAUSE=failpoint)
    [key] = runs.create((40, 0.05, 0))
    paused_at(stack, failpoint)
    row = runs.row(key)
    assert row["state"] == "submitting"
    assert row["handle"] is None
    assert (stack.unit_directory(key) / "beat.json").exists() == (failpoint == "after-submit")
    stack.kill("worker")
    stack.start("worker")
    runs.check_end(key, 40)


def test_worker_and_beat_killed_while_running(stack: Stack, runs: Runs) -> None:
    stack.start(*BACKGROUND)
    good, bad = runs.create((60, 0.05, 0), (60, 0.05, 3))
    for key in (good, bad):
        runs.in_state(key, "running")
    stack.kill("worker", "beat")
    time.sleep(1)
    stack.start("worker", "beat")
    runs.check_end(good, 60)
    runs.check_end(bad, 60, "failed")
    error = json.loads(runs.row(bad)["error"])
    assert error["exit_code"] == 3


def test_run_that_ends_while_nobody_is_there(stack: Stack, runs: Runs) -> None:
    stack.start(*BACKGROUND)
    [key] = runs.create((80, 0.05, 0))  # long enough to be killed in time on a busy machine
    runs.in_state(key, "running")
    stack.kill(*BACKGROUND)
    wait_until("the run's end", (stack.unit_directory(key) / "exit.json").exists)
    assert runs.row(key)["state"] == "running"
    stack.start(*BACKGROUND)
    runs.check_end(key, 80)


def test_broker_killed_with_messages_in_it(stack: Stack, runs: Runs) -> None:
    stack.start("valkey")
    keys = runs.create(*[(10, 0.01, 0)] * 4)  # nobody takes these messages yet
    stack.kill("valkey")
    keys += runs.create((10, 0.01, 0))  # and this one has no broker to go to
    stack.start(*BACKGROUND)
    for key in keys:
        runs.check_end(key, 10)


def test_broker_killed_under_a_living_worker(stack: Stack, runs: Runs) -> None:
    stack.start(*BACKGROUND)
    [first] = runs.create((60, 0.05, 0))
    runs.in_state(first, "running")
    stack.kill("valkey")
    time.sleep(1)
    stack.start("valkey")
    [second] = runs.create((10, 0.01, 0))
    runs.check_end(first, 60)
    runs.check_end(second, 10)


def test_broker_killed_while_a_task_is_in_hand(stack: Stack, runs: Runs) -> None:
    """The worker lives on, with every thread but the one that the test holds."""
    stack.start("valkey", "beat")
    stack.start("worker", ATELIER_TEST_PAUSE="before-submit")
    [held] = runs.create((10, 0.01, 0))
    paused_at(stack, "before-submit")
    stack.kill("valkey")
    time.sleep(1)
    stack.start("valkey")
    [other] = runs.create((10, 0.01, 0))
    runs.check_end(other, 10)
    assert runs.row(held)["state"] == "submitting"
    stack.kill("worker")
    stack.start("worker")
    runs.check_end(held, 10)


def test_everything_killed_at_once_with_units_in_every_state(stack: Stack, runs: Runs) -> None:
    stack.start(*BACKGROUND)
    keys = runs.create(*[(40, 0.05, 0)] * 6)  # two slots: two run, four wait
    runs.in_state(keys[0], "running")
    stack.kill(*BACKGROUND)
    stack.start(*BACKGROUND)
    for key in keys:
        runs.check_end(key, 40)


def test_web_process_killed_with_everything_else(stack: Stack, runs: Runs) -> None:
    stack.start(*SERVICES)
    [key] = runs.create((60, 0.05, 0))
    runs.in_state(key, "running")
    stack.kill("daphne")
    stack.start("daphne")
    stack.kill(*SERVICES)
    stack.start(*SERVICES)
    runs.check_end(key, 60)


def test_supervisor_killed(stack: Stack, runs: Runs) -> None:
    """kill -9 of the supervisor ends the command too, and the run is failed with the reason, once."""
    stack.start(*BACKGROUND)
    [key] = runs.create((2000, 0.05, 0))
    runs.in_state(key, "running")
    folder = stack.unit_directory(key)
    beat = wait_until("the command", lambda: _started(folder))
    os.kill(beat["pid"], signal.SIGKILL)
    row = runs.in_state(key, *TERMINAL)
    assert row["state"] == "failed"
    assert "supervisor" in json.loads(row["error"])["message"]
    assert not _exists(beat["child"])
    assert Path(runs.counters[key]).read_text() == "life\n"


def test_supervisor_guard_and_worker_killed_together(stack: Stack, runs: Runs) -> None:
    """Nobody is left to write an exit record: the unit is lost, said so, and what it left running is ended."""
    stack.start(*BACKGROUND)
    [key] = runs.create((2000, 0.05, 0))
    runs.in_state(key, "running")
    beat = wait_until("the command", lambda: _started(stack.unit_directory(key)))
    stack.kill("worker", "beat")
    guard = int(Path(f"/proc/{beat['pid']}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(guard, signal.SIGKILL)
    os.kill(beat["pid"], signal.SIGKILL)
    stack.start("worker", "beat")
    row = runs.in_state(key, *TERMINAL)
    assert row["state"] == "lost"
    assert json.loads(row["error"])["code"] == "Lost"
    wait_until("the command is ended", lambda: not _exists(beat["child"]), 10)


def test_cancel_survives_the_worker(stack: Stack, runs: Runs) -> None:
    stack.start(*BACKGROUND)
    [key] = runs.create((2000, 0.05, 0))
    runs.in_state(key, "running")
    stack.kill("worker")
    stack.python(
        f"from compute.models import Unit\nfrom compute.services import unit_cancel\n"
        f"assert unit_cancel(Unit.objects.get(key={key!r}))"
    )
    stack.start("worker")
    row = runs.in_state(key, *TERMINAL)
    assert row["state"] == "canceled", row["error"]


def _started(folder: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        beat = json.loads((folder / "beat.json").read_text())
        return beat if beat["child"] else None
    return None


def _exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
