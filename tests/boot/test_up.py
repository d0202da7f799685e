"""A clean copy of the project in an empty folder: set-up, start, stop, and what each says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import ROOT, free_port, wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


class Copy:
    """What a fresh clone holds, without ``.venv``, ``node_modules`` and data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ATELIER_", "PYTEST_"))}
        kept.pop("VIRTUAL_ENV", None)
        self.port = free_port()
        self.env = {
            **kept,
            "ATELIER_PORT": str(self.port),
            "ATELIER_OWNER_PASSWORD": "boot-pass-12345",
            "ATELIER_HOME": str(folder / "home"),
        }

    def manage(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        # The system's own Python, as a newcomer has it: not the one of this test's environment.
        python = Path(sys.base_prefix, "bin", "python3")
        done = subprocess.run(
            [str(python), "manage.py", *words],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def python(self, code: str) -> str:
        setup = "import os, django\nos.environ['DJANGO_SETTINGS_MODULE'] = 'studio.settings'\ndjango.setup()\n"
        done = subprocess.run(
            [str(self.folder / ".venv" / "bin" / "python"), "-c", setup + code],
            cwd=self.folder, env=self.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def processes(self) -> dict[str, int]:
        state = json.loads((self.folder / "data" / "run" / "services.json").read_text())
        return {name: pid for name, pid, _born in state["processes"]}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    copy = Copy(tmp_path_factory.mktemp("fresh"))
    yield copy
    copy.manage("down", check=False)


SUBMIT = """
from compute.services import ensure_local_target
from runs.services.snapshots import snapshot_from_texts
from runs.services.submit import run_submit
from studio.accounts.models import User, Workspace
workspace = Workspace.objects.get()
print(run_submit(
    workspace=workspace, user=User.objects.get(username="owner"), experiment="long", script="a.py", arguments=[],
    snapshot=snapshot_from_texts(workspace, {"a.py": "import time\\nfor n in range(60):\\n    print(n, flush=True); time.sleep(0.25)\\n"}),
    target=ensure_local_target(workspace), environment=None, environment_variables={}, tags={}, properties={}, time_limit_s=None,
).key)
"""  # noqa: E501 - a script as it is typed
STATUS = "from runs.models import Run\nprint(Run.objects.get(experiment__name='long').status)"


def test_one_command_on_a_fresh_machine(copy: Copy) -> None:
    done = copy.manage("up", "--detach", "--no-sample")
    for words in ("Making .venv", "Installing the pinned", "front-end packages", "Atelier is ready", "Sign in as"):
        assert words in done.stdout, done.stdout
    assert f"http://127.0.0.1:{copy.port}" in done.stdout
    with urllib.request.urlopen(f"http://127.0.0.1:{copy.port}/account/login/", timeout=20) as page:
        text = page.read().decode()
    assert "csrfmiddlewaretoken" in text
    assert "vendor/tabler.min." in text
    assert (copy.folder / "data").stat().st_mode & 0o077 == 0


def test_scripts_of_this_user_are_signed_in(copy: Copy) -> None:
    """With config.json beside a script nothing more is needed on the machine that runs the studio."""
    place = json.loads((copy.folder / "data" / "config.json").read_text())
    assert place["endpoint"] == f"http://127.0.0.1:{copy.port}"
    credentials = copy.folder / "home" / "credentials"
    assert credentials.stat().st_mode & 0o077 == 0
    code = (
        f"import sys; sys.path.insert(0, {str(copy.folder / 'client' / 'src')!r})\n"
        "from azureml.core import Workspace\nprint(Workspace.from_config().name)"
    )
    environment = {name: value for name, value in copy.env.items() if name != "ATELIER_PORT"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=copy.folder / "data",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "main", done.stderr


def test_status_and_a_second_up(copy: Copy) -> None:
    status = copy.manage("status")
    for name in ("up", "valkey", "web", "worker", "beat"):
        assert name in status.stdout
    assert "running already" in copy.manage("up").stdout


def test_a_service_that_dies_is_started_again(copy: Copy) -> None:
    old = copy.processes()["worker"]
    os.kill(old, signal.SIGKILL)
    wait_until("a new worker", lambda: copy.processes()["worker"] != old, timeout=30)
    wait_until("it answers", lambda: (copy.folder / "data" / "run" / "worker.ready").exists(), timeout=30)


def test_runs_go_on_while_everything_is_down(copy: Copy) -> None:
    key = copy.python(SUBMIT).splitlines()[-1]
    log = copy.folder / "data" / "units" / key[:2] / key / "stdout.log"
    wait_until("its first lines", lambda: log.exists() and log.read_text().count("\n") > 2, timeout=60)
    assert "Running units go on" in copy.manage("down").stdout
    before = log.read_text().count("\n")
    wait_until("more lines without the studio", lambda: log.read_text().count("\n") > before + 4, timeout=30)
    assert "not running" in copy.manage("status", check=False).stdout
    copy.manage("up", "--detach")
    wait_until("its end", lambda: copy.python(STATUS) == "Completed", timeout=60, every=1)
    assert [int(line) for line in log.read_text().split()] == list(range(60))


def test_ctrl_c_stops_all_of_it(copy: Copy) -> None:
    copy.manage("down")
    with (copy.folder / "up.txt").open("wb") as output:
        child = subprocess.Popen(
            [str(Path(sys.base_prefix, "bin", "python3")), "manage.py", "up"],
            cwd=copy.folder, env=copy.env, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        wait_until("ready", lambda: "Atelier is ready" in (copy.folder / "up.txt").read_text(), timeout=60)
        pids = copy.processes()
        os.killpg(child.pid, signal.SIGINT)
        assert child.wait(60) == 0
    time.sleep(0.2)
    assert not [name for name, pid in pids.items() if name != "up" and Path(f"/proc/{pid}").exists()]


def test_a_taken_port_and_a_typo_give_a_sentence(copy: Copy) -> None:
    copy.manage("down")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", copy.port))
        taken.listen()
        done = copy.manage("up", check=False)
    assert done.returncode == 1
    assert f"Port {copy.port} on 127.0.0.1 cannot be used" in done.stderr
    assert "ATELIER_PORT=" in done.stderr
    copy.env["ATELIER_PORT"] = "eight"
    done = copy.manage("up", check=False)
    copy.env["ATELIER_PORT"] = str(copy.port)
    assert done.returncode == 1
    assert "ATELIER_PORT='eight' is not a whole number" in done.stderr
    assert "Traceback" not in done.stderr
