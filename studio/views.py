"""The front door, the health check and a workspace's home page."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render

from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import visible_workspaces


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
def home(request: WorkspaceRequest) -> HttpResponse:
    return render(request, "studio/home.html")
