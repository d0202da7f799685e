"""Docker over SSH keeps the contract: a real OpenSSH server, and the engine of this machine behind it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from compute.drivers import ssh
from compute.drivers.base import Driver, HostKeyChanged, HostKeyUnknown, NotFound, Refused, Unreachable
from compute.drivers.remote_fetch import inner_target
from compute.drivers.ssh_docker import RemoteDockerDriver
from compute.spec import Handle, Phase, UnitSpec
from studio.lib import storage
from tests.drivers.contract import COUNT, DriverContract
from tests.gear.docker import need_engine, test_image
from tests.gear.sshd import PASSWORD, Sshd, User
from tests.stack import wait_until

pytestmark = pytest.mark.services


@pytest.fixture(autouse=True)
def _engine(settings: Any) -> None:
    need_engine()
    settings.ATELIER_BASE_IMAGE = test_image()


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture(scope="module")
def user(server: Sshd) -> User:
    """Its shell prints at every start, so everything here shows that this does no harm."""
    return server.user(groups=["docker"], banner=True)


def made(server: Sshd, user: User, *, secrets: dict[str, str] | None = None, **config: Any) -> RemoteDockerDriver:
    return RemoteDockerDriver(
        {
            "address": "127.0.0.1", "port": server.port, "username": user.name, "host_key": server.host_key(),
            **config,
        },
        {"private_key": user.key} if secrets is None else secrets,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    yield
    for link in list(ssh._links.values()):
        link.close()
    ssh._links.clear()


class Base(DriverContract):
    @pytest.fixture(autouse=True)
    def _place(self, server: Sshd, user: User) -> None:
        self.server, self.user = server, user

    def make_driver(self) -> RemoteDockerDriver:
        return made(self.server, self.user)


class TestRemoteDockerDriver(Base):
    """The contract."""


class TestWithAPassword(Base):
    """A login by password, a folder with odd characters in its name."""

    def make_driver(self) -> RemoteDockerDriver:
        return made(self.server, self.user, secrets={"password": PASSWORD}, folder="~/an odd 'folder' $HOME")

    def test_folder(self, driver: RemoteDockerDriver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("echo hello > outputs/file"))
        self.ended(driver, handle)
        assert driver.fetch(handle, final=True)
        assert (storage.unit_directory(handle.key) / "outputs" / "file").read_text() == "hello\n"
        assert (self.user.home / "an odd 'folder' $HOME" / "units" / handle.key).is_dir()


# What is its own.


class TestBytes(Base):
    """What a run wrote comes here, by its offsets, and nothing else does."""

    def here(self, handle: Handle) -> Path:
        return storage.unit_directory(handle.key)

    def there(self, handle: Handle) -> Path:
        return Path(self.make_driver()._files.host_path(handle.key))

    def ran(self, driver: Driver, unit: Callable[..., UnitSpec], command: str, **columns: Any) -> Handle:
        handle = self.started(driver, unit(command, **columns))
        assert self.ended(driver, handle).phase is Phase.EXITED
        return handle

    def test_it_lies_there_as_the_logins_own(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("id -u; pwd; sleep 60"))
        self.until(driver, handle, Phase.RUNNING)
        status = self.there(handle).stat()
        assert (status.st_uid, status.st_mode & 0o777) == (self.user.uid, 0o700)
        wait_until("it prints", lambda: self.look(driver, handle).sizes["stdout"] > 40)
        assert self.text(driver, handle) == f"{self.user.uid}\n{self.here(handle).resolve()}/code\n"

    def test_streams_grow_here(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        command = "for i in 1 2 3 4 5 6 7 8 9; do echo line $i; echo '{}' >> ../events.jsonl; sleep 0.2; done; sleep 60"
        handle = self.started(driver, unit(command))
        log = self.here(handle) / "stdout.log"
        seen = set()

        def nine() -> bool:
            driver.fetch(handle)
            seen.add(log.stat().st_size if log.exists() else 0)
            return "line 9" in (log.read_text() if log.exists() else "")

        wait_until("all lines", nine)
        assert log.read_text() == "".join(f"line {n}\n" for n in range(1, 10))
        assert (self.here(handle) / "events.jsonl").read_text() == "{}\n" * 9
        assert len(seen) > 2, "as it was written, not at its end"

    def test_two_who_fetch_at_once_write_every_byte_once(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("seq 300000"))
        others = [self.make_driver() for _number in range(4)]
        with ThreadPoolExecutor(4) as pool:
            while self.look(driver, handle).phase is not Phase.EXITED:
                list(pool.map(lambda other: other.fetch(handle), others))
            assert all(pool.map(lambda other: other.fetch(handle, final=True), others))
        expected = "".join(f"{n}\n" for n in range(1, 300001))
        assert (self.here(handle) / "stdout.log").read_text() == expected

    def test_everything_comes_and_nothing_stays(
        self, driver: RemoteDockerDriver, unit: Callable[..., UnitSpec]
    ) -> None:
        command = (
            "mkdir -p outputs/deep/er logs/l; head -c 9000000 /dev/urandom > outputs/big; "
            "i=0; while [ $i -lt 200 ]; do echo $i > outputs/deep/er/$i.txt; i=$((i+1)); done; "
            "echo log > logs/l/x; ln -s big outputs/inner; ln -s /etc/passwd outputs/outer; echo model > model.bin; "
            "chmod 500 outputs/deep; sha256sum < outputs/big"
        )
        handle = self.ran(driver, unit, command)
        assert driver.fetch(handle, final=True)
        here = self.here(handle)
        big = subprocess.run(["sha256sum"], stdin=(here / "outputs/big").open(), capture_output=True, text=True)
        assert (here / "stdout.log").read_text() == big.stdout
        assert {path.name for path in (here / "outputs/deep/er").iterdir()} == {f"{n}.txt" for n in range(200)}
        assert (here / "outputs/deep/er/150.txt").read_text() == "150\n"
        assert (here / "logs/l/x").read_text() == "log\n"
        assert (here / "code/model.bin").read_text() == "model\n", "what lies beside the script too"
        assert (here / "code/source.sh").exists()
        assert (here / "outputs/inner").readlink() == Path("big")
        assert not os.path.lexists(here / "outputs/outer")
        assert json.loads((here / "exit.json").read_text())["code"] == 0
        driver.release(handle)
        assert not self.there(handle).exists()
        assert driver.read(handle, "outputs/deep/er/3.txt", 0, 10) == b"3\n"
        assert driver.fetch(handle, final=True)
        assert self.look(driver, handle).phase is Phase.EXITED, "as long as our own copy says so"

    def test_big_files_go_on_where_they_broke_off(
        self, driver: RemoteDockerDriver, unit: Callable[..., UnitSpec], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from compute.drivers import remote_fetch

        handle = self.ran(driver, unit, "head -c 20000000 /dev/urandom > outputs/big; sha256sum < outputs/big")
        real, offsets = remote_fetch.read_piece, []

        def breaking(link: Any, path: bytes, offset: int, *rest: Any) -> bytes:
            offsets.append(offset)
            if len(offsets) == 3:
                self.server.cut()
            return real(link, path, offset, *rest)

        monkeypatch.setattr(remote_fetch, "read_piece", breaking)
        with contextlib.suppress(Unreachable):
            driver.fetch(handle, final=True)
        assert not (self.here(handle) / "outputs/big").exists(), "seen only once it is whole"
        wait_until("it is whole", lambda: self.tried(driver, handle))
        assert offsets.count(0) == 1
        found = subprocess.run(["sha256sum", self.here(handle) / "outputs/big"], capture_output=True, text=True)
        assert found.stdout.split()[0] == (self.here(handle) / "stdout.log").read_text().split()[0]

    def tried(self, driver: Driver, handle: Handle) -> bool:
        try:
            return driver.fetch(handle, final=True)
        except Unreachable:
            return False

    def test_odd_names(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        command = (
            "cd outputs; echo a > 'with space'; echo b > \"$(printf 'new\\nline')\"; echo c > \"$(printf 'b\\377d')\"; "
            "echo d > '\"quote'; echo e > -dash; echo f > 'back\\slash'; echo g > ü; mkdir '$(id)'; echo h > '$(id)/*'"
        )
        handle = self.ran(driver, unit, command)
        assert driver.fetch(handle, final=True)
        here = os.fsencode(self.here(handle) / "outputs")
        names = {b"with space", b"new\nline", b"b\xffd", b'"quote', b"-dash", b"back\\slash", "ü".encode(), b"$(id)"}
        assert {os.fsencode(path.name) for path in Path(os.fsdecode(here)).iterdir()} == names
        assert Path(os.fsdecode(here), "$(id)", "*").read_text() == "h\n"

    def test_links_lead_nobody_out(self, driver: RemoteDockerDriver, unit: Callable[..., UnitSpec]) -> None:
        """A run's links are followed neither there, with the login's rights, nor here."""
        secret = self.user.home / "secret"
        secret.write_text("the login's own")
        os.chown(secret, self.user.uid, self.user.uid)
        outside = self.here(Handle("0" * 32)).parent / "outside"
        outside.mkdir(parents=True, exist_ok=True)
        command = (
            f"ln -s {secret} outputs/file; ln -s {self.user.home} outputs/folder; ln -s ../../../.. outputs/up; "
            f"ln -s {outside} outputs/place; mkfifo outputs/pipe; ln -s $ATELIER_UNIT_DIR/outputs/x outputs/own; "
            f"echo x > outputs/x; ln -sf {secret} ../stdout.log; ln -sf {secret} ../cancel.json; echo printed"
        )
        handle = self.ran(driver, unit, command)
        assert driver.fetch(handle, final=True)
        here = self.here(handle)
        assert sorted(path.name for path in (here / "outputs").iterdir()) == ["own", "x"]
        assert (here / "outputs/own").read_text() == "x\n"
        assert (here / "stdout.log").read_text().splitlines()[-1] == "printed"
        assert "the login's own" not in (here / "stdout.log").read_text()
        for path in ("outputs/file", "outputs/folder/secret", "outputs/pipe", "cancel.json"):
            with pytest.raises(NotFound):
                driver._files._read_there(handle.key, path, 0, 100)
        # The machine itself may lie: a folder where a link was brought, and the other way round.
        (here / "outputs" / "x").unlink()
        (here / "outputs" / "x").symlink_to(outside)
        (here / ".fetched").unlink()
        there = self.there(handle) / "outputs" / "x"
        there.unlink()
        there.mkdir()
        (there / "escaped").write_text("no")
        assert driver.fetch(handle, final=True)
        assert list(outside.iterdir()) == []
        assert (here / "outputs/x/escaped").read_text() == "no"

    @pytest.mark.parametrize(
        ("target", "kept"),
        [
            (b"x", b"x"), (b"../logs/x", b"../logs/x"), (b"/unit/logs", b"../logs"), (b"a/../../..", None),
            (b"../..", None), (b"/etc/passwd", None), (b"", None), (b"..", b".."), (b"/unit/../x", None),
        ],
    )  # fmt: skip
    def test_inner_targets(self, target: bytes, kept: bytes | None) -> None:
        assert inner_target(b"outputs/link", target, b"/unit") == kept

    def test_inputs_are_brought(self, driver: Driver, unit: Callable[..., UnitSpec], tmp_path: Path) -> None:
        """Links to what lies elsewhere on this machine arrive as what they lead to."""
        cache = tmp_path / "cache"
        (cache / "folder" / "sub").mkdir(parents=True)
        (cache / "folder" / "sub" / "one.txt").write_text("one")
        (cache / "folder" / "bad").symlink_to("/etc/passwd")
        (cache / "file").write_text("a file")
        spec = unit("cat inputs/../../inputs/a/sub/one.txt ../inputs/b/file ../inputs/b/again; ls ../inputs/a")
        local = storage.unit_directory(spec.key)
        (local / "mounts").mkdir(parents=True)
        (local / "mounts" / "0").symlink_to(cache / "folder")
        (local / "inputs" / "b").mkdir(parents=True)
        (local / "inputs" / "a").symlink_to("../mounts/0")
        (local / "inputs" / "b" / "file").symlink_to(cache / "file")
        (local / "inputs" / "b" / "again").symlink_to("file")
        handle = self.started(driver, UnitSpec(**{**spec.__dict__, "argv": [
            "/bin/sh", "-c", "cat ../inputs/a/sub/one.txt ../inputs/b/file ../inputs/b/again; ls ../inputs/a"
        ]}))  # fmt: skip
        self.ended(driver, handle)
        assert self.text(driver, handle) == "onea filea filesub\n"

    def test_sending_goes_on_where_it_broke_off(
        self, driver: RemoteDockerDriver, unit: Callable[..., UnitSpec], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from compute.drivers import remote_push

        spec = unit("cat ../inputs/data/* | wc -c")
        place = storage.unit_directory(spec.key) / "inputs" / "data"
        place.mkdir(parents=True)
        for number in range(20):
            (place / str(number)).write_bytes(os.urandom(500_000))
        real, add, sent, names = remote_push._Stream.send, remote_push._add, [], []

        def breaking(stream: Any) -> None:
            sent.append(stream.size)
            if len(sent) == 25:
                self.server.cut()
            real(stream)

        def noted(tar: Any, name: str, path: Path) -> None:
            names.append(name.split("/", 2)[-1])
            add(tar, name, path)

        monkeypatch.setattr(remote_push._Stream, "send", breaking)
        monkeypatch.setattr(remote_push, "_add", noted)
        with pytest.raises(Unreachable):
            driver.prepare(spec)
        assert driver.find(spec.key) is None
        units = self.there(Handle(spec.key)).parent
        wait_until("what had arrived is kept", lambda: len(list(units.glob(f".{spec.key}.*/inputs/data/*"))) > 3)
        wait_until("it is there", lambda: names.clear() or self.prepared(driver, spec))
        assert 0 < len([name for name in names if name.startswith("inputs/data/")]) < 20, "not all was sent again"
        assert list(units.glob(f".{spec.key}*")) == []
        handle = driver.submit(spec)
        self.ended(driver, handle)
        assert self.text(driver, handle).strip() == "10000000"

    def prepared(self, driver: Driver, spec: UnitSpec) -> bool:
        try:
            driver.prepare(spec)
        except Unreachable:
            return False
        return True

    def test_a_file_that_is_gone_here(self, driver: Driver, unit: Callable[..., UnitSpec], tmp_path: Path) -> None:
        code = [{"path": "a.py", "source": str(tmp_path / "nothing"), "mode": 0o644}]
        with pytest.raises(Refused, match="is gone"):
            driver.prepare(unit("true", code=code))


class TestManyAtOnce(Base):
    def test_thirty_units_over_one_connection(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        logins = self.server.logins
        specs = [unit(COUNT + f"seq 1000; echo {number} > outputs/number; sleep 2") for number in range(30)]
        with ThreadPoolExecutor(10) as pool:
            handles = list(pool.map(lambda spec: self.started(self.make_driver(), spec), specs))
            seen = {}

            def over() -> bool:
                seen.update(driver.observe(handles))
                list(pool.map(lambda handle: self.make_driver().fetch(handle), handles))
                return all(one.phase is Phase.EXITED for one in seen.values())

            wait_until("all are over", over, 120)
            assert all(pool.map(lambda handle: self.make_driver().fetch(handle, final=True), handles))
        for number, handle in enumerate(handles):
            here = storage.unit_directory(handle.key)
            assert (here / "stdout.log").read_text() == "".join(f"{n}\n" for n in range(1, 1001))
            assert (here / "outputs/number").read_text() == f"{number}\n"
            assert (here / "outputs/lives").read_text() == "life\n"
        assert self.server.logins <= logins + 1
        assert len(ssh._links) == 1


class TestRefusedMachines:
    """At attach, everything that a machine lacks is said by its reason."""

    def codes(self, driver: RemoteDockerDriver) -> list[str]:
        return [problem.code for problem in driver.check()]

    def test_facts(self, server: Sshd, user: User) -> None:
        facts = made(server, user).facts()
        assert facts["engine"].startswith("Docker ")
        assert facts["user"] == user.name
        assert facts["cpus"] and facts["memory_bytes"] and facts["disk_free_bytes"]

    def test_host_key_first(self, server: Sshd, user: User) -> None:
        with pytest.raises(HostKeyUnknown) as caught:
            made(server, user, host_key="").check()
        assert caught.value.key == server.host_key()

    def test_host_key_changed_stops_everything(self, server: Sshd, user: User, tmp_path: Path) -> None:
        from tests.gear.sshd import keygen

        keygen(tmp_path / "other")
        driver = made(server, user, host_key=(tmp_path / "other.pub").read_text())
        handle = Handle(uuid.uuid4().hex)
        for use in (driver.check, driver.facts, driver.capacity, lambda: driver.observe([handle])):
            with pytest.raises(HostKeyChanged):
                use()

    def test_login(self, server: Sshd, user: User) -> None:
        [problem] = made(server, user, secrets={"password": "wrong"}).check()
        assert (problem.code, problem.field, problem.stops) == ("login", "password", True)

    def test_nobody_there(self, server: Sshd, user: User) -> None:
        [problem] = made(server, user, port=1).check()
        assert (problem.code, problem.field) == ("connect", "port")

    def test_no_rights_and_then_the_rights(self, server: Sshd) -> None:
        other = server.user()
        driver = made(server, other)
        [problem] = driver.check()
        assert problem.code == "rights"
        assert f"sudo usermod -aG docker {other.name}" in problem.hint
        with pytest.raises(Unreachable, match="may not use the Docker engine"):
            driver.capacity()
        subprocess.run(["usermod", "-aG", "docker", other.name], check=True)
        assert driver.check() == []

    def test_no_docker(self, server: Sshd, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
        from compute.drivers import remote_host

        hidden = remote_host.PROBE.replace("docker.sock", "no.sock").replace("command -v docker", "command -v dokker")
        monkeypatch.setattr(remote_host, "PROBE", hidden)
        [problem] = made(server, user).check()
        assert problem.code in ("docker", "engine")

    def test_engine_that_does_not_run(self, server: Sshd, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
        from compute.drivers import remote_host

        hidden = remote_host.PROBE.replace("docker.sock", "no.sock").replace("docker context inspect", "false")
        monkeypatch.setattr(remote_host, "PROBE", hidden)
        [problem] = made(server, user).check()
        assert problem.code == "engine"
        assert "systemctl start docker" in problem.hint

    def test_docker_host_of_the_login(self, server: Sshd) -> None:
        """An engine without root rights listens elsewhere; the login's own setting says where."""
        other = server.user(groups=["docker"])
        (other.home / "run").mkdir()
        (other.home / "run" / "docker.sock").symlink_to("/var/run/docker.sock")
        (other.home / ".bashrc").write_text(f"export DOCKER_HOST=unix://{other.home}/run/docker.sock\n")
        driver = made(server, other)
        assert driver.check() == []
        assert driver._files.host().engine == f"{other.home}/run/docker.sock"

    def test_folder_that_cannot_be_written(self, server: Sshd, user: User) -> None:
        [problem] = made(server, user, folder="/proc/atelier").check()
        assert (problem.code, problem.field) == ("folder", "folder")
        [problem] = made(server, user, folder="/root/atelier").check()
        assert problem.code == "folder"

    def test_full_disk(self, server: Sshd, user: User) -> None:
        place = user.home / "full"
        place.mkdir()
        options = f"size=2m,uid={user.uid},mode=700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
        try:
            driver = made(server, user, folder=str(place))
            [problem] = driver.check()
            assert (problem.code, problem.field) == ("disk", "folder")
            with contextlib.suppress(OSError):
                (place / "filler").write_bytes(b"x" * (3 << 20))
            [problem] = driver.check()
            assert problem.code == "disk"
            spec = UnitSpec(key=uuid.uuid4().hex, kind="command", argv=["true"])
            with pytest.raises(Unreachable, match="disk of .* is full"):
                driver.prepare(spec)
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)

    def test_limits_and_gpus(self, server: Sshd, user: User) -> None:
        assert self.codes(made(server, user, cpus="4000", gpus="1")) == ["limits", "gpus"]

    def test_no_forwarding(self) -> None:
        with Sshd("AllowStreamLocalForwarding no") as strict:
            other = strict.user(groups=["docker"])
            [problem] = made(strict, other).check()
            assert "AllowStreamLocalForwarding" in problem.hint

    def test_slots(self, server: Sshd, user: User) -> None:
        assert made(server, user).slots() is None
        assert made(server, user, slots=7).slots() == 7

    def test_secrets_are_in_no_text(self, server: Sshd, user: User) -> None:
        driver = made(server, user, secrets={"password": "hidden-word-1"})
        assert "hidden-word-1" not in json.dumps(driver.engine_access())


# The contract once is enough.
for _class in (TestWithAPassword, TestBytes, TestManyAtOnce):
    for _name in [name for name in dir(DriverContract) if name.startswith("test_")]:
        if _class is not TestWithAPassword or _name not in ("test_runs_to_its_end", "test_check_finds_nothing_wrong"):
            setattr(_class, _name, None)
