"""Made-up runs for benchmarks: 100,000 of them with metrics and parameters, written in bulk."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import chain
from typing import Any

METRICS = ("loss", "accuracy", "auc", "f1", "precision", "recall", "rmse", "mae", "val_loss", "val_accuracy")
PARAMETERS = ("lr", "batch_size", "epochs", "dropout", "layers", "units", "momentum", "decay", "seed", "alpha")
BATCH = 2_000


def _insert(model: Any, rows: Iterable[dict[str, Any]]) -> None:
    """Plain executemany of the model's columns: no object per row."""
    from django.db import connection
    from django.db.models import DateTimeField, JSONField

    iterator = iter(rows)
    first = next(iterator, None)
    if first is None:
        return
    fields = [model._meta.get_field(name) for name in first]
    columns = ", ".join(connection.ops.quote_name(field.column) for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    statement = f"INSERT INTO {connection.ops.quote_name(model._meta.db_table)} ({columns}) VALUES ({marks})"  # noqa: S608 - our own names
    # Texts and numbers go as they are; only JSON and moments need the field's own way of writing them.
    special = {at: field for at, field in enumerate(fields) if isinstance(field, (JSONField, DateTimeField))}

    def written(row: dict[str, Any]) -> list[Any]:
        values = list(row.values())
        for at, field in special.items():
            values[at] = field.get_db_prep_save(values[at], connection)
        return values

    with connection.cursor() as cursor:
        batch: list[list[Any]] = []
        for row in chain([first], iterator):
            batch.append(written(row))
            if len(batch) == BATCH:
                cursor.executemany(statement, batch)
                batch = []
        if batch:
            cursor.executemany(statement, batch)


def _cross(model: Any, names: tuple[str, ...], first: int) -> None:
    """A row per run from ``first`` on and name, made inside the database; values spread evenly over [0, 1)."""
    from django.db import connection
    from django.utils import timezone

    value = "((r.id * 7919 + n.k * 104729 + r.id / 7) % 100003) / 100003.0"
    if model._meta.model_name == "metricseries":
        columns = "kind, description, count, last, minimum, maximum, last_step, updated_at"
        values = f"'scalar', '', 100, {value}, {value} / 2, {value} * 2, 99.0, %s"
        keep, bound = "AND r.id % 50 <> 0", [timezone.now()]
    else:
        columns = "value, number"
        values = f"CAST({value} AS TEXT), {value}"
        keep, bound = "", []
    table = connection.ops.quote_name(model._meta.db_table)
    listed = " UNION ALL ".join(f"SELECT '{name}' AS name, {index} AS k" for index, name in enumerate(names))
    # Every word is a constant of this file.
    statement = f"""
        INSERT INTO {table} (run_id, workspace_id, experiment_id, name, {columns})
        SELECT r.id, r.workspace_id, r.experiment_id, n.name, {values}
        FROM runs_run r CROSS JOIN ({listed}) n WHERE r.id >= %s {keep.replace("%", "%%")}
    """.replace("% 100003", "%% 100003")  # noqa: S608 - our own names
    with connection.cursor() as cursor:
        cursor.execute(statement, [*bound, first])


def _next_id(model: Any) -> int:
    from django.db.models import Max

    return int(model.objects.aggregate(top=Max("pk"))["top"] or 0) + 1


def make_runs(workspace: Any, user: Any, *, count: int = 100_000, experiments: int = 20, seed: int = 1) -> float:
    """``count`` ended runs with ten metrics and ten parameters each; the seconds it took.

    One run in fifty lacks the metrics, one in a hundred is archived, one in ten has a tag.
    """
    from django.db import connection, transaction
    from django.utils import timezone

    from runs.models import Experiment, MetricSeries, Run, RunParameter, RunTag

    began, rng, now = time.perf_counter(), random.Random(seed), timezone.now()  # noqa: S311 - no secret - made-up numbers
    series = [
        Experiment.objects.get_or_create(workspace=workspace, name=f"bench-{index:02d}")[0]
        for index in range(experiments)
    ]
    first = _next_id(Run)
    numbers = {experiment.pk: experiment.run_count for experiment in series}

    def experiment_of(index: int) -> Experiment:
        return series[index % experiments]

    def runs() -> Iterator[dict[str, Any]]:
        for index in range(count):
            experiment = experiment_of(index)
            numbers[experiment.pk] += 1
            made = now - timedelta(seconds=60 * (count - index))
            key = uuid.UUID(int=rng.getrandbits(128)).hex
            duration = round(rng.expovariate(1 / 300), 2)
            yield {
                "id": first + index, "run_id": f"{experiment.name}_{int(made.timestamp())}_{key[:8]}", "key": key,
                "workspace": workspace.pk, "experiment": experiment.pk, "number": numbers[experiment.pk], "name": "",
                "type": "script", "script": "train.py", "arguments": ["--lr", "0.1"], "command": [],
                "environment_variables": {}, "status": rng.choice(("Completed", "Completed", "Completed", "Failed")),
                "warnings": [], "notes": "", "output_bytes": 0, "request_digest": "", "created_by": user.pk,
                "created_at": made, "started_at": made, "ended_at": made + timedelta(seconds=duration),
                "duration_s": duration, "archived_at": made if index % 100 == 99 else None,
            }  # fmt: skip

    with transaction.atomic():
        _insert(Run, runs())
        _cross(MetricSeries, METRICS, first)
        _cross(RunParameter, PARAMETERS, first)
        _insert(RunTag, ({"run": first + i, "key": "stage", "value": str(i % 7)} for i in range(0, count, 10)))
        for experiment in series:
            experiment.run_count, experiment.last_run_at = numbers[experiment.pk], now
        Experiment.objects.bulk_update(series, ["run_count", "last_run_at"])
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT setval(pg_get_serial_sequence('runs_run', 'id'), (SELECT MAX(id) FROM runs_run))"
                )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    return time.perf_counter() - began


def make_history(run: Any, *, name: str = "loss", points: int = 100_000, seed: int = 1) -> None:
    """A curve of ``points`` points, written by the studio's own ingest."""
    from runs.services.events import ingest_objects

    rng, value = random.Random(seed), 1.0  # noqa: S311 - no secret
    events = []
    for step in range(points):
        value += rng.gauss(0, 0.01)
        events.append({"k": "metric", "n": name, "v": value, "s": step, "t": 1_700_000_000.0 + step})
    ingest_objects(run, events)
