"""The Workbench's command line as people type it in a project folder, against a real studio: on this machine, and in
containers."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import SOURCE, Script
from tests.gear import docker as gear
from tests.gear.sshd import PASSWORD, Sshd
from tests.stack import Stack, wait_until

pytestmark = pytest.mark.services

SCRIPT = """\
import os, platform, sys, time
from azureml.core.run import Run

print("first", sys.argv[1:], os.environ.get("EXAMPLE_ENV_VAR1"), flush=True)
run = Run.get_context()
run.log("loss", 0.5)
os.makedirs("outputs", exist_ok=True)
open("outputs/where.txt", "w").write(platform.node())
print("last")
"""
SEED = """\
EnvironmentVariables:
"EXAMPLE_ENV_VAR1": "Example Value1"
"EXAMPLE_ENV_VAR2": "Example Value2"
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    image = gear.test_image() if gear.engine_version() else ""
    environ = {"ATELIER_BASE_IMAGE": image} if image else {}
    with Stack(tmp_path_factory.mktemp("studio"), environ=environ) as found:
        yield found
    if image:
        gear.clean(found.installation)


@pytest.fixture(scope="module")
def token(stack: Stack) -> str:
    """An owner's token for workspace ``main``."""
    return stack.python(
        "from studio.accounts.models import User\n"
        "from studio.accounts.services import workspace_create\n"
        "from studio.accounts.tokens import token_create\n"
        "user = User.objects.create_user('ann', 'ann@example.test', 'correct-horse-battery')\n"
        "workspace_create(name='main', title='Main', user=user)\n"
        "print(token_create(user=user, name='tests')[1])"
    ).split()[-1]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, stack: Stack) -> Path:
    folder = tmp_path_factory.mktemp("work") / "iris"
    folder.mkdir()
    config = {"subscription_id": "s", "resource_group": "g", "workspace_name": "main", "endpoint": stack.url}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "myscript.py").write_text(SCRIPT)
    return folder


