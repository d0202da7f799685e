"""Scripts in containers reach the studio through its gate, whatever its address means there: on this machine's engine
and on one behind SSH. ATELIER_URL is a loopback address in all of them."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compute.drivers.container_files import LocalFiles
from compute.drivers.own_container import translator
from studio.bootstrap import gate
from tests.client.conftest import Script
from tests.gear.docker import clean, need_engine, test_image
from tests.gear.sshd import Sshd, User
from tests.stack import Stack, wait_until

OWNER = """
from studio.accounts.models import User
from studio.accounts.services import workspace_create
from studio.accounts.tokens import token_create
from compute.services import target_create
user = User.objects.create_user("ann", "ann@example.test", "correct-horse-battery")
workspace = workspace_create(name="main", title="Main", user=user)
target = target_create(workspace=workspace, user=user, name="near", driver="docker", config={"slots": 4})
assert target.state == "Succeeded", target.problems
print(token_create(user=user, name="tests")[1])
"""
FAR = """
import json
from compute.services import target_create, target_check
from studio.accounts.models import User, Workspace
given = json.loads({given!r})
target = target_create(
    workspace=Workspace.objects.get(name="main"), user=User.objects.get(username="ann"), driver="remotedocker", **given
)
target_check(target)
assert target.state == "Succeeded", target.problems
print(json.dumps(target.facts))
"""
SUBMIT = """
import sys
from azureml.core import Dataset, Experiment, ScriptRunConfig, Workspace
ws = Workspace.from_config()
store = ws.get_default_datastore()
store.upload_files(['people.csv'], overwrite=True)
table = Dataset.Tabular.from_delimited_files(path=[(store, 'people.csv')])
if sys.argv[2] == "first":
    table.register(ws, 'people')
config = ScriptRunConfig('code', 'train.py', arguments=[table.as_named_input('t')], compute_target=sys.argv[1])
print(Experiment(ws, 'gate').submit(config).id)
"""
# All that has to ask the studio, in one script; the same on any target.
TRAIN = """
import os, time
from azureml.core import Dataset, Run
run = Run.get_context()
ws = run.experiment.workspace

print('direct', run.input_datasets['t'].preview(10).rows, flush=True)
print('named', Dataset.get_by_name(ws, 'people').preview(10).rows, flush=True)

os.makedirs('outputs', exist_ok=True)
with open('outputs/model.bin', 'wb') as f:
    f.write(b'0123456789' * 300000)
print('model', run.register_model('from-run', model_path='outputs/model.bin').name, flush=True)
os.makedirs('beside')
with open('beside/weights.bin', 'wb') as f:
    f.write(b'beside')
print('model', run.register_model('from-beside', model_path='outputs/beside').name, flush=True)

child = run.child_run('a-part')
child.log('loss', 0.5)
child.complete()
print('children', [(each.status, each.get_metrics()) for each in run.get_children()], flush=True)

with open('big.bin', 'wb') as f:
    f.write(os.urandom(1 << 20) * 12)
ws.get_default_datastore().upload_files(['big.bin'], target_path='up', overwrite=True)

print('halfway', flush=True)
while 'go' not in ws.get_run(run.id).get_tags():
    time.sleep(0.3)
run.log('late', 1)
while not run.get_metrics():
    time.sleep(0.3)
