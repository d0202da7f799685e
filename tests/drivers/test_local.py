"""The local driver keeps the contract, and what is its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compute.drivers.base import Driver
from compute.drivers.local import LocalDriver, base_environment, locked
from compute.spec import Phase, UnitSpec
from studio.lib import storage
from tests.drivers.contract import DriverContract
from tests.stack import wait_until


class TestLocalDriver(DriverContract):
    def make_driver(self) -> Driver:
        return LocalDriver({"slots": 3}, {})

    def test_slots(self, settings: Any) -> None:
        settings.ATELIER_LOCAL_SLOTS = 5
        assert LocalDriver({}, {}).capacity().total == 5
        settings.ATELIER_LOCAL_SLOTS = 0
        assert LocalDriver({}, {}).capacity().total == os.cpu_count()
        assert LocalDriver({"slots": 3}, {}).capacity().total == 3

    def test_outlives_who_started_it(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        """Its own session and process group: what ends the worker's group leaves it alone."""
        handle = self.started(driver, unit("echo $$; sleep 60"))
        command = int(wait_until("the pid", lambda: self.text_or_none(driver, handle)))
        assert os.getsid(handle.data["pid"]) not in (os.getsid(0), 0)
        assert os.getpgid(command) not in (os.getpgid(0), os.getpgid(handle.data["pid"]))

    def text_or_none(self, driver: Driver, handle: Any) -> str | None:
        return self.text(driver, handle) if self.look(driver, handle).sizes["stdout"] else None

    def test_gone_when_everything_of_it_was_killed(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("sleep 60"))
        pid = handle.data["pid"]
        guard = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        for process in (guard, pid):
            os.kill(process, signal.SIGKILL)
        self.until(driver, handle, Phase.GONE)
        assert "restarted" in driver.diagnose(handle)
        driver.release(handle)
        wait_until("the command is ended", lambda: not self.marked(handle.key))

    @staticmethod
    def marked(key: str) -> list[int]:
        from compute.shim.command import marked_processes

        return marked_processes(str(storage.unit_directory(key).resolve()))

    def test_a_reused_pid_is_not_taken_for_the_supervisor(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        import json

        handle = self.started(driver, unit("true"))
        self.ended(driver, handle)
        folder = storage.unit_directory(handle.key)
        # Supervisor and guard hold the lock to their end; one that still lives would write what is taken away here.
        wait_until("supervisor and guard are gone", lambda: not locked(folder))
        (folder / "exit.json").rename(folder / "kept.json")
        (folder / "beat.json").write_text(json.dumps({"pid": os.getpid(), "start_time": "1", "attempt": 1}))
        assert self.look(driver, handle).phase is Phase.GONE
        (folder / "kept.json").rename(folder / "exit.json")

    def test_the_studios_own_settings_stay_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgres://secret")
        monkeypatch.setenv("ATELIER_SECRET_KEY", "secret")
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        environment = base_environment()
        assert "DATABASE_URL" not in environment
        assert "ATELIER_SECRET_KEY" not in environment
        assert environment["OMP_NUM_THREADS"] == "2"

    def test_outputs_of_the_snapshot_are_kept(
        self, driver: Driver, unit: Callable[..., UnitSpec], tmp_path: Path
    ) -> None:
        source = tmp_path / "earlier.txt"
        source.write_text("earlier\n")
        spec = unit("cat outputs/earlier.txt", code=[{"path": "outputs/earlier.txt", "source": str(source)}])
        handle = self.started(driver, spec)
        self.ended(driver, handle)
        assert self.text(driver, handle) == "earlier\n"
        assert self.text(driver, handle, "outputs/earlier.txt") == "earlier\n"

    def test_the_snapshot_is_copied_and_not_linked(
        self, driver: Driver, unit: Callable[..., UnitSpec], tmp_path: Path
    ) -> None:
        handle = self.started(driver, unit("echo changed > source.sh"))
        self.ended(driver, handle)
        assert (tmp_path / "source.sh").read_text() == "echo from the snapshot\n"

    def test_check_names_a_folder_that_cannot_be_written(self, data_folder: Path) -> None:
        data_folder.parent.mkdir(exist_ok=True)
        data_folder.write_text("in the way")
        problems = LocalDriver({}, {}).check()
        assert [problem.code for problem in problems] == ["data-folder"]
        data_folder.unlink()