@pytest.fixture
def atelier(script: Script, token: str, project: Path) -> Any:
    script.env["ATELIER_TOKEN"] = token

    def call(*words: str, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return script("-m", "atelier", *words, cwd=project, code=code, stdin=stdin, timeout=300)

    return call


def run_id(text: str) -> str:
    found = re.search(r"^RunId: (\S+)$", text, re.M)
    assert found, text
    return found.group(1)


def test_on_this_machine(atelier: Any, project: Path) -> None:
    done = atelier("experiment", "submit", "-c", "local", "myscript.py", "--epochs", "3")
    assert "first ['--epochs', '3'] None\nlast\n" in done.stdout
    assert "Status: Completed" in done.stdout and f"/w/main/runs/{run_id(done.stdout)}/" in done.stdout
    assert "There is no aml_config/local.runconfig: the run goes to the target local." in done.stderr


def test_attached_and_edited_by_hand(atelier: Any, project: Path) -> None:
    done = atelier("computetarget", "attach", "--name", "local", "--type", "local")
    assert "local is there already" in done.stdout and "Wrote aml_config/local.compute" in done.stdout
    assert (project / "aml_config" / "conda_dependencies.yml").is_file()
    file = project / "aml_config" / "local.runconfig"
    kept = re.sub(r"EnvironmentVariables:\n  #.*\n", "", file.read_text())
    file.write_text(kept + SEED)
    done = atelier("experiment", "submit", "-c", "local", "myscript.py", "a", "--", "b")
    assert "first ['a', '--', 'b'] Example Value1" in done.stdout and "indent it by two spaces" in done.stderr
    file.write_text(file.read_text().replace("Framework:", "Framwork:"))
    done = atelier("experiment", "submit", "-c", "local", "myscript.py", code=1)
    assert re.search(r"local\.runconfig, line \d+: there is no key Framwork. Did you mean Framework\?", done.stderr)
    file.unlink()


def test_the_exit_code_is_the_runs(atelier: Any, project: Path) -> None:
    (project / "fails.py").write_text("import sys\nprint('before')\nsys.exit(7)\n")
    done = atelier("experiment", "submit", "--run-configuration", "local", "fails.py", code=7)
    assert "before" in done.stdout and "Status: Failed" in done.stdout and "7" in done.stdout


def test_what_is_not_there(atelier: Any) -> None:
    done = atelier("experiment", "submit", "-c", "locla", "myscript.py", code=1)
    assert (
        "locla" in done.stderr and "Did you mean local?" in done.stderr and "aml_config/locla.runconfig" in done.stderr
    )
    assert "There is no script none.py" in atelier("experiment", "submit", "-c", "local", "none.py", code=1).stderr
    later = atelier("computetarget", "attach", "--name", "hdi", "--address", "a", "--type", "cluster", code=1).stderr
    assert "Spark clusters cannot be attached with this version" in later and "remotedocker" in later


def test_interrupted_away_from_a_terminal(token: str, project: Path) -> None:
    """It detaches, says so, and the run goes on."""
    (project / "slow.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    keep = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")}
    process = subprocess.Popen(
        [sys.executable, "-m", "atelier", "experiment", "submit", "-c", "local", "slow.py"],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        env={**keep, "PYTHONPATH": str(SOURCE), "ATELIER_TOKEN": token, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "begun\n":
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Detached. The run" in err, (out, err)
    found = run_id("".join(lines))
    keep.update({"PYTHONPATH": str(SOURCE), "ATELIER_TOKEN": token})

    def status() -> str:
        asked = [sys.executable, "-m", "atelier", "run", "show", found, "--json"]
        done = subprocess.run(asked, cwd=project, env=keep, capture_output=True, text=True, check=True)
        return str(json.loads(done.stdout)["status"])

    assert status() == "Running"
    subprocess.run([sys.executable, "-m", "atelier", "run", "cancel", found], cwd=project, env=keep, check=True)
    wait_until("the canceled run", lambda: status() == "Canceled")


class Terminal:
    """The command line at a terminal, as a person has it."""

    def __init__(self, project: Path, token: str, *words: str) -> None:
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")}
        env = {**keep, "PYTHONPATH": str(SOURCE), "ATELIER_TOKEN": token}
        self.seen = b""
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            os.chdir(project)
            os.execve(sys.executable, [sys.executable, "-m", "atelier", *words], env)

    def until(self, mark: str) -> None:
        while mark.encode() not in self.seen:
            try:
                self.seen += os.read(self.terminal, 4096)
            except OSError:
                raise AssertionError(self.seen.decode()) from None

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def end(self) -> int:
        """The exit code."""
        with contextlib.suppress(OSError):
            while piece := os.read(self.terminal, 4096):
                self.seen += piece
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])


