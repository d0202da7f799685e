"""What people do to one run: cancel, archive, delete, tags, notes, name."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from runs.models import Run
from runs.services import manage
from runs.views import common, lists
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.lib.errors import AtelierError


def _to_run(request: WorkspaceRequest, run: Run) -> HttpResponse:
    """Back to the run; an htmx form is told to go there too."""
    if request.htmx:
        return HttpResponse(status=204, headers={"HX-Redirect": run.get_absolute_url()})
    return redirect(run)


@workspace_page()
@require_POST
def run_cancel(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    run = common.run_of(request, run_id)
    force = request.POST.get("force") == "1"
    manage.run_cancel(run, user=request.user, force=force, request=request)
    messages.success(request, _("The run is being killed.") if force else _("The run was asked to stop."))
    return _to_run(request, run)


@workspace_page()
@require_POST
def run_archive(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    run = common.run_of(request, run_id)
    if run.archived_at:
        manage.run_unarchive(run, user=request.user, request=request)
        messages.success(request, _("The run is back in the lists."))
    else:
        manage.run_archive(run, user=request.user, request=request)
        messages.success(request, _("The run is archived: lists leave it out, and nothing of it is deleted."))
    return _to_run(request, run)


@workspace_page(Right.WRITE)
@require_http_methods(["GET", "HEAD", "POST"])
def run_delete(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    run = common.run_of(request, run_id)
    back = reverse("experiment-detail", kwargs={"workspace": request.workspace.name, "name": run.experiment.name})
    return lists.delete_page(request, [run], back)


@workspace_page()
@require_POST
def run_tags(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    """Sets ``key`` to ``value`` (empty: a tag without a value), or drops the key named by ``remove``."""
    run = common.run_of(request, run_id)
    error = ""
    try:
        if request.POST.get("remove"):
            manage.run_untag(run, request.POST["remove"], user=request.user, request=request)
        else:
            key, value = request.POST.get("key", "").strip(), request.POST.get("value", "").strip()
            if key:
                manage.run_tag(run, key, value or None, user=request.user, request=request)
            else:
                error = _("A tag needs a name.")
    except AtelierError as problem:
        error = problem.detail
    if not request.htmx:
        if error:
            messages.error(request, error)
        return redirect(run)
    context = {"run": run, "tags_list": list(run.tag_rows.order_by("key")), "tag_error": error}
    return render(request, "runs/parts/tags.html", context, status=422 if error else 200)


@workspace_page()
@require_POST
def run_notes(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    run = common.run_of(request, run_id)
    manage.run_set_notes(run, request.POST.get("notes", "").replace("\r\n", "\n"), user=request.user, request=request)
    if not request.htmx:
        return redirect(run)
    run.refresh_from_db(fields=["notes"])
    return render(request, "runs/parts/notes.html", {"run": run, "saved": True})


@workspace_page()
@require_POST
def run_rename(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    run = common.run_of(request, run_id)
    manage.run_rename(run, request.POST.get("name", "").strip(), user=request.user, request=request)
    return _to_run(request, run)
