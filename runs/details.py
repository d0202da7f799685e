"""One run in full: the keys of v1's ``get_details()``, its metrics as v1 gives them, and runs side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from runs import diff, packing
from runs.models import MetricChunk, MetricRecord, MetricSeries, Run, RunParameter, RunTag

MAX_LIST_POINTS = 100_000
MAX_RECORDS = 10_000


def run_details(run: Run) -> dict[str, Any]:
    """What v1's ``run.get_details()`` gives, and what else is known of the run. JSON. About six queries."""
    from runs.services import places

    environment = run.environment
    portal = f"{settings.ATELIER_URL}/w/{run.workspace.name}/runs/{run.run_id}/"
    files = sorted(places.own_files(run))
    return {
        "runId": run.run_id,
        "target": run.target.name if run.target else ("sdk" if run.type == "interactive" else None),
        "status": run.status,
        "startTimeUtc": run.started_at.isoformat() if run.started_at else None,
        "endTimeUtc": run.ended_at.isoformat() if run.ended_at else None,
        "properties": dict(run.property_rows.order_by("key").values_list("key", "value")),
        **_datasets(run),
        "runDefinition": _definition(run),
        "logFiles": {name: f"{portal}files/{name}" for name in files},
        "submittedBy": run.created_by.label if run.created_by else None,
        "error": {"error": run.error} if run.error else None,
        "warnings": [{"source": "Atelier", "message": message} for message in run.warnings],
        "experiment": run.experiment.name,
        "number": run.number,
        "name": run.name,
        "type": run.type,
        "parentRunId": run.parent.run_id if run.parent else None,
        "tags": dict(run.tag_rows.order_by("key").values_list("key", "value")),
        "parameters": dict(run.parameters.order_by("name").values_list("name", "value")),
        "createdTimeUtc": run.created_at.isoformat(),
        "notes": run.notes,
        "snapshotId": run.snapshot.digest if run.snapshot else None,
        "environment": {"name": environment.name, "version": environment.version} if environment else None,
        "outputBytes": run.output_bytes,
        "portalUrl": portal,
    }


def _datasets(run: Run) -> dict[str, list[dict[str, Any]]]:
    """``inputDatasets`` and ``outputDatasets`` as v1 gives them. One query."""
    found: dict[str, list[dict[str, Any]]] = {"inputDatasets": [], "outputDatasets": []}
    for row in run.data.select_related("version__dataset").order_by("pk"):
        version = row.version
        identifier = {"savedId": str(version.pk)} if version is not None else {}
        if version is not None and version.dataset is not None:
            identifier |= {"registeredId": str(version.dataset.pk), "registeredVersion": str(version.version)}
        mode = row.mode.capitalize() if row.mode != "hdfs" else "Hdfs"
        details: dict[str, Any] = {"mechanism": mode, "pathOnCompute": row.settings.get("path_on_compute")}
        entry: dict[str, Any] = {"dataset": {"id": str(version.pk) if version else None, "name": row.label or None}}
        if row.direction == "in":
            consumption = {"type": "RunInput", "inputName": row.name}
            found["inputDatasets"].append(
                {
                    **entry,
                    "consumptionDetails": {**consumption, **details},
                    "inputDetails": {"inputName": row.name, **details},
                }
            )
            continue
        to = {"datastore": row.settings.get("store"), "path": row.settings.get("to")}
        output = {"outputName": row.name, "mechanism": mode, "destination": to}
        found["outputDatasets"].append(
            {**entry, "identifier": identifier, "outputType": "RunOutput", "outputDetails": output}
        )
    return found


def _definition(run: Run) -> dict[str, Any]:
    """The run configuration in v1's camelCase keys."""
    environment = run.environment
    recipe = environment.recipe if environment else {}
    return {
        "script": run.script or None,
        "command": run.command,
        "arguments": run.arguments,
        "target": run.target.name if run.target else None,
        "framework": "Python",
        "maxRunDurationSeconds": run.time_limit_s,
        "nodeCount": 1,
        **_container(run),
        "environment": {
            "name": environment.name if environment else None,
            "version": str(environment.version) if environment else None,
            "python": {"userManagedDependencies": recipe.get("kind", "system") == "system", "recipe": recipe or None},
            "environmentVariables": run.environment_variables,
        },
        "environmentVariables": run.environment_variables,
    }


