"""The front door, the health check and a workspace's home page."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET

from studio import overview
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right, rights, visible_workspaces
from studio.lib.htmx import render_page


@login_required
def index(request: HttpRequest) -> HttpResponse:
    """To the first workspace, or to a page that says how to get into one."""
    first = visible_workspaces(request.user).first()  # type: ignore[arg-type]
    if first is not None:
        return redirect("home", workspace=first.name)
    return render(request, "studio/no_workspace.html")


def healthz(request: HttpRequest) -> HttpResponse:
    """200 once the process answers; ``up`` and load balancers ask this."""
    return JsonResponse({"status": "ok"})


@workspace_page()
@require_GET
def home(request: WorkspaceRequest) -> HttpResponse:
    """The page, and for htmx its moving part: what runs now, and the latest runs."""
    moving = overview.activity(request.workspace)
    if request.htmx:
        return render_page(request, "studio/home.html", moving, part="activity")
    found = overview.assets(request.workspace)
    allowed = rights(request.workspace_role)
    steps = overview.first_steps(
        request.workspace,
        request.user,
        runs=moving["total"],
        owner=Right.MANAGE in allowed,
        writer=Right.WRITE in allowed,
        found=found,
    )
    done = sum(step.done for step in steps)
    return render_page(request, "studio/home.html", {**moving, **found, "steps": steps, "steps_done": done})
