"""The studio in containers: built, started, used, and restarted under its runs, as docs/operations.md says it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gear.compose import IMAGE, SERVICES, Compose
from tests.stack import wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

SHORT = "print('from a container', flush=True)\n"
# The studio's address leads a container nowhere: this goes through the gate, in the volume.
ASKING = """
from azureml.core import Run
child = Run.get_context().child_run("a part")
child.complete()
print("asked", child.get_status(), flush=True)
"""
LONG = "import time\nfor n in range(2400):\n    print(n, flush=True); time.sleep(0.1)\n"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    stack = Compose(tmp_path_factory.mktemp("compose"))
    try:
        told = stack.first_commands()
        found = re.search(r"as (\S+) with password (\S+)", told)
        assert found and found[1] == "owner", told
        stack.run("build")  # as an upgrade does: an image of an earlier session must not serve for this one's files
        stack.run("up", "-d")
        stack.wait_healthy()
        stack.sign_in(found[2])
        yield stack
    finally:
        stack.remove()


def test_nothing_starts_before_the_database_is_ready(stack: Compose) -> None:
    (prepared,) = stack.containers("migrate")
    assert prepared["State"]["ExitCode"] == 0
    for service in ("web", "worker", "beat"):
        (one,) = stack.containers(service)
        assert one["State"]["StartedAt"] > prepared["State"]["FinishedAt"], service


def test_the_image_is_small_and_not_root(stack: Compose) -> None:
    (image,) = json.loads(stack.shell("docker", "inspect", IMAGE))
    assert image["Config"]["User"] == "1000:1000"
    assert image["Config"]["Healthcheck"]["Test"][0] == "CMD"
    assert image["Config"]["Entrypoint"][0] == "python", "no shell that would swallow signals"
    assert image["Size"] < 800 << 20
    words = stack.run("exec", "-T", "web", "sh", "-c", "ls -A /app; ls /opt/venv/lib/python3*/site-packages; id -u")
    names = words.split()
    assert names[-1] == "1000"
    assert not {"tests", ".env", ".git", "node_modules", "data", "pytest", "mypy", "playwright", "pyspark"} & set(names)


def test_secrets_are_written_once_for_their_owner_alone(stack: Compose) -> None:
    path = stack.folder / ".env"
    assert path.stat().st_mode & 0o077 == 0
    before = path.read_bytes()
    assert "stays as it is" in stack.shell("sh", "deploy/new-env.sh", check=False)
    assert path.read_bytes() == before


def test_without_secrets_it_says_what_to_do(stack: Compose, tmp_path: Path) -> None:
    (tmp_path / "empty.env").write_text("")
    words = stack.run("--env-file", str(tmp_path / "empty.env"), "config", check=False)
    assert "sh deploy/new-env.sh" in words


def test_a_run_on_this_machine(stack: Compose) -> None:
    run = stack.submit(SHORT)
    assert stack.ended(run)["status"] == "Completed"
    assert "from a container" in stack.output(run)


def test_a_second_worker_takes_its_share(stack: Compose) -> None:
    """Each sees the other's units through the shared folder, and leaves them in peace."""
    stack.run("up", "-d", "--no-recreate", "--scale", "worker=2", "worker")
    stack.wait_healthy(worker=2)
    runs = [stack.submit("import time; time.sleep(3); print('done')") for _number in range(4)]
    assert [stack.ended(run)["status"] for run in runs] == ["Completed"] * 4
    going = stack.submit(LONG)
    wait_until("its first lines", lambda: "3\n" in stack.output(going), 60, every=0.2)
    assert stack.api.post(f"/api/v1/workspaces/main/runs/{going}/cancel").status_code == 202
    assert stack.ended(going)["status"] == "Canceled"
    stack.run("up", "-d", "--no-recreate", "--scale", "worker=1", "worker")
    stack.wait_healthy()


def test_a_restart_of_everything(stack: Compose) -> None:
    """Runs in containers of their own go on. What lived inside the worker's ends with it, and says so."""
    made = stack.api.post("/api/v1/workspaces/main/targets", json={"name": "here", "driver": "docker", "config": {}})
    assert made.status_code == 201, made.text
    assert made.json()["problems"] == []
    kept, inside, beside = stack.submit(SHORT), stack.submit(LONG), stack.submit(LONG, "here")
    stack.ended(kept)
    asking = stack.submit(ASKING, "here")
    assert stack.ended(asking)["status"] == "Completed", stack.output(asking)
    assert "asked Completed" in stack.output(asking)
    for run in (inside, beside):
        wait_until("its first lines", lambda: "3\n" in stack.output(run), 90, every=0.2)  # noqa: B023
    stack.run("stop")
    for service in SERVICES:
        (one,) = stack.containers(service)
        assert one["State"]["ExitCode"] == 0, f"{service} was killed: {one['State']}"
    stack.run("up", "-d")
    stack.wait_healthy()

    ended = stack.ended(inside)
    assert ended["status"] == "Failed"
    assert "told the run to stop" in json.dumps(ended)
    assert "3\n" in stack.output(inside)

    assert stack.state(beside)["status"] == "Running"
    before = stack.output(beside)
    wait_until("it goes on", lambda: len(stack.output(beside)) > len(before), 60, every=0.2)
    assert stack.api.post(f"/api/v1/workspaces/main/runs/{beside}/cancel").status_code == 202
    assert stack.ended(beside)["status"] == "Canceled"
    lines = stack.output(beside).splitlines()
    assert lines == [str(number) for number in range(len(lines))]

    assert stack.state(kept)["status"] == "Completed"
    assert "from a container" in stack.output(kept)
    assert stack.ended(stack.submit(SHORT))["status"] == "Completed"


def test_data_survive_down_and_up(stack: Compose) -> None:
    run = stack.submit(SHORT)
    stack.ended(run)
    stack.run("down")
    assert not stack.containers("web")
    stack.run("up", "-d")
    stack.wait_healthy()
    assert stack.state(run)["status"] == "Completed"
    assert "from a container" in stack.output(run)
