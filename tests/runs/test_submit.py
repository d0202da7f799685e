"""Submit: all errors at once, nothing half-written, one run per idempotency key."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError

from compute.models import Environment, Target, Unit
from runs.models import Experiment, Run, Snapshot
from runs.services import interactive, snapshots, submit
from studio.accounts.models import AuditEntry, Workspace
from studio.lib.errors import Conflict, Invalid

pytestmark = pytest.mark.django_db


@pytest.fixture
def request_of(team: Any, snapshot: Snapshot, target: Target) -> dict[str, Any]:
    return {
        "workspace": team.workspace, "user": team.contributor, "experiment": "iris", "script": "./train.py",
        "arguments": ["--kernel", "linear", "--penalty", 1.0, "--n", 3, "--flag", True], "snapshot": snapshot,
        "target": target, "environment": None,
    }  # fmt: skip


def test_a_submit_writes_run_and_unit(request_of: dict[str, Any], team: Any) -> None:
    run = submit.run_submit(
        **request_of, environment_variables={"MODE": "fast"}, tags={"a": None, "b": 1}, properties={"p": "q"},
        time_limit_s=60, name="first",
    )  # fmt: skip
    run.refresh_from_db()
    assert (
        run.run_id.startswith("iris_") and run.number == 1 and run.status == "NotStarted" and run.script == "train.py"
    )
    assert run.arguments == ["--kernel", "linear", "--penalty", "1.0", "--n", "3", "--flag", "True"]
    assert dict(run.parameters.values_list("name", "number")) == {"kernel": None, "penalty": 1, "n": 3, "flag": None}
    assert dict(run.tag_rows.values_list("key", "value")) == {"a": None, "b": "1"}
    unit = run.unit
    assert unit is not None and unit.key == run.key and unit.label == run.run_id
    assert unit.spec["argv"] == ["{python}", "-u", "train.py", *run.arguments]
    assert {file["path"]: file["mode"] for file in unit.spec["code"]} == {"data/x.csv": 0o644, "train.py": 0o644}
    env = unit.spec["env"]
    assert env["MODE"] == "fast" and env["AZUREML_RUN_ID"] == run.run_id and env["AZUREML_ARM_PROJECT_NAME"] == "iris"
    assert env["AZUREML_ARM_WORKSPACE_NAME"] == "main" and "AZUREML_RUN_TOKEN" not in env
    assert AuditEntry.objects.filter(action="run.submit", object_label=run.run_id, actor=team.contributor).count() == 1


def test_a_submit_costs_few_statements(request_of: dict[str, Any], django_assert_max_num_queries: Any) -> None:
    submit.run_submit(**request_of)
    with django_assert_max_num_queries(14):
        submit.run_submit(**request_of, tags={"a": "b"}, idempotency_key="k")


def test_everything_that_is_wrong_is_said_at_once(request_of: dict[str, Any]) -> None:
    wrong = {
        "experiment": "-no", "script": "other.py", "arguments": ["--a", None, {"b": 1}], "target": None,
        "environment_variables": {"AZUREML_RUN_ID": "x"}, "time_limit_s": -4, "name": "n" * 300, "tags": {"": 1},
    }  # fmt: skip
    with pytest.raises(Invalid) as refused:
        submit.run_submit(**{**request_of, **wrong})
    assert refused.value.errors.keys() == {
        "experiment", "script", "arguments", "target", "environment_variables", "time_limit_s", "name", "tags",
    }  # fmt: skip
    assert "Scripts in it: train.py." in refused.value.errors["script"][0]
    assert len(refused.value.errors["arguments"]) == 2
    assert not Run.objects.exists() and not Unit.objects.exists() and not Experiment.objects.exists()


@pytest.mark.parametrize("seconds", [0, -1, 10**12, 31_536_001, "soon"])
def test_a_time_limit_out_of_range_is_refused_with_the_range(request_of: dict[str, Any], seconds: Any) -> None:
    with pytest.raises(Invalid, match="from 1 to 31,536,000") as refused:
        submit.run_submit(**request_of, time_limit_s=seconds)
    assert list(refused.value.errors) == ["time_limit_s"]


def test_a_run_name_is_one_line_that_can_be_read(request_of: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=r"U\+202E") as refused:
        submit.run_submit(**request_of, name="\u202efdp", tags={"a\nb": "1"})
    assert refused.value.errors.keys() == {"name", "tags"}
    assert submit.run_submit(**request_of, name=" first \n", time_limit_s=31_536_000).name == "first"


def test_things_of_another_workspace_are_not_there(request_of: dict[str, Any]) -> None:
    elsewhere = Workspace.objects.get(name="elsewhere")
    foreign = snapshots.snapshot_from_texts(elsewhere, {"train.py": "1"})
    environment = Environment.objects.create(
        workspace=elsewhere, name="theirs", version=1, recipe={"kind": "system"}, content_hash="x"
    )
    with pytest.raises(Invalid) as refused:
        submit.run_submit(**{**request_of, "snapshot": foreign, "environment": environment})
    assert refused.value.errors.keys() == {"snapshot", "environment"}


def test_an_idempotency_key(request_of: dict[str, Any], team: Any) -> None:
    first = submit.run_submit(**request_of, idempotency_key="k1")
    assert submit.run_submit(**request_of, idempotency_key="k1") == first
    with pytest.raises(Conflict, match="was used for another request"):
        submit.run_submit(**{**request_of, "arguments": []}, idempotency_key="k1")
    other = submit.run_submit(**{**request_of, "user": team.owner}, idempotency_key="k1")
    assert other != first and Run.objects.count() == 2


def test_the_same_key_at_the_same_moment(request_of: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first = submit.run_submit(**request_of, idempotency_key="k1")
    real, asked = submit.earlier, []

    def blind_once(*arguments: Any) -> Run | None:
        asked.append(1)
        return None if len(asked) == 1 else real(*arguments)

    monkeypatch.setattr(submit, "earlier", blind_once)
    assert submit.run_submit(**request_of, idempotency_key="k1") == first
    assert Run.objects.count() == Unit.objects.count() == 1


def test_nothing_is_half_written(request_of: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any, **_named: Any) -> None:
        raise IntegrityError("no")

    monkeypatch.setattr(submit, "write_attributes", broken)
    with pytest.raises(IntegrityError):
        submit.run_submit(**request_of)
    assert not Run.objects.exists() and not Unit.objects.exists() and not Experiment.objects.exists()


def test_a_command(request_of: dict[str, Any]) -> None:
    run = submit.run_submit(**{**request_of, "script": "", "arguments": ["--n", 1]}, command=["bash", "-c", "echo"])
    assert run.unit is not None and run.unit.spec["argv"] == ["bash", "-c", "echo", "--n", "1"]
    with pytest.raises(Invalid, match="Choose the script"):
        submit.run_submit(**{**request_of, "script": ""})


def test_resubmit(request_of: dict[str, Any], run: Run) -> None:
    first = submit.run_submit(**request_of, tags={"a": "b"}, name="n", time_limit_s=5)
    again = submit.run_resubmit(first, user=request_of["user"], arguments=["--kernel", "rbf"])
    assert again.number == 2 and again.snapshot == first.snapshot and again.time_limit_s == 5 and again.name == "n"
    assert dict(again.tag_rows.values_list("key", "value")) == {"a": "b"}
    assert again.arguments == ["--kernel", "rbf"] and again.key != first.key
    with pytest.raises(Invalid, match="cannot change colour"):
        submit.run_resubmit(first, user=request_of["user"], colour="red")
    with pytest.raises(Conflict, match="nothing to submit again"):
        submit.run_resubmit(run, user=request_of["user"])


def test_numbers_are_never_shared(team: Any, run: Run) -> None:
    stale = Experiment.objects.get(name="trial")
    interactive.run_start_interactive(team.workspace, team.owner, "trial")
    assert not Experiment.objects.filter(pk=stale.pk, run_count=stale.run_count).update(run_count=9)
    made = interactive.create_children(run, user=team.owner, count=3, name="fold")
    assert [child.number for child in made] == [3, 4, 5] and [child.name for child in made] == [
        "fold 1",
        "fold 2",
        "fold 3",
    ]
    assert interactive.run_start_interactive(team.workspace, team.owner, "trial").number == 6


def test_an_interactive_run_ends_once(run: Run, team: Any) -> None:
    assert interactive.run_complete(run, user=team.contributor).status == "Completed"
    assert interactive.run_complete(run).status == "Completed"
    with pytest.raises(Conflict, match="already ended: Completed"):
        interactive.run_fail(run, "late")
