"""The listings of the scikit-learn how-to as people type them, against a real studio; and the client's other ways."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import SOURCE, Script
from tests.stack import Stack

pytestmark = pytest.mark.services

TRAIN = """
import argparse
import joblib
import numpy as np
from sklearn import datasets
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC
from azureml.core.run import Run

run = Run.get_context()
parser = argparse.ArgumentParser()
parser.add_argument('--kernel', type=str, default='linear')
parser.add_argument('--penalty', type=float, default=1.0)
args = parser.parse_args()
run.log('Kernel type', np.str_(args.kernel))
run.log('Penalty', np.float64(args.penalty))
iris = datasets.load_iris()
X_train, X_test, y_train, y_test = train_test_split(iris.data, iris.target, random_state=0)
svm_model_linear = SVC(kernel=args.kernel, C=args.penalty).fit(X_train, y_train)
accuracy = svm_model_linear.score(X_test, y_test)
print('Accuracy of SVM classifier on test set: {:.2f}'.format(accuracy))
run.log('Accuracy', np.float64(accuracy))
run.log_list('spread', np.arange(4) / 2)
print(confusion_matrix(y_test, svm_model_linear.predict(X_test)))

joblib.dump(svm_model_linear, 'model.joblib')
"""

WORKSPACE = """
from azureml.core import Workspace

ws = Workspace.from_config()
"""
CURATED = """
from azureml.core import Environment

sklearn_env = Environment.get(workspace=ws, name='AzureML-Tutorial')
"""
CUSTOM = """
from azureml.core import Environment

sklearn_env = Environment.from_conda_specification(name='sklearn-env', file_path='conda_dependencies.yml')
"""
CONDA = """
dependencies:
  - python=3.6.2
  - scikit-learn
  - numpy
  - pip:
    - azureml-defaults
"""
CONFIG = """
from azureml.core import ScriptRunConfig

src = ScriptRunConfig(source_directory='.',
                      script='train_iris.py',
                      arguments=['--kernel', 'linear', '--penalty', 1.0],
                      environment=sklearn_env)
"""
CONFIG_TARGET = """
from azureml.core import ScriptRunConfig

compute_target = ws.compute_targets['local']
src = ScriptRunConfig(source_directory='.',
                      script='train_iris.py',
                      arguments=['--kernel', 'linear', '--penalty', 1.0],
                      compute_target=compute_target,
                      environment=sklearn_env)
"""
SUBMIT = """
from azureml.core import Experiment

run = Experiment(ws,'Tutorial-TrainIRIS').submit(src)
run.wait_for_completion(show_output=True)
"""
REGISTER = """
from azureml.core import Model
from azureml.core.resource_configuration import ResourceConfiguration

model = run.register_model(model_name='sklearn-iris',
                           model_path='outputs/model.joblib',
                           model_framework=Model.Framework.SCIKITLEARN,
                           model_framework_version='0.19.1',
                           resource_configuration=ResourceConfiguration(cpu=1, memory_in_gb=0.5))
"""
DEPLOY = """
web_service = Model.deploy(ws, "scikit-learn-service", [model])
"""
LOOK = """
import json
web_service.wait_for_deployment(show_output=True)
print('FOUND ' + json.dumps({
    'metrics': run.get_metrics(), 'status': run.get_status(),
    'model': [model.name, model.version, model.model_framework],
    'resources': model.resource_configuration.serialize(),
    'answer': web_service.run('{"data": [[5.1, 3.5, 1.4, 0.2]]}'),
    'keys': len(set(web_service.get_keys())), 'files': run.get_file_names(), 'state': web_service.state,
    'log': run.get_details_with_logs()['logFiles']['user_logs/std_log.txt'],
}))
web_service.delete()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("studio")) as found:
        yield found


@pytest.fixture(scope="module")
def token(stack: Stack) -> str:
    """A contributor's token for workspace ``main``."""
    return stack.python(
        "from studio.accounts.models import User\n"
        "from studio.accounts.services import workspace_create\n"
        "from studio.accounts.tokens import token_create\n"
        "user = User.objects.create_user('ann', 'ann@example.test', 'correct-horse-battery')\n"
        "workspace_create(name='main', title='Main', user=user)\n"
        "print(token_create(user=user, name='tests')[1])"
    ).split()[-1]


