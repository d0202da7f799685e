"""Pages of compute targets, below ``/w/<workspace>/compute/``."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from compute import host_keys, selectors, services, states, target_page
from compute.drivers import registry
from compute.forms import TargetForm
from compute.models import Target, Unit, UnitKind
from compute.spec import Capacity
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.lib.errors import AtelierError, NotFound
from studio.lib.forms import add_errors

UNITS_SHOWN = 20
RECENT = 10
PAGE = "compute/target_detail.html"
# The parts of the page that say what the target is; they are sent again when that changed.
ABOUT = ("state", "top", "checks", "facts")


def target_of(request: WorkspaceRequest, name: str) -> Target:
    """The target of this workspace; NotFound for every other name."""
    found = Target.objects.filter(workspace=request.workspace, name=name).select_related("created_by").first()
    if found is None:
        raise NotFound(_("There is no compute target %(name)s in this workspace.") % {"name": name})
    return found


def _load(capacity: Capacity) -> dict[str, Any]:
    """Slots of a target as the meter draws them. A target without a limit has no meter."""
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
    loads = selectors.capacities(targets)
    rows: list[dict[str, Any]] = [
        {"target": target, "load": _load(loads[target.pk]), "kind": target_page.kind_of(target.driver)}
        for target in targets
    ]
    context = {"rows": rows, "containers": any(row["kind"]["containers"] for row in rows)}
    return render(request, "compute/target_list.html", context)


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


def _about(target: Target) -> dict[str, Any]:
    """What the target is and whether it can be used, as the parts named in ``ABOUT`` draw it."""
    return {
        "target": target,
        "kind": target_page.kind_of(target.driver),
        "facts": target_page.facts_of(target),
        "settings": target_page.settings_of(target),
        "checks": selectors.target_checks(target),
        "host_key": target_page.host_key_of(target),
        "version": target_page.version_of(target),
        "moving": target.state in states.TargetState.MOVING,
        "answers": not any(problem.get("stops") for problem in target.problems),
    }


def _work(target: Target) -> dict[str, Any]:
    """What runs, waits and ended on the target."""
    living = _living(target)
    total = selectors.units_active(target).count() if len(living) == UNITS_SHOWN else len(living)
    return {
        "load": _load(selectors.capacity(target)),
        "living": living,
        "living_total": total,
        "recent": _recent(target),
    }


@workspace_page()
@require_GET
def target_detail(request: WorkspaceRequest, name: str) -> HttpResponse:
    """The page. htmx gets its moving part: slots, what lives, what ended; and what the target says of itself where that
    is not what the page has (``v``) any more."""
    try:
        target = target_of(request, name)
    except NotFound:
        gone = Target.everything.filter(workspace=request.workspace, name=name).exclude(deleted_at=None).exists()
        if request.htmx and gone:
            messages.success(request, _("%(name)s is detached. What ran there keeps its history.") % {"name": name})
            return HttpResponse(
                headers={"HX-Redirect": reverse("target-list", kwargs={"workspace": request.workspace.name})}
            )
        raise
    context = {**_about(target), **_work(target)}
    if not request.htmx or request.htmx.history_restore_request:
        context["snippets"] = target_page.snippets_of(target)
        response = render(request, PAGE, context)
    else:
        html = str(render_to_string(f"{PAGE}#live", context, request))
        if request.GET.get("v") != context["version"]:
            html += _parts(request, context)
        response = HttpResponse(html)
    response.headers["Vary"] = "HX-Request"
    return response


def _parts(request: WorkspaceRequest, context: dict[str, Any], *, but: str = "") -> str:
    """The parts of ``ABOUT`` to be swapped into their places, wherever the answer itself goes."""
    return "".join(
        render_to_string(f"{PAGE}#{part}", {**context, "oob": True}, request) for part in ABOUT if part != but
    )


@workspace_page(write=Right.WRITE)
@require_POST
def target_check(request: WorkspaceRequest, name: str) -> HttpResponse:
    """The test button: asks the target now. htmx gets the list of what was found."""
    target = target_of(request, name)
    services.target_check(target)
    if not getattr(request, "htmx", False):
        return redirect("target-detail", workspace=request.workspace.name, name=name)
    context = _about(target)
    return HttpResponse(render_to_string(f"{PAGE}#checks", context, request) + _parts(request, context, but="checks"))


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_POST
def target_host_key(request: WorkspaceRequest, name: str) -> HttpResponse:
    """Trust the host key that was looked at (``fingerprint``). Pressing twice says it once."""
    target = target_of(request, name)
    if not target.offered_key and host_keys.same(target.host_key, request.POST.get("fingerprint", "")):
        return redirect("target-detail", workspace=request.workspace.name, name=name)
    try:
        services.target_confirm_key(
            target, fingerprint=request.POST.get("fingerprint", ""), user=request.user, request=request
        )
    except AtelierError as error:
        messages.error(request, error.detail)
    else:
        if target.problems:
            messages.warning(request, _("The host key is confirmed. The test found more: see the check list."))
        else:
            messages.success(request, _("The host key is confirmed, and %(name)s can be used.") % {"name": name})
    return redirect("target-detail", workspace=request.workspace.name, name=name)


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_http_methods(["GET", "HEAD", "POST"])
def target_attach(request: WorkspaceRequest) -> HttpResponse:
    """The fields of the chosen driver; the first kind when none was chosen."""
    driver = request.POST.get("driver") or request.GET.get("driver") or next(iter(registry.DRIVERS))
    if driver not in registry.DRIVERS:
        raise NotFound(_("There is no kind of compute named %(name)s.") % {"name": driver[:60]})
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
                host_key=form.cleaned_data.get("host_key", ""),
                request=request,
            )
        except AtelierError as error:
            add_errors(form, error)
        else:
            if target.state == states.TargetState.FAILED:
                messages.warning(request, _("%(name)s is attached. The test found problems.") % {"name": target.name})
            else:
                messages.success(request, _("%(name)s is attached.") % {"name": target.name})
            return redirect("target-detail", workspace=request.workspace.name, name=target.name)
    context = {"form": form, "kind": target_page.kind_of(driver), "kinds": target_page.kinds()}
    return render(request, "compute/target_attach.html", context, status=422 if form.errors else 200)


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_http_methods(["GET", "HEAD", "POST"])
def target_edit(request: WorkspaceRequest, name: str) -> HttpResponse:
    target = target_of(request, name)
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
    context = {"form": form, "target": target, "kind": target_page.kind_of(target.driver)}
    return render(request, "compute/target_edit.html", context, status=422 if form.errors else 200)


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_http_methods(["GET", "HEAD", "POST"])
def target_delete(request: WorkspaceRequest, name: str) -> HttpResponse:
    """What is detached and what lives there, to be confirmed. ``cancel``: what lives there is canceled first."""
    target = target_of(request, name)
    if request.method == "POST":
        try:
            gone = services.target_delete(target, user=request.user, request=request, cancel="cancel" in request.POST)
        except AtelierError as error:
            messages.error(request, error.detail)
            return redirect("target-delete", workspace=request.workspace.name, name=name)
        if not gone:
            messages.info(request, _("%(name)s is detached when the last of its runs has ended.") % {"name": name})
            return redirect("target-detail", workspace=request.workspace.name, name=name)
        messages.success(request, _("%(name)s is detached. What ran there keeps its history.") % {"name": name})
        return redirect("target-list", workspace=request.workspace.name)
    context = {"target": target, "living": _living(target), "total": selectors.units_active(target).count()}
    return render(request, "compute/target_detach.html", context)
