"""A run as JSON, for one and for a page of them with the same number of queries."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from compute.models import Transfer
from runs.models import MetricSeries, Run, RunData, RunParameter, RunProperty, RunTag
from runs.services.submit import run_resources
from studio.accounts.models import Workspace
from studio.lib import storage

ENDED = frozenset({"Completed", "Failed", "Canceled"})


def number_out(value: float | None) -> float | str | None:
    """JSON has no NaN and no infinity: they go as the words that the event files use."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _by_run(model: Any, ids: list[int], key: str, value: str) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for run, name, content in model.objects.filter(run_id__in=ids).order_by(key).values_list("run_id", key, value):
        found[run][name] = content
    return found


def place_on_compute(row: RunData) -> str | None:
    """What the argument of an input or output says; None until that is known. The run's folder is on this machine."""
    return row.value.replace("{unit}", str(storage.unit_directory(row.run.key).resolve())) or None


def data_out(ids: list[int]) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """run -> {"in": inputs, "out": outputs}. Two queries, one where no run has any."""
    found: dict[int, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: {"in": [], "out": []})
    rows = list(RunData.objects.filter(run_id__in=ids).select_related("version__dataset", "run").order_by("pk"))
    if not rows:
        return found
    units = {row.run.unit_id for row in rows if row.run.unit_id}
    transfers = Transfer.objects.filter(unit_id__in=units).values_list("unit_id", "direction", "state")
    states = {(unit, direction): state for unit, direction, state in transfers}
    for row in rows:
        version = row.version
        state = states.get((row.run.unit_id or 0, row.direction), "waiting")
        if row.mode == "direct" or (version is not None and row.direction == "out"):
            state = "done"
        dataset = version.dataset if version is not None else None
        found[row.run_id][row.direction].append(
            {
                "name": row.name,
                "mode": row.mode,
                "dataset": {
                    "id": str(version.pk),
                    "name": dataset.name if dataset else None,
                    "version": version.version if dataset else None,
                    "label": version.label,
                }
                if version is not None
                else None,
                "value": place_on_compute(row),
                "datastore": row.settings.get("store"),
                "path": row.settings.get("to"),
                "state": state,
            }
        )
    return found


def runs_out(workspace: Workspace, runs: Sequence[Run], *, place_in_queue: bool = False) -> list[dict[str, Any]]:
    """Six queries at most whatever the number of runs, whose foreign keys should be selected already."""
    ids = [run.pk for run in runs]
    tags = _by_run(RunTag, ids, "key", "value")
    properties = _by_run(RunProperty, ids, "key", "value")
    parameters = _by_run(RunParameter, ids, "name", "value")
    metrics: dict[int, dict[str, Any]] = defaultdict(dict)
    flow = data_out(ids)
    series = MetricSeries.objects.filter(run_id__in=ids, kind__in=("scalar", "list")).order_by("name")
    for run_pk, name, last in series.values_list("run_id", "name", "last"):
        metrics[run_pk][name] = number_out(last)
    return [
        {
            **_columns(workspace, run),
            "tags": tags[run.pk],
            "properties": properties[run.pk],
            "parameters": parameters[run.pk],
            "inputs": flow[run.pk]["in"],
            "outputs": flow[run.pk]["out"],
            "metrics": metrics[run.pk],
            "queue_position": _queue_position(run) if place_in_queue else None,
        }
        for run in runs
    ]


def run_out(workspace: Workspace, run: Run) -> dict[str, Any]:
    return runs_out(workspace, [run], place_in_queue=True)[0]


def _queue_position(run: Run) -> int | None:
    if run.unit is None or run.status not in {"NotStarted", "Preparing", "Queued"}:
        return None
    from compute.selectors import queue_position

    return queue_position(run.unit)


def _columns(workspace: Workspace, run: Run) -> dict[str, Any]:
    environment = run.environment
    return {
        "id": run.run_id,
        "number": run.number,
        "name": run.name,
        "experiment": run.experiment.name,
        "status": run.status,
        "type": run.type,
        "parent": run.parent.run_id if run.parent is not None else None,
        "target": run.target.name if run.target is not None else None,
        "environment": {"name": environment.name, "version": environment.version} if environment is not None else None,
        "script": run.script,
        "arguments": run.arguments or [],
        "command": run.command or [],
        "resources": run_resources(run),
        "notes": run.notes,
        "error": run.error,
        "warnings": run.warnings or [],
        "snapshot": run.snapshot.digest if run.snapshot is not None else None,
        "created_by": run.created_by.label if run.created_by is not None else None,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "archived": run.archived_at is not None,
        "url": f"{settings.ATELIER_URL}/w/{workspace.name}/runs/{run.run_id}/",
        "log_stream": run.key if run.unit_id is not None else None,
        "output_bytes": run.output_bytes,
    }


RELATED = ("workspace", "experiment", "unit", "parent", "target", "environment", "snapshot", "created_by")


def with_related(runs: Sequence[Run]) -> list[Run]:
    """The same runs in the same order with their foreign keys at hand. One query."""
    found = Run.objects.select_related(*RELATED).in_bulk([run.pk for run in runs])
    return [found[run.pk] for run in runs if run.pk in found]
