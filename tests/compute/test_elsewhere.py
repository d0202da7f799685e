"""Targets elsewhere: their bytes are brought here, their silence costs nothing, their host key is confirmed first."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from compute import host_keys, reconcile, selectors, services, states, watching
from compute.drivers import registry
from compute.models import LogStream, Target, Unit
from compute.services import targets
from compute.signals import unit_events
from compute.spec import Observation, Phase
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid
from tests.compute.elsewhere import KEY, OTHER_KEY, FarDriver
from tests.compute.helpers import until
from tests.stack import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

TALK = """
for i in 1 2 3 4 5 6; do
  echo line $i
  echo '{"k":"metric","n":"x","v":'$i'}' >> "$ATELIER_UNIT_DIR/events.jsonl"
  sleep 0.1
done
mkdir -p outputs/deep; echo kept > outputs/deep/file
"""


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: list[Any]) -> Iterator[type[FarDriver]]:
    monkeypatch.setitem(registry.DRIVERS, "far", FarDriver)
    for name, value in {"away": False, "cut": False, "piece": 1 << 30, "key": KEY, "fetched": []}.items():
        monkeypatch.setattr(FarDriver, name, value)
    monkeypatch.setattr(FarDriver, "root", tmp_path / "far", raising=False)
    watches: dict[int, watching.Watch] = {}

    def look(target_id: int) -> None:
        """A round of the watch, here: the tests' database knows no second thread."""
        with ThreadPoolExecutor(1) as pool:
            watch = watches.setdefault(target_id, watching.Watch(target_id, pool))
            watch.pool, watch.read_at = pool, 0.0
            watch.round()

    monkeypatch.setattr(watching, "ensure", look)
    yield FarDriver


@pytest.fixture
def far_target(team: Any, far: type[FarDriver]) -> Target:
    target = services.target_create(
        workspace=team.workspace, user=team.owner, name="far", driver="far", config={"slots": 3}, host_key=KEY
    )
    targets.target_check(target)
    return target


@pytest.fixture
def far_unit(far_target: Target) -> Any:
    def make(command: str, **columns: Any) -> Unit:
        spec = {"argv": ["/bin/sh", "-c", command], "code": [], "grace_s": 2}
        given = {"kind": "command", "label": "far", "secrets": None, "time_limit_s": None, **columns}
        return services.unit_create(workspace=far_target.workspace, target=far_target, spec=spec, **given)[0]

    return make


def followed(unit: Unit, *wanted: str, published: list[Any]) -> Unit:
    """Advance a unit and let the beat see to it, as the workers would, until it is in one of these states."""

    def step() -> bool:
        services.unit_advance(unit.pk)
        reconcile.tick()
        for task, *arguments in list(published):
            if task == "compute.finish":
                published.remove((task, *arguments))
                services.advance.unit_finish(*arguments)
        unit.refresh_from_db()
        return unit.state in (wanted or states.TERMINAL)

    wait_until(f"{unit} is in {wanted}", step, 20)
    return unit


def here(unit: Unit, path: str) -> bytes:
    return (storage.unit_directory(unit.key) / path).read_bytes()


