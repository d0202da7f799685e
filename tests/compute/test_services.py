"""Units and targets through their services, on the real local driver and a real database."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import transaction

from compute import reconcile, selectors, services, states
from compute.drivers.local import LocalDriver
from compute.models import LogStream, Target, Unit
from compute.signals import unit_changed, unit_events
from studio.accounts.models import AuditEntry
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid
from tests.compute.helpers import until, wait_exit

pytestmark = pytest.mark.django_db(transaction=True)


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
            wait_exit(unit)
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
        until(lambda: path.exists() and path.stat().st_size == 12)
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
        until(lambda: path.exists() and path.stat().st_size == 3)
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
        until(lambda: path.exists() and path.stat().st_size == 6)
        reconcile.tick()
        first, second = Unit.objects.get(pk=unit.pk), Unit.objects.get(pk=unit.pk)
        Unit.objects.filter(pk=unit.pk).update(events_offset=0)
        first.events_offset = second.events_offset = 0
        lines.clear()
        assert ingest(first, LocalDriver({}, {}), 6)
        assert not ingest(second, LocalDriver({}, {}), 6)
        assert lines == [b"1", b"2", b"3"]


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
        with pytest.raises(Invalid, match="U\\+202E"):
            services.target_create(name="small", description="\u202ex", **arguments)
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
        unit = drive(unit)
        done = selectors.unit_timeline(unit)
        assert all(entry["state"] == "done" for entry in done)
        running = next(entry for entry in done if entry["stage"] == "Running")
        assert 0.2 < running["seconds"] < 10
        own = (unit.ended_at - unit.started_at).total_seconds()  # what the run's header and lists say
        assert running["seconds"] == pytest.approx(own, abs=1e-3)

    def test_of_a_canceled_one(self, make_unit: Any) -> None:
        unit = make_unit()
        services.unit_cancel(unit)
        stages = {entry["stage"]: entry["state"] for entry in selectors.unit_timeline(unit)}
        assert stages["Canceled"] == "done"
        assert stages["Running"] == "skipped"
