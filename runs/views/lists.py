"""Lists of runs and experiments, and what is done to many runs at once."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from runs import selectors
from runs.models import Experiment, Run
from runs.services import manage
from runs.views import common
from studio.accounts import policy
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.models import User
from studio.accounts.policy import Right
from studio.lib.errors import AtelierError, NotFound
from studio.lib.htmx import render_page

PAGE_SIZE = 50
MAX_COLUMNS = 30
DEFAULT_COLUMNS = 3
CANDIDATES = 12  # of which the first with a value are shown
STATUS_GROUPS = {
    "active": [
        "NotStarted",
        "Preparing",
        "Queued",
        "Starting",
        "Running",
        "Finalizing",
        "CancelRequested",
        "NotResponding",
    ]
}


def columns_of(request: HttpRequest, available: list[str]) -> list[str]:
    """The chosen columns (``metric:loss``, ``param:lr``) in the order of the address; a few when none were chosen."""
    if "columns" in request.GET:
        asked = [name for part in request.GET.getlist("columns") for name in part.split(",")]
        return list(dict.fromkeys(name for name in asked if name.startswith(("metric:", "param:"))))[:MAX_COLUMNS]
    return [name for name in available if name.startswith("metric:")][:CANDIDATES]


def _available(request: WorkspaceRequest, experiment: Experiment | None) -> list[str]:
    metrics = selectors.metric_names(request.workspace, experiment)
    parameters = selectors.parameter_names(request.workspace, experiment)
    return [f"metric:{name}" for name in metrics] + [f"param:{name}" for name in parameters]


def _tag_of(raw: str) -> Any:
    """``key`` or ``key=value`` as the selectors take it."""
    key, equals, value = raw.strip().partition("=")
    return (key.strip(), value.strip() if equals else None) if key.strip() else None


def _with_values(request: HttpRequest, items: Any, columns: list[str]) -> list[str]:
    """The columns as chosen; where none were, the first few that have a value on this page."""
    if "columns" in request.GET:
        return columns
    has = {f"metric:{name}" for item in items for name, value in item.metrics.items() if value is not None}
    return [column for column in columns if column in has][:DEFAULT_COLUMNS]


def _creator(request: WorkspaceRequest, username: str) -> int | None:
    """The member's id; 0, whom no run is of, for a name that no member has; None when nobody was asked for."""
    if not username:
        return None
    members = User.objects.filter(username=username, memberships__workspace=request.workspace)
    return members.values_list("pk", flat=True).first() or 0


def _headers(request: HttpRequest, columns: list[str], sort: str) -> list[dict[str, Any]]:
    """The sortable columns: label, state, and the address that sorts by it (again: the other way round)."""
    fixed = [("name", _("Run")), ("created", _("Created")), ("duration", _("Duration"))]
    found = []
    for key, label in [*fixed, *[(column, column.partition(":")[2]) for column in columns]]:
        direction = {key: "ascending", f"-{key}": "descending"}.get(sort, "")
        query = request.GET.copy()
        query.pop("cursor", None)
        # Numbers and times are most wanted from the top.
        query["sort"] = key if sort == f"-{key}" else f"-{key}"
        found.append({"key": key, "label": label, "direction": direction, "href": "?" + query.urlencode()})
    return found


def _page_context(request: WorkspaceRequest, experiment: Experiment | None) -> dict[str, Any]:
    available = _available(request, experiment)
    columns = columns_of(request, available)
    status = request.GET.get("status", "")
    sort = request.GET.get("sort") or "-created"
    creator = request.GET.get("creator", "")
    page = selectors.runs_page(
        request.workspace,
        experiment=experiment,
        status=STATUS_GROUPS.get(status, status) or None,
        search=request.GET.get("search", "").strip(),
        tag=_tag_of(request.GET.get("tag", "")),
        created_by=_creator(request, creator),
        archived=request.GET.get("archived") == "1",
        sort=sort,
        columns=columns,
        cursor=request.GET.get("cursor") or None,
        limit=PAGE_SIZE,
    )
    columns = _with_values(request, page.items, columns)
    rows = [_row(item, columns) for item in page.items]
    filters = {name: request.GET.get(name, "") for name in ("search", "status", "tag", "creator", "archived")}
    return {
        "page": page,
        "rows": rows,
        "columns": columns,
        "headers": _headers(request, columns, sort),
        "sort": sort,
        "filters": filters,
        "filtered": any(filters.values()) or bool(request.GET.get("cursor")),
        "column_choices": [(name, name.partition(":")[2], name in columns) for name in available[:500]],
        "statuses": common.STATUSES,
        "creators": User.objects.filter(memberships__workspace=request.workspace, is_active=True).order_by("username")[
            :200
        ],
        "experiment": experiment,
        "base": reverse("run-list", kwargs={"workspace": request.workspace.name}),
        "experiments_base": reverse("experiment-list", kwargs={"workspace": request.workspace.name}),
        "live_url": live_url(request, rows, columns),
    }