print('late', run.get_metrics(), flush=True)
"""
SAID = """direct [[1, 'Ann'], [2, 'Bob']]
named [[1, 'Ann'], [2, 'Bob']]
model from-run
model from-beside
children [('Completed', {'loss': 0.5})]
Uploading big.bin (1 of 1)
Uploaded 1 file
halfway
"""
ENDED = "late {'late': 1.0}\n"
ASKS = """
from azureml.core import Dataset, Run
Dataset.get_by_name(Run.get_context().experiment.workspace, 'people')
"""


class Studio:
    """A stack whose runs are in containers, and a person's scripts outside of them."""

    def __init__(self, stack: Stack, folder: Path, script: Script) -> None:
        self.stack, self.folder, self.script = stack, folder, script
        script.env["ATELIER_TOKEN"] = stack.python(OWNER).split()[-1]
        (folder / "code").mkdir(parents=True)
        (folder / "people.csv").write_text("id,name\n1,Ann\n2,Bob\n")
        (folder / "code" / "train.py").write_text(TRAIN)
        config = {"subscription_id": "s", "resource_group": "g", "workspace_name": "main", "endpoint": stack.url}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "submit.py").write_text(SUBMIT)
        self.first = True

    def do(self, code: str) -> str:
        return self.script(
            "-c", f"from azureml.core import *\nws = Workspace.from_config()\n{code}", cwd=self.folder
        ).stdout

    def submit(self, target: str) -> str:
        words = ["submit.py", target, "first" if self.first else "again"]
        self.first = False
        return self.script(*words, cwd=self.folder).stdout.split()[-1]

    def key(self, run: str) -> str:
        return str(self.stack.query("SELECT key FROM runs_run WHERE run_id = ?", run)[0]["key"])

    def log(self, run: str) -> str:
        path = self.stack.unit_directory(self.key(run)) / "stdout.log"
        return path.read_text() if path.exists() else ""

    def says(self, run: str, text: str, timeout: float = 120) -> None:
        def check() -> bool:
            state = self.stack.query("SELECT state FROM compute_unit WHERE key = ?", self.key(run))
            assert text in self.log(run) or not state or state[0]["state"] not in ("failed", "lost"), self.log(run)
            return text in self.log(run)

        wait_until(f"{text!r} in its output", check, timeout)

    def ends(self, run: str) -> str:
        def ended() -> str:
            state = str(self.stack.query("SELECT state FROM compute_unit WHERE key = ?", self.key(run))[0]["state"])
            return state if state in ("completed", "failed", "canceled", "lost") else ""

        try:
            return str(wait_until("the run's end", ended, 180))
        except AssertionError as error:
            rows = [dict(row) for row in self.stack.query("SELECT * FROM compute_unit")]
            raise AssertionError(f"{error}\n{rows}\n{self.log(run)}\n{self.stack.log('worker')[-6000:]}") from None

    def goes_on(self, run: str) -> None:
        self.do(f"ws.get_run({run!r}).tag('go', '1')")
        state = self.ends(run)
        assert (state, self.log(run)) == ("completed", SAID + ENDED)
        sizes = {row["name"]: row["size"] for row in self.stack.query(
            "SELECT m.name, v.size FROM models_registry_modelversion v "
            "JOIN models_registry_registeredmodel m ON m.id = v.model_id"
        )}  # fmt: skip
        assert sizes == {"from-run": 3_000_000, "from-beside": 6}
        assert self.do("import os; ws.get_default_datastore().download('got', 'up/big.bin')\n"
                       "print(os.path.getsize('got/up/big.bin'))").split()[-1] == str(12 << 20)  # fmt: skip

    def attach(self, name: str, server: Sshd, user: User) -> dict[str, Any]:
        given = {
            "name": name,
            "config": {"address": "127.0.0.1", "port": server.port, "username": user.name},
            "secrets": {"private_key": user.key},
            "host_key": server.host_key(),
        }
        found: dict[str, Any] = json.loads(self.stack.python(FAR.format(given=json.dumps(given))).splitlines()[-1])
        return found


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    need_engine()
    with Stack(tmp_path, environ={"ATELIER_BASE_IMAGE": test_image()}) as stack:
        try:
            yield Studio(stack, tmp_path / "work", Script({"ATELIER_HOME": str(tmp_path / "home")}))
        finally:
            stack.stop()
            clean(stack.installation)


@pytest.mark.services
def test_on_this_machine(studio: Studio) -> None:
    """The web process is killed and started again in the middle: its new socket is seen within."""
    run = studio.submit("near")
    studio.says(run, "halfway\n")
    assert studio.log(run) == SAID
    studio.stack.kill("daphne")
    time.sleep(1)
    studio.stack.start("daphne")
    studio.goes_on(run)


@pytest.mark.services
def test_on_another_machine(studio: Studio) -> None:
    """The connection is cut in the middle, and the web process killed: both come back."""
    with Sshd() as server:
        user = server.user(groups=["docker"])
        assert studio.attach("far", server, user)["gate"] is True
        run = studio.submit("far")
        studio.says(run, "halfway\n")
        [folder] = (user.home / ".atelier").glob("*/gate")
        assert folder.stat().st_mode & 0o777 == 0o700 and folder.stat().st_uid == user.uid
        before = set(folder.glob("*.sock"))
        assert before and all(stat.S_IMODE(each.lstat().st_mode) & 0o077 == 0 for each in before)
        server.cut()
        wait_until(
            "a new socket there, and the dead one gone",
            lambda: not before & set(folder.glob("*.sock")) and [*folder.glob("*.sock")],
        )
        studio.stack.kill("daphne")
        server.cut()
        studio.stack.start("daphne")
        studio.goes_on(run)


@pytest.mark.services
def test_where_nothing_may_be_forwarded(studio: Studio) -> None:
    """The target says so, and the script's error tells what to look at."""
    studio.submit("near")
    (studio.folder / "code" / "train.py").write_text(ASKS)
    with Sshd("AllowStreamLocalForwarding local") as server:
        assert studio.attach("shut", server, server.user(groups=["docker"]))["gate"] is False
        run = studio.submit("shut")
        assert studio.ends(run) == "failed"
        assert "/opt/atelier/gate, is empty" in studio.log(run) and "AllowStreamLocalForwarding" in studio.log(run)


