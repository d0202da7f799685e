"""Queues and the reconciler, on the real local driver and a real database."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, connections
from django.utils import timezone

from compute import reconcile, selectors, services
from compute.drivers.base import Unreachable
from compute.drivers.local import LocalDriver
from compute.models import Target, Unit
from compute.services.advance import queue_fill
from compute.spec import Observation, Phase
from studio.lib import storage
from tests.compute.helpers import until, wait_exit

pytestmark = pytest.mark.django_db(transaction=True)


class TestQueue:
    def test_slots_and_first_come_first_served(self, make_unit: Any, drive: Any, target: Target) -> None:
        units = [make_unit("sleep 60") for _ in range(5)]
        for unit in units:
            services.unit_advance(unit.pk)
        for unit in units:
            unit.refresh_from_db()
        assert [unit.state for unit in units] == ["running", "running", "queued", "queued", "queued"]
        assert [selectors.queue_position(unit) for unit in units] == [None, None, 1, 2, 3]
        capacity = selectors.capacity(target)
        assert (capacity.total, capacity.used, capacity.detail["queued"]) == (2, 2, 3)
        services.unit_cancel(units[0], force=True)
        drive(units[0])
        assert queue_fill(target) == [units[2].pk]
        assert selectors.queue_position(units[3]) == 1

    def test_a_freed_slot_is_announced(self, make_unit: Any, drive: Any, target: Target, published: list[Any]) -> None:
        drive(make_unit())
        assert ("compute.queue", target.pk) in published

    def test_services_and_builds_take_no_slot(self, make_unit: Any, drive: Any, target: Target) -> None:
        for _ in range(2):
            drive(make_unit("sleep 60"), "running")
        service = drive(make_unit("sleep 60", kind="service", time_limit_s=5), "running")
        build = drive(make_unit("sleep 60", kind="build"), "running")
        assert service.spec["time_limit_s"] is None
        assert selectors.capacity(target).used == 2
        assert selectors.queue_position(build) is None

    def test_workspaces_share_the_machine(self, team: Any, make_unit: Any, target: Target, settings: Any) -> None:
        settings.ATELIER_LOCAL_SLOTS = 1
        target.config = {}
        target.save()
        other = team.outsider.memberships.get().workspace.targets.get(name="local")
        assert set(selectors.pool(target)) == {target.pk, other.pk}
        first = make_unit("sleep 60")
        services.unit_advance(first.pk)
        second, _token = services.unit_create(
            workspace=other.workspace, target=other, kind="command", spec={"argv": ["true"]}, label="",
            secrets=None, environment=None, time_limit_s=None,
        )  # fmt: skip
        services.unit_advance(second.pk)
        second.refresh_from_db()
        assert (second.state, selectors.queue_position(second)) == ("queued", 1)

    def test_two_fillers_at_once(self, make_unit: Any, target: Target) -> None:
        units = [make_unit("true") for _ in range(6)]
        for unit in units:
            assert services.unit_move(unit, "preparing")
            assert services.unit_move(unit, "queued", queued_at=timezone.now())
        moved: list[int] = []

        def fill() -> None:
            try:
                while True:
                    try:
                        return moved.extend(queue_fill(target))
                    except OperationalError:  # the tests' SQLite lies in memory, where nobody waits for a lock
                        time.sleep(0.01)
            finally:
                connections["default"].close()

        threads = [threading.Thread(target=fill) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert moved == [units[0].pk, units[1].pk]


class TestReconcile:
    def test_idle_is_one_query(self, make_unit: Any, drive: Any, django_assert_num_queries: Any) -> None:
        drive(make_unit())
        with django_assert_num_queries(1):
            assert reconcile.tick() == 0

    def test_due_is_read_from_the_index(self, target: Target) -> None:
        queryset = Unit.objects.filter(next_check_at__lte=timezone.now()).order_by("next_check_at")
        if connection.vendor == "sqlite":
            assert "unit_due" in queryset.explain()

    def test_lost_messages_are_sent_again(self, make_unit: Any, published: list[Any]) -> None:
        unit = make_unit()
        published.clear()
        Unit.objects.filter(pk=unit.pk).update(next_check_at=timezone.now() - timedelta(seconds=1))
        reconcile.tick()
        assert published == [("compute.advance", unit.pk)]
        reconcile.tick()
        assert len(published) == 1, "not again before its time"

    def test_the_lease_of_a_dead_worker_is_dropped(self, make_unit: Any) -> None:
        import socket

        unit = make_unit()
        Unit.objects.filter(pk=unit.pk).update(
            lease_until=timezone.now() + timedelta(hours=1),
            lease_owner=f"{socket.gethostname()[:30]}:{2**22 + 1}:1",
            next_check_at=timezone.now(),
        )
        services.unit_advance(unit.pk)
        unit.refresh_from_db()
        assert unit.state == "created", "somebody holds it"
        reconcile.tick()
        services.unit_advance(unit.pk)
        unit.refresh_from_db()
        assert unit.state != "created"

    def test_unreachable_never_fails(
        self, make_unit: Any, drive: Any, monkeypatch: pytest.MonkeyPatch, changes: list[Any]
    ) -> None:
        unit = drive(make_unit("sleep 1"), "running")

        def away(self: LocalDriver, handles: Any) -> Any:
            raise Unreachable("no route")

        with monkeypatch.context() as patch:
            patch.setattr(LocalDriver, "observe", away)
            reconcile.tick()
            unit.refresh_from_db()
            assert unit.state == "running"
            assert unit.unreachable_since is not None
            assert changes[-1] == ("running", "running"), "whoever shows it is told"
            assert unit.next_check_at > timezone.now()
            wait_exit(unit)
        Unit.objects.filter(pk=unit.pk).update(next_check_at=timezone.now())
        assert drive(unit).state == "completed"
        assert unit.unreachable_since is None

    def test_unreachable_past_the_deadline(self, make_unit: Any, drive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        unit = drive(make_unit("sleep 60", time_limit_s=100), "running")
        assert unit.deadline_at > timezone.now() + timedelta(seconds=100)
        Unit.objects.filter(pk=unit.pk).update(deadline_at=timezone.now() - timedelta(seconds=1))
        monkeypatch.setattr(
            LocalDriver, "observe", lambda self, handles: {h.key: Observation(Phase.UNREACHABLE) for h in handles}
        )
        reconcile.tick()
        unit.refresh_from_db()
        assert unit.state == "lost"
        assert "has not answered" in unit.error["message"]

    def test_gone_looks_for_the_exit_record_first(
        self, make_unit: Any, drive: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unit = drive(make_unit("exit 5"), "running", "failed")
        if unit.state == "running":
            wait_exit(unit)
            gone = {unit.key: Observation(Phase.GONE, sizes={"stdout": 0, "events": 0})}
            monkeypatch.setattr(LocalDriver, "observe", lambda self, handles: gone)
            reconcile.tick()
            unit.refresh_from_db()
        assert (unit.state, unit.error["exit_code"]) == ("failed", 5)

    def test_orphans_are_reported_and_ended_only_after_the_grace(
        self, make_unit: Any, drive: Any, target: Target, caplog: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unit = drive(make_unit("sleep 60"), "running")
        key, handle = unit.key, selectors.handle_of(unit)
        driver = LocalDriver({}, {})
        Unit.objects.filter(pk=unit.pk).delete()
        reconcile.orphans(target)
        assert key in caplog.text
        assert driver.observe([handle])[key].phase is Phase.RUNNING
        monkeypatch.setattr(reconcile, "ORPHAN_GRACE_S", -1.0)
        reconcile.orphans(target)
        until(lambda: driver.observe([handle])[key].phase is Phase.EXITED)
        reconcile.orphans(target)
        assert not storage.data("units", "started", key).exists()
