"""The Metrics tab, and the numbers that its charts ask for."""

from __future__ import annotations

import json
import math
from typing import Any

from django.http import HttpResponse, JsonResponse
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from runs import charts
from runs.models import MetricRecord, MetricSeries, Run
from runs.views import common
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.lib.errors import Invalid
from studio.lib.htmx import render_page

CURVES = {"scalar", "list"}
MAX_ROWS = 500
MAX_CELLS = 40
MAX_CLASSES = 60
MAX_SERIES = 500


def catalog_of(run: Run) -> list[dict[str, Any]]:
    """Every series of the run with its count, so that the page asks only for what changed. One query."""
    rows = (
        MetricSeries.objects.filter(run=run)
        .order_by("name")
        .values("name", "kind", "count", "last", "minimum", "maximum", "last_step", "description")
    )
    return [dict(row) for row in rows[:MAX_SERIES]]


def catalog_version(catalog: list[dict[str, Any]]) -> str:
    """Changes when a series appears, or one that is drawn on the server gets an entry."""
    return common.digest_of(
        [(row["name"], row["kind"], row["count"] if row["kind"] not in CURVES else 0) for row in catalog]
    )


@workspace_page()
@require_GET
def run_metrics(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    run = common.run_of(request, run_id)
    return common.run_page(request, run, "metrics", metrics_context(run))


def metrics_context(run: Run) -> dict[str, Any]:
    catalog = catalog_of(run)
    scalars = [row for row in catalog if row["kind"] in CURVES]
    return {
        "catalog": catalog,
        "cards": [row for row in scalars if row["last"] is not None],
        "curves": [row for row in scalars if row["count"] > 1],
        "others": others_of(run),
        "metrics_version": catalog_version(catalog),
        "series_url": reverse("run-series", kwargs={"workspace": run.workspace.name, "run_id": run.run_id}),
    }


@workspace_page()
@require_GET
def run_metrics_others(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    """The tables, images and matrices again when there is a new one, else 204."""
    run = common.run_of(request, run_id)
    catalog = catalog_of(run)
    version = catalog_version(catalog)
    live = common.is_live(run)
    if request.GET.get("v") == version and live:
        return common.unchanged()
    context = {"run": run, "live": live, "others": others_of(run), "metrics_version": version}
    return render_page(request, "runs/parts/metrics_others.html", context)


@workspace_page()
@require_GET
def run_series(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    """JSON. Without ``name``: the catalog. With it: one series' points, downsampled, with an ETag of its count."""
    run = common.run_of(request, run_id)
    name = request.GET.get("name")
    if name is None:
        return JsonResponse(
            {"live": common.is_live(run), "status": run.status, "series": [_finite(r) for r in catalog_of(run)]}
        )
    axis = request.GET.get("axis", "step")
    try:
        points = int(request.GET.get("points", "1000"))
    except ValueError as error:
        raise Invalid(_("points is a number."), field="points") from error
    count = MetricSeries.objects.filter(run=run, name=name).values_list("count", flat=True).first()
    etag = f'"{common.digest_of(name, axis, points, count)}"'
    if count is not None and request.headers.get("If-None-Match") == etag:
        return HttpResponse(status=304, headers={"ETag": etag})
    response = JsonResponse(_finite(charts.series(run, name, points=points, axis=axis)))
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what is not finite is sent as its name."""
    return {key: _word(value) if isinstance(value, float) else value for key, value in row.items()}


def _word(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def others_of(run: Run) -> list[dict[str, Any]]:
    """The newest entries of every series that is not a curve, made ready for the template. Two queries."""
    series = list(MetricSeries.objects.filter(run=run).exclude(kind__in=CURVES).order_by("name")[:100])
    series += list(MetricSeries.objects.filter(run=run, kind="list", last=None).order_by("name")[:100])
    found = []
    for row in series:
        limit = MAX_ROWS if row.kind in {"row", "table", "list"} else 24 if row.kind == "image" else 1
        records = list(MetricRecord.objects.filter(series=row).order_by("-index")[:limit])[::-1]
        drawn = _DRAW.get(row.kind, _raw)(records)
        found.append({"name": row.name, "kind": row.kind, "count": row.count, "description": row.description, **drawn})
    return found


def _raw(records: list[MetricRecord]) -> dict[str, Any]:
    payload = records[0].payload if len(records) == 1 else [record.payload for record in records]
    return {
        "as": "raw",
        "text": payload if isinstance(payload, str) else json.dumps(payload, indent=2, ensure_ascii=False),
    }


def _table(records: list[MetricRecord]) -> dict[str, Any]:
    """Rows and tables as one table: {column: value} makes a row, {column: [values]} makes many."""
    columns: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    for record in records:
        payload = record.payload
        if not isinstance(payload, dict):
            payload = {_("value"): payload}
        columns.update(dict.fromkeys(list(payload)[:MAX_CELLS]))
        lists = [value for value in payload.values() if isinstance(value, list)]
        length = max((len(value) for value in lists), default=1) if lists else 1
        for index in range(min(length, MAX_ROWS)):
            rows.append({
                key: (value[index] if index < len(value) else None) if isinstance(value, list) else value
                for key, value in payload.items()
            })  # fmt: skip
    names = list(columns)[:MAX_CELLS]
    return {"as": "table", "columns": names, "rows": [[row.get(name) for name in names] for row in rows[:MAX_ROWS]]}


def _images(records: list[MetricRecord]) -> dict[str, Any]:
    return {"as": "images", "images": [{"path": str(r.payload), "step": r.step, "index": r.index} for r in records]}


def _data(records: list[MetricRecord]) -> dict[str, Any]:
    payload = records[-1].payload if records else {}
    inner = payload.get("data", payload) if isinstance(payload, dict) else {}
    return inner if isinstance(inner, dict) else {}


def _confusion(records: list[MetricRecord]) -> dict[str, Any]:
    """Each row's share decides the shade (0 to 10), so that a rare class is as readable as a common one."""
    data = _data(records)
    matrix = data.get("matrix") or []
    if not matrix or len(matrix) > MAX_CLASSES or not all(isinstance(row, list) for row in matrix):
        return _raw(records)
    labels = [str(label) for label in data.get("class_labels") or range(len(matrix))]
    rows = []
    for label, row in zip(labels, matrix, strict=False):
        total = sum(value for value in row if isinstance(value, (int, float))) or 1
        cells = [{"value": value, "share": value / total, "shade": round(10 * max(0, value / total))} for value in row]
        rows.append({"label": label, "cells": cells, "total": total})
    return {"as": "confusion", "labels": labels, "matrix": rows}


def script_json(data: Any) -> SafeString:
    """JSON that may stand inside a <script type="application/json">: no character of it can end the element."""
    text = json.dumps(data)
    return mark_safe(text.replace("<", "\\u003C").replace(">", "\\u003E").replace("&", "\\u0026"))  # noqa: S308 - escaped above


def _curves(kind: str) -> Any:
    def draw(records: list[MetricRecord]) -> dict[str, Any]:
        data = _data(records)
        return {"as": kind, "json": script_json(data)} if data else _raw(records)

    return draw


_DRAW = {
    "row": _table,
    "table": _table,
    "list": _table,
    "text": _raw,
    "image": _images,
    "confusion_matrix": _confusion,
    "accuracy_table": _curves("accuracy"),
    "predictions": _curves("predictions"),
    "residuals": _curves("residuals"),
}