def _row(item: Any, columns: list[str]) -> dict[str, Any]:
    values = []
    for column in columns:
        kind, _colon, name = column.partition(":")
        values.append((item.metrics if kind == "metric" else item.params).get(name))
    return {
        "run": item.run,
        "values": values,
        "duration": common.duration_of(item.run),
        "live": common.is_live(item.run),
    }


def live_url(request: WorkspaceRequest, rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Where the page asks for its rows that still move; empty when none does."""
    ids = [str(row["run"].pk) for row in rows if row["live"]]
    if not ids:
        return ""
    query = urlencode({"ids": ",".join(ids), "columns": ",".join(columns)})
    return f"{reverse('run-list-live', kwargs={'workspace': request.workspace.name})}?{query}"


@workspace_page()
@require_GET
def run_list(request: WorkspaceRequest) -> HttpResponse:
    return render_page(request, "runs/list.html", _page_context(request, None))


@workspace_page()
@require_GET
def run_list_live(request: WorkspaceRequest) -> HttpResponse:
    """The moving cells of the rows that were still active, and where to ask next."""
    ids = [int(word) for word in request.GET.get("ids", "").split(",") if word.isdigit()][:PAGE_SIZE]
    columns = columns_of(request, [])
    rows = [_row(item, columns) for item in selectors.runs_by_ids(request.workspace, ids, columns=columns)]
    return render(request, "runs/parts/live_rows.html", {"rows": rows, "live_url": live_url(request, rows, columns)})


@workspace_page()
@require_GET
def experiment_list(request: WorkspaceRequest) -> HttpResponse:
    archived = request.GET.get("archived") == "1"
    search = request.GET.get("search", "").strip()
    page = selectors.experiments_page(
        request.workspace, search=search, archived=archived, cursor=request.GET.get("cursor") or None, limit=PAGE_SIZE
    )
    context = {"page": page, "rows": page.items, "search": search, "archived": archived}
    return render_page(request, "runs/experiments.html", context)


@workspace_page()
@require_GET
def experiment_detail(request: WorkspaceRequest, name: str) -> HttpResponse:
    experiment = selectors.experiment_get(request.workspace, name)
    context = _page_context(request, experiment)
    metrics = [key.partition(":")[2] for key, _label, _on in context["column_choices"] if key.startswith("metric:")]
    chosen = request.GET.get("chart", "")
    chosen = chosen if chosen in metrics else (metrics[0] if metrics else "")
    context |= {
        "chart_metrics": metrics,
        "chart": chosen,
        "chart_data": _chart_of(experiment, chosen) if chosen else None,
    }
    return render_page(request, "runs/experiment.html", context)


def _chart_of(experiment: Experiment, metric: str) -> dict[str, Any]:
    """The last value of a metric for each of the newest 500 runs, oldest first. One query."""
    points = selectors.metric_over_runs(experiment, metric, limit=500)
    base = reverse("run-list", kwargs={"workspace": experiment.workspace.name})
    return {
        "metric": metric,
        "x": [point["number"] for point in points],
        "y": [point["value"] for point in points],
        "urls": [f"{base}{point['run_id']}/" for point in points],
    }


@workspace_page()
@require_POST
def experiment_archive(request: WorkspaceRequest, name: str) -> HttpResponse:
    experiment = selectors.experiment_get(request.workspace, name)
    if request.POST.get("restore"):
        manage.experiment_unarchive(experiment, user=request.user, request=request)
        messages.success(request, _("%(name)s is back in the list.") % {"name": name})
    else:
        manage.experiment_archive(experiment, user=request.user, request=request)
        messages.success(request, _("%(name)s is archived.") % {"name": name})
    return redirect("experiment-detail", workspace=request.workspace.name, name=name)


def _chosen(request: WorkspaceRequest, ids: list[str]) -> list[Run]:
    """The runs of these public ids, in that order; ids of other workspaces find nothing."""
    found = {
        run.run_id: run
        for run in Run.objects.filter(workspace=request.workspace, run_id__in=ids).select_related("experiment", "unit")
    }
    return [found[run_id] for run_id in ids if run_id in found]


@workspace_page(write=Right.READ)
@require_POST
def run_bulk(request: WorkspaceRequest) -> HttpResponse:
    """Compare is for everybody; archive, cancel and delete need the right to write."""
    ids = list(dict.fromkeys(request.POST.getlist("run")))[:1000]
    action = request.POST.get("action", "")
    back = _back(request)
    if not ids:
        messages.info(request, _("Tick the runs first."))
        return redirect(back)
    base = {"workspace": request.workspace.name}
    if action == "compare":
        return redirect(f"{reverse('run-compare', kwargs=base)}?{urlencode({'runs': ','.join(ids)}, safe=',')}")
    policy.require(request.user, Right.WRITE, request.workspace)
    if action == "delete":
        return redirect(
            f"{reverse('run-bulk-delete', kwargs=base)}?{urlencode({'runs': ','.join(ids), 'next': back}, safe=',')}"
        )
    _apply(request, action, _chosen(request, ids))
    return redirect(back)


def _apply(request: WorkspaceRequest, action: str, runs: list[Run]) -> None:
    done = 0
    for run in runs:
        try:
            if action == "cancel":
                if common.is_live(run):
                    manage.run_cancel(run, user=request.user, request=request)
                    done += 1
            elif action == "archive":
                manage.run_archive(run, user=request.user, request=request)
                done += 1
            elif action == "restore":
                manage.run_unarchive(run, user=request.user, request=request)
                done += 1
        except AtelierError as error:
            messages.error(request, f"{run.run_id}: {error.detail}")
    words = {
        "cancel": ngettext("%(n)d run is being canceled.", "%(n)d runs are being canceled.", done),
        "archive": ngettext("%(n)d run archived.", "%(n)d runs archived.", done),
        "restore": ngettext("%(n)d run is back in the list.", "%(n)d runs are back in the list.", done),
    }
    if action in words:
        messages.success(request, words[action] % {"n": done})


def _back(request: WorkspaceRequest) -> str:
    """Where the form came from, if that is a page of ours."""
    back = request.POST.get("next") or request.GET.get("next") or ""
    if url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}, require_https=request.is_secure()):
        return back
    return reverse("run-list", kwargs={"workspace": request.workspace.name})


def delete_page(request: WorkspaceRequest, runs: list[Run], back: str) -> HttpResponse:
    """Shows what a delete frees, and on POST does it."""
    preview = manage.run_delete_preview(runs)
    if request.method == "POST":
        manage.run_delete(runs, user=request.user, request=request)
        messages.success(request, ngettext("%(n)d run deleted.", "%(n)d runs deleted.", len(runs)) % {"n": len(runs)})
        return redirect(back)
    context = {
        "runs": runs,
        "preview": preview,
        "freed": preview.bytes + preview.snapshot_bytes,
        "blockers": [str(blocker) for blocker in preview.blockers],
        "ids": ",".join(run.run_id for run in runs),
        "back": back,
        "cancel_url": runs[0].get_absolute_url() if len(runs) == 1 else back,
    }
    return render(request, "runs/delete.html", context)


@workspace_page(Right.WRITE)
@require_http_methods(["GET", "HEAD", "POST"])
def run_bulk_delete(request: WorkspaceRequest) -> HttpResponse:
    ids = (request.POST.get("runs") or request.GET.get("runs", "")).split(",")
    runs = _chosen(request, ids)
    if not runs:
        raise NotFound(_("None of these runs is there any more."))
    return delete_page(request, runs, _back(request))
