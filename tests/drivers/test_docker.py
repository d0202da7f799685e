"""The Docker driver keeps the contract, and what is its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.types import Mount

from compute.drivers import docker_checks, engine, own_container
from compute.drivers.base import Driver, DriverError, ImageMissing, NotFound, Refused, Unreachable
from compute.drivers.container_files import LocalFiles
from compute.drivers.docker import DockerDriver
from compute.installation import installation_id
from compute.spec import Handle, Phase, UnitSpec
from studio.datasets.jobs import laying
from studio.lib import storage
from tests.drivers.contract import COUNT, DriverContract
from tests.gear.docker import need_engine, test_image
from tests.stack import ROOT, wait_until

LIMITS = """
import json, os, subprocess
def first(*paths):
    for path in paths:
        if os.path.exists("/sys/fs/cgroup/" + path):
            return open("/sys/fs/cgroup/" + path).read().split()
quota = first("cpu.max") or first("cpu/cpu.cfs_quota_us") + first("cpu/cpu.cfs_period_us")
shm = os.statvfs("/dev/shm")
started = []
try:
    for number in range(60):
        started.append(subprocess.Popen(["sleep", "20"]))
except OSError:
    pass
for each in started:
    each.kill()
print(json.dumps({
    "memory": int(first("memory.max", "memory/memory.limit_in_bytes")[0]),
    "pids": int(first("pids.max", "pids/pids.max")[0]),
    "shm": shm.f_blocks * shm.f_frsize,
    "cpus": int(quota[0]) / int(quota[1]),
    "started": len(started),
}))
"""
EATER = "x = [bytearray(1 << 20) for _ in range(400)]"
SUBMITTER = """
import json, sys, django
django.setup()
from compute.drivers.docker import DockerDriver
from compute.spec import UnitSpec
driver, spec = DockerDriver({}, {}), UnitSpec(**json.loads(sys.argv[1]))
driver.engine()
print("ready", flush=True)
sys.stdin.readline()
print(driver.submit(spec).data["container"])
"""

pytestmark = pytest.mark.services


@pytest.fixture(autouse=True)
def _engine(settings: Any) -> None:
    need_engine()
    settings.ATELIER_BASE_IMAGE = test_image()


class TestDockerDriver(DriverContract):
    patience = 60.0

    def make_driver(self) -> Driver:
        return DockerDriver({"slots": 3}, {})

    # What a container may use.

    def text_of(self, driver: Driver, spec: UnitSpec) -> str:
        """What a unit that is run to its end printed."""
        handle = self.started(driver, spec)
        self.ended(driver, handle)
        return self.text(driver, handle)

    def test_limits_are_really_applied(self, unit: Callable[..., UnitSpec]) -> None:
        driver = DockerDriver({"cpus": "1", "memory": "512m", "pids": 100, "shm_size": "96m"}, {})
        asked = {"cpus": 0.5, "memory": 256 << 20, "shm_size": 32 << 20, "pids": 40}
        spec = unit("", argv=["{python}", "-c", LIMITS], resources=asked)
        found = json.loads(self.text_of(driver, spec))
        assert (found["memory"], found["pids"], found["shm"]) == (256 << 20, 40, 32 << 20)
        assert found["cpus"] == 0.5
        assert 10 < found["started"] < 40, "the kernel refuses more processes than the limit"
        found = json.loads(self.text_of(driver, unit("", argv=["{python}", "-c", LIMITS])))
        assert (found["memory"], found["pids"], found["shm"]) == (512 << 20, 100, 96 << 20), "the target's own"
        assert found["cpus"] == 1

    def test_more_than_the_target_gives_is_refused(self, unit: Callable[..., UnitSpec]) -> None:
        driver = DockerDriver({"cpus": "1", "memory": "512m", "pids": 100}, {})
        with pytest.raises(Refused) as refused:
            driver.prepare(unit("true", resources={"cpus": 2.0, "memory": 1 << 30, "pids": 200}))
        for words in ("2 processors", "gives 1 at", "1 GiB", "512 MiB", "200", "100"):
            assert words in str(refused.value)

    def test_out_of_memory(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        spec = unit("", argv=["{python}", "-c", EATER], resources={"memory": 64 << 20})
        seen = self.ended(driver, handle := self.started(driver, spec))
        assert seen.exit is not None
        assert seen.exit["reason"] == "out-of-memory"
        assert "64 MiB" in seen.exit["message"]
        assert "64 MiB" in driver.diagnose(handle)

    def test_out_of_memory_behind_a_shell(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        command = f"python3 -c '{EATER}'; exit $?"
        seen = self.ended(driver, self.started(driver, unit(command, resources={"memory": 64 << 20})))
        assert (seen.exit or {})["reason"] == "out-of-memory"

    def test_a_killed_child_does_not_fail_a_run_that_goes_well(
        self, driver: Driver, unit: Callable[..., UnitSpec]
    ) -> None:
        command = f"python3 -c '{EATER}'; echo $?; exit 0"
        handle = self.started(driver, unit(command, resources={"memory": 64 << 20}))
        seen = self.ended(driver, handle)
        assert ((seen.exit or {})["reason"], (seen.exit or {})["code"]) == ("exited", 0)
        assert self.text(driver, handle).splitlines()[-1] == "137", "the child was killed"

    def test_a_killed_child_is_named_where_the_run_fails(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        command = f"python3 -c '{EATER}'; exit 3"
        seen = self.ended(driver, self.started(driver, unit(command, resources={"memory": 64 << 20})))
        assert ((seen.exit or {})["reason"], (seen.exit or {})["code"]) == ("exited", 3)
        assert "64 MiB" in (seen.exit or {})["message"]

    def test_without_a_gpu_runtime_gpus_are_refused(self, unit: Callable[..., UnitSpec]) -> None:
        driver = DockerDriver({"gpus": "all"}, {})
        if driver.facts()["gpu_runtime"]:
            pytest.skip("this machine's engine has a GPU runtime")
        with pytest.raises(Refused, match="NVIDIA"):
            driver.prepare(unit("true", resources={"gpus": 1}))
        assert [problem.code for problem in driver.check()] == ["gpus"]

    # Whose it is.

    def test_runs_as_the_invoking_user_without_further_rights(
        self, driver: Driver, unit: Callable[..., UnitSpec]
    ) -> None:
        command = (
            "id -u; id -g; echo $HOME; touch outputs/mine; grep NoNewPrivs /proc/self/status | cut -f2;"
            "grep CapBnd /proc/self/status | cut -f2"
        )
        handle = self.started(driver, unit(command))
        self.ended(driver, handle)
        uid, gid, home, no_new, rights = self.text(driver, handle).split()
        assert (int(uid), int(gid), home, no_new) == (os.getuid(), os.getgid(), "/tmp", "1")
        for bit in (13, 27, 29, 31, 21):  # NET_RAW, MKNOD, AUDIT_WRITE, SETFCAP, SYS_ADMIN
            assert not int(rights, 16) >> bit & 1
        for path in ("stdout.log", "outputs/mine", "exit.json"):
            assert (storage.unit_directory(handle.key) / path).stat().st_uid == os.getuid()
        assert inspected(handle.key)["HostConfig"]["Privileged"] is False

    def test_another_user(self, unit: Callable[..., UnitSpec], monkeypatch: pytest.MonkeyPatch) -> None:
        """As somebody without rights would run Atelier: its files are its own."""
        driver = DockerDriver({}, {})
        monkeypatch.setattr(LocalFiles, "user", lambda self: (4711, 4712, []))
        spec = unit("id -u; id -g; id -G; touch outputs/mine")
        driver.prepare(spec)
        folder = storage.unit_directory(spec.key)
        driver._files.write(spec.key, "secrets.json", {})
        open_up(folder)
        container = driver._create(spec)
        subprocess.run(["chown", "-R", "4711:4712", str(folder)], check=True)
        driver._start(spec, container)
        handle = Handle(spec.key)
        self.ended(driver, handle)
        assert self.text(driver, handle).split() == ["4711", "4712", "4712"]
        assert (folder / "outputs/mine").stat().st_uid == 4711

    def test_secrets_are_not_in_the_container_as_the_engine_shows_it(
        self, driver: Driver, unit: Callable[..., UnitSpec]
    ) -> None:
        spec = unit('test "$PASS_WORD" = open-sesame && sleep 60', secret_env={"PASS_WORD": "open-sesame"})
        handle = self.started(driver, spec)
        self.until(driver, handle, Phase.RUNNING)
        assert "open-sesame" not in json.dumps(inspected(handle.key))
        assert not (storage.unit_directory(spec.key) / "secrets.json").exists()

    # Once, and only once.

    def test_two_processes_submit_at_once(
        self, driver: Driver, unit: Callable[..., UnitSpec], data_folder: Path, settings: Any
    ) -> None:
        for _time in range(3):
            spec = unit(COUNT + "sleep 1")
            driver.prepare(spec)
            environ = {
                **os.environ,
                "ATELIER_DATA": str(data_folder),
                "DJANGO_SETTINGS_MODULE": "studio.settings",
                "ATELIER_BASE_IMAGE": settings.ATELIER_BASE_IMAGE,
            }
            words = json.dumps({**asdict(spec), "image": settings.ATELIER_BASE_IMAGE})
            processes = [
                subprocess.Popen(
                    [sys.executable, "-c", SUBMITTER, words], cwd=ROOT, env=environ, stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                for _number in range(2)
            ]  # fmt: skip
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"go\n")
                process.stdin.flush()
            answers = [process.communicate()[0].strip() for process in processes]
            assert [process.returncode for process in processes] == [0, 0]
            assert answers[0] == answers[1] != b"", "both have the same container"
            handle = driver.find(spec.key)
            assert handle is not None
            self.ended(driver, handle)
            assert self.text(driver, handle, "outputs/lives") == "life\n"

    def test_created_and_not_started_is_started(self, unit: Callable[..., UnitSpec]) -> None:
        """The worker was killed between the two requests."""
        driver, spec = DockerDriver({}, {}), unit(COUNT + "true")
        driver.prepare(spec)
        container = driver._create(spec)
        assert driver.find(spec.key) is None, "created is not submitted"
        handle = DockerDriver({}, {}).submit(spec)
        assert handle.data["container"] == container
        assert (self.ended(driver, handle).exit or {})["code"] == 0
        assert self.text(driver, handle, "outputs/lives") == "life\n"

    def test_a_removed_container_is_not_started_again(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        spec = unit(COUNT + "sleep 60")
        handle = self.started(driver, spec)
        wait_until("it lives", (storage.unit_directory(spec.key) / "outputs/lives").exists)
        client().remove_container(f"atelier-{spec.key}", force=True)
        self.until(driver, handle, Phase.GONE)
        assert "removed" in driver.diagnose(handle)
        assert driver.submit(spec).key == spec.key
        assert self.text(driver, handle, "outputs/lives") == "life\n"
        assert self.look(driver, handle).phase is Phase.GONE

    def test_a_container_of_a_unit_that_ran_is_one_too_many(self, unit: Callable[..., UnitSpec]) -> None:
        """Somebody submits who looked before another one did it all."""
        driver, spec = DockerDriver({}, {}), unit(COUNT + "true")
        handle = self.started(driver, spec)
        self.ended(driver, handle)
        driver.release(handle)
        container = driver._create(spec)
        driver._start(spec, container)
        wait_until("it has ended", lambda: not inspected(spec.key)["State"]["Running"])
        assert inspected(spec.key)["State"]["ExitCode"] == 4
        assert self.text(driver, handle, "outputs/lives") == "life\n"
        driver.release(handle)

    # Output.

    def test_a_burst_loses_no_byte(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        script = "import sys; sys.stdout.write(''.join('line %07d\\n' % i for i in range(500000)))"
        handle = self.started(driver, unit("", argv=["{python}", "-c", script]))
        seen = self.ended(driver, handle)
        digest, offset = hashlib.sha256(), 0
        while piece := driver.read(handle, "stdout.log", offset, 1 << 22):
            digest.update(piece)
            offset += len(piece)
        expected = hashlib.sha256(b"".join(b"line %07d\n" % index for index in range(500_000)))
        assert offset == seen.sizes["stdout"]
        assert digest.digest() == expected.digest()

    # Data.

    def test_inputs_are_read_only(self, unit: Callable[..., UnitSpec], tmp_path: Path) -> None:
        driver = DockerDriver({}, {})
        data = tmp_path / "store"
        (data / "inner").mkdir(parents=True)
        (data / "inner" / "file").write_text("content\n")
        inputs = [{"name": "data", "mode": "mount", "path_on_compute": "/data/set"}]
        place = "$ATELIER_UNIT_DIR/inputs/data"
        spec = unit(f"cat {place}/inner/file /data/set/inner/file; echo x > {place}/inner/more", inputs=inputs)
        folder = storage.unit_directory(spec.key)
        (folder / "inputs").mkdir(parents=True)
        laying.link(folder / "inputs" / "data", laying.mount_point(folder, data))
        handle = self.started(driver, spec)
        seen = self.ended(driver, handle)
        assert (seen.exit or {})["code"] != 0
        assert self.text(driver, handle).startswith("content\ncontent\n")
        assert "Read-only" in self.text(driver, handle)
        assert not (data / "inner" / "more").exists()
        assert json.loads((folder / "mounts.json").read_text()) == {"read_only": True}

    def test_a_tree_of_links_at_a_path_of_the_container(self, unit: Callable[..., UnitSpec], tmp_path: Path) -> None:
        driver = DockerDriver({}, {})
        (tmp_path / "store" / "deep").mkdir(parents=True)
        for name in ("one", "deep/two"):
            (tmp_path / "store" / name).write_text(f"{name}\n")
        spec = unit(
            "cat /data/set/one /data/set/deep/two",
            inputs=[{"name": "data", "mode": "mount", "path_on_compute": "/data/set"}],
        )
        files = [(name, str(tmp_path / "store" / name)) for name in ("one", "deep/two")]
        laying.link_files(storage.unit_directory(spec.key), "data", files)
        assert self.text_of(driver, spec) == "one\ndeep/two\n"

    def test_folders_that_the_client_reads_by_itself(self, unit: Callable[..., UnitSpec], tmp_path: Path) -> None:
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "table.csv").write_text("a,b\n")
        known = {"inputs": {"x": {"mode": "direct"}}, "stores": {"main": {"root": str(tmp_path / "store")}}}
        spec = unit(f"cat {tmp_path}/store/table.csv; echo x > {tmp_path}/store/more")
        folder = storage.unit_directory(spec.key)
        folder.mkdir(parents=True)
        (folder / "datasets.json").write_text(json.dumps(known))
        assert self.text_of(DockerDriver({}, {}), spec).startswith("a,b\n")
        assert not (tmp_path / "store" / "more").exists()

    def test_volumes(self, unit: Callable[..., UnitSpec], tmp_path: Path, settings: Any) -> None:
        for name in ("open", "shut"):
            (tmp_path / name).mkdir()
        lines = f"{tmp_path}/open:/open\n{tmp_path}/shut:/shut:ro"
        driver = DockerDriver({"volumes": lines}, {})
        with pytest.raises(Refused, match="may not be given"):
            driver.prepare(unit("true"))
        assert [problem.code for problem in driver.check()] == ["volumes"]
        settings.ATELIER_DOCKER_VOLUMES = [str(tmp_path)]
        assert driver.check() == []
        spec = unit("echo x > /open/file; echo y > /shut/file")
        self.text_of(driver, spec)
        assert (tmp_path / "open" / "file").read_text() == "x\n"
        assert not (tmp_path / "shut" / "file").exists()
        settings.ATELIER_DOCKER_VOLUMES = []
        DockerDriver({"volumes": lines, "volumes_trusted": True}, {}).prepare(unit("true"))

    def test_the_studios_own_folders_are_no_volumes(self, settings: Any) -> None:
        data = Path(settings.ATELIER_DATA).resolve()
        settings.ATELIER_DOCKER_VOLUMES = [str(data.parent)]
        for folder in (data, data / "secrets", data.parent, data / "units" / ".." / "secrets"):
            with pytest.raises(Refused):
                docker_checks.refuse_volumes(DockerDriver({"volumes": f"{folder}:/x:ro"}, {}))
        assert docker_checks.refuse_volumes(DockerDriver({"volumes": f"{data}-more:/x:ro"}, {}))

    def test_a_link_out_of_an_allowed_folder_is_refused(
        self, unit: Callable[..., UnitSpec], tmp_path: Path, settings: Any
    ) -> None:
        (tmp_path / "open").mkdir()
        (tmp_path / "open" / "out").symlink_to("/etc")
        settings.ATELIER_DOCKER_VOLUMES = [str(tmp_path / "open")]
        with pytest.raises(Refused, match="/etc"):
            DockerDriver({"volumes": f"{tmp_path}/open/out:/etc-of-host:ro"}, {}).prepare(unit("true"))

    def test_what_it_replaces_by_links_leads_nowhere(
        self, driver: Driver, unit: Callable[..., UnitSpec], tmp_path: Path
    ) -> None:
        """A container sees little of the machine, and must not make the studio read the rest of it to its owner."""
        (tmp_path / "secret").write_text('{"reason": "secret"}')
        to = f"ln -sf {tmp_path}/secret"
        command = f"cd ..; {to} stdout.log; {to} events.jsonl; {to} outputs/leak; rm beat.json; mkfifo beat.json; echo"
        handle = self.started(driver, unit(command))
        seen = self.ended(driver, handle)
        assert (seen.exit or {})["code"] == 0
        assert self.text(driver, handle).count("resource busy") == 2
        folder = storage.unit_directory(handle.key)
        assert not (folder / "stdout.log").is_symlink()
        assert not (folder / "events.jsonl").is_symlink()
        with pytest.raises(NotFound):
            driver.read(handle, "outputs/leak", 0, 100)

    # What can be wrong.

    def test_labels_alone_make_no_container_ours(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        """Containers of image builds and probes have the labels of the images that they are made of, whoever wrote
        those."""
        handle = self.started(driver, spec := unit("sleep 600"))
        self.until(driver, handle, Phase.RUNNING)
        stranger = uuid.uuid4().hex
        made = []
        try:
            for key in (spec.key, stranger):
                labels = {"atelier.unit": key, "atelier.installation": installation_id()}
                made.append(client().create_container(test_image(), command=["true"], labels=labels)["Id"])
            client().start(made[0])
            client().wait(made[0])
            assert driver.observe([handle])[spec.key].phase is Phase.RUNNING
            assert stranger not in {one.key for one in driver.list_owned()}
        finally:
            for each in made:
                client().remove_container(each, force=True, v=True)

    def test_one_that_says_it_has_ended_is_ended(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        """Its user writes the records as it likes: the studio reads its files once nobody changes them any more."""
        command = """trap '' TERM; echo '[]' >../cancel.json
            echo '{"reason": "exited", "code": 0, "started": "x"}' >../t
            mv ../t ../exit.json; sleep 600"""
        handle = self.started(driver, spec := unit(command))
        seen = self.ended(driver, handle)
        assert seen.phase is Phase.EXITED and seen.exit is not None and seen.exit["started"] is None
        driver.cancel(handle, 0)
        assert driver.fetch(handle, final=True)
        assert not inspected(spec.key)["State"]["Running"]

    def test_cancel_bears_a_word_that_is_not_ours(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("echo '[1]' >../cancel.json; echo made; exec sleep 600"))
        wait_until("its word", lambda: "made" in self.text(driver, handle))
        driver.cancel(handle, 0)
        assert (self.ended(driver, handle).exit or {})["reason"] == "canceled"

    def test_missing_image(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        with pytest.raises(ImageMissing, match="no-such-image:here"):
            driver.prepare(unit("true", image="no-such-image:here"))
        assert not isinstance(ImageMissing("x"), Unreachable)

    def test_image_removed_between_prepare_and_submit(self, unit: Callable[..., UnitSpec], settings: Any) -> None:
        tag = f"atelier-test-gone:{uuid.uuid4().hex[:8]}"
        client().tag(settings.ATELIER_BASE_IMAGE, tag)
        driver, spec = DockerDriver({}, {}), unit("true", image=tag)
        driver.prepare(spec)
        client().remove_image(tag)
        with pytest.raises(ImageMissing):
            driver._create(spec)

    def test_image_without_python(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        spec = unit("true", python="/opt/nowhere/python3")
        driver.prepare(spec)
        with pytest.raises(Refused) as refused:
            driver.submit(spec)
        assert "/opt/nowhere/python3" in str(refused.value)
        assert test_image() in str(refused.value)
        assert driver.find(spec.key) is None
        with pytest.raises(NotFound):
            inspected(spec.key)
        assert not (storage.unit_directory(spec.key) / "secrets.json").exists()

    def test_image_with_a_python_that_cannot(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("true", python="/bin/false"))
        seen = self.ended(driver, handle)
        assert (seen.exit or {})["reason"] == "start-failed"
        assert "/bin/false" in (seen.exit or {})["message"]
        assert test_image() in (seen.exit or {})["message"]
        assert driver.diagnose(handle) == (seen.exit or {})["message"]

    def test_orphans_are_taken_in(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        command = "(sh -c 'sleep 0.1 & sleep 0.2 &'); sleep 1.5; grep -l 'State:.Z' /proc/[0-9]*/status; echo none left"
        handle = self.started(driver, unit(command))
        assert (self.ended(driver, handle).exit or {})["code"] == 0
        assert self.text(driver, handle) == "none left\n"

    def test_killed_container(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("echo up; sleep 60"))
        wait_until("it is up", lambda: self.look(driver, handle).sizes.get("stdout"))
        client().kill(f"atelier-{handle.key}")
        seen = self.ended(driver, handle)
        assert seen.phase is Phase.EXITED
        assert (seen.exit or {})["reason"] == "supervisor-killed"
        assert (seen.exit or {})["started"]
        assert "without an exit record" in driver.diagnose(handle)

    def test_stopped_container_may_tidy_up(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        """As `docker stop` and an engine that is shut down end it."""
        handle = self.started(driver, unit("trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.1; done"))
        wait_until("it is up", lambda: self.look(driver, handle).sizes.get("stdout"))
        client().stop(f"atelier-{handle.key}")
        seen = self.ended(driver, handle)
        assert (seen.exit or {})["reason"] == "terminated"
        assert self.text(driver, handle).endswith("saved\n")
        assert inspected(handle.key)["State"]["ExitCode"] == 0

    def test_frozen_container(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("echo up; sleep 60"))
        wait_until("it is up", lambda: self.look(driver, handle).sizes.get("stdout"))
        client().pause(f"atelier-{handle.key}")
        seen = self.look(driver, handle)
        assert (seen.phase, seen.detail) == (Phase.RUNNING, "Its container is frozen.")
        driver.cancel(handle, 0)
        assert (self.ended(driver, handle).exit or {})["reason"] == "canceled"

    def test_check_names_limits_that_the_machine_does_not_have(self) -> None:
        driver = DockerDriver({"cpus": "4000", "memory": "100t"}, {})
        assert {(one.code, one.field) for one in driver.check()} == {("limits", "cpus"), ("limits", "memory")}
        assert {one.field for one in DockerDriver({"memory": "much", "cpus": "x"}, {}).check()} == {"cpus", "memory"}

    def test_facts(self, driver: Driver) -> None:
        facts = driver.facts()
        assert facts["engine"].startswith("Docker ")
        assert facts["cpus"] >= 1
        assert facts["memory_bytes"] > 1 << 28
        assert facts["disk_free_bytes"] > 0
        assert facts["user"] == f"{os.getuid()}:{os.getgid()}"

    def test_engine_that_does_not_see_the_data_folder(self, tmp_path: Path) -> None:
        driver = DockerDriver({}, {})
        (tmp_path / "elsewhere").mkdir()
        driver.__dict__["_files"] = LocalFiles(lambda path: str(tmp_path / "elsewhere"))
        assert [problem.code for problem in driver.check()] == ["data-folder"]

    def test_access_leads_to_the_same_engine(self) -> None:
        driver = DockerDriver({"slots": 1}, {})
        assert engine.connect(driver.engine_access()).info()["ID"] == client().info()["ID"]


class TestNoEngine:
    """Which of the ways to be absent it is, each with its way out."""

    def test_no_socket(self, settings: Any, tmp_path: Path) -> None:
        settings.ATELIER_DOCKER_SOCKET = str(tmp_path / "docker.sock")
        [problem] = DockerDriver({}, {}).check()
        assert "not there" in problem.message
        assert "ATELIER_DOCKER_SOCKET" in problem.hint
        with pytest.raises(Unreachable, match="There is no Docker engine"):
            DockerDriver({}, {}).find(uuid.uuid4().hex)

    def test_nobody_listens(self, settings: Any, tmp_path: Path) -> None:
        settings.ATELIER_DOCKER_SOCKET = str(tmp_path / "docker.sock")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(settings.ATELIER_DOCKER_SOCKET)
        [problem] = DockerDriver({}, {}).check()
        assert "not running" in problem.message
        assert "systemctl" in problem.hint
        with pytest.raises(Unreachable, match="not running"):
            DockerDriver({}, {}).observe([Handle(uuid.uuid4().hex)])

    def test_an_engine_that_hangs(self, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.ATELIER_DOCKER_SOCKET = str(tmp_path / "docker.sock")
        assert engine.TIMEOUT_S <= 15
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(settings.ATELIER_DOCKER_SOCKET)
            server.listen(5)
            with pytest.raises(Unreachable, match="in time"):
                DockerDriver({}, {})._engine(0.5)

    def test_no_rights(self, settings: Any, tmp_path: Path) -> None:
        """Only somebody without root's rights can see it: a process of another user looks."""
        place = Path(tempfile.mkdtemp())
        try:
            place.chmod(0o755)
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(place / "docker.sock"))
                (place / "docker.sock").chmod(0o600)
                server.listen(5)
                seen = as_nobody(lambda: engine.socket_problem(str(place / "docker.sock")))
                asked = as_nobody(lambda: engine.client(str(place / "docker.sock"), 5.0))
            assert "permission denied" in seen[0]
            assert "group docker" in seen[1]
            assert "may not use the Docker engine: permission denied" in asked
        finally:
            shutil.rmtree(place)

    def test_access_to_nothing(self, settings: Any, tmp_path: Path) -> None:
        settings.ATELIER_DOCKER_SOCKET = str(tmp_path / "docker.sock")
        with pytest.raises(Unreachable):
            engine.connect(DockerDriver({}, {}).engine_access())


