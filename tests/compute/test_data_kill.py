"""Killing while data moves: the right end, nothing twice, and no half file taken for a whole one."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compute.slow_server import SlowServer
from tests.stack import SERVICES, Stack, wait_until

pytestmark = pytest.mark.services

BACKGROUND = ("valkey", "worker", "beat")
TERMINAL = {"completed", "failed", "canceled", "lost"}
FILE = 40_000
NAMES = "abcdef"
READ = """
import os, sys
path = os.path.join(sys.argv[1])
with open(os.environ["COUNTER"], "a") as f:
    f.write("life\\n")
for name in sorted(os.listdir(path)):
    content = open(os.path.join(path, name), "rb").read()
    print(name, len(content), set(content) == {ord(name[0])})
"""
WRITE = """
import os, sys
with open(os.environ["COUNTER"], "a") as f:
    f.write("life\\n")
for name in "abcdef":
    with open(os.path.join(sys.argv[1], name + ".bin"), "wb") as out:
        out.write(name.encode() * 40000)
"""
SETUP = """
import json
from compute.services import ensure_local_target
from runs.services import snapshots, submit
from studio.accounts.models import User
from studio.accounts.services import workspace_create
from studio.datasets.services import datasets, datastores
order = json.loads({order!r})
user = User.objects.create_user("ann", "ann@example.test", "correct-horse-battery")
workspace = workspace_create(name="main", user=user)
target = ensure_local_target(workspace)
for store in order["stores"]:
    datastores.datastore_create(workspace=workspace, user=user, check=False, **store)
inputs = []
if order["input"]:
    definition = {{"format": 1, "type": "file", "schema": None, "steps": [],
                   "source": {{"kind": "files", "paths": [{{"datastore": "web", "path": "set/*.bin"}}]}}}}
    version = datasets.definition_save(workspace=workspace, user=user, definition=definition)
    inputs = [{{"name": "data", "mode": "download", "version": version}}]
run = submit.run_submit(
    workspace=workspace, user=user, experiment="kill", script="go.py",
    arguments=["${{{{inputs.data}}}}" if inputs else "${{{{outputs.made}}}}"],
    snapshot=snapshots.snapshot_from_texts(workspace, {{"go.py": order["script"]}}), target=target, environment=None,
    environment_variables={{"COUNTER": order["counter"]}}, inputs=inputs, outputs=order["outputs"],
)
print(run.key)
"""


class Flow:
    """A run on a stack whose data moves."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.counter = stack.folder / "counter"
        self.key = ""

    def submit(self, script: str, stores: list[Any], *, read: bool = False, outputs: Any = ()) -> None:
        order = {
            "script": script, "stores": stores, "input": read, "outputs": list(outputs), "counter": str(self.counter),
        }  # fmt: skip
        self.key = self.stack.python(SETUP.format(order=json.dumps(order))).split()[-1]

    def unit(self) -> Any:
        return self.stack.query("SELECT * FROM compute_unit WHERE key = ?", self.key)[0]

    def transfer(self) -> Any:
        rows = self.stack.query(
            "SELECT t.*, c.key AS carrier_key FROM compute_transfer t JOIN compute_unit u ON u.id = t.unit_id "
            "LEFT JOIN compute_unit c ON c.id = t.carrier_id WHERE u.key = ?",
            self.key,
        )
        return rows[0] if rows else None

    def moving(self) -> Any:
        def check() -> Any:
            row = self.transfer()
            return row if row is not None and row["state"] == "moving" and row["bytes_done"] else None

        return wait_until("bytes are moving", check, 60)

    def end(self) -> Any:
        def check() -> Any:
            row = self.unit()
            return row if row["state"] in TERMINAL else None

        try:
            return wait_until("the run's end", check, 90)
        except AssertionError as error:
            logs = "".join(self.stack.log(name)[-2000:] for name in ("worker", "beat"))
            raise AssertionError(f"{error} {self.unit()['history']} {dict(self.transfer() or {})}\n{logs}") from None

    def check_read(self) -> None:
        """Every file whole, the command once, and not before all of them were there."""
        row = self.end()
        assert row["state"] == "completed", (row["history"], row["error"])
        log = (self.stack.unit_directory(self.key) / "stdout.log").read_text()
        assert log == "".join(f"{name}.bin {FILE} True\n" for name in NAMES)
        assert self.counter.read_text() == "life\n"
        states = [entry[0] for entry in json.loads(row["history"])]
        assert len(states) == len(set(states)), "each state was entered once"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path, services=BACKGROUND)
    try:
        stack.migrate()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def server() -> Iterator[SlowServer]:
    made = SlowServer({f"set/{name}.bin": name.encode() * FILE for name in NAMES}, piece=1000, pause_s=0.1)
    yield made
    made.close()


