"""The supervisor, as it is really run: a process that starts others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.shim import supervisor
from compute.shim.output import Scrubber
from tests.stack import wait_until


class Unit:
    """A unit's directory, and the supervisor in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "code").mkdir(parents=True)

    def start(self, script: str, *, secrets: dict[str, str] | None = None, launch: bool = True, **spec: Any) -> int:
        """Write the spec and launch; the launcher's exit code."""
        (self.folder / "code" / "main.py").write_text(script)
        content = {"argv": [sys.executable, "-u", "main.py"], "grace_s": 5, **spec}
        (self.folder / "spec.json").write_text(json.dumps(content))
        (self.folder / "secrets.json").write_text(json.dumps(secrets or {}))
        return self.launch() if launch else 0

    def launch(self) -> int:
        command = [sys.executable, "-I", "-S", supervisor.__file__, str(self.folder)]
        return subprocess.run(command, timeout=20).returncode

    def json(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name).read_text())

    def exit(self, timeout: float = 20) -> dict[str, Any]:
        wait_until("exit.json", (self.folder / "exit.json").exists, timeout)
        return self.json("exit.json")

    @property
    def log(self) -> str:
        return (self.folder / "stdout.log").read_text()

    def wait_log(self, text: str, timeout: float = 10) -> None:
        wait_until(f"{text!r} in the log", lambda: (self.folder / "stdout.log").exists() and text in self.log, timeout)


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(tmp_path / "unit")


def test_both_streams_in_order_and_the_exit_code(unit: Unit) -> None:
    script = "import sys\nfor i in range(3):\n print('out', i)\n print('err', i, file=sys.stderr)\nsys.exit(7)"
    assert unit.start(script) == 0
    assert (unit.folder / "beat.json").exists(), "the first beat is there when the launcher returns"
    record = unit.exit()
    assert (record["code"], record["signal"], record["reason"]) == (7, None, "exited")
    assert record["started"] <= record["ended"]
    assert unit.log == "".join(f"out {i}\nerr {i}\n" for i in range(3))


def test_never_twice(unit: Unit) -> None:
    script = "import os,time\nopen(os.environ['COUNTER'],'a').write('x')\ntime.sleep(0.5)"
    environment = {"COUNTER": str(unit.folder / "counter")}
    assert unit.start(script, env=environment) == 0
    assert unit.launch() in (supervisor.RC_BUSY, supervisor.RC_STARTED)
    unit.exit()
    wait_until("the lock is free", lambda: unit.launch() == supervisor.RC_STARTED)
    assert (unit.folder / "counter").read_text() == "x"