class TestStudioInAContainer:
    def test_paths_are_those_of_the_engines_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "volume").mkdir()
        api = client()
        mounts = [Mount("/data", str(tmp_path / "volume"), type="bind"), Mount("/more", None, type="volume")]
        made = api.create_container(test_image(), ["true"], host_config=api.create_host_config(mounts=mounts))["Id"]
        own_container._known.pop(api, None)
        try:
            monkeypatch.setattr(own_container, "own_ids", lambda: [made])
            translate = own_container.translator(lambda: own_container.own_mounts(api))
            assert translate("/data/units/ab") == str(tmp_path / "volume/units/ab")
            assert translate("/data") == str(tmp_path / "volume")
            assert translate("/more/x").endswith("/_data/x")
            with pytest.raises(Refused, match="no volume"):
                translate("/database")
        finally:
            own_container._known.pop(api, None)
            api.remove_container(made, v=True)

    def test_a_host_named_like_a_container(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(own_container, "own_ids", lambda: ["0123456789ab"])
        own_container._known.pop(client(), None)
        assert own_container.own_mounts(client()) is None

    def test_its_id(self, tmp_path: Path) -> None:
        table = tmp_path / "mountinfo"
        line = "719 700 254:0 /docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
        table.write_text("1 2 3:4 / / rw - ext4 a rw\n" + line.format(id="ab" * 32))
        assert own_container.own_ids(str(table), "host") == ["ab" * 32]
        assert own_container.own_ids(str(table), "0123456789ab") == ["ab" * 32, "0123456789ab"]
        assert own_container.own_ids("/proc/self/mountinfo", "host") == []


# Helpers.


def client() -> APIClient:
    return engine.client(engine.local_socket())


def inspected(key: str) -> dict[str, Any]:
    with engine.asking():
        return client().inspect_container(f"atelier-{key}")  # type: ignore[no-any-return]


def open_up(folder: Path) -> None:
    """Let another user come as far as this folder."""
    for parent in folder.parents:
        if parent in (Path("/"), Path("/tmp")):
            break
        parent.chmod(parent.stat().st_mode | 0o055)


def as_nobody(function: Callable[[], Any]) -> Any:
    """The value of a function, or the text of its DriverError, in a process of a user without rights."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                value = function()
            except DriverError as error:
                value = str(error)
            os.write(writer, json.dumps(value).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as handle:
        answer = handle.read()
    os.waitpid(pid, 0)
    return json.loads(answer)