def test_interrupted_at_a_terminal(token: str, project: Path) -> None:
    """It asks; the run can be watched further, and canceled."""
    (project / "waits.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    shown = Terminal(project, token, "experiment", "submit", "-c", "local", "waits.py")
    shown.until("begun")
    shown.type("\x03")
    shown.until("[c/d/W]")
    shown.type("\n")
    shown.seen = b""
    time.sleep(0.5)
    shown.type("\x03")
    shown.until("[c/d/W]")
    shown.type("c\n")
    assert shown.end() == 130, shown.seen.decode()
    assert b"The run was asked to end." in shown.seen and b"Status: Canceled" in shown.seen


def test_az(token: str, script: Script, project: Path) -> None:
    """The words of 2017, and what was a subscription."""
    script.env["ATELIER_TOKEN"] = token
    az = ["-m", "atelier.cli.az"]
    listed = script(*az, "account", "list", "-o", "table", cwd=project).stdout
    subscription = listed.splitlines()[-1].split()[-1]
    assert "main" in listed
    endpoint = json.loads((project / "config.json").read_text())["endpoint"]
    assert endpoint in script(*az, "account", "show", cwd=project).stdout
    script.env["ATELIER_ENDPOINT"] = endpoint
    assert "Commands work in main" in script(*az, "account", "set", "-s", subscription, cwd=project).stdout
    done = script(*az, "ml", "experiment", "submit", "-c", "local", "myscript.py", "-o", "x", cwd=project)
    assert "first ['-o', 'x']" in done.stdout
    assert json.loads(script(*az, "ml", "history", "list", "-o", "json", cwd=project).stdout)


def test_history(atelier: Any, project: Path) -> None:
    ids = [
        atelier("experiment", "submit", "--no-wait", "-c", "local", "myscript.py", one).stdout.strip() for one in "ab"
    ]
    for one in ids:
        atelier("run", "logs", "-f", one)
    listed = atelier("history", "list").stdout
    assert all(one in listed for one in ids) and "loss=0.5" in listed
    compared = atelier("history", "compare", *ids).stdout
    assert re.search(r"^\*\s+arguments\s+a\s+b$", compared, re.M) and re.search(r"metric loss\s+0.5\s+0.5", compared)
    assert "loss" not in atelier("history", "compare", "--differing", *ids).stdout
    assert "where.txt" in atelier("history", "info", ids[0], "--list-artifacts").stdout
    assert "first ['a']" in atelier("history", "info", "--run", ids[0], "--artifact", "driver_log").stdout
    atelier("history", "download", ids[0], "--to", "got")
    assert (project / "got" / "outputs" / "where.txt").is_file()


class TestDocker:
    """In containers of the studio's own Docker, which ``-c docker`` attaches where nobody has yet."""

    @pytest.fixture(autouse=True)
    def _engine(self) -> None:
        gear.need_engine()

    def test_from_attaching_to_the_history(self, atelier: Any, project: Path) -> None:
        done = atelier("computetarget", "attach", "--name", "docker", "--type", "localdocker", "--memory", "1g")
        assert "docker is attached." in done.stdout and "Wrote aml_config/docker.runconfig" in done.stdout
        assert "docker is Succeeded." in atelier("computetarget", "test", "docker").stdout
        compute = (project / "aml_config" / "docker.compute").read_text()
        assert "type: docker" in compute and "baseDockerImage: null" in compute
        again = atelier("computetarget", "attach", "--name", "docker", "--type", "localdocker", "--memory", "1g")
        assert "docker is there already" in again.stdout
        other = atelier("computetarget", "attach", "--name", "docker", "--type", "docker", "--memory", "2g", code=1)
        assert "its memory is 1g, and not 2g" in other.stderr

        (project / "aml_config" / "conda_dependencies.yml").write_text("dependencies:\n- pip:\n  - six==1.15.0\n")
        first = atelier("experiment", "prepare", "-c", "docker")
        assert "is ready on docker (atelier-env:" in first.stdout, first.stdout
        assert "Ready: atelier-env:" in first.stdout  # the log of the build
        second = atelier("experiment", "prepare", "-c", "docker")
        assert second.stdout.startswith("Reused image: ")

        (project / "inside.py").write_text("import six\n" + SCRIPT + "print('six', six.__version__)\n")
        done = atelier("experiment", "submit", "-c", "docker", "inside.py", "--lr", "1")
        assert (
            "first ['--lr', '1']" in done.stdout and "six 1.15.0" in done.stdout and "Status: Completed" in done.stdout
        )
        found = run_id(done.stdout)
        assert re.search(rf"{found}\s+\d+\s+Completed\s+docker", atelier("history", "list").stdout)
        atelier("history", "download", found, "--to", "docker-run")
        assert (project / "docker-run" / "outputs" / "where.txt").read_text() != os.uname().nodename
        assert "docker is detached" in atelier("computetarget", "detach", "docker").stdout
        assert "is attached as docker" in atelier("experiment", "prepare", "-c", "docker").stderr
        assert "docker is detached" in atelier("computetarget", "detach", "docker").stdout


@pytest.fixture
def server() -> Iterator[Sshd]:
    gear.need_engine()
    with Sshd() as found:
        yield found


class TestRemote:
    """On a machine behind SSH, by the words of 2017."""

    def test_attach_and_submit(self, atelier: Any, project: Path, server: Sshd) -> None:
        user = server.user(groups=["docker"])
        words = ["computetarget", "attach", "--name", "remotevm", "--address", "127.0.0.1", "--port", str(server.port),
                 "--username", user.name, "--type", "remotedocker"]  # fmt: skip
        key = [*words, "--private-key-file", "id_test"]
        (project / "id_test").write_text(user.key)

        # Nobody is at a terminal: the key is shown, nothing is sent to the machine, and nothing is left behind.
        done = atelier(*key, code=1)
        shown = re.search(r"SHA256:\S+", done.stderr)
        assert shown and "--host-key" in done.stderr and "It was not attached" in done.stderr and server.logins == 0
        assert not (project / "aml_config" / "remotevm.compute").exists()
        assert "another" not in done.stderr and "remotevm" not in atelier("computetarget", "list").stdout
        other = atelier(*key, "--host-key", "SHA256:" + "A" * 43, code=1)
        assert "was expected" in other.stderr and server.logins == 0

        wrong = atelier(*words, "--password", "-", "--host-key", shown.group(), code=1, stdin="not-this-one\n")
        assert user.name in wrong.stdout and "not-this-one" not in wrong.stdout + wrong.stderr
        done = atelier(*words, "--password", "-", "--host-key", shown.group(), stdin=PASSWORD + "\n")
        assert "remotevm is attached." in done.stdout
        for name in ("remotevm.compute", "remotevm.runconfig"):
            text = (project / "aml_config" / name).read_text()
            assert PASSWORD not in text and "PRIVATE KEY" not in text
        assert f"username: {user.name}" in (project / "aml_config" / "remotevm.compute").read_text()
        assert "remotevm is there already" in atelier(*key).stdout  # another way to sign in, the same machine

        (project / "aml_config" / "conda_dependencies.yml").write_text("dependencies: []\n")
        done = atelier("experiment", "submit", "-c", "remotevm", "myscript.py", "--lr", "1")
        assert "first ['--lr', '1'] None\nlast\n" in done.stdout and "Status: Completed" in done.stdout
        assert re.search(rf"{run_id(done.stdout)}\s+\d+\s+Completed\s+remotevm", atelier("history", "list").stdout)
        atelier("computetarget", "detach", "remotevm")

    def test_asked_at_a_terminal(self, token: str, project: Path, server: Sshd) -> None:
        """The password without an echo, then the host key."""
        user = server.user(groups=["docker"])
        words = ["computetarget", "attach", "--name", "asked", "--address", "127.0.0.1", "--port", str(server.port),
                 "--username", user.name, "--type", "remotedocker"]  # fmt: skip
        shown = Terminal(project, token, *words)
        shown.until(f"Password of {user.name}")
        shown.type(PASSWORD + "\n")
        shown.until("[y/N] ")
        assert b"SHA256:" in shown.seen and server.logins == 0
        shown.type("y\n")
        shown.until("asked is attached.")
        assert shown.end() == 0
        assert PASSWORD.encode() not in shown.seen and server.logins


LISTING = """
import sys
from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.compute import ComputeTarget, DockerTarget, RemoteCompute
from azureml.core.runconfig import DockerConfiguration
from azureml.exceptions import ComputeTargetException, UserErrorException

port, username, key = sys.argv[1:]
ws = Workspace.from_config()
docker = DockerConfiguration(use_docker=True, shm_size='64m')
src = ScriptRunConfig('.', 'myscript.py', ['--size', 1], docker_runtime_config=docker)
try:
    Experiment(ws, 'names').submit(src)
except UserErrorException as error:
    print('NO DOCKER', error)

ComputeTarget.attach(ws, 'box', DockerTarget.attach_configuration(memory='2g')).wait_for_completion(show_output=True)
run = Experiment(ws, 'names').submit(src)
print('DOCKER', run.wait_for_completion()['target'], run._load()['resources']['shm_size'])

settings = dict(address='127.0.0.1', ssh_port=int(port), username=username, password=None, private_key_file=key,
                private_key_passphrase=None)
target = ComputeTarget.attach(ws, 'vm', RemoteCompute.attach_configuration(**settings))
try:
    target.wait_for_completion(show_output=True)
except ComputeTargetException as error:
    print('KEY', error)
    shown = target.serialize()['host_key']['fingerprint']
target = ComputeTarget.attach(ws, 'vm', RemoteCompute.attach_configuration(host_key=shown, **settings))
target.wait_for_completion(show_output=True)
assert type(ComputeTarget(ws, 'vm')) is RemoteCompute and type(ws.compute_targets['box']) is DockerTarget
print('STATUS', target.get_status().serialize()['state'], target.provisioning_state)
"""


def test_the_v1_names(script: Script, token: str, project: Path, server: Sshd) -> None:
    script.env["ATELIER_TOKEN"] = token
    user = server.user(groups=["docker"])
    (project / "id_names").write_text(user.key)
    (project / "names.py").write_text(LISTING)
    done = script("names.py", str(server.port), user.name, "id_names", cwd=project, timeout=300)
    assert "NO DOCKER Docker is asked for, and local runs without containers." in done.stdout
    assert "--type localdocker" in done.stdout
    assert f"DOCKER box {64 << 20}" in done.stdout and "the run goes to the target box" in done.stderr
    assert "KEY 127.0.0.1 shows the host key" in done.stdout and "ATELIER_HOST_KEY" in done.stdout
    assert "STATUS Succeeded Succeeded" in done.stdout


IMAGES = """
import os
from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.exceptions import AzureMLException

ws = Workspace.from_config()
env = Environment.from_dockerfile('mine', 'FROM %s\\nRUN echo built-in-the-image > /mark\\n' % os.environ['BASE'])
env.build(ws, target='box').wait_for_completion(show_output=True)
again = env.build(ws, target=ws.compute_targets['box'])
print(again.reused)
print('IMAGE', again.image)
src = ScriptRunConfig('.', command=['cat', '/mark'], compute_target='box', environment=env)
Experiment(ws, 'images').submit(src).wait_for_completion(show_output=True)

plain = Environment('plain')
plain.docker.base_image = os.environ['BASE']
src = ScriptRunConfig('.', 'myscript.py', compute_target='box', environment=plain)
src.run_config.environment.docker.arguments = ['--memory=200m', '-e', 'EXAMPLE_ENV_VAR1=from-an-option']
run = Experiment(ws, 'images').submit(src)
run.wait_for_completion(show_output=True)
print('MEMORY', run._load()['resources']['memory'])
src.run_config.target = 'local'
run = Experiment(ws, 'images').submit(src)
print('LOCAL', run.wait_for_completion()['status'])

bad = Environment.from_dockerfile('bad', 'FROM %s\\nRUN exit 9\\n' % os.environ['BASE'])
try:
    bad.build_local(ws, target='box')
except AzureMLException as error:
    print('BAD', error)
"""


def test_images_by_the_v1_names(script: Script, token: str, project: Path) -> None:
    gear.need_engine()
    script.env.update({"ATELIER_TOKEN": token, "BASE": gear.test_image()})
    (project / "images.py").write_text(IMAGES)
    script(
        "-m", "atelier", "computetarget", "attach", "--name", "box", "--type", "docker", "--memory", "2g", cwd=project
    )
    done = script("images.py", cwd=project, timeout=400)
    assert re.search(r"^IMAGE atelier-env:\S+$", done.stdout, re.M)
    assert "built-in-the-image" in done.stdout and "True\n" in done.stdout
    assert "first [] from-an-option" in done.stdout and f"MEMORY {200 << 20}" in done.stdout
    assert "is not used on local" in done.stderr and "LOCAL Completed" in done.stdout
    assert "BAD Environment bad:1 could not be built" in done.stdout and "9" in done.stdout.split("BAD")[1]
