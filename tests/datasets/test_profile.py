"""Profiles: computed by a real unit of work, followed, canceled, found again after a kill, and drawn."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from atelier.data import profile as profiling
from atelier.data.definition import make
from atelier.data.sources import LocalSource
from django.template.loader import render_to_string
from django.utils import timezone

from compute.models import Unit
from compute.profiles import profile_cancel, profile_start
from studio.accounts.models import AuditEntry
from studio.datasets.jobs.profile import Told, plain
from studio.datasets.models import DatasetProfile, DatasetVersion, Datastore
from studio.datasets.services.datasets import dataset_register
from studio.lib import storage
from studio.lib.env import ConfigurationError, memory
from studio.lib.errors import Invalid
from studio.templatetags import data_drawing
from tests.compute.conftest import drive, published, target  # noqa: F401 - fixtures
from tests.stack import Stack, wait_until

Drive = Callable[..., Unit]
Register = Callable[..., DatasetVersion]


@pytest.fixture
def folder(team: Any, tmp_path: Path) -> Path:
    root = tmp_path / "files"
    root.mkdir()
    Datastore.objects.create(
        workspace=team.workspace, name="files", kind="local", config={"path": str(root)}, created_by=team.owner
    )
    return root


@pytest.fixture
def register(team: Any, folder: Path) -> Register:
    """A version of a CSV with this content."""

    def make(content: str, name: str = "data", **options: Any) -> DatasetVersion:
        (folder / f"{name}.csv").write_text(content)
        source = {"kind": "delimited", "paths": [{"datastore": "files", "path": f"{name}.csv"}], **options}
        return dataset_register(
            workspace=team.workspace, user=team.owner, name=name, definition={"source": source}, create_new_version=True
        )

    return make


def unit_of(profile: DatasetProfile) -> Unit:
    return Unit.objects.get(key=profile.unit_key)


CONTENT = "n,share,name,when\n" + "".join(
    f"{i},{i / 1000 if i % 10 else ''},{('red', 'green', 'blue', 'red')[i % 4]},2026-01-{i % 28 + 1:02d} 00:00:00\n"
    for i in range(1000)
)


@pytest.mark.django_db
def test_a_profile_counts_what_is_there(
    team: Any,
    register: Register,
    published: list[Any],  # noqa: F811
    drive: Drive,  # noqa: F811
) -> None:
    profile = profile_start(register(CONTENT), team.contributor)
    unit = unit_of(profile)
    assert (profile.state, profile.progress, unit.kind, unit.spec["resources"]) == (
        "running",
        0.0,
        "profile",
        {"slots": 0},
    )
    assert AuditEntry.objects.filter(action="dataset.profile", actor=team.contributor).count() == 1
    assert drive(unit, timeout=60).state == "completed", (storage.unit_directory(unit.key) / "stdout.log").read_text()
    profile.refresh_from_db()
    assert (profile.state, profile.progress, profile.error) == ("ready", 1.0, None) and profile.ended_at
    result = profile.result
    assert result["rows"] == 1000 and result["files"] == 1
    n, share, name, when = result["columns"]
    assert (n["name"], n["type"], n["count"], n["missing"], n["min"], n["max"]) == ("n", "integer", 1000, 0, 0, 999)
    assert math.isclose(n["mean"], 499.5) and math.isclose(n["std"], 288.819, rel_tol=0.01)
    assert abs(n["quantiles"]["p50"] - 499.5) < 15 and 900 <= n["distinct"] <= 1100
    assert sum(n["histogram"]["counts"]) == 1000 and len(n["histogram"]["edges"]) == len(n["histogram"]["counts"]) + 1
    assert (share["type"], share["missing"], share["count"]) == ("float", 100, 900)
    assert name["type"] == "string" and name["top"][0] == ["red", 500] and name["distinct"] == 3
    assert when["type"] == "datetime" and str(when["min"]).startswith("2026-01-01")
    log = (storage.unit_directory(unit.key) / "stdout.log").read_text()
    assert "1000 rows, 4 columns" in log and "Traceback" not in log
    assert not (storage.unit_directory(unit.key) / "tmp").exists()


@pytest.mark.django_db
def test_asking_twice_is_one_computation_and_a_new_one_replaces(
    team: Any,
    register: Register,
    published: list[Any],  # noqa: F811
    drive: Drive,  # noqa: F811
    folder: Path,
) -> None:
    version = register("a\n1\n2\n")
    first = profile_start(version, team.owner)
    assert profile_start(version, team.contributor).unit_key == first.unit_key
    assert Unit.objects.filter(kind="profile").count() == 1
    old = unit_of(first)
    drive(old, timeout=60)
    (folder / "data.csv").write_text("a\n1\n2\n3\n")
    again = profile_start(version, team.contributor)
    assert (again.pk, again.state, again.progress) == (first.pk, "running", 0.0)
    assert again.unit_key != first.unit_key and again.result["rows"] == 2  # until the new figures are there
    assert not Unit.objects.filter(pk=old.pk).exists()
    drive(unit_of(again), timeout=60)
    again.refresh_from_db()
    assert (again.state, again.result["rows"]) == ("ready", 3)


@pytest.mark.django_db
def test_data_that_cannot_be_read_is_said_and_can_be_tried_again(
    team: Any,
    register: Register,
    published: list[Any],  # noqa: F811
    drive: Drive,  # noqa: F811
    folder: Path,
) -> None:
    version = register("a,b\n1,2\n3\n", on_ragged="fail")
    profile = profile_start(version, team.owner)
    assert drive(unit_of(profile), timeout=60).state == "failed"
    profile.refresh_from_db()
    assert profile.state == "failed" and profile.error is not None
    assert "data.csv" in profile.error["message"] and "Traceback" not in json.dumps(profile.error)
    (folder / "data.csv").unlink()
    profile = profile_start(version, team.owner)
    assert (profile.state, profile.error) == ("running", None)
    drive(unit_of(profile), timeout=60)
    profile.refresh_from_db()
    assert profile.state == "failed" and "data.csv" in (profile.error or {})["message"]


@pytest.mark.django_db
def test_canceling(
    team: Any,
    register: Register,
    published: list[Any],  # noqa: F811
    drive: Drive,  # noqa: F811
) -> None:
    version = register("a\n" + "1\n" * 1000)
    profile = profile_start(version, team.owner)
    assert profile_cancel(profile)
    assert unit_of(profile).state == "canceled"
    profile.refresh_from_db()
    assert (profile.state, (profile.error or {})["code"]) == ("failed", "Canceled")
    assert not profile_cancel(profile)
    started = profile_start(version, team.owner)
    unit = drive(unit_of(started), "running", "completed", timeout=60)
    profile_cancel(started)
    assert drive(unit, timeout=60).state in ("canceled", "completed")


@pytest.mark.django_db
def test_a_unit_that_is_gone_does_not_hold_the_profile_for_ever(
    team: Any,
    register: Register,
    published: list[Any],  # noqa: F811
) -> None:
    version = register("a\n1\n")
    profile = profile_start(version, team.owner)
    unit_of(profile).delete()
    assert not profile_cancel(profile)
    profile.refresh_from_db()
    assert (profile.state, (profile.error or {})["code"]) == ("failed", "Lost")
    again = profile_start(version, team.owner)
    assert again.state == "running" and unit_of(again).state == "created"


@pytest.mark.django_db
def test_a_profile_whose_dataset_is_deleted_is_ended_and_leaves_nothing(
    team: Any,
    register: Register,
    published: list[Any],  # noqa: F811
) -> None:
    from compute.data import housekeeping

    version, kept = register("a\n1\n"), register("b\n1\n", "kept")
    unit, other = unit_of(profile_start(version, team.owner)), unit_of(profile_start(kept, team.owner))
    version.delete()
    housekeeping.housekeeping()
    unit.refresh_from_db()
    assert unit.state == "created"  # it may be one whose row is about to be written
    Unit.objects.update(created_at=timezone.now() - housekeeping.CARRIERS_KEPT * 2)
    for _time in range(2):
        housekeeping.housekeeping()
    assert [row.pk for row in Unit.objects.all()] == [other.pk]
    other.refresh_from_db()
    assert other.state == "created"


@pytest.mark.django_db
def test_progress_arrives_by_the_units_events(
    team: Any,
    register: Register,
    published: list[Any],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from compute.signals import unit_events

    profile = profile_start(register("a\n1\n"), team.owner)
    lines = [b'{"k":"progress","v":0.2,"text":"a"}', b'{"k":"progress","v":0.42,"text":"b"}', b"{broken", b"[]"]
    unit_events.send(Unit, unit=unit_of(profile), lines=lines)
    profile.refresh_from_db()
    assert profile.progress == 0.42
    page = render_to_string("data/parts/profile.html", {"profile": profile, "profile_url": "/p/", "can_write": True})
    assert "42 %" in page and 'hx-trigger="every 1s"' in page and 'value="42"' in page


@pytest.mark.django_db
def test_only_tables_have_a_profile_and_only_with_their_store(
    team: Any,
    register: Register,
    folder: Path,
    published: list[Any],  # noqa: F811
) -> None:
    definition = {"source": {"kind": "files", "paths": [{"datastore": "files", "path": "**"}]}}
    files = dataset_register(workspace=team.workspace, user=team.owner, name="f", definition=definition)
    with pytest.raises(Invalid, match="tabular"):
        profile_start(files, team.owner)
    version = register("a\n1\n")
    Datastore.objects.filter(name="files").delete()
    with pytest.raises(Invalid, match="files"):
        profile_start(version, team.owner)
    assert not DatasetProfile.objects.exists() and not Unit.objects.exists()


@pytest.mark.django_db
def test_the_secrets_of_a_store_are_not_in_the_units_folder(
    team: Any,
    register: Register,
    published: list[Any],  # noqa: F811
    drive: Drive,  # noqa: F811
) -> None:
    from studio.lib import secrets as locks

    version = register("a\n1\n")
    Datastore.objects.filter(name="files").update(secrets=locks.encrypt(json.dumps({"key": "topsecretkey"})))
    profile = profile_start(version, team.owner)
    unit = drive(unit_of(profile), timeout=60)
    assert "topsecretkey" not in json.dumps(unit.spec)
    for path in storage.unit_directory(unit.key).rglob("*"):
        assert not path.is_file() or b"topsecretkey" not in path.read_bytes(), path


@pytest.mark.django_db
def test_larger_than_its_memory_goes_to_the_units_own_folder(
    team: Any,
    folder: Path,
    published: list[Any],  # noqa: F811
    drive: Drive,  # noqa: F811
    settings: Any,
) -> None:
    import duckdb

    settings.ATELIER_PROFILE_MEMORY = "100MB"
    path = folder / "big.parquet"
    duckdb.sql(
        f"copy (select range as id, random() as share, md5(range::varchar) as word from range(3000000)) to '{path}'"
    )
    source = {"kind": "parquet", "paths": [{"datastore": "files", "path": "big.parquet"}]}
    version = dataset_register(workspace=team.workspace, user=team.owner, name="big", definition={"source": source})
    profile = profile_start(version, team.owner)
    unit = drive(unit_of(profile), timeout=120)
    log = (storage.unit_directory(unit.key) / "stdout.log").read_text()
    profile.refresh_from_db()
    assert profile.state == "ready", log
    assert profile.result["rows"] == 3_000_000 and len(profile.result["columns"]) == 3


@pytest.mark.services
def test_a_profile_outlives_the_worker_that_started_it(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "a.csv").write_text("n,name\n" + "".join(f"{i},name-{i % 100}\n" for i in range(300_000)))
    with Stack(tmp_path / "stack", services=("valkey", "worker", "beat")) as stack:
        start = f"""