@pytest.fixture
def folder(tmp_path: Path, stack: Stack) -> Path:
    """A project: config.json, the training script and its conda file."""
    place = tmp_path / "project"
    place.mkdir()
    config = {"subscription_id": "s", "resource_group": "g", "workspace_name": "main", "endpoint": stack.url}
    (place / "config.json").write_text(json.dumps(config))
    (place / "train_iris.py").write_text(TRAIN)
    (place / "conda_dependencies.yml").write_text(CONDA)
    return place


@pytest.fixture
def user(script: Script, token: str) -> Script:
    script.env["ATELIER_TOKEN"] = token
    return script


@pytest.mark.parametrize(
    ("environment", "config"), [(CURATED, CONFIG_TARGET), (CUSTOM, CONFIG)], ids=["curated", "conda"]
)
def test_the_listings_from_workspace_to_service(user: Script, folder: Path, environment: str, config: str) -> None:
    listing = "".join([WORKSPACE, environment, config, SUBMIT, REGISTER, DEPLOY, LOOK])
    (folder / "listing.py").write_text(listing)
    done = user("listing.py", cwd=folder, timeout=540)
    run_id = re.search(r"^RunId: (Tutorial-TrainIRIS_\d+_[0-9a-f]{8})$", done.stdout, re.M)
    assert run_id and f"/w/main/runs/{run_id.group(1)}/" in done.stdout
    assert "Streaming user_logs/std_log.txt\n===============================\n" in done.stdout
    assert done.stdout.count("Accuracy of SVM classifier on test set: 0.97") == 1 + 1  # streamed, and in FOUND
    assert "Execution Summary\n=================\n" in done.stdout
    found = json.loads(done.stdout.split("FOUND ")[1].splitlines()[0])
    assert found["status"] == "Completed" and found["state"] == "Healthy"
    assert found["metrics"]["Accuracy"] == pytest.approx(0.97, abs=0.02)
    assert found["metrics"]["Kernel type"] == "linear" and found["metrics"]["spread"] == [0, 0.5, 1, 1.5]
    assert found["model"][0] == "sklearn-iris" and found["model"][2] == "ScikitLearn"
    assert found["resources"] == {"cpu": 1, "memory_in_gb": 0.5}
    assert found["answer"] == [0] and found["keys"] == 2
    assert "user_logs/std_log.txt" in found["files"]
    assert found["log"].startswith("Accuracy of SVM")


def library(monkeypatch: pytest.MonkeyPatch, stack: Stack, token: str) -> Any:
    """The workspace, in this process."""
    monkeypatch.setenv("ATELIER_TOKEN", token)
    from azureml.core import Workspace

    return Workspace.get("main", endpoint=stack.url)


def submit(ws: Any, folder: Path, text: str, **options: Any) -> Any:
    from azureml.core import Experiment, ScriptRunConfig

    (folder / "script.py").write_text(text)
    return Experiment(ws, "client").submit(ScriptRunConfig(str(folder), "script.py", **options))


def test_every_byte_once_although_the_web_process_dies(
    monkeypatch: pytest.MonkeyPatch, stack: Stack, token: str, tmp_path: Path
) -> None:
    ws = library(monkeypatch, stack, token)
    source = tmp_path / "source"
    source.mkdir()
    text = "import time\nfor n in range(1500):\n    print('line', n, 'é' * (n % 7))\n    time.sleep(0.004)\n"
    run = submit(ws, source, text)
    received: list[bytes] = []
    failed: list[BaseException] = []

    def watch() -> None:
        try:
            run.stream(received.append)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            failed.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    end = time.monotonic() + 60
    while len(received) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    stack.kill("daphne")
    stack.start("daphne")
    watcher.join(120)
    assert not watcher.is_alive() and not failed
    expected = "".join(f"line {n} {'é' * (n % 7)}\n" for n in range(1500)).encode()
    assert b"".join(received) == expected


def test_a_run_that_fails_raises_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, stack: Stack, token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from azureml.exceptions import ActivityFailedException

    ws = library(monkeypatch, stack, token)
    run = submit(ws, tmp_path, "print('before')\nraise SystemExit(7)\n")
    with pytest.raises(ActivityFailedException, match="7"):
        run.wait_for_completion(show_output=True)
    shown = capsys.readouterr().out
    assert shown.index("before") < shown.index("Execution Summary") < shown.index("Error:")
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Failed"