def web(server: SlowServer) -> list[Any]:
    return [{"name": "web", "kind": "http", "config": {"url": server.url}}]


def test_worker_and_beat_killed_while_a_download_runs(stack: Stack, server: SlowServer) -> None:
    flow = Flow(stack)
    stack.start(*BACKGROUND)
    flow.submit(READ, web(server), read=True)
    before = flow.moving()
    stack.kill("worker", "beat")
    stack.start("worker", "beat")
    server.pause_s = 0.02
    flow.check_read()
    after = flow.transfer()
    assert after["attempts"] == 1 and after["carrier_key"] == before["carrier_key"], "the carrier was adopted"


def test_carrier_killed_with_its_supervisor(stack: Stack, server: SlowServer) -> None:
    flow = Flow(stack)
    stack.start(*BACKGROUND)
    flow.submit(READ, web(server), read=True)
    row = flow.moving()
    beat = json.loads((stack.unit_directory(row["carrier_key"]) / "beat.json").read_text())
    os.kill(beat["pid"], signal.SIGKILL)
    server.pause_s = 0.0
    flow.check_read()
    after = flow.transfer()
    assert after["attempts"] == 2 and after["carrier_key"] != row["carrier_key"]


def test_everything_killed_while_an_output_goes_up(stack: Stack, tmp_path: Path) -> None:
    from tests.gear.s3_server import S3Server
    from tests.gear.servers import Wire

    bucket = S3Server(tmp_path)
    wire = Wire(bucket.port)
    try:
        bucket.client().create_bucket(Bucket="made")
        store = {
            "name": "s3", "kind": "s3", "config": {"bucket": "made", "endpoint": f"http://127.0.0.1:{wire.port}"},
            "secrets": {"access_key": bucket.access_key, "secret_key": bucket.secret_key},
        }  # fmt: skip
        flow = Flow(stack)
        wire.cut_after = 0  # nothing gets through: the upload waits
        stack.start(*SERVICES)
        flow.submit(WRITE, [store], outputs=[{"name": "made", "datastore": "s3", "path": "out"}])
        wait_until("the upload", lambda: (row := flow.transfer()) and row["state"] == "moving", 60)
        assert flow.unit()["state"] == "finalizing"
        stack.kill(*SERVICES)
        stack.start(*SERVICES)
        wire.cut_after = None
        row = flow.end()
        assert row["state"] == "completed", (row["history"], row["error"])
        assert flow.counter.read_text() == "life\n"
        found = bucket.client().list_objects_v2(Bucket="made")["Contents"]
        assert [(entry["Key"], entry["Size"]) for entry in found] == [(f"out/{name}.bin", FILE) for name in NAMES]
        made = stack.query("SELECT version_id FROM runs_rundata WHERE direction = 'out'")
        assert len(made) == 1 and made[0]["version_id"]
        assert len(stack.query("SELECT id FROM datasets_datasetversion")) == 1
    finally:
        wire.close()
        bucket.stop()


def test_worker_killed_in_the_middle_of_moving_an_output(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "nfs").mkdir()
    store = {"name": "nfs", "kind": "local", "config": {"path": str(tmp_path / "nfs")}}
    flow = Flow(stack)
    stack.start("valkey", "beat")
    stack.start("worker", ATELIER_TEST_PAUSE="output-moved")
    flow.submit(WRITE, [store], outputs=[{"name": "made", "datastore": "nfs", "path": "out"}])
    wait_until("the failpoint", (stack.data / "failpoint-output-moved").exists, 60)
    assert flow.unit()["state"] == "finalizing"
    stack.kill("worker")
    stack.start("worker")
    row = flow.end()
    assert row["state"] == "completed", (row["history"], row["error"])
    found = {path.name: path.read_bytes() for path in (tmp_path / "nfs" / "out").iterdir()}
    assert found == {f"{name}.bin": name.encode() * FILE for name in NAMES}
    produced = stack.unit_directory(flow.key) / "produced" / "made"
    assert sorted(path.name for path in produced.iterdir()) == [f"{name}.bin" for name in NAMES]
    assert json.loads(flow.transfer()["result"])["made"]["files"] == 6
