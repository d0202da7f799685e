"""A submitted run that really runs: through compute's own steps, without a broker."""

from __future__ import annotations

import time
from typing import Any

import pytest

from compute import services as compute_services
from compute.reconcile import tick
from runs.models import MetricSeries, Run
from runs.selectors import run_get, run_metrics
from runs.services import artifacts, manage, snapshots, submit

pytestmark = pytest.mark.django_db(transaction=True)

SCRIPT = """
import json, os, sys, time
print("args", sys.argv[1:], flush=True)
with open("../events.jsonl", "a") as events:
    for step in range(5):
        event = {"k": "metric", "n": "loss", "v": 1.0 / (step + 1), "s": step, "t": time.time()}
        events.write(json.dumps(event) + "\\n")
    events.write("broken\\n")
with open("outputs/model.txt", "w") as out:
    out.write(os.environ["AZUREML_RUN_ID"])
with open("beside.txt", "w") as out:
    out.write("x")
"""


def finish(run: Run, seconds: float = 60) -> Run:
    """Drive the unit as the worker and the beat would, until it has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert run.unit is not None
        compute_services.unit_advance(run.unit.pk)
        tick()
        run = run_get(run.workspace, run.run_id)
        if run.status in ("Completed", "Failed", "Canceled"):
            return run
        time.sleep(0.1)
    raise AssertionError(f"still {run.status}: {run.unit.history if run.unit else ''}")


@pytest.fixture
def send(team: Any) -> Any:
    target = compute_services.ensure_local_target(team.workspace)

    def go(script: str, **options: Any) -> Run:
        return submit.run_submit(
            workspace=team.workspace, user=team.contributor, experiment="real", script="train.py",
            arguments=options.pop("arguments", []),
            snapshot=snapshots.snapshot_from_texts(team.workspace, {"train.py": script}), target=target,
            environment=None, **options,
        )  # fmt: skip

    return go


def test_a_run_from_submit_to_its_outputs(send: Any) -> None:
    run = finish(send(SCRIPT, arguments=["--lr", 0.5]))
    assert (
        run.status == "Completed"
        and run.error is None
        and run.started_at
        and run.ended_at
        and run.duration_s is not None
    )
    assert run_metrics(run)["loss"] == [1.0, 0.5, 1 / 3, 0.25, 0.2]
    assert MetricSeries.objects.get(run=run).count == 5
    assert "1 events could not be used" in run.warnings[-1]
    assert b"args ['--lr', '0.5']" in artifacts.open_file(run, "user_logs/std_log.txt").read_bytes()
    assert artifacts.open_file(run, "outputs/model.txt").read_text() == run.run_id
    assert artifacts.find_model_file(run, "outputs/beside.txt").read_text() == "x"
    assert run.output_bytes == artifacts.run_bytes(run) > 0
    assert manage.run_delete([run], user=None) == 1
    assert not artifacts.places.directory(run).exists()


def test_a_script_that_fails(send: Any) -> None:
    run = finish(send("raise SystemExit(3)"))
    assert run.status == "Failed" and run.error and "3" in run.error["message"]