def test_a_run_that_never_starts_ends_too(
    monkeypatch: pytest.MonkeyPatch, stack: Stack, token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from azureml.core import Environment
    from azureml.exceptions import ActivityFailedException, ServiceException

    ws = library(monkeypatch, stack, token)
    environment = Environment("missing")
    environment.python.conda_dependencies.add_pip_package("atelier-no-such-package==1")
    with pytest.raises((ActivityFailedException, ServiceException), match="atelier-no-such-package"):
        submit(ws, tmp_path, "print('never')", environment=environment).wait_for_completion(show_output=True)
    assert "never" not in capsys.readouterr().out


def test_inside_a_run(monkeypatch: pytest.MonkeyPatch, stack: Stack, token: str, tmp_path: Path) -> None:
    """What a script reaches over the network with its own token, and the files that it keeps."""
    ws = library(monkeypatch, stack, token)
    text = """
from azureml.core import Run
run = Run.get_context()
for step in range(3):
    run.log('loss', 1.0 / (step + 1), step=step)
run.tag('stage', 'warm'); run.tag('bare'); run.add_properties({'author': 'ann'})
open('outputs/a.txt', 'w').write('a')
run.upload_file('plots/b.txt', 'outputs/a.txt')
with run.child_run('part') as child:
    child.log('part', 2)
    child.upload_file('outputs/c.txt', 'outputs/a.txt')
print(run.number, run.experiment.name, run.workspace.name, [c.status for c in run.get_children()])
model = run.register_model('inside', 'outputs/a.txt', model_framework='Custom')
print(model.id)
"""
    run = submit(ws, tmp_path, text, arguments=["--lr", 0.1])
    details = run.wait_for_completion(raise_on_error=False)
    log = run.get_details_with_logs()["logFiles"]["user_logs/std_log.txt"]
    assert details["status"] == "Completed", log
    assert "client main ['Completed']\ninside:1\n" in log
    assert run.get_metrics()["loss"] == [1.0, 0.5, 1.0 / 3]
    assert run.get_tags() == {"stage": "warm", "bare": None} and run.properties["author"] == "ann"
    run.download_files("outputs/", str(tmp_path / "down"))
    assert (tmp_path / "down" / "outputs" / "a.txt").read_text() == "a"
    assert "plots/b.txt" in run.get_file_names()
    (child,) = run.get_children()
    assert child.get_metrics() == {"part": 2} and child.parent.id == run.id
    assert Path(run.restore_snapshot(path=str(tmp_path / "zip"))).stat().st_size > 100
    from azureml.core import Model

    assert Path(Model(ws, "inside").download(str(tmp_path / "model"))).read_text() == "a"


def test_a_run_that_this_process_reports(
    monkeypatch: pytest.MonkeyPatch, stack: Stack, token: str, tmp_path: Path
) -> None:
    from azureml.core import Experiment, Model, Run
    from azureml.exceptions import ServiceException, WebserviceException

    ws = library(monkeypatch, stack, token)
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(range(256)) * 80_000)  # 20 MB: three chunks
    experiment = Experiment(ws, "reported")
    with experiment.start_logging(tags="plain") as run:
        for step in range(2500):
            run.log("loss", step, step=step)
        run.upload_file("outputs/large.bin", str(large))
        run.upload_file("outputs/empty.txt", str(tmp_path / "empty")) if (tmp_path / "empty").touch() else None
    assert run.get_status() == "Completed" and run.get_tags() == {"plain": None}
    assert len(run.get_metrics("loss")["loss"]) == 2500
    run.download_file("outputs/large.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == large.read_bytes()
    with pytest.raises(ServiceException):
        run.download_file("outputs/none", str(tmp_path / "none"))
    with pytest.raises(ZeroDivisionError), experiment.start_logging() as broken:
        1 / 0  # noqa: B018 - it is to fail
    assert Run.get(ws, broken.id).get_status() == "Failed"
    assert {one.id for one in experiment.get_runs()} == {run.id, broken.id}
    assert [one.id for one in experiment.get_runs(tags="plain")] == [run.id]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "weights.txt").write_text("w")
    model = Model.register(ws, str(tmp_path / "folder"), "uploaded", tags={"a": "1"}, model_framework="Custom")
    assert model.version == 1 and Model(ws, "uploaded", tags=[["a", "1"]]).id == "uploaded:1"
    with pytest.raises(WebserviceException, match="ModelNotFound"):
        Model(ws, "none")


