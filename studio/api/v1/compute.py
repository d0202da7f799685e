"""Environments and their builds."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Router, Status

from compute import services
from compute.environments import check_packages, choose_python
from compute.models import Environment, EnvironmentBuild
from compute.states import TargetState
from studio.accounts.policy import Right
from studio.api.access import Ws, user_of, workspace_of
from studio.api.v1.paging import Cursor, Limit, by_key
from studio.api.v1.schemas import PageOf
from studio.api.v1.schemas_compute import (
    BuildOut,
    CheckIn,
    CheckOut,
    EnvironmentDetail,
    EnvironmentIn,
    EnvironmentOut,
    PrepareIn,
)
from studio.api.v1.submit import environment_find, recipe_of
from studio.api.v1.targets import target_named
from studio.lib.errors import Conflict, Invalid

router = Router(tags=["Compute and environments"])


def build_out(build: EnvironmentBuild) -> dict[str, Any]:
    return {
        "content_hash": build.content_hash,
        "target": build.target.name,
        "state": build.state,
        "detail": build.detail or {},
        "size": build.size,
        "log_stream": build.unit.key if build.unit is not None else None,
        "created_at": build.created_at,
        "ready_at": build.ready_at,
    }


def environment_out(environment: Environment, workspace: str) -> dict[str, Any]:
    return {
        "name": environment.name,
        "version": environment.version,
        "recipe": environment.recipe,
        "content_hash": environment.content_hash,
        "curated": environment.curated,
        "anonymous": environment.anonymous,
        "description": environment.description,
        "tags": environment.tags or {},
        "created_at": environment.created_at,
        "created_by": environment.created_by.label if environment.created_by is not None else None,
        "url": f"{settings.ATELIER_URL}/w/{workspace}/environments/{environment.name}/",
    }


@router.get("/environments", response=PageOf[EnvironmentOut])
def environment_list(
    request: HttpRequest,
    workspace: Ws,
    name: str | None = None,
    anonymous: bool = False,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Any:
    """Environments with every version, the newest first; `name` for those of one name."""
    place = workspace_of(request, workspace)
    rows = Environment.objects.filter(workspace=place).select_related("created_by")
    if not anonymous:
        rows = rows.filter(anonymous=False)
    if name is not None:
        rows = rows.filter(name=name)
    found, after = by_key(rows, "id", cursor, limit, newest_first=True)
    return {"items": [environment_out(row, place.name) for row in found], "next": after}


@router.post("/environments", response={201: EnvironmentOut})
def environment_register(request: HttpRequest, workspace: Ws, data: EnvironmentIn) -> Any:
    """Register a recipe under a name. A recipe that the name has already gives that version back."""
    place = workspace_of(request, workspace, Right.WRITE)
    made = services.environment_register(
        workspace=place,
        name=data.name,
        recipe=recipe_of(data.recipe),
        user=user_of(request),
        description=data.description,
        tags=data.tags,
    )
    return Status(201, environment_out(made, place.name))


@router.post("/environments/check", response=CheckOut)
def environment_check(request: HttpRequest, workspace: Ws, data: CheckIn) -> Any:
    """Look, without building anything, whether a recipe can be had: every package that cannot is named."""
    place = workspace_of(request, workspace, Right.WRITE)
    recipe = recipe_of(data.recipe)
    problems: list[dict[str, Any]] = []
    warnings: list[str] = [str(note) for note in recipe.notes]
    python = None
    try:
        python, _path, warning = choose_python(
            recipe.python, recipe.strict or bool(place.preferences.get("strict_python"))
        )
        if warning:
            warnings.append(warning)
        problems += [dataclasses.asdict(one) for one in check_packages(recipe)]
    except Invalid as error:
        problems.append({"code": "python", "message": error.detail, "field": "python"})
    return {"problems": problems, "warnings": warnings, "python": python}


@router.get("/environments/{name}", response=EnvironmentDetail)
def environment_get(request: HttpRequest, workspace: Ws, name: str, version: int | None = None) -> Any:
    """One version of an environment, the newest where none is named, with its builds."""
    place = workspace_of(request, workspace)
    found = environment_find(place, name, version)
    versions = (
        Environment.objects.filter(workspace=place, name=name).order_by("-version").values_list("version", flat=True)
    )
    builds = EnvironmentBuild.objects.filter(content_hash=found.content_hash, target__workspace=place)
    return {
        **environment_out(found, place.name),
        "versions": list(versions[:1000]),
        "builds": [build_out(build) for build in builds.select_related("target", "unit").order_by("pk")],
    }


@router.post("/environments/{name}/prepare", response={202: BuildOut})
def environment_prepare(request: HttpRequest, workspace: Ws, name: str, data: PrepareIn | None = None) -> Any:
    """Have an environment built on a target, so that runs need not wait for it."""
    data = data or PrepareIn()
    place = workspace_of(request, workspace, Right.WRITE)
    environment, target = environment_find(place, name, data.version), target_named(place, data.target)
    if target.state == TargetState.CREATING:
        raise Conflict(_("The target %(name)s is not ready yet.") % {"name": target.name})
    prepare = services.environment_rebuild if data.rebuild else services.environment_prepare
    return Status(202, build_out(prepare(environment, target)))