def ask(
    path: str, method: str, target: str, host: str, body: str = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request to a socket: (status, headers, body)."""
    connection = http.client.HTTPConnection(host)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(path)
    connection.request(method, target, body or None, {name.replace("_", "-"): value for name, value in headers.items()})
    found = connection.getresponse()
    return found.status, {name.lower(): value for name, value in found.getheaders()}, found.read()


@pytest.mark.services
def test_what_may_be_asked_there(tmp_path: Path) -> None:
    """No more than over the network, and nothing that only a proxy may say is believed."""
    environ = {
        "ATELIER_URL": "https://studio.example.test", "ATELIER_ALLOWED_HOSTS": "studio.example.test,127.0.0.1",
        "ATELIER_BEHIND_PROXY": "1", "ATELIER_TRUSTED_PROXIES": "1",
    }  # fmt: skip
    with Stack(tmp_path, services=("valkey", "daphne"), environ=environ) as stack:
        token = stack.python(OWNER.replace("assert target.state", "target.state")).split()[-1]
        [path] = gate.sockets(gate.folder(stack.data.resolve()))
        assert stat.S_IMODE(Path(path).lstat().st_mode) == 0o600
        assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
        here = "studio.example.test"
        bearer = f"Bearer {token}"
        # The address of the studio is https: no way round by a redirect, and no header that would say http instead.
        for more in ({}, {"X_Forwarded_Proto": "http"}):
            assert ask(path, "GET", "/api/v1/me", here, Authorization=bearer, **more)[0] == 200
        assert ask(path, "GET", "/api/v1/me", here)[0] == 401
        assert ask(path, "GET", "/healthz", "other.example.test")[0] == 400
        made = json.dumps({"name": "second", "driver": "local"})
        forged = {"X_Forwarded_For": "10.1.2.3", "Content_Type": "application/json", "Authorization": bearer}
        assert ask(path, "POST", "/api/v1/workspaces/main/targets", here, made, **forged)[0] == 201
        [row] = stack.query("SELECT address FROM accounts_auditentry WHERE object_label = 'second'")
        assert row["address"] is None, "the audit log believes no container"
        sign_in = stack.python("from django.urls import reverse\nprint(reverse('account_login'))").split()[-1]
        # Nobody guesses passwords there: who signs in has to have an address.
        status, headers, _page = ask(path, "GET", sign_in, here)
        assert status == 200
        cookie = headers["set-cookie"].split(";")[0]
        form = {"Content_Type": "application/x-www-form-urlencoded", "X_CSRFToken": cookie.split("=")[1]}
        form |= {"Cookie": cookie, "Referer": f"https://{here}/"}
        words = "login=ann&password=correct-horse-battery"
        assert ask(path, "POST", sign_in, here, words, **form)[0] == 403


def test_folder_and_sockets(tmp_path: Path) -> None:
    place = gate.folder(tmp_path)
    gate.make(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    left, live = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    left.bind(str(place / "web-1.sock"))
    left.close()
    live.bind(str(place / "web-2.sock"))
    live.listen()
    (place / "note.txt").write_text("")
    for age, name in ((100, "web-1.sock"), (50, "web-2.sock")):
        os.utime(place / name, (time.time() - age,) * 2)
    assert [Path(path).name for path in gate.sockets(place)] == ["web-2.sock", "web-1.sock"]
    words = gate.daphne_arguments(tmp_path)
    assert words[0] == "-e" and words[1].startswith("unix:") and ":mode=600:" in words[1]
    assert [Path(path).name for path in gate.sockets(place)] == ["web-2.sock"], (
        "what was left is gone, what lives stays"
    )
    live.close()


def test_long_paths_and_others_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/tmp")
    far = tmp_path / ("x" * 120)
    assert len(str(gate.folder(far) / gate.NAME)) < 100 and gate.folder(far) != gate.folder(tmp_path / ("y" * 120))
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert gate.daphne_arguments(tmp_path) == [], "somebody else's folder stops no start"


def test_where_the_studio_is_in_a_container(tmp_path: Path, settings: Any) -> None:
    """The engine's machine has the folder under the name of the volume; others cannot have what is in none."""
    settings.ATELIER_DATA = tmp_path
    place = gate.folder(tmp_path)
    outside = str(place.resolve()).replace(str(tmp_path.resolve()), "/volumes/data", 1)
    assert LocalFiles(translator(lambda: [(str(tmp_path.resolve()), "/volumes/data")])).gate() == outside
    assert LocalFiles(translator(lambda: [("/elsewhere", "/volumes/data")])).gate() == ""
    assert LocalFiles(translator(lambda: None)).gate() == str(place.resolve())
