"""Lists by key: every run exactly once in the right order, in a fixed number of queries."""

from __future__ import annotations

import random
from typing import Any

import pytest

from runs import diff, selectors
from runs.models import Experiment, Run
from runs.services import manage, snapshots
from runs.services.events import ingest_objects
from runs.services.interactive import create_children, run_complete, run_start_interactive
from studio.accounts.models import Workspace
from studio.lib.errors import Invalid, NotFound

pytestmark = pytest.mark.django_db


@pytest.fixture
def runs(team: Any) -> list[Run]:
    """24 runs in two experiments; two thirds have a metric, with values that come more than once."""
    made = []
    for index in range(24):
        run = run_start_interactive(
            team.workspace, team.owner, f"e{index % 2}", name=f"n{index % 5}", tags={"i": index % 3}
        )
        events: list[dict[str, Any]] = [{"k": "param", "n": "lr", "v": random.Random(index).choice([0.1, 0.2, "auto"])}]
        if index % 3:
            events.append({"k": "metric", "n": "loss", "v": index % 4 if index != 7 else "NaN"})
        ingest_objects(run, events)
        made.append(run)
    run_start_interactive(Workspace.objects.get(name="elsewhere"), team.outsider, "e0")
    return made


def everything(workspace: Any, limit: int, **options: Any) -> list[selectors.RunRow]:
    rows: list[selectors.RunRow] = []
    cursor = None
    while True:
        page = selectors.runs_page(workspace, cursor=cursor, limit=limit, **options)
        rows += page.items
        cursor = page.next
        if cursor is None:
            return rows
        assert len(page.items) == limit


@pytest.mark.parametrize("sort", ["metric:loss", "-metric:loss", "param:lr", "-param:lr", "created", "-created", "name",
                                  "-name", "duration", "status"])  # fmt: skip
@pytest.mark.parametrize("limit", [1, 5, 100])
@pytest.mark.parametrize("scoped", [False, True])
def test_every_run_once_and_in_order(team: Any, runs: list[Run], sort: str, limit: int, scoped: bool) -> None:
    experiment = Experiment.objects.get(workspace=team.workspace, name="e1") if scoped else None
    rows = everything(team.workspace, limit, sort=sort, experiment=experiment)
    expected = [run for run in runs if experiment is None or run.experiment_id == experiment.pk]
    assert sorted(row.run.pk for row in rows) == sorted(run.pk for run in expected)
    kind, _colon, name = sort.removeprefix("-").partition(":")
    if kind == "metric":
        values: list[Any] = [row.metrics.get(name) for row in rows]
    elif kind == "param":
        values = [float(row.params[name]) if row.params[name] != "auto" else None for row in rows]
    elif kind == "name":
        values = [row.run.name for row in rows]
    else:
        values = [row.run.pk for row in rows] if kind == "created" else [None]
    real = [value for value in values if value is not None]
    assert real == sorted(real, reverse=sort.startswith("-"))
    assert values[len(real) :] == [None] * (len(values) - len(real))


def test_the_number_of_queries_does_not_grow(team: Any, runs: list[Run], django_assert_max_num_queries: Any) -> None:
    columns = ["metric:loss", "param:lr"]
    for sort in ("-metric:loss", "-created", "param:lr"):
        for limit in (2, 12):
            with django_assert_max_num_queries(5):
                page = selectors.runs_page(team.workspace, sort=sort, columns=columns, limit=limit)
                assert [(row.run.experiment.name, row.run.created_by.username) for row in page.items]  # type: ignore[union-attr]
    with django_assert_max_num_queries(6):
        selectors.runs_page(team.workspace, sort="metric:loss", columns=["metric:*", "param:*"], limit=100)
    with django_assert_max_num_queries(2):
        page = selectors.experiments_page(team.workspace)
        assert [row.last.status for row in page.items if row.last] == ["Running", "Running"]