def test_launchers_at_the_same_time(unit: Unit) -> None:
    unit.folder.joinpath("code", "main.py").write_text("import os\nopen(os.environ['COUNTER'],'a').write('x')")
    spec = {"argv": [sys.executable, "main.py"], "env": {"COUNTER": str(unit.folder / "counter")}}
    (unit.folder / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-I", "-S", supervisor.__file__, str(unit.folder)]
    launchers = [subprocess.Popen(command) for _ in range(8)]
    codes = sorted(launcher.wait(timeout=30) for launcher in launchers)
    assert codes.count(0) == 1, codes
    unit.exit()
    assert (unit.folder / "counter").read_text() == "x"


def test_secrets_are_given_removed_and_scrubbed(unit: Unit) -> None:
    script = (
        "import os,sys,time\ns=os.environ['KEY']\nprint('whole',s)\nsys.stdout.write(s[:5]); sys.stdout.flush()\n"
        "time.sleep(0.2)\nprint(s[5:])\nprint(os.environ['SHORT'])"
    )
    unit.start(script, secrets={"KEY": "hunter2hunter2", "SHORT": "abc"})
    assert not (unit.folder / "secrets.json").exists()
    unit.exit()
    assert unit.log == "whole ***\n***\nabc\n"


def test_cancel_by_file_gives_the_grace(unit: Unit) -> None:
    script = (
        "import signal,sys,time\n"
        "signal.signal(signal.SIGTERM, lambda *a: (print('saving'), sys.exit(0)))\nprint('up')\ntime.sleep(60)"
    )
    unit.start(script)
    unit.wait_log("up")
    (unit.folder / "cancel.json").write_text('{"grace_s": 10}')
    record = unit.exit()
    assert record["reason"] == "canceled"
    assert record["code"] == 0
    assert unit.log == "up\nsaving\n"


def test_cancel_kills_after_the_grace(unit: Unit) -> None:
    unit.start("import signal,time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up')\ntime.sleep(60)")
    unit.wait_log("up")
    before = time.monotonic()
    (unit.folder / "cancel.json").write_text('{"grace_s": 1}')
    os.kill(unit.json("beat.json")["pid"], signal.SIGTERM)
    record = unit.exit()
    assert (record["reason"], record["signal"]) == ("canceled", signal.SIGKILL)
    assert 0.9 <= time.monotonic() - before < 5


def test_cancel_before_the_command_is_started(unit: Unit) -> None:
    (unit.folder / "cancel.json").write_text("{}")
    unit.start("print('never')")
    assert unit.exit()["reason"] == "canceled"
    assert unit.log == ""


def test_time_limit(unit: Unit) -> None:
    unit.start("import time\nwhile True:\n print('x', flush=True); time.sleep(0.01)", time_limit_s=1)
    record = unit.exit()
    assert record["reason"] == "timeout"
    assert "1 s" in record["message"]
    assert record["ended"] - record["started"] < 4


def test_children_end_with_the_command_even_in_a_session_of_their_own(unit: Unit) -> None:
    script = (
        "import subprocess,sys\n"
        "a=subprocess.Popen(['sleep','300'])\nb=subprocess.Popen(['sleep','300'],start_new_session=True)\n"
        "print(a.pid,b.pid,flush=True)"
    )
    unit.start(script)
    assert unit.exit()["code"] == 0
    for pid in map(int, unit.log.split()):
        wait_until("the child is gone", lambda pid=pid: not _runs(pid), 5)


def test_supervisor_killed(unit: Unit) -> None:
    unit.start("import time\nprint('up')\ntime.sleep(300)")
    unit.wait_log("up")
    beat = unit.json("beat.json")
    os.kill(beat["pid"], signal.SIGKILL)
    assert unit.exit()["reason"] == "supervisor-killed"
    assert not _runs(beat["child"])


@pytest.mark.parametrize("minor", range(8, 15))
def test_every_python_that_a_target_may_have(unit: Unit, minor: int) -> None:
    python = next(
        (
            path
            for path in _pythons(f"3.{minor}")
            if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0
        ),
        None,
    )
    if python is None:
        pytest.skip(f"no Python 3.{minor} on this machine")
    unit.start("print('hello', flush=True)\nimport time; time.sleep(60)", launch=False)
    subprocess.run([python, "-I", "-S", supervisor.__file__, str(unit.folder)], check=True)
    unit.wait_log("hello")
    (unit.folder / "cancel.json").write_text('{"grace_s": 1}')
    assert unit.exit()["reason"] == "canceled"


def _pythons(version: str) -> list[str]:
    found = sorted(str(path) for path in Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    on_path = shutil.which(f"python{version}")
    return [*([on_path] if on_path else []), *found]


def test_program_that_is_not_there(unit: Unit) -> None:
    unit.start("", argv=["no-such-program"])
    record = unit.exit()
    assert record["reason"] == "start-failed"
    assert record["message"] == "no-such-program could not be started: it was not found on the target."


def test_service_is_started_again(unit: Unit) -> None:
    unit.start("print('life')\nraise SystemExit(1)", restart="always")
    wait_until("two restarts", lambda: unit.log.count("life") >= 3)
    assert unit.json("beat.json")["restarts"] >= 2
    assert "[atelier] The command ended with exit code 1. Starting it again in 0.5 s.\n" in unit.log
    (unit.folder / "cancel.json").write_text('{"grace_s": 0}')
    record = unit.exit()
    assert (record["reason"], record["restarts"] >= 2) == ("canceled", True)


def test_a_fast_writer_loses_nothing(unit: Unit) -> None:
    unit.start("for i in range(300000): print(f'line {i:09d}')", secrets={"KEY": "line-that-never-comes"})
    unit.exit(60)
    assert unit.log == "".join(f"line {i:09d}\n" for i in range(300000))


def test_words_and_environment(unit: Unit) -> None:
    script = "import os,sys\nprint(sys.argv[1:], os.getcwd(), os.environ['ATELIER_UNIT_DIR'], os.environ['PYTHONPATH'])"
    unit.start(script, argv=["{python}", "main.py", "{unit}/x"], python=sys.executable, lib="/some/lib")
    unit.exit()
    real = os.path.realpath(unit.folder)
    assert unit.log == f"['{real}/x'] {real}/code {real} /some/lib\n"


@pytest.mark.skipif(not Path("/dev/full").exists() or os.getuid() != 0, reason="needs a file system to fill")
def test_full_disk_keeps_every_byte_and_the_exit_record(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True)
    if made.returncode != 0:
        pytest.skip("this machine may not mount a small file system")
    try:
        unit = Unit(mount / "unit")
        filler = mount / "filler"
        filler.write_bytes(b"x" * 600_000)
        unit.start("for i in range(60000): print(f'line {i:09d}')\nprint('done')")
        wait_until("the disk is full", lambda: os.statvfs(mount).f_bavail == 0)
        time.sleep(0.5)
        assert not (unit.folder / "exit.json").exists()
        filler.unlink()
        time.sleep(0.1)
        assert unit.exit()["reason"] == "exited"
        assert unit.log == "".join(f"line {i:09d}\n" for i in range(60000)) + "done\n"
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


@given(
    secrets=st.lists(st.text(alphabet="ab", min_size=6, max_size=12), min_size=1, max_size=3),
    pieces=st.lists(st.text(alphabet="ab ", max_size=10), max_size=12),
)
def test_scrubber_does_not_depend_on_where_chunks_end(secrets: list[str], pieces: list[str]) -> None:
    whole = Scrubber(secrets)
    expected = whole.feed("".join(pieces).encode()) + whole.finish()
    split = Scrubber(secrets)
    got = b"".join(split.feed(piece.encode()) for piece in pieces) + split.finish()
    assert got == expected


def test_scrubber_does_not_hold_back_what_cannot_be_a_secret() -> None:
    scrubber = Scrubber(["hunter2"])
    assert scrubber.feed(b"loss 0.1\n") == b"loss 0.1\n"
    assert scrubber.feed(b"hun") == b""
    assert scrubber.feed(b"gry\n") == b"hungry\n"


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