class TestBytes:
    def test_all_of_it_comes_here_and_each_event_once(self, far_unit: Any, published: list[Any]) -> None:
        def receive(sender: Any, lines: list[bytes], **_rest: Any) -> None:
            got.extend(lines)

        got: list[bytes] = []
        unit_events.connect(receive, dispatch_uid="test-far")
        try:
            unit = followed(far_unit(TALK), published=published)
        finally:
            unit_events.disconnect(dispatch_uid="test-far")
        assert unit.state == "completed", unit.error
        assert here(unit, "stdout.log") == b"".join(b"line %d\n" % number for number in range(1, 7))
        assert [json.loads(line)["v"] for line in got] == [1, 2, 3, 4, 5, 6]
        assert here(unit, "outputs/deep/file") == b"kept\n"
        stream = LogStream.objects.get(unit=unit)
        assert (stream.sealed, stream.size, stream.lines) == (True, 42, 6)

    def test_output_is_here_while_it_runs(self, far_unit: Any, published: list[Any]) -> None:
        unit = followed(far_unit("echo early; sleep 60"), "running", published=published)
        unit = followed(unit, "running", published=published)
        assert here(unit, "stdout.log") == b"early\n"
        services.unit_cancel(unit, force=True)
        services.advance.send_cancel(unit.pk)
        assert followed(unit, published=published).state == "canceled"

    def test_it_ends_only_when_all_is_here(
        self, far: Any, far_unit: Any, published: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(far, "piece", 3)
        unit = followed(far_unit("printf 0123456789abcdef"), published=published)
        assert here(unit, "stdout.log") == b"0123456789abcdef"


class TestSilence:
    def test_an_hour_of_it_loses_nothing_and_fails_nothing(
        self, far: Any, far_unit: Any, published: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unit = followed(far_unit("echo one; sleep 2; echo two"), "running", published=published)
        far.away = True
        reconcile.tick()
        until(lambda: Unit.objects.get(pk=unit.pk).unreachable_since is not None)
        hour_ago = timezone.now() - timezone.timedelta(hours=1)
        Unit.objects.filter(pk=unit.pk).update(unreachable_since=hour_ago)
        time.sleep(2.5)  # meanwhile it ends
        unit.refresh_from_db()
        assert (unit.state, unit.error) == ("running", None)
        assert unit.unreachable_since == hour_ago
        far.away = False
        Unit.objects.filter(pk=unit.pk).update(next_check_at=timezone.now())
        unit = followed(unit, published=published)
        assert (unit.state, unit.unreachable_since) == ("completed", None)
        assert here(unit, "stdout.log") == b"one\ntwo\n"

    def test_a_cut_connection_is_only_a_pause(
        self, far: Any, far_unit: Any, published: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        far.cut = True
        unit = followed(far_unit(TALK), "finalizing", published=published)
        time.sleep(0.5)
        unit.refresh_from_db()
        assert unit.state == "finalizing"
        far.cut = False
        assert followed(unit, published=published).state == "completed"
        assert here(unit, "stdout.log").count(b"\n") == 6

    def test_what_was_given_up_is_ended_and_brought_here_when_it_answers_again(
        self, far: Any, far_target: Target, far_unit: Any, published: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unit = followed(far_unit("echo on and on; sleep 60", time_limit_s=60), "running", published=published)
        far.away = True
        past = timezone.now() - timezone.timedelta(seconds=1)
        Unit.objects.filter(pk=unit.pk).update(deadline_at=past)
        unit = followed(unit, published=published)
        assert (unit.state, unit.released) == ("lost", False)
        far.away = False

        def released() -> bool:
            reconcile.orphans(far_target)
            unit.refresh_from_db()
            return unit.released

        wait_until("it is released", released)
        assert here(unit, "stdout.log") == b"on and on\n"
        assert list(far({}, {}).list_owned()) == []


class TestHostKeys:
    def test_nothing_is_attached_before_its_key_is_confirmed(self, team: Any, far: Any) -> None:
        target = services.target_create(workspace=team.workspace, user=team.owner, name="box", driver="far")
        assert target.state == "Creating"
        targets.target_check(target)
        assert (target.state, target.offered_key, target.host_key) == ("Creating", KEY, "")
        assert host_keys.fingerprint(KEY) in target.problems[0]["message"]
        assert {row["state"] for row in selectors.target_checks(target)} == {"bad", "unknown"}
        with pytest.raises(Invalid, match="SHA256"):
            services.target_confirm_key(target, fingerprint="SHA256:other", user=team.owner)
        services.target_confirm_key(target, fingerprint=host_keys.fingerprint(KEY), user=team.owner)
        assert (target.state, target.offered_key, target.host_key) == ("Succeeded", "", KEY)
        assert target.facts["cpus"]
        assert {row["state"] for row in selectors.target_checks(target)} == {"ok"}

    def test_a_key_that_is_known_beforehand_is_confirmed_by_it(self, team: Any, far: Any) -> None:
        for name, given in (("by-print", host_keys.fingerprint(KEY)), ("by-key", f"{KEY} root@box")):
            target = services.target_create(
                workspace=team.workspace, user=team.owner, name=name, driver="far", host_key=given
            )
            targets.target_check(target)
            assert (target.state, target.host_key) == ("Succeeded", KEY)

    def test_another_key_than_the_expected_one_is_not_trusted(self, team: Any, far: Any) -> None:
        target = services.target_create(
            workspace=team.workspace, user=team.owner, name="box", driver="far", host_key="SHA256:expected"
        )
        targets.target_check(target)
        assert (target.state, target.host_key) == ("Creating", "")
        assert "another one was expected" in target.problems[0]["message"]

    def test_a_changed_key_stops_everything(self, far: Any, far_target: Target, team: Any) -> None:
        far.key = OTHER_KEY
        targets.target_check(far_target)
        assert (far_target.state, far_target.host_key, far_target.offered_key) == ("Failed", KEY, OTHER_KEY)
        assert far_target.problems[0]["code"] == "host-key-changed"
        said = far_target.problems[0]["message"]
        assert host_keys.fingerprint(KEY) in said and host_keys.fingerprint(OTHER_KEY) in said
        services.target_confirm_key(far_target, fingerprint=host_keys.fingerprint(OTHER_KEY), user=team.owner)
        assert (far_target.state, far_target.host_key) == ("Succeeded", OTHER_KEY)


@pytest.mark.parametrize(
    ("phase", "state", "seconds", "asked"),
    [
        ("unreachable", "Succeeded", 11, True),
        ("unreachable", "Succeeded", 5, False),
        ("unreachable", "Failed", 11, False),
        ("unreachable", "Failed", 31, True),  # what is wrong may be something else by now
        ("running", "Failed", 11, True),
        ("running", "Succeeded", 3600, False),
    ],
)
def test_a_target_is_tested_again_when_its_units_say_so(
    far_target: Target, monkeypatch: pytest.MonkeyPatch, phase: str, state: str, seconds: int, asked: bool
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(watching, "publish", lambda *words: told.append(words))
    far_target.state, far_target.checked_at = state, timezone.now() - dt.timedelta(seconds=seconds)
    watching._tell_target(far_target, [Observation(Phase(phase))])
    assert told == ([("compute.check", far_target.pk)] if asked else [])


class TestDetaching:
    def test_it_refuses_while_units_live_or_goes_with_the_last(
        self, far_target: Target, far_unit: Any, team: Any, published: list[Any]
    ) -> None:
        unit = followed(far_unit("sleep 60"), "running", published=published)
        waiting = far_unit("sleep 60")
        with pytest.raises(Conflict, match="2 runs"):
            services.target_delete(far_target, user=team.owner)
        assert services.target_delete(far_target, user=team.owner, cancel=True) is False
        assert Target.objects.get(pk=far_target.pk).state == "Detaching"
        waiting.refresh_from_db()
        assert waiting.state == "canceled"
        services.advance.send_cancel(unit.pk)
        assert followed(unit, published=published).state == "canceled"
        assert not Target.objects.filter(pk=far_target.pk).exists()
        assert Target.everything.get(pk=far_target.pk).secrets == ""


def test_volumes_of_this_machine_are_the_site_administrators(team: Any, settings: Any, tmp_path: Path) -> None:
    def attach(name: str, source: str) -> Target:
        config = {"volumes": f"{source}:/data:ro"}
        return services.target_create(
            workspace=team.workspace, user=team.owner, name=name, driver="docker", config=config
        )

    def refused(target: Target) -> bool:
        return "volumes" in [problem.code for problem in targets.target_driver(target).check()]

    settings.ATELIER_DOCKER_VOLUMES = [f"{tmp_path}/shared"]
    (tmp_path / "shared" / "images").mkdir(parents=True)
    team.owner.is_superuser = False
    team.owner.save()
    for source in ("/etc", f"{tmp_path}/sharedness"):
        with pytest.raises(Invalid, match="may not be given"):
            attach("d1", source)
    with pytest.raises(Invalid, match="leads out of its folder"):
        attach("d1", f"{tmp_path}/shared/../../etc")
    own = attach("d2", f"{tmp_path}/shared/images")
    assert not refused(own)
    team.owner.is_superuser = True
    team.owner.save()
    anybodys = attach("d3", "/etc")
    assert not refused(anybodys)
    team.owner.is_superuser = False
    team.owner.save()
    assert refused(Target.objects.get(pk=anybodys.pk))
    with pytest.raises(Invalid, match="may not be given"):
        services.target_update(own, user=team.owner, config={"volumes": "/etc:/data"})


def test_wrong_limits_are_named_before_anything_is_attached(team: Any) -> None:
    config = {"memory": "lots", "cpus": "many"}
    with pytest.raises(Invalid) as refused:
        services.target_create(workspace=team.workspace, user=team.owner, name="d", driver="docker", config=config)
    assert set(refused.value.errors) == {"memory", "cpus"}
    assert not Target.objects.filter(name="d").exists()
