"""The run page: header, Overview, Environment, Details."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from compute import resources
from compute.drivers import registry
from compute.models import EnvironmentBuild
from runs import selectors, selectors_data
from runs.models import MetricSeries, Run
from runs.services.data import replaced
from runs.services.submit import run_resources
from runs.views import common
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.lib.htmx import render_page

MAX_CARDS = 60
MAX_CHILDREN = 100


@workspace_page()
@require_GET
def run_detail(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    run = common.run_of(request, run_id)
    context = _overview(run) | {
        "properties": list(run.property_rows.order_by("key")),
        "tags_list": list(run.tag_rows.order_by("key")),
        "command_line": " ".join(readable(run, run.command)) if run.command else "",
        "argument_words": readable(run, run.arguments),
        "container": container_of(run),
    }
    return common.run_page(request, run, "overview", context)


def container_of(run: Run) -> dict[str, Any]:
    """What of the run's container people see: ``image``, and ``resources`` as [(label, text)]. Empty without one."""
    if run.unit is None or run.target is None or not registry.driver_class(run.target.driver).containers:
        return {}
    asked = run_resources(run)
    told = [(label, resources.words(name, asked[name])) for name, label in resources.LABELS.items() if name in asked]
    return {"image": run.unit.spec.get("image") or "", "resources": told}


def readable(run: Run, words: list[str]) -> list[str]:
    """Words of a command with the names of datasets instead of their tokens."""
    if not any("${{" in word for word in words):
        return words
    names = {
        (f"{row.direction}puts", row.name): (row.label if row.direction == "in" else row.name) for row in run.data.all()
    }
    return [replaced(word, names) for word in words]


def _overview(run: Run) -> dict[str, Any]:
    """What of the Overview changes while the run goes on."""
    series = list(MetricSeries.objects.filter(run=run).order_by("name")[: MAX_CARDS + 1])
    scalars = [row for row in series if row.kind in {"scalar", "list"} and row.last is not None]
    parameters = list(run.parameters.order_by("name"))
    data, moving = selectors_data.run_data(run)
    children = list(run.children.select_related("experiment").order_by("id")[:MAX_CHILDREN])
    version = common.digest_of(
        [(row.name, row.count) for row in series],
        [(row.name, row.value) for row in parameters],
        [(child.pk, child.status) for child in children],
        [(row["name"], row["state"], row["label"], row["value"]) for row in data],
        moving,
        run.output_bytes,
        run.status,
    )
    return {
        "scalars": scalars[:MAX_CARDS],
        "more_metrics": len(series) > MAX_CARDS,
        "series_count": len(series),
        "parameters": parameters,
        "children": children,
        "data_rows": data,
        "data_moving": moving,
        "overview_version": version,
    }


@workspace_page()
@require_GET
def run_live(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    """The header again when something in it changed, else 204. An ended run's header does not ask again."""
    run = common.run_of(request, run_id)
    context = common.header_context(request, run)
    if request.GET.get("v") == context["version"] and context["live"]:
        return common.unchanged()
    response = render_page(request, "runs/parts/header.html", context)
    response.headers["HX-Trigger"] = "run-changed"
    return response


@workspace_page()
@require_GET
def run_overview_live(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    """Parameters, metric cards and children again when they changed, else 204."""
    run = common.run_of(request, run_id)
    context = _overview(run) | {"run": run, "live": common.is_live(run)}
    if request.GET.get("v") == context["overview_version"] and context["live"]:
        return common.unchanged()
    return render_page(request, "runs/parts/overview_live.html", context)


@workspace_page()
@require_GET
def run_environment(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    run = common.run_of(request, run_id)
    environment = run.environment
    build = None
    if environment is not None and run.target_id is not None:
        build = (
            EnvironmentBuild.objects.filter(content_hash=environment.content_hash, target_id=run.target_id)
            .select_related("unit")
            .first()
        )
    detail = build.detail if build else {}
    context = {
        "environment": environment,
        "build": build,
        "packages": packages_of(detail.get("packages")),
        "python": detail.get("python") or (environment.recipe.get("python") if environment else ""),
        "build_error": build_error(detail.get("error")),
        "recipe_text": recipe_text(environment.recipe) if environment else "",
    }
    return common.run_page(request, run, "environment", context)


def build_error(error: Any) -> str:
    return str(error.get("message") or error) if isinstance(error, dict) else str(error or "")


def packages_of(raw: Any) -> list[tuple[str, str]]:
    """(name, version) of a build's packages, however the driver lists them: a dict, ``name==version`` or pairs."""
    if isinstance(raw, dict):
        return sorted((str(name), str(version)) for name, version in raw.items())
    found = []
    for item in raw or []:
        if isinstance(item, str):
            name, _equals, version = item.partition("==")
            found.append((name.strip(), version.strip()))
        elif isinstance(item, dict):
            found.append((str(item.get("name", "")), str(item.get("version", ""))))
        elif isinstance(item, (list, tuple)) and len(item) == 2:
            found.append((str(item[0]), str(item[1])))
    return sorted(found)


def recipe_text(recipe: dict[str, Any]) -> str:
    """A recipe as the file that people know: a Dockerfile, conda YAML or requirements."""
    if recipe.get("dockerfile"):
        return str(recipe["dockerfile"])
    packages = list(recipe.get("packages") or [])
    if sorted(recipe.get("order") or []) == sorted(packages):
        packages = list(recipe.get("order") or [])  # as they were typed, which is the order of an image's layers
    python = recipe.get("python")
    if recipe.get("kind") == "conda":
        lines = ["dependencies:"]
        if python:
            lines.append(f"  - python={python}")
        lines += [f"  - {name}" for name in recipe.get("conda_packages") or []]
        if packages:
            lines += ["  - pip", "  - pip:"] + [f"      - {name}" for name in packages]
        if recipe.get("channels"):
            lines = ["channels:", *[f"  - {name}" for name in recipe["channels"]], *lines]
        return "\n".join(lines)
    if recipe.get("kind") == "system":
        return ""
    return "\n".join(([f"# Python {python}"] if python else []) + packages)


@workspace_page()
@require_GET
def run_raw(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    run = common.run_of(request, run_id)
    text = json.dumps(selectors.run_details(run), indent=2, ensure_ascii=False, default=str)
    return common.run_page(request, run, "details", {"raw": text, "raw_title": _("Run as JSON")})


@workspace_page()
@require_GET
def run_raw_json(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    run = common.run_of(request, run_id)
    response = JsonResponse(selectors.run_details(run), json_dumps_params={"indent": 2, "ensure_ascii": False})
    response.headers["Content-Disposition"] = f'attachment; filename="{run.run_id}.json"'
    return response