from django.contrib.auth import get_user_model
from studio.accounts.services import workspace_create
from studio.datasets.models import Datastore
from studio.datasets.services.datasets import dataset_register
from compute.profiles import profile_start
user = get_user_model().objects.create(username="ann", email="ann@example.test")
workspace = workspace_create(name="main", user=user)
Datastore.objects.create(workspace=workspace, name="files", kind="local", config={{"path": {str(files)!r}}})
source = {{"kind": "delimited", "paths": [{{"datastore": "files", "path": "a.csv"}}]}}
version = dataset_register(workspace=workspace, user=user, name="a", definition={{"source": source}})
print(profile_start(version, user).unit_key)
"""
        key = stack.python(start).split()[-1]
        folder = stack.data / "units" / key[:2] / key
        wait_until("the unit to start", (folder / "beat.json").exists, 30)
        stack.kill("worker")
        wait_until("the unit to end without the worker", (folder / "exit.json").exists, 60)
        stack.start("worker")
        ask = "from studio.datasets.models import DatasetProfile; print(DatasetProfile.objects.get().state)"

        def said() -> str:
            return str(stack.python(ask)).strip()

        wait_until("the profile to be ready", lambda: said() == "ready", 60, 0.5)


def test_progress_is_told_seldom_and_never_goes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    told = Told(tmp_path, now=lambda: now[0])
    for step in range(101):
        told((step if step != 50 else 10) / 100, "reading" if step < 60 else "counting")
        now[0] += 0.1
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert len(events) <= 23 and events[-1] == {"k": "progress", "v": 1.0, "text": "counting"}
    values = [event["v"] for event in events]
    assert values == sorted(values)
    assert 4 <= len(capsys.readouterr().out.splitlines()) <= 9


def test_a_profile_takes_no_more_threads_than_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from atelier.data import duck

    monkeypatch.setenv("ATELIER_THREADS", "1")
    assert duck.connect().execute("select current_setting('threads')").fetchone() == (1,)


def test_figures_are_json_that_every_database_stores() -> None:
    found = plain({"a": [float("nan"), 1.5, None, "x\x00y"], "b": {"c": (1, 2)}})
    assert (
        json.dumps(found, allow_nan=False) == '{"a": ["NaN", 1.5, null, "x\\u27e6U+0000\\u27e7y"], "b": {"c": [1, 2]}}'
    )


def test_the_memory_of_a_profile_is_a_setting_that_is_checked() -> None:
    assert memory("M", "512MB", environ={}) == "512MB"
    assert memory("M", "512MB", environ={"M": "2GB"}) == "2GB"
    with pytest.raises(ConfigurationError, match="M='lots'"):
        memory("M", "512MB", environ={"M": "lots"})


RESULT = {
    "rows": 1000,
    "bytes": 12345,
    "files": 2,
    "seconds": 1.5,
    "columns": [
        {
            "name": "amount <b>",
            "type": "float",
            "count": 990,
            "missing": 10,
            "distinct": 700,
            "min": -1.5,
            "max": 1e9,
            "mean": 3.14159265,
            "std": 2.0,
            "quantiles": {"p1": 0, "p5": 1, "p25": 2, "p50": 3.5, "p75": 4, "p95": 5, "p99": 6},
            "top": [[1.0, 30], ["", 20], ["<i>", 3]],
            "histogram": {"edges": [0, 1, 2, 3], "counts": [5, 0, 985]},
        },
        {"name": "blank", "type": "string", "count": 0, "missing": 1000, "distinct": 0, "top": [], "histogram": None},
    ],
}


def test_a_histogram_is_drawn_with_words_and_a_table(rf: Any) -> None:
    profile = DatasetProfile(state="ready", result=RESULT)
    page = render_to_string("data/parts/profile.html", {"profile": profile, "profile_url": "/p/", "can_write": True})
    assert page.count("<rect x=") == 3 and "style=" not in page and "hx-trigger" not in page
    assert "amount &lt;b&gt;" in page and "&lt;i&gt;" in page and "<i>" not in page
    assert 'role="img" aria-labelledby="profile-0-t profile-0-d"' in page
    assert "The tallest is 2 to 3 with 985 values." in page
    heights = [float(found) for found in re.findall(r'<rect x="[^"]+" y="[^"]+" width="[^"]+" height="([^"]+)"', page)]
    assert heights == [1.5, 0.0, 96.0]
    assert "10 missing (1 %)" in page.replace("1.0 %", "1 %") and "1,000 rows" in page
    assert "Quantiles of" in page and "Histogram of" in page


@pytest.mark.parametrize(
    ("values", "kind", "ends", "counts"),
    [
        ("0 1 1", "integer", [("0", "0"), ("1", "1")], [1, 2]),
        ("5 5", "integer", [("5", "5")], [2]),
        ("2.5 2.5", "float", [("2.5", "2.5")], [2]),
        ("0 1000", "integer", None, None),
    ],
)
def test_bars_end_where_the_values_do(tmp_path: Path, values: str, kind: str, ends: Any, counts: Any) -> None:
    (tmp_path / "a.csv").write_text("n\n" + "\n".join(values.split()) + "\n")
    made = profiling.compute(make("delimited", [{"local": str(tmp_path / "a.csv")}]), LocalSource())
    card = data_drawing.profile_columns(made)[0]
    assert card["type"] == kind and card["bins"][-1]["high"] == data_drawing.figure(made["columns"][0]["max"])
    if ends:
        assert [(one["low"], one["high"]) for one in card["bins"]] == ends
        assert [one["count"] for one in card["bins"]] == counts


def test_shares_in_words() -> None:
    assert [data_drawing._percent(share) for share in (0, 0.01, 12.345, 99.99, 100)] == [
        "0 %",
        "< 0.1 %",
        "12.3 %",
        "> 99.9 %",
        "100 %",
    ]
    assert [data_drawing.figure(value) for value in (None, True, 1234567, 2.0, 0.1 + 0.2, "a\x00")] == [
        "–",
        "true",
        "1,234,567",
        "2",
        "0.3",
        "a⟦U+0000⟧",
    ]
    assert data_drawing.bins({"edges": [1, 2], "counts": [1, 2]}) == [] and data_drawing.profile_columns(None) == []


def test_states_of_the_part() -> None:
    given = {"profile_url": "/p/", "profile_cancel_url": "/c/", "can_write": True}
    assert "Compute the profile" in render_to_string("data/parts/profile.html", given)
    assert "<form" not in render_to_string("data/parts/profile.html", {**given, "can_write": False})
    failed = DatasetProfile(state="failed", error={"code": "Unreadable", "message": "no <x>", "hint": "try"})
    page = render_to_string("data/parts/profile.html", {**given, "profile": failed})
    assert "no &lt;x&gt;" in page and "Try again" in page and "hx-trigger" not in page