def test_who_one_is(monkeypatch: pytest.MonkeyPatch, stack: Stack, token: str, tmp_path: Path) -> None:
    from azureml.core import ComputeTarget, Workspace
    from azureml.core.authentication import ServicePrincipalAuthentication
    from azureml.exceptions import AuthenticationException, ComputeTargetException, ProjectSystemException

    client_id, secret = stack.python(
        "from studio.accounts.models import User, Workspace\n"
        "from studio.accounts.tokens import principal_create\n"
        "made, secret = principal_create(workspace=Workspace.objects.get(name='main'), name='robot',"
        " role='contributor', user=User.objects.get(username='ann'))\n"
        "print(made.client_id, secret)"
    ).split()[-2:]
    auth = ServicePrincipalAuthentication("tenant", client_id, secret)
    ws = Workspace.get("main", auth=auth, endpoint=stack.url)
    assert type(ws.compute_targets["local"]).__name__ == "LocalTarget" and "AzureML-Minimal" in ws.environments
    assert ws._auth_object.get_authentication_header()["Authorization"].startswith("Bearer ")
    with pytest.raises(ComputeTargetException, match="ComputeTargetNotFound"):
        ComputeTarget(ws, "none")
    with pytest.raises(AuthenticationException, match="service principal"):
        Workspace.get("main", auth=ServicePrincipalAuthentication("t", client_id, "wrong"), endpoint=stack.url)
    with pytest.raises(AuthenticationException, match="atelier login"):
        Workspace.get("main", endpoint=stack.url)
    monkeypatch.setenv("ATELIER_TOKEN", token)
    with pytest.raises(ProjectSystemException, match="no workspace 'elsewhere'"):
        Workspace.get("elsewhere", endpoint=stack.url)
    ws.write_config(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    assert Workspace.from_config(tmp_path / "deep" / "er").name == "main"


def test_the_command_line(script: Script, stack: Stack, token: str, folder: Path, tmp_path: Path) -> None:
    def atelier(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return script("-m", "atelier", *words, cwd=folder, **options)

    assert "atelier login" in atelier("run", "list", code=1).stderr
    assert "as ann@example.test" in atelier("login", "--endpoint", stack.url, stdin=token + "\n").stdout
    kept = tmp_path / "home" / "credentials"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert json.loads(atelier("workspace", "list", "--json").stdout)[0]["name"] == "main"
    (folder / "hello.py").write_text("import sys; print('hello', *sys.argv[1:]); open('outputs/x','w').write('x')")
    done = atelier("run", "submit", "hello.py", "-e", "cli", "--tag", "a=b", "-f", "--", "--lr", "0.5")
    assert "hello --lr 0.5\n" in done.stdout
    (item,) = json.loads(atelier("run", "list", "-e", "cli", "--json").stdout)
    assert item["parameters"] == {"lr": "0.5"} and item["tags"] == {"a": "b"}
    assert atelier("run", "logs", "-f", item["id"]).stdout == "hello --lr 0.5\n"
    assert "Completed" in atelier("run", "show", item["id"]).stdout
    atelier("run", "download", item["id"], "--to", str(tmp_path / "got"))
    assert (tmp_path / "got" / "outputs" / "x").read_text() == "x"
    assert atelier("model", "register", "cli-model", "outputs/x", "--run", item["id"]).stdout == "cli-model:1\n"
    assert "cli-model:1" in atelier("model", "list").stdout
    (folder / "bad.py").write_text("raise SystemExit(1)")
    assert atelier("run", "submit", "bad.py", "-e", "cli", "--wait", code=3).stdout.endswith("Failed\n")
    assert "no run none" in atelier("run", "show", "none", code=1).stderr
    assert json.loads(atelier("run", "delete", item["id"], "--yes", "--json", code=None).stdout or "{}") is not None
    assert atelier("version").stdout.startswith("atelier 0.")
    assert "usage" in atelier("run", code=2).stderr


def test_the_distribution_can_be_built_and_installed(tmp_path: Path) -> None:
    source = tmp_path / "client"
    shutil.copytree(SOURCE.parent, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    installed(tmp_path, str(source))


def test_it_installs_from_the_studio(stack: Stack, tmp_path: Path) -> None:
    installed(tmp_path, "atelier-client", "--index-url", f"{stack.url}/client/simple/")


def installed(tmp_path: Path, *what: str) -> None:
    """Installs into a folder and looks whether library and command line work from there."""
    target = tmp_path / "site"
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path), **_index()}
    command = ["uv", "pip", "install", "--python", sys.executable, "--no-deps", "--target", str(target), *what]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    for words in ([str(target / "bin" / "atelier"), "version"], ["-c", "import azureml.core; print(azureml.core.Run)"]):
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env={"PYTHONPATH": str(target)})
        assert done.returncode == 0 and done.stdout, done.stderr


def _index() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "SSL_"))}
