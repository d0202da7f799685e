"""A workspace's local target, units on it, and the beat called by hand instead of by Celery."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compute import reconcile, states
from compute.models import Target, Unit
from compute.services import ensure_local_target, unit_advance, unit_create
from compute.services.targets import target_driver
from compute.signals import unit_changed
from compute.spec import Handle

Make = Callable[..., Unit]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would have been sent to the workers; there is no broker in these tests."""
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr("compute.publish.app.send_task", lambda task, args=(), **_rest: sent.append((task, *args)))
    return sent


@pytest.fixture
def target(team: Any) -> Target:
    target = ensure_local_target(team.workspace)
    target.config = {"slots": 2}
    target.save()
    return target


@pytest.fixture
def make_unit(target: Target, tmp_path: Path, published: list[Any]) -> Iterator[Make]:
    """Makes units that run a shell command. What still runs at the end of the test is ended."""
    made = []

    def make(command: str = "true", **columns: Any) -> Unit:
        source = tmp_path / "source.txt"
        source.write_text("x")
        spec = {
            "argv": ["/bin/sh", "-c", command],
            "code": [{"path": "source.txt", "source": str(source), "mode": 0o644}],
            "grace_s": 5,
            **columns.pop("spec", {}),
        }
        given = {"kind": "command", "label": command, "secrets": None, "environment": None, "time_limit_s": None}
        unit, unit.plain_token = (
            (pair := unit_create(workspace=target.workspace, target=target, spec=spec, **{**given, **columns}))[0],
            pair[1],
        )
        made.append(unit)
        return unit

    yield make
    for unit in made:
        driver = target_driver(unit.target)
        if driver.find(unit.key) is not None:
            driver.cancel(Handle(unit.key), 0)


@pytest.fixture
def drive() -> Callable[..., Unit]:
    """Advance and observe a unit until it is in one of these states (an end, when none is named)."""

    def run(unit: Unit, *wanted: str, timeout: float = 20) -> Unit:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            unit_advance(unit.pk)
            reconcile.tick()
            unit.refresh_from_db()
            if unit.state in (wanted or states.TERMINAL):
                return unit
            time.sleep(0.02)
        raise AssertionError(f"still {unit.state}: {unit.history} {unit.error}")

    return run


@pytest.fixture
def changes() -> Any:
    """(state before, state after) of every announced change."""
    seen: list[tuple[str, str]] = []

    def note(unit: Unit, old: str, **_rest: Any) -> None:
        seen.append((old, unit.state))

    unit_changed.connect(note)
    yield seen
    unit_changed.disconnect(note)