def _container(run: Run) -> dict[str, Any]:
    """The image and the resources of a run in a container; nothing of one that is a plain process."""
    spec = run.unit.spec if run.unit is not None else {}
    if not spec.get("image") and not spec.get("resources"):
        return {}
    return {"docker": {"useDocker": True, "image": spec.get("image")}, "resources": spec.get("resources") or {}}


def _number(value: float) -> float | str:
    """A number as JSON has it; v1's clients read NaN and Infinity as text."""
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def run_metrics(run: Run, name: str | None = None) -> dict[str, Any]:
    """Every metric, or the one of that name: a scalar when it was logged once, else a list; a row as its columns, each
    a list when there is more than one row; other kinds as they were logged. The last 100,000 points at most."""
    rows = MetricSeries.objects.filter(run=run).order_by("name")
    if name is not None:
        rows = rows.filter(name=name)
    series = list(rows)
    points = _points([row for row in series if row.kind in ("scalar", "list")])
    records: dict[int, list[Any]] = {}
    others = [row.pk for row in series if row.pk not in points]
    for at in range(0, len(others), 900):
        entries = MetricRecord.objects.filter(series__in=others[at : at + 900]).order_by("series", "index")
        for series_id, payload in entries.values_list("series_id", "payload")[:MAX_RECORDS]:
            records.setdefault(series_id, []).append(payload)
    found = {}
    for row in series:
        if row.pk in points:
            values = points[row.pk]
            found[row.name] = values[0] if len(values) == 1 and row.kind == "scalar" else values
        else:
            found[row.name] = _shape(row.kind, records.get(row.pk, []))
    return found


def _points(series: list[MetricSeries]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {row.pk: [] for row in series}
    several = [row for row in series if row.count > 1]
    for row in series:
        if row.count == 1 and row.last is not None:
            found[row.pk] = [row.last]
        elif row.count == 1:
            several.append(row)
    for at in range(0, len(several), 900):
        some = several[at : at + 900]
        enough = max((row.count for row in some), default=0) - MAX_LIST_POINTS
        chunks = MetricChunk.objects.filter(series__in=some, first__gte=max(0, enough - packing.CHUNK_POINTS))
        for series_id, count, data in (
            chunks.order_by("series", "first").values_list("series_id", "count", "data").iterator()
        ):
            found[series_id].extend(map(_number, packing.unpack(data, count, packing.VALUES)))
    return {pk: values[-MAX_LIST_POINTS:] for pk, values in found.items()}


def _shape(kind: str, payloads: list[Any]) -> Any:
    if kind == "row" and all(isinstance(payload, dict) for payload in payloads):
        columns: dict[str, list[Any]] = {}
        for payload in payloads:
            for column, value in payload.items():
                columns.setdefault(column, []).append(value)
        return {column: values[0] if len(payloads) == 1 else values for column, values in columns.items()}
    return payloads[0] if len(payloads) == 1 else payloads


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. ``metrics``, ``parameters`` and ``tags``: name -> one value per run, None where it has none.
    ``code`` and ``environment`` compare each run with the first."""

    runs: list[Run]
    metrics: dict[str, list[float | None]] = field(default_factory=dict)
    parameters: dict[str, list[str | None]] = field(default_factory=dict)
    tags: dict[str, list[str | None]] = field(default_factory=dict)
    code: list[list[diff.FileChange]] = field(default_factory=list)
    environment: list[list[diff.FieldChange]] = field(default_factory=list)


def _side_by_side(model: Any, column: str, name: str, runs: Sequence[Run]) -> dict[str, list[Any]]:
    places = {run.pk: index for index, run in enumerate(runs)}
    found: dict[str, list[Any]] = {}
    rows = model.objects.filter(run__in=list(places)).order_by(name)
    for run, key, value in rows.values_list("run_id", name, column):
        found.setdefault(key, [None] * len(runs))[places[run]] = value
    return found


def compare(runs: Sequence[Run]) -> Comparison:
    """Runs side by side, of any experiments of a workspace, in three queries for what the runs hold themselves."""
    every = list(runs)
    first = every[0] if every else None
    return Comparison(
        runs=every,
        metrics={
            name: values
            for name, values in _side_by_side(MetricSeries, "last", "name", every).items()
            if any(value is not None for value in values)
        },
        parameters=_side_by_side(RunParameter, "value", "name", every),
        tags=_side_by_side(RunTag, "value", "key", every),
        code=[diff.snapshots(first.snapshot, run.snapshot) for run in every[1:]] if first else [],
        environment=[diff.environments(first.environment, run.environment) for run in every[1:]] if first else [],
    )
