"""What every driver must keep. A driver's test subclasses ``DriverContract`` and says how to make the driver.

The units here are really run on the target, so a driver passes only where its target answers.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compute.drivers.base import Driver, NotFound
from compute.installation import installation_id
from compute.spec import Capacity, FormField, Handle, Observation, Phase, UnitSpec
from tests.stack import wait_until

COUNT = "echo life >> outputs/lives; "


class DriverContract:
    """Subclass it as ``Test...`` and give ``make_driver``: each call another driver of the same target."""

    patience = 30.0  # seconds in which a unit that does nothing ends on this target

    def make_driver(self) -> Driver:
        raise NotImplementedError

    @pytest.fixture
    def driver(self) -> Driver:
        return self.make_driver()

    @pytest.fixture
    def unit(self, driver: Driver, tmp_path: Path) -> Iterator[Callable[..., UnitSpec]]:
        """Makes specs of shell commands; whatever still runs at the end of the test is ended."""
        made: list[UnitSpec] = []

        def make(command: str, **columns: Any) -> UnitSpec:
            source = tmp_path / "source.sh"
            source.write_text("echo from the snapshot\n")
            spec = UnitSpec(
                key=uuid.uuid4().hex,
                kind="command",
                argv=["/bin/sh", "-c", command],
                installation=installation_id(),
                code=[{"path": "source.sh", "source": str(source), "mode": 0o755}],
                grace_s=5,
            )
            made.append(replace(spec, **columns))
            return made[-1]

        yield make
        for spec in made:
            handle = driver.find(spec.key)
            if handle is not None:
                driver.cancel(handle, 0)
                self.ended(driver, handle)
                driver.release(handle)

    # Helpers.

    def started(self, driver: Driver, spec: UnitSpec) -> Handle:
        driver.prepare(spec)
        return driver.submit(spec)

    def look(self, driver: Driver, handle: Handle) -> Observation:
        return driver.observe([handle])[handle.key]

    def until(self, driver: Driver, handle: Handle, *phases: Phase) -> Observation:
        def check() -> Observation | None:
            seen = self.look(driver, handle)
            return seen if seen.phase in phases else None

        return wait_until(f"the phase is one of {phases}", check, self.patience)

    def ended(self, driver: Driver, handle: Handle) -> Observation:
        return self.until(driver, handle, Phase.EXITED, Phase.GONE)

    def text(self, driver: Driver, handle: Handle, path: str = "stdout.log") -> str:
        return driver.read(handle, path, 0, 1 << 20).decode()

    # What it says of itself.

    def test_describes_itself(self, driver: Driver) -> None:
        assert driver.name.isidentifier()
        assert str(driver.title)
        assert str(driver.summary)
        assert all(isinstance(field, FormField) and str(field.label) for field in driver.fields)
        assert len({field.name for field in driver.fields}) == len(driver.fields)

    def test_check_finds_nothing_wrong(self, driver: Driver) -> None:
        assert driver.check() == []

    def test_capacity(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        before = driver.capacity()
        assert isinstance(before, Capacity)
        assert before.total is None or before.total >= 1
        handle = self.started(driver, unit("sleep 60"))
        self.until(driver, handle, Phase.RUNNING)
        assert driver.capacity().used == before.used + 1

    # A unit's life.

    def test_runs_to_its_end(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        spec = unit("echo $GREETING; echo problem >&2; echo kept > outputs/file; exit 3", env={"GREETING": "hello"})
        handle = self.started(driver, spec)
        seen = self.ended(driver, handle)
        assert seen.phase is Phase.EXITED
        assert seen.exit is not None
        assert (seen.exit["code"], seen.exit["reason"]) == (3, "exited")
        assert seen.exit["started"] <= seen.exit["ended"]
        assert self.text(driver, handle) == "hello\nproblem\n"
        assert seen.sizes["stdout"] == len("hello\nproblem\n")
        assert self.text(driver, handle, "outputs/file") == "kept\n"

    def test_code_and_folders_are_there_before_the_command(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("./source.sh && ls -d outputs logs && pwd -P | sed 's,.*/,,'"))
        self.ended(driver, handle)
        assert self.text(driver, handle) == "from the snapshot\nlogs\noutputs\ncode\n"

    def test_prepare_is_idempotent(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        spec = unit("cat source.sh")
        driver.prepare(spec)
        driver.prepare(spec)
        handle = driver.submit(spec)
        self.ended(driver, handle)
        assert self.text(driver, handle) == "echo from the snapshot\n"

    def test_submit_is_idempotent_even_by_another_process(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        spec = unit(COUNT + "sleep 1")
        handle = self.started(driver, spec)
        assert driver.submit(spec).key == handle.key
        other = self.make_driver()
        assert other.submit(spec).key == handle.key
        self.ended(driver, handle)
        assert other.submit(spec).key == handle.key, "an ended unit is adopted too"
        assert self.text(driver, handle, "outputs/lives") == "life\n"

    def test_find(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        spec = unit("sleep 60")
        assert driver.find(spec.key) is None
        driver.prepare(spec)
        assert driver.find(spec.key) is None, "prepared is not submitted"
        driver.submit(spec)
        found = self.make_driver().find(spec.key)
        assert found is not None
        assert self.until(driver, found, Phase.RUNNING).phase is Phase.RUNNING

    def test_handle_is_json(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        import json

        handle = self.started(driver, unit("true"))
        again = Handle(handle.key, json.loads(json.dumps(handle.data)))
        assert self.ended(self.make_driver(), again).phase is Phase.EXITED

    def test_list_owned(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        spec = unit("sleep 60")
        handle = self.started(driver, spec)
        owned = {item.key: item for item in self.make_driver().list_owned()}
        assert spec.key in owned
        assert owned[spec.key].since <= time.time() + 1
        driver.cancel(handle, 0)
        self.ended(driver, handle)
        driver.release(handle)
        assert spec.key not in {item.key for item in driver.list_owned()}

    def test_observe_is_batched(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handles = [self.started(driver, unit(f"exit {code}")) for code in range(3)]
        for handle in handles:
            self.ended(driver, handle)
        seen = driver.observe(handles)
        assert [(seen[handle.key].exit or {})["code"] for handle in handles] == [0, 1, 2]
        assert driver.observe([]) == {}

    def test_observe_of_what_was_never_there(self, driver: Driver) -> None:
        assert self.look(driver, Handle(uuid.uuid4().hex)).phase is Phase.GONE

    def test_live_output_and_events(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit('echo first; echo "{}" >> "$ATELIER_UNIT_DIR/events.jsonl"; sleep 60'))
        wait_until("the first line", lambda: self.look(driver, handle).sizes.get("stdout"), self.patience)
        assert self.text(driver, handle) == "first\n"
        wait_until("the event", lambda: self.look(driver, handle).sizes.get("events") == 3, self.patience)
        assert self.look(driver, handle).phase is Phase.RUNNING

    def test_read_by_offset(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("printf 0123456789"))
        self.ended(driver, handle)
        assert driver.read(handle, "stdout.log", 3, 4) == b"3456"
        assert driver.read(handle, "stdout.log", 8, 100) == b"89"
        assert driver.read(handle, "stdout.log", 10, 100) == b""
        with pytest.raises(NotFound):
            driver.read(handle, "outputs/nothing", 0, 1)

    def test_secrets_reach_the_command_and_not_the_log(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        spec = unit('echo "$PASS_WORD"; test "$PASS_WORD" = open-sesame', secret_env={"PASS_WORD": "open-sesame"})
        handle = self.started(driver, spec)
        seen = self.ended(driver, handle)
        assert (seen.exit or {})["code"] == 0
        assert self.text(driver, handle) == "***\n"

    # Ends that are not its own.

    def test_cancel_lets_it_tidy_up(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.1; done"))
        wait_until("it is up", lambda: self.look(driver, handle).sizes.get("stdout"), self.patience)
        before = time.monotonic()
        driver.cancel(handle, 20)
        assert time.monotonic() - before < 2, "cancel returns at once"
        driver.cancel(handle, 20)
        seen = self.ended(driver, handle)
        assert (seen.exit or {})["reason"] == "canceled"
        assert self.text(driver, handle).endswith("saved\n")  # the group was told, so a shell may say more
        driver.cancel(handle, 20)

    def test_cancel_kills_what_does_not_listen(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("trap '' TERM; echo up; while :; do sleep 0.1; done"))
        wait_until("it is up", lambda: self.look(driver, handle).sizes.get("stdout"), self.patience)
        driver.cancel(handle, 0.5)
        seen = self.ended(driver, handle)
        assert (seen.exit or {})["reason"] == "canceled"
        assert (seen.exit or {})["signal"] == 9

    def test_time_limit(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("sleep 60", time_limit_s=0.5))
        seen = self.ended(driver, handle)
        assert (seen.exit or {})["reason"] == "timeout"
        assert driver.diagnose(handle)

    def test_command_that_cannot_be_started(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("", argv=["no-such-program-anywhere"]))
        seen = self.ended(driver, handle)
        assert (seen.exit or {})["reason"] == "start-failed"
        assert "no-such-program-anywhere" in driver.diagnose(handle)

    def test_release_is_idempotent_and_keeps_the_bytes(self, driver: Driver, unit: Callable[..., UnitSpec]) -> None:
        handle = self.started(driver, unit("echo kept"))
        self.ended(driver, handle)
        driver.release(handle)
        driver.release(handle)
        assert self.text(driver, handle) == "kept\n"
        driver.cancel(handle, 1)

    def test_diagnose_of_nothing(self, driver: Driver) -> None:
        assert isinstance(driver.diagnose(Handle(uuid.uuid4().hex)), str)