def test_filters(team: Any, runs: list[Run]) -> None:
    def found(**options: Any) -> set[int]:
        by_metric = everything(team.workspace, 7, sort="metric:loss", **options)
        by_time = everything(team.workspace, 7, **options)
        assert {row.run.pk for row in by_metric} == {row.run.pk for row in by_time}
        return {runs.index(row.run) for row in by_time}

    run_complete(runs[3])
    manage.run_archive(runs[4], user=team.owner)
    manage.run_set_notes(runs[5], "Needs a LOOK", user=team.owner)
    manage.run_tag(runs[6], "stage", "gold%")
    assert found(status="Completed") == {3} and found(status=["Completed", "Failed"]) == {3}
    assert found(archived=True) == {4} and len(found(archived=None)) == 24 and 4 not in found()
    assert found(search="a look") == {5} and found(search="GOLD%") == {6} and found(search="old_") == set()
    assert found(search=runs[8].run_id) == {8} and len(found(search="e1_")) == 12
    assert found(tag=("i", "2")) == {2, 5, 8, 11, 14, 17, 20, 23} and found(tag="stage") == {6}
    assert found(created_by=team.reader) == set() and len(found(created_by=team.owner)) == 23


def test_children_are_on_their_parents_page(team: Any, runs: list[Run]) -> None:
    child = create_children(runs[0], user=team.owner, name="fold")[0]
    assert child.pk not in {row.run.pk for row in everything(team.workspace, 50)}
    assert [row.run for row in selectors.runs_page(team.workspace, parent=runs[0]).items] == [child]
    assert len(everything(team.workspace, 50, parent=...)) == 25
    assert [row.run for row in selectors.runs_page(team.workspace, search="fold").items] == [child]


@pytest.mark.parametrize(
    "options",
    [
        {"sort": "nothing"},
        {"sort": "metric:"},
        {"cursor": "x"},
        {"cursor": "WzUsMSwyXQ"},
        {"cursor": "WzAsbnVsbCwxXQ", "sort": "status"},
    ],
)
def test_bad_sorts_and_cursors_are_refused(team: Any, options: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        selectors.runs_page(team.workspace, **options)  # type: ignore[arg-type]


def test_experiments_by_key(team: Any) -> None:
    for name in ("a", "b", "c"):
        run_start_interactive(team.workspace, team.owner, name)
    Experiment.objects.create(workspace=team.workspace, name="never")
    names, cursor = [], None
    while True:
        page = selectors.experiments_page(team.workspace, cursor=cursor, limit=1)
        names += [row.experiment.name for row in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert names == ["c", "b", "a", "never"]
    assert [row.experiment.name for row in selectors.experiments_page(team.workspace, search="EV").items] == ["never"]


def test_names_values_and_details(team: Any, runs: list[Run]) -> None:
    experiment = runs[0].experiment
    assert selectors.metric_names(team.workspace) == ["loss"] and selectors.parameter_names(team.workspace) == ["lr"]
    assert selectors.metric_names(Workspace.objects.get(name="elsewhere")) == []
    points = selectors.metric_over_runs(experiment, "loss", limit=3)
    assert [point["number"] for point in points] == [9, 11, 12] and points[0]["run_id"] == runs[16].run_id
    details = selectors.run_details(selectors.run_get(team.workspace, runs[1].run_id))
    v1 = {"runId", "target", "status", "startTimeUtc", "endTimeUtc", "properties", "inputDatasets", "outputDatasets",
          "runDefinition", "logFiles", "submittedBy", "error", "warnings"}  # fmt: skip
    assert v1 <= details.keys() and details["runId"] == runs[1].run_id
    with pytest.raises(NotFound):
        selectors.run_get(Workspace.objects.get(name="elsewhere"), runs[1].run_id)


def test_compare_across_experiments(team: Any, runs: list[Run]) -> None:
    runs[1].snapshot = snapshots.snapshot_from_texts(team.workspace, {"a.py": "1\n2\n", "b.py": "x", "c.py": "c"})
    runs[2].snapshot = snapshots.snapshot_from_texts(team.workspace, {"a.py": "1\n3\n", "b.py": "x", "d.py": "d"})
    found = selectors.compare(runs[:3])
    assert found.metrics == {"loss": [None, 1.0, 2.0]} and found.tags == {"i": ["0", "1", "2"]}
    changes = diff.snapshots(runs[1].snapshot, runs[2].snapshot)
    assert [(change.path, change.state) for change in changes] == [
        ("a.py", "changed"),
        ("c.py", "removed"),
        ("d.py", "added"),
    ]
    lines = diff.file_diff(runs[1].snapshot, runs[2].snapshot, "a.py")
    assert lines is not None and lines[-2:] == ["-2", "+3"]
    assert diff.snapshots(runs[1].snapshot, runs[1].snapshot) == []
