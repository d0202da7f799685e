"""Compare: runs side by side, of one experiment or of many. The address holds everything."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from compute.models import EnvironmentBuild
from runs import diff
from runs.models import MetricSeries, Run, RunParameter, RunTag
from runs.selectors_data import input_labels
from runs.views import common
from runs.views.detail import packages_of, recipe_text
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.lib.htmx import render_page

MAX_RUNS = 20
MAX_FILES = 100
MAX_CHARTS = 12


@workspace_page()
@require_GET
def run_compare(request: WorkspaceRequest) -> HttpResponse:
    ids = _asked(request)
    if "run" in request.GET or "add" in request.GET:
        address = reverse("run-compare", kwargs={"workspace": request.workspace.name})
        return redirect(f"{address}?{urlencode({'runs': ','.join(ids)}, safe=',')}")
    found = {
        run.run_id: run
        for run in Run.objects.filter(workspace=request.workspace, run_id__in=ids).select_related(
            "experiment", "environment", "target", "snapshot", "created_by", "workspace"
        )
    }
    runs = [found[run_id] for run_id in ids if run_id in found]
    view = request.GET.get("view", "table")
    context: dict[str, Any] = {
        "runs": runs,
        "ids": ",".join(run.run_id for run in runs),
        "columns": _columns(request, runs),
        "missing": [run_id for run_id in ids if run_id not in found],
        "view": view if view in {"table", "charts", "code", "environment"} else "table",
        "only_differences": request.GET.get("differences") == "1",
        "suggestions": _suggestions(request, runs),
    }
    if len(runs) > 0:
        context |= _VIEWS[context["view"]](request, runs)
    return render_page(request, "runs/compare.html", context)


def _asked(request: WorkspaceRequest) -> list[str]:
    ids = request.GET.get("runs", "").split(",") + request.GET.getlist("run") + request.GET.getlist("add")
    return list(dict.fromkeys(word.strip() for word in ids if word.strip()))[:MAX_RUNS]


def _columns(request: WorkspaceRequest, runs: list[Run]) -> list[dict[str, Any]]:
    """The runs with the address of the same page without each of them."""
    found = []
    for index, run in enumerate(runs):
        query = request.GET.copy()
        query["runs"] = ",".join(other.run_id for other in runs if other is not run)
        found.append(
            {
                "run": run,
                "index": index,
                "without": "?" + query.urlencode(safe=","),
                "duration": common.duration_of(run),
            }
        )
    return found


def _suggestions(request: WorkspaceRequest, runs: list[Run]) -> list[Run]:
    """Recent runs that could be added, those of the same experiments first."""
    base = Run.objects.filter(workspace=request.workspace, archived_at=None).exclude(pk__in=[run.pk for run in runs])
    same = list(base.filter(experiment__in={run.experiment_id for run in runs}).order_by("-id")[:20]) if runs else []
    return same or list(base.order_by("-id")[:20])


def _table(request: WorkspaceRequest, runs: list[Run]) -> dict[str, Any]:
    """Sections of rows; each row has one value per run and says whether they differ. Five queries."""
    ids = [run.pk for run in runs]
    by_run: dict[str, dict[int, dict[str, Any]]] = {"param": {}, "metric": {}, "tag": {}}
    for run_id, name, value in RunParameter.objects.filter(run__in=ids).values_list("run_id", "name", "value"):
        by_run["param"].setdefault(run_id, {})[name] = value
    for run_id, name, last in (
        MetricSeries.objects.filter(run__in=ids).exclude(last=None).values_list("run_id", "name", "last")
    ):
        by_run["metric"].setdefault(run_id, {})[name] = last
    for run_id, key, text in RunTag.objects.filter(run__in=ids).values_list("run_id", "key", "value"):
        by_run["tag"].setdefault(run_id, {})[key] = "✓" if text is None else text
    titles = {"param": _("Parameters"), "metric": _("Metrics"), "tag": _("Tags")}
    sections = [{"title": _("Run"), "kind": "run", "rows": _facts(runs)}]
    inputs = input_labels(runs)
    names = sorted({name for found in inputs.values() for name in found})
    rows = [_compared(name, [inputs.get(run.pk, {}).get(name) for run in runs]) for name in names]
    sections.append({"title": _("Inputs"), "kind": "input", "rows": rows})
    for kind, values in by_run.items():
        names = sorted({name for found in values.values() for name in found})
        rows = [
            _compared(name, [values.get(run.pk, {}).get(name) for run in runs], numbers=kind == "metric")
            for name in names
        ]
        sections.append({"title": titles[kind], "kind": kind, "rows": rows})
    return {"sections": sections}


def _facts(runs: list[Run]) -> list[dict[str, Any]]:
    facts: list[tuple[str, list[Any]]] = [
        (_("Experiment"), [run.experiment.name for run in runs]),
        (_("Script"), [run.script or " ".join(run.command) for run in runs]),
        (_("Compute target"), [run.target.name if run.target else None for run in runs]),
        (_("Environment"), [str(run.environment) if run.environment else None for run in runs]),
        (_("Code"), [run.snapshot.digest[:12] if run.snapshot else None for run in runs]),
        (_("Created by"), [run.created_by.label if run.created_by else None for run in runs]),
    ]
    return [_compared(name, values) for name, values in facts]


def _compared(name: str, values: list[Any], *, numbers: bool = False) -> dict[str, Any]:
    real = [value for value in values if value is not None]
    best = (min(real), max(real)) if numbers and len(set(real)) > 1 else (None, None)
    cells = [{"value": value, "low": numbers and value is not None and value == best[0],
              "high": numbers and value is not None and value == best[1]} for value in values]  # fmt: skip
    return {"name": name, "cells": cells, "differs": len({str(value) for value in values}) > 1}


def _charts(request: WorkspaceRequest, runs: list[Run]) -> dict[str, Any]:
    """One chart per metric that any of the runs has as a curve, those that most runs share first."""
    counts: dict[str, int] = {}
    have: set[tuple[int, str]] = set()
    rows = MetricSeries.objects.filter(run__in=runs, kind__in=["scalar", "list"], count__gt=1).values_list(
        "run_id", "name"
    )
    for run_id, name in rows:
        counts[name] = counts.get(name, 0) + 1
        have.add((run_id, name))
    names = sorted(counts, key=lambda name: (-counts[name], name))
    asked = [name for name in request.GET.getlist("metric") if name in counts] or names[:MAX_CHARTS]
    sources = [
        {
            "label": run.name or run.run_id,
            "short": f"{run.experiment.name} #{run.number}",
            "url": reverse("run-series", kwargs={"workspace": request.workspace.name, "run_id": run.run_id}),
            "live": common.is_live(run),
            "metrics": [name for name in asked if (run.pk, name) in have],
        }
        for run in runs
    ]
    return {"charts": asked, "chart_payload": {"metrics": asked, "sources": sources}}


def _pair(request: WorkspaceRequest, runs: list[Run]) -> tuple[Run, Run]:
    """The two runs that a diff is of: ``base`` and ``other``, by default the first two."""
    by_id = {run.run_id: run for run in runs}
    base = by_id.get(request.GET.get("base", ""), runs[0])
    rest = [run for run in runs if run is not base] or [base]
    return base, by_id.get(request.GET.get("other", ""), rest[0])


def _code(request: WorkspaceRequest, runs: list[Run]) -> dict[str, Any]:
    base, other = _pair(request, runs)
    changes = diff.snapshots(base.snapshot, other.snapshot)
    files = [
        {
            "path": change.path,
            "state": change.state,
            "lines": _marked(diff.file_diff(base.snapshot, other.snapshot, change.path)),
        }
        for change in changes[:MAX_FILES]
    ]
    have = len(base.snapshot.files) if base.snapshot else 0
    same = have - sum(change.state in {"changed", "removed"} for change in changes)
    return {"base": base, "other": other, "diff_files": files, "same_files": same}


def _marked(lines: list[str] | None) -> list[dict[str, str]] | None:
    """Lines of a unified diff, without its head, with their kind: add, del, hunk, same."""
    if lines is None:
        return None
    found = []
    for line in lines[2:]:
        kind = {"+": "add", "-": "del", "@": "hunk"}.get(line[:1], "same")
        found.append(
            {"kind": kind, "mark": line[:1] if kind != "hunk" else "", "text": line if kind == "hunk" else line[1:]}
        )
    return found


def _environment(request: WorkspaceRequest, runs: list[Run]) -> dict[str, Any]:
    base, other = _pair(request, runs)
    hashes = {run.environment.content_hash for run in (base, other) if run.environment}
    builds = {
        build.content_hash: build
        for build in EnvironmentBuild.objects.filter(content_hash__in=hashes, target__workspace=request.workspace)
    }

    def detail(run: Run) -> dict[str, Any]:
        build = builds.get(run.environment.content_hash) if run.environment else None
        return build.detail if build else {}

    old, new = (dict(packages_of(detail(run).get("packages"))) for run in (base, other))
    rows = [_compared("Python", [detail(run).get("python") for run in (base, other)])]
    rows += [_compared(name, [old.get(name), new.get(name)]) for name in sorted(old.keys() | new.keys())]
    recipes = [recipe_text(run.environment.recipe) if run.environment else "" for run in (base, other)]
    variables = [dict(run.environment_variables) for run in (base, other)]
    names = sorted(variables[0].keys() | variables[1].keys())
    return {
        "base": base,
        "other": other,
        "package_rows": rows,
        "package_differences": sum(row["differs"] for row in rows),
        "recipe_diff": _marked(diff.text_diff(recipes[0], recipes[1], "recipe")),
        "variable_rows": [_compared(name, [values.get(name) for values in variables]) for name in names],
    }


_VIEWS = {"table": _table, "charts": _charts, "code": _code, "environment": _environment}
