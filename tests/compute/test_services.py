"""Units and targets through their services, on the real local driver and a real database."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

from compute import reconcile, selectors, services, states
from compute.drivers.base import Unreachable
from compute.drivers.local import LocalDriver
from compute.models import LogStream, Target, Unit
from compute.services.advance import queue_fill
from compute.signals import unit_changed, unit_events
from compute.spec import Observation, Phase
from studio.accounts.models import AuditEntry
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def changes() -> Any:
    """(state before, state after) of every announced change."""
    seen: list[tuple[str, str]] = []

    def note(unit: Unit, old: str, **_rest: Any) -> None:
        seen.append((old, unit.state))

    unit_changed.connect(note)
    yield seen
    unit_changed.disconnect(note)


@pytest.fixture
def lines() -> Any:
    seen: list[bytes] = []

    def note(lines: list[bytes], **_rest: Any) -> None:
        seen.extend(lines)

    unit_events.connect(note)
    yield seen
    unit_events.disconnect(note)


class TestUnit:
    def test_create(self, make_unit: Any, published: list[Any]) -> None:
        unit = make_unit("true", secrets={"PASS_WORD": "open-sesame"})
        assert unit.state == "created"
        assert published == [("compute.advance", unit.pk)]
        assert "open-sesame" not in unit.secrets
        assert LogStream.objects.get(unit=unit).name == "stdout"
        assert unit.plain_token.startswith("atu_")
        assert unit.plain_token not in json.dumps(unit.spec)

    def test_nothing_is_published_when_the_transaction_fails(self, make_unit: Any, published: list[Any]) -> None:
        with pytest.raises(RuntimeError), transaction.atomic():
            make_unit()
            raise RuntimeError
        assert published == []

    def test_create_refuses_no_command(self, make_unit: Any) -> None:
        with pytest.raises(Invalid):
            make_unit(spec={"argv": []})

    def test_token_is_good_for_the_living_unit_alone(self, make_unit: Any, drive: Any) -> None:
        unit = make_unit("sleep 0.2; exit 0")
        token = unit.plain_token
        assert services.unit_by_token(token) == unit
        assert services.unit_by_token("atu_wrong") is None
        assert services.unit_by_token("anything") is None
        drive(unit)
        assert services.unit_by_token(token) is None
        assert unit.secrets == ""

    def test_runs_to_the_end(self, make_unit: Any, drive: Any, changes: list[Any]) -> None:
        unit = drive(make_unit("echo $AZUREML_RUN_TOKEN; echo hello"))
        assert unit.state == "completed", unit.error
        walked = [state for state, _at, _note in unit.history]
        assert walked[:5] == ["created", "preparing", "queued", "submitting", "starting"]
        assert walked[-2:] == ["finalizing", "completed"]
        assert changes == list(zip(walked, walked[1:], strict=False))
        assert unit.started_at <= unit.ended_at
        assert unit.next_check_at is None
        assert unit.released
        stream = LogStream.objects.get(unit=unit)
        assert (stream.size, stream.sealed) == (len("***\nhello\n"), True)

    def test_failure_says_why(self, make_unit: Any, drive: Any) -> None:
        unit = drive(make_unit("exit 4"))
        assert unit.state == "failed"
        assert unit.error["code"] == "UserError"
        assert unit.error["exit_code"] == 4
        assert "exit code 4" in unit.error["message"]

    def test_time_limit(self, make_unit: Any, drive: Any) -> None:
        unit = drive(make_unit("sleep 60", time_limit_s=0.3))
        assert (unit.state, unit.error["code"]) == ("failed", "Timeout")

    def test_source_that_is_gone(self, make_unit: Any, drive: Any) -> None:
        unit = drive(make_unit(spec={"code": [{"path": "a", "source": "/nowhere/a", "mode": 0o644}]}))
        assert (unit.state, unit.error["code"]) == ("failed", "Refused")
        assert "/nowhere/a" in unit.error["message"]

    def test_move_is_conditional(self, make_unit: Any, changes: list[Any]) -> None:
        unit = make_unit()
        stale = Unit.objects.get(pk=unit.pk)
        assert services.unit_move(unit, "preparing")
        assert not services.unit_move(stale, "preparing")
        assert stale.state == "created"
        assert changes == [("created", "preparing")]
        with pytest.raises(ValueError, match="does not go from"):
            services.unit_move(unit, "completed")

    def test_move_and_its_receivers_are_one_transaction(self, make_unit: Any) -> None:
        unit = make_unit()

        def refuse(**_rest: Any) -> None:
            raise RuntimeError("receiver")

        unit_changed.connect(refuse)
        try:
            with pytest.raises(RuntimeError):
                services.unit_move(unit, "preparing")
        finally:
            unit_changed.disconnect(refuse)
        assert Unit.objects.get(pk=unit.pk).state == "created"

    def test_cancel_before_the_start(self, make_unit: Any, drive: Any, changes: list[Any]) -> None:
        unit = make_unit()
        assert services.unit_cancel(unit)
        assert unit.state == "canceled"
        assert not services.unit_cancel(unit)
        services.unit_advance(unit.pk)
        assert not storage.unit_directory(unit.key).exists()

    def test_cancel_while_running(self, make_unit: Any, drive: Any, published: list[Any]) -> None:
        unit = drive(make_unit("sleep 60"), "running")
        assert services.unit_cancel(unit)
        assert states.status(unit.state, cancel_requested=bool(unit.cancel_requested_at)) == "CancelRequested"
        assert published[-1] == ("compute.cancel", unit.pk)
        assert drive(unit).state == "canceled"

    def test_forced_cancel_does_not_wait(self, make_unit: Any, drive: Any) -> None:
        unit = drive(make_unit("trap '' TERM; while :; do sleep 0.1; done", spec={"grace_s": 600}), "running")
        services.unit_cancel(unit)
        reconcile.tick()
        services.unit_cancel(unit, force=True)
        assert drive(unit).state == "canceled"

    def test_a_unit_that_ended_well_before_the_cancel_is_completed(self, make_unit: Any, drive: Any) -> None:
        unit = drive(make_unit("exit 0"), "running", "completed")
        if unit.state == "running":
            _wait_exit(unit)
            services.unit_cancel(unit)
        assert drive(unit).state == "completed"

    def test_delete(self, make_unit: Any, drive: Any) -> None:
        unit = drive(make_unit("sleep 60; echo x > outputs/x"), "running")
        with pytest.raises(Conflict):
            services.unit_delete(unit)
        services.unit_cancel(unit, force=True)
        drive(unit)
        folder = storage.unit_directory(unit.key)
        assert services.unit_bytes(unit) > 0
        services.unit_delete(unit)
        assert not folder.exists()
        assert not Unit.objects.filter(pk=unit.pk).exists()


class TestEvents:
    def test_each_once_and_in_order(self, make_unit: Any, drive: Any, lines: list[bytes]) -> None:
        script = 'for i in 1 2 3 4 5; do echo "{\\"n\\":$i}" >> $ATELIER_UNIT_DIR/events.jsonl; sleep 0.1; done'
        unit = drive(make_unit(script))
        assert unit.state == "completed", unit.error
        assert lines == [b'{"n":%d}' % number for number in range(1, 6)]
        assert unit.events_offset == sum(len(line) + 1 for line in lines)

    def test_only_complete_lines(self, make_unit: Any, drive: Any, lines: list[bytes]) -> None:
        unit = drive(make_unit('printf \'{"a":1}\\n{"b"\' >> $ATELIER_UNIT_DIR/events.jsonl; sleep 60'), "running")
        path = storage.unit_directory(unit.key) / "events.jsonl"
        _until(lambda: path.exists() and path.stat().st_size == 12)
        reconcile.tick()
        assert lines == [b'{"a":1}']
        with path.open("a") as handle:
            handle.write(":2}\n")
        reconcile.tick()
        assert lines == [b'{"a":1}', b'{"b":2}']

    def test_a_last_line_that_was_cut_is_dropped_and_a_whole_one_kept(
        self, make_unit: Any, drive: Any, lines: list[bytes]
    ) -> None:
        drive(make_unit('printf \'{"a":1}\\n{"cut\' >> $ATELIER_UNIT_DIR/events.jsonl'))
        drive(make_unit("printf '{\"whole\":1}' >> $ATELIER_UNIT_DIR/events.jsonl"))
        assert lines == [b'{"a":1}', b'{"whole":1}']

    def test_many_pieces(self, make_unit: Any, drive: Any, lines: list[bytes], monkeypatch: Any) -> None:
        monkeypatch.setattr("compute.services.ingest.PIECE", 1000)
        unit = drive(make_unit('i=0; while [ $i -lt 3000 ]; do echo "$i"; i=$((i+1)); done >> ../events.jsonl'))
        assert unit.state == "completed", unit.error
        assert lines == [b"%d" % number for number in range(3000)]

    def test_much_to_read_is_read_elsewhere(
        self, make_unit: Any, drive: Any, lines: list[bytes], monkeypatch: Any, published: list[Any]
    ) -> None:
        from compute.services.advance import unit_finish

        monkeypatch.setattr("compute.services.observe.HEAVY_BYTES", 100)
        monkeypatch.setattr("compute.services.ingest.PIECE", 100)
        unit = drive(
            make_unit('i=0; while [ $i -lt 900 ]; do echo "$i"; i=$((i+1)); done >> ../events.jsonl'), "finalizing"
        )
        assert ("compute.finish", unit.pk) in published
        unit_finish(unit.pk)
        unit.refresh_from_db()
        assert unit.state == "completed"
        assert lines == [b"%d" % number for number in range(900)]

    def test_receivers_that_fail_keep_the_offset(self, make_unit: Any, drive: Any, lines: list[bytes]) -> None:
        def refuse(**_rest: Any) -> None:
            raise RuntimeError("receiver")

        unit_events.connect(refuse)
        unit = drive(make_unit("echo '{}' >> ../events.jsonl; sleep 60"), "running")
        path = storage.unit_directory(unit.key) / "events.jsonl"
        _until(lambda: path.exists() and path.stat().st_size == 3)
        reconcile.tick()
        unit.refresh_from_db()
        assert unit.events_offset == 0
        unit_events.disconnect(refuse)
        lines.clear()
        reconcile.tick()
        assert lines == [b"{}"]

    def test_two_readers_at_once(self, make_unit: Any, drive: Any, lines: list[bytes]) -> None:
        from compute.services.ingest import ingest

        unit = drive(make_unit("for i in 1 2 3; do echo $i; done >> ../events.jsonl; sleep 60"), "running")
        path = storage.unit_directory(unit.key) / "events.jsonl"
        _until(lambda: path.exists() and path.stat().st_size == 6)
        reconcile.tick()
        first, second = Unit.objects.get(pk=unit.pk), Unit.objects.get(pk=unit.pk)
        Unit.objects.filter(pk=unit.pk).update(events_offset=0)
        first.events_offset = second.events_offset = 0
        lines.clear()
        assert ingest(first, LocalDriver({}, {}), 6)
        assert not ingest(second, LocalDriver({}, {}), 6)
        assert lines == [b"1", b"2", b"3"]


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
            _wait_exit(unit)
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
            _wait_exit(unit)
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
        reconcile.housekeeping()
        assert key in caplog.text
        assert driver.observe([handle])[key].phase is Phase.RUNNING
        monkeypatch.setattr(reconcile, "ORPHAN_GRACE_S", -1.0)
        reconcile.housekeeping()
        _until(lambda: driver.observe([handle])[key].phase is Phase.EXITED)
        reconcile.housekeeping()
        assert not storage.data("units", "started", key).exists()


class TestEnvironments:
    def test_a_unit_waits_for_its_build(self, make_unit: Any, drive: Any, team: Any, published: list[Any]) -> None:
        from compute.models import EnvironmentBuild

        environment = team.workspace.environments.get(name="system")
        unit = make_unit('test -n "$PATH"', environment=environment)
        assert unit.spec["environment"] == environment.content_hash
        assert drive(unit).state == "completed"
        assert EnvironmentBuild.objects.get().state == "ready"

    def test_waiting_units_are_woken(self, make_unit: Any, team: Any, target: Target, published: list[Any]) -> None:
        from compute.models import EnvironmentBuild
        from compute.signals import build_finished

        unit = make_unit()
        spec = {**unit.spec, "environment": "abc"}
        assert services.unit_move(unit, "preparing", spec=spec)
        published.clear()
        build = EnvironmentBuild.objects.create(content_hash="abc", target=target, state="ready")
        build_finished.send(EnvironmentBuild, build=build)
        assert published == [("compute.advance", unit.pk)]


class TestTargets:
    def test_new_workspaces_have_one(self, team: Any) -> None:
        assert [str(target) for target in team.workspace.targets.all()] == ["local"]
        assert team.workspace.environments.filter(curated=True).count() >= 3

    def test_create_and_its_mistakes(self, team: Any) -> None:
        made = services.target_create(
            workspace=team.workspace, user=team.owner, name="big", driver="local", config={"slots": "4"}
        )
        assert (made.config, made.state) == ({"slots": 4}, "Succeeded")
        assert AuditEntry.objects.filter(action="target.create").exists()
        arguments = {"workspace": team.workspace, "user": team.owner, "driver": "local"}
        with pytest.raises(Conflict):
            services.target_create(name="big", **arguments)
        with pytest.raises(Invalid) as wrong:
            services.target_create(name="small", config={"slots": 0, "color": "red"}, **arguments)
        assert set(wrong.value.errors) == {"slots", "color"}
        with pytest.raises(Invalid):
            services.target_create(name="a b", **arguments)
        with pytest.raises(Invalid):
            services.target_create(workspace=team.workspace, user=None, name="x", driver="abacus")

    def test_update(self, team: Any, target: Target) -> None:
        services.target_update(target, user=team.owner, config={"slots": 7}, description="mine")
        target.refresh_from_db()
        assert (target.config, target.description) == ({"slots": 7}, "mine")

    def test_delete_waits_for_its_units_and_keeps_their_history(
        self, team: Any, target: Target, make_unit: Any, drive: Any
    ) -> None:
        unit = make_unit("sleep 60")
        with pytest.raises(Conflict):
            services.target_delete(target, user=team.owner)
        services.unit_cancel(unit)
        services.target_delete(target, user=team.owner)
        assert not team.workspace.targets.filter(name="local").exists()
        assert Unit.objects.get(pk=unit.pk).target.name == "local"
        assert services.ensure_local_target(team.workspace).pk != target.pk


class TestTimeline:
    def test_of_a_whole_life(self, make_unit: Any, drive: Any) -> None:
        unit = make_unit("sleep 0.3")
        stages = selectors.unit_timeline(unit)
        assert [entry["stage"] for entry in stages] == [
            "Not started", "Preparing", "Queued", "Running", "Finalizing", "Completed",
        ]  # fmt: skip
        assert [entry["state"] for entry in stages] == ["active", *["pending"] * 5]
        done = selectors.unit_timeline(drive(unit))
        assert all(entry["state"] == "done" for entry in done)
        running = next(entry for entry in done if entry["stage"] == "Running")
        assert 0.2 < running["seconds"] < 10

    def test_of_a_canceled_one(self, make_unit: Any) -> None:
        unit = make_unit()
        services.unit_cancel(unit)
        stages = {entry["stage"]: entry["state"] for entry in selectors.unit_timeline(unit)}
        assert stages["Canceled"] == "done"
        assert stages["Running"] == "skipped"


def _until(check: Callable[[], Any]) -> None:
    from tests.stack import wait_until

    wait_until("it", check, 10, 0.01)


def _wait_exit(unit: Unit) -> None:
    _until((storage.unit_directory(unit.key) / "exit.json").exists)
