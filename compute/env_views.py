"""Pages of environments, below ``/w/<workspace>/environments/``."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from compute import env_selectors, env_services, target_page
from compute.environments import Recipe, check_packages, choose_python, local_pythons, recipe_from_dict
from compute.forms import EnvironmentForm
from compute.models import Environment, EnvironmentBuild, Target
from compute.states import TargetState
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.lib.errors import AtelierError, Invalid, NotFound
from studio.lib.forms import add_errors
from studio.lib.htmx import render_page

RUNS_SHOWN = 10


@workspace_page()
@require_GET
def environment_list(request: WorkspaceRequest) -> HttpResponse:
    search, kind = request.GET.get("search", "").strip(), request.GET.get("kind", "")
    page = env_selectors.environments_page(
        request.workspace, search=search, kind=kind, cursor=request.GET.get("cursor") or None
    )
    targets = Target.objects.filter(workspace=request.workspace).count()
    context = {"page": page, "search": search, "kind": kind, "several_targets": targets > 1}
    return render_page(request, "compute/environment_list.html", context, part="rows")


def _builds(environment: Environment, recipe: Recipe) -> list[dict[str, Any]]:
    """Every target of the workspace with its build of this environment, if there is one. ``fits``: it can build it."""
    built = {build.target_id: build for build in env_selectors.environment_builds(environment)}
    rows = []
    for target in Target.objects.filter(workspace=environment.workspace).order_by("name"):
        kind = target_page.kind_of(target.driver)
        fits = (kind["containers"] or not recipe.needs_containers) and target.state != TargetState.DETACHING
        rows.append({"target": target, "build": built.get(target.pk), "kind": kind, "fits": fits})
    return rows


def _shown_build(rows: list[dict[str, Any]], wanted: str) -> EnvironmentBuild | None:
    """The build whose packages and log the page shows: the one asked for, else the first that moves, else the first."""
    builds = [row["build"] for row in rows if row["build"] is not None]
    for build in builds:
        if build.target.name == wanted:
            return build
    return next((build for build in builds if build.state == "building"), builds[0] if builds else None)


@workspace_page()
@require_GET
def environment_detail(request: WorkspaceRequest, name: str, version: int | None = None) -> HttpResponse:
    """The page, and for htmx its moving part: the builds."""
    environment = env_selectors.environment_get(request.workspace, name, version)
    recipe = recipe_from_dict(environment.recipe)
    rows = _builds(environment, recipe)
    shown = _shown_build(rows, request.GET.get("target", ""))
    context = {
        "environment": environment,
        "recipe": recipe,
        "builds": rows,
        "nothing_fits": not any(row["fits"] for row in rows),
        "shown": shown,
        "moving": any(row["build"] and row["build"].state == "building" for row in rows),
    }
    if request.htmx and not context["moving"]:
        # The build has ended: the packages and the end of the log are on the whole page.
        return HttpResponse(headers={"HX-Refresh": "true"})
    if not request.htmx:
        context["versions"] = env_selectors.environment_versions(environment)[:50]
        # The relation is named by runs; compute itself imports nothing of it.
        context["runs"] = environment.runs.select_related("workspace", "experiment", "created_by").order_by("-pk")[
            :RUNS_SHOWN
        ]
    return render_page(request, "compute/environment_detail.html", context, part="builds")


def _initial(request: WorkspaceRequest) -> dict[str, Any]:
    """What the form starts with when a new version is made from another: ?from=name or ?from=name:version."""
    name, _colon, version = request.GET.get("from", "").partition(":")
    if not name:
        return {}
    environment = env_selectors.environment_get(request.workspace, name, int(version) if version.isdigit() else None)
    recipe = recipe_from_dict(environment.recipe)
    return {
        "name": "" if environment.curated else environment.name,
        "description": environment.description,
        "kind": "dockerfile" if recipe.dockerfile else "pip",
        "packages": "\n".join(recipe.typed),
        "python": recipe.python or "",
        "strict": recipe.strict,
        "base_image": recipe.base_image or "",
        "dockerfile": recipe.dockerfile or "",
    }


def _new_context(request: WorkspaceRequest, form: EnvironmentForm) -> dict[str, Any]:
    targets = Target.objects.filter(workspace=request.workspace).order_by("pk")
    return {
        "form": form,
        "pythons": [version for version, _path in local_pythons()],
        "targets": [(target.name, target_page.kind_of(target.driver)) for target in targets],
        "wanted": request.POST.get("target") or request.GET.get("target", ""),
        "base_image": request.workspace.preferences.get("base_image") or settings.ATELIER_BASE_IMAGE,
    }


@workspace_page(Right.WRITE)
@require_http_methods(["GET", "HEAD", "POST"])
def environment_new(request: WorkspaceRequest) -> HttpResponse:
    if request.method == "POST":
        form = EnvironmentForm(request.POST, request.FILES)
        if form.is_valid() and (made := _register(request, form)) is not None:
            return redirect(
                "environment-version", workspace=request.workspace.name, name=made.name, version=made.version
            )
    else:
        form = EnvironmentForm(initial=_initial(request))
    context = _new_context(request, form)
    return render(request, "compute/environment_new.html", context, status=422 if form.errors else 200)


def _register(request: WorkspaceRequest, form: EnvironmentForm) -> Environment | None:
    """The environment, its build started where the button said so; None when the service refused: the form says why."""
    try:
        made = env_services.environment_register(
            workspace=request.workspace,
            name=form.cleaned_data["name"],
            recipe=form.recipe,
            user=request.user,
            description=form.cleaned_data["description"],
        )
    except AtelierError as error:
        add_errors(form, error)
        return None
    if "prepare" in request.POST:
        _build_first(request, made, form.recipe)
    else:
        messages.success(request, _("%(name)s is registered.") % {"name": made})
    return made


def _build_first(request: WorkspaceRequest, made: Environment, recipe: Recipe) -> None:
    """Builds on the target that the form names, without a name on the first that can, those in order before others."""
    targets = Target.objects.filter(workspace=request.workspace).order_by("pk")
    if wanted := request.POST.get("target"):
        targets = targets.filter(name=wanted)
    fitting = [one for one in targets if not recipe.needs_containers or target_page.kind_of(one.driver)["containers"]]
    fitting.sort(key=lambda one: one.state != TargetState.SUCCEEDED)
    if fitting:
        _prepare(request, made, fitting[0], rebuild=False)
    elif recipe.needs_containers:
        messages.warning(
            request, _("%(name)s is registered. It is built on a Docker target, and none was chosen.") % {"name": made}
        )


@workspace_page(Right.WRITE)
@require_POST
def environment_check(request: WorkspaceRequest) -> HttpResponse:
    """What of a recipe cannot be had, before it is registered. htmx swaps the answer below the form."""
    form = EnvironmentForm({**request.POST.dict(), "name": request.POST.get("name") or "check"}, request.FILES)
    context: dict[str, Any] = {"form": form}
    if form.is_valid() and form.recipe.dockerfile:
        context["dockerfile"] = True
    elif form.is_valid():
        try:
            version, _path, warning = choose_python(form.recipe.python, form.recipe.strict)
            context |= {"python": version, "warning": warning, "recipe": form.recipe}
            context["problems"] = check_packages(form.recipe)
        except Invalid as error:
            add_errors(form, error)
    return render(request, "compute/environment_new.html#check", context)


@workspace_page(Right.WRITE)
@require_POST
def environment_prepare(request: WorkspaceRequest, name: str, version: int) -> HttpResponse:
    """Build on a target now, or again (``rebuild``)."""
    environment = env_selectors.environment_get(request.workspace, name, version)
    target = Target.objects.filter(workspace=request.workspace, name=request.POST.get("target", "")).first()
    if target is None:
        raise NotFound(_("There is no such compute target in this workspace."))
    _prepare(request, environment, target, rebuild="rebuild" in request.POST)
    return redirect("environment-version", workspace=request.workspace.name, name=name, version=version)


def _prepare(request: WorkspaceRequest, environment: Environment, target: Target, *, rebuild: bool) -> None:
    try:
        if rebuild:
            build = env_services.environment_rebuild(environment, target)
        else:
            build = env_services.environment_prepare(environment, target)
    except AtelierError as error:
        messages.error(request, error.detail)
        return
    names = {"name": environment, "target": target.name}
    if build.state == "ready":
        messages.success(request, _("%(name)s is ready on %(target)s.") % names)
    else:
        messages.info(request, _("%(name)s is being built on %(target)s.") % names)
