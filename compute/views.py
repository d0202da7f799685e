"""Pages of compute targets, below ``/w/<workspace>/compute/``."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from compute import selectors, services, states
from compute.drivers import registry
from compute.forms import TargetForm
from compute.models import Target, Unit, UnitKind
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.lib.errors import AtelierError, NotFound
from studio.lib.forms import add_errors
from studio.lib.htmx import render_page

UNITS_SHOWN = 50
RECENT = 10


def _target(request: WorkspaceRequest, name: str) -> Target:
    found = Target.objects.filter(workspace=request.workspace, name=name).select_related("created_by").first()
    if found is None:
        raise NotFound(_("There is no compute target %(name)s in this workspace.") % {"name": name})
    return found


def _load(target: Target) -> dict[str, Any]:
    """Slots of a target as the meter draws them. A target without a limit has no meter."""
    capacity = selectors.capacity(target)
    return {
        "total": capacity.total,
        "used": capacity.used,
        "queued": capacity.detail.get("queued", 0),
        "free": None if capacity.total is None else max(capacity.total - capacity.used, 0),
    }


@workspace_page()
@require_GET
def target_list(request: WorkspaceRequest) -> HttpResponse:
    targets = Target.objects.filter(workspace=request.workspace).select_related("created_by").order_by("name")
    rows = [
        {"target": target, "load": _load(target), "kind": registry.driver_class(target.driver).title}
        for target in targets
    ]
    return render(request, "compute/target_list.html", {"rows": rows})


def _living(target: Target) -> list[dict[str, Any]]:
    """The target's own units that live, with the place in the queue of those that wait.

    A machine's slots are shared between workspaces: the places count everybody's units, the list names only ours.
    """
    # The relation is named by runs; compute itself imports nothing of it.
    rows = list(selectors.units_active(target).select_related("run__workspace", "run__created_by")[:UNITS_SHOWN])
    waiting = selectors.units_waiting(target).values_list("pk", flat=True)
    places = {pk: place for place, pk in enumerate(waiting, 1)} if any(u.state == states.QUEUED for u in rows) else {}
    return [_unit_row(unit) | {"place": places.get(unit.pk)} for unit in rows]


def _unit_row(unit: Unit) -> dict[str, Any]:
    return {
        "unit": unit,
        "run": getattr(unit, "run", None),
        "status": states.status(
            unit.state,
            cancel_requested=unit.cancel_requested_at is not None,
            unreachable=unit.unreachable_since is not None,
        ),
        "seconds": (unit.ended_at - unit.started_at).total_seconds() if unit.started_at and unit.ended_at else None,
    }


def _recent(target: Target) -> list[dict[str, Any]]:
    rows = Unit.objects.filter(target=target, state__in=list(states.TERMINAL)).exclude(kind=UnitKind.SERVICE)
    return [
        _unit_row(unit) for unit in rows.select_related("run__workspace", "run__created_by").order_by("-pk")[:RECENT]
    ]


@workspace_page()
@require_GET
def target_detail(request: WorkspaceRequest, name: str) -> HttpResponse:
    """The page, and for htmx its moving part: slots, what lives, what ended."""
    target = _target(request, name)
    living = _living(target)
    driver = registry.driver_class(target.driver)
    settings = [(field.label, target.config.get(field.name)) for field in driver.fields if not field.secret]
    context = {
        "target": target,
        "kind": driver.title,
        "summary": driver.summary,
        "settings": settings,
        "load": _load(target),
        "living": living,
        "recent": _recent(target),
        "more": len(living) == UNITS_SHOWN,
    }
    return render_page(request, "compute/target_detail.html", context, part="live")


@workspace_page(write=Right.WRITE)
@require_POST
def target_check(request: WorkspaceRequest, name: str) -> HttpResponse:
    """The test button: asks the target now. htmx gets the list of what was found."""
    target = _target(request, name)
    services.target_check(target)
    if not getattr(request, "htmx", False):
        return redirect("target-detail", workspace=request.workspace.name, name=name)
    return render(request, "compute/target_detail.html#checks", {"target": target, "checked_now": True})


def _kinds() -> list[dict[str, str]]:
    """What can be attached. Plain values: a template would call a driver's class."""
    return [{"name": name, "title": kind.title, "summary": kind.summary} for name, kind in registry.DRIVERS.items()]


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_http_methods(["GET", "HEAD", "POST"])
def target_attach(request: WorkspaceRequest) -> HttpResponse:
    """The fields of the chosen driver; the first kind when none was chosen."""
    driver = request.POST.get("driver") or request.GET.get("driver") or next(iter(registry.DRIVERS))
    if driver not in registry.DRIVERS:
        raise NotFound(_("There is no kind of compute named %(name)s.") % {"name": driver})
    form = TargetForm(request.POST or None, driver=driver)
    if request.method == "POST" and form.is_valid():
        try:
            target = services.target_create(
                workspace=request.workspace,
                user=request.user,
                name=form.cleaned_data["name"],
                driver=driver,
                config=form.config,
                secrets=form.secrets,
                description=form.cleaned_data["description"],
                request=request,
            )
        except AtelierError as error:
            add_errors(form, error)
        else:
            messages.success(request, _("%(name)s is attached.") % {"name": target.name})
            return redirect("target-detail", workspace=request.workspace.name, name=target.name)
    context = {"form": form, "driver": driver, "drivers": _kinds()}
    return render(request, "compute/target_attach.html", context, status=422 if form.errors else 200)


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_http_methods(["GET", "HEAD", "POST"])
def target_edit(request: WorkspaceRequest, name: str) -> HttpResponse:
    target = _target(request, name)
    form = TargetForm(request.POST or None, driver=target.driver, target=target)
    if request.method == "POST" and form.is_valid():
        try:
            services.target_update(
                target,
                user=request.user,
                config=form.config,
                secrets=form.secrets,
                description=form.cleaned_data["description"],
                request=request,
            )
        except AtelierError as error:
            add_errors(form, error)
        else:
            messages.success(request, _("The settings of %(name)s are saved.") % {"name": name})
            return redirect("target-detail", workspace=request.workspace.name, name=name)
    return render(
        request, "compute/target_edit.html", {"form": form, "target": target}, status=422 if form.errors else 200
    )


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_POST
def target_delete(request: WorkspaceRequest, name: str) -> HttpResponse:
    target = _target(request, name)
    try:
        services.target_delete(target, user=request.user, request=request)
    except AtelierError as error:
        messages.error(request, error.detail)
        return redirect("target-detail", workspace=request.workspace.name, name=name)
    messages.success(request, _("%(name)s is detached. What ran there keeps its history.") % {"name": name})
    return redirect("target-list", workspace=request.workspace.name)
