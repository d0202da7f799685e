"""Environments as rows: registering recipes, and having each built exactly once per target.

Who wants to run something calls ``environment_prepare`` and looks at the build's state; ``build_finished`` says when
to look again.
"""

from __future__ import annotations

import datetime as dt
import json
import platform
import re
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compute import states
from compute.build_rows import BUILDING, FAILED, READY, claim, failure, is_over, used
from compute.drivers.local import machine_python
from compute.environments import Recipe, choose_python, content_hash, recipe_from_dict
from compute.images import builds as images
from compute.images.builds import base_image_for, image_for, reuse_note
from compute.models import Environment, EnvironmentBuild, Target, Unit, UnitKind
from compute.resolving import uv_binary
from compute.shim import build_venv
from compute.signals import build_finished
from studio.accounts.models import User, Workspace
from studio.accounts.services import audit
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid
from studio.lib.names import clean_json, clean_name, clean_text

__all__ = [
    "BUILDING",
    "CURATED",
    "FAILED",
    "READY",
    "base_image_for",
    "base_prepare",
    "build_end",
    "ensure_curated",
    "environment_missing",
    "environment_prepare",
    "environment_rebuild",
    "environment_refusal",
    "environment_register",
    "image_for",
    "python_for",
    "reuse_note",
]

BUILD_TIME_LIMIT_S = 3600.0
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")

CURATED: dict[str, tuple[str, Recipe]] = {
    "system": (
        "This machine's own Python, with what is installed there.",
        Recipe(kind="system"),
    ),
    "AzureML-Minimal": ("Python and nothing else: the azureml names are always there.", Recipe(kind="pip")),
    "AzureML-Tutorial": (
        "scikit-learn, pandas, NumPy, joblib, Matplotlib, and DuckDB and pyarrow to read datasets.",
        Recipe(kind="pip", packages=["duckdb", "joblib", "matplotlib", "numpy", "pandas", "pyarrow", "scikit-learn"]),
    ),
    "AzureML-sklearn": (
        "scikit-learn, pandas, NumPy and joblib.",
        Recipe(kind="pip", packages=["joblib", "numpy", "pandas", "scikit-learn"]),
    ),
    "AzureML-PySpark": (
        "PySpark, pandas and pyarrow. Spark needs Java 17 or later where it runs.",
        Recipe(kind="pip", packages=["pandas", "pyarrow", "pyspark"]),
    ),
}


def _labels(tags: dict[str, Any] | None) -> dict[str, Any]:
    """Tags whose names and texts hold no control character."""
    return {
        clean_name(key, field="tags"): clean_text(value, field="tags") if isinstance(value, str) else value
        for key, value in (tags or {}).items()
    }


def environment_register(
    *,
    workspace: Workspace,
    name: str,
    recipe: Recipe,
    user: User | None,
    curated: bool = False,
    anonymous: bool = False,
    description: str = "",
    tags: dict[str, Any] | None = None,
) -> Environment:
    """The environment of this name and content: an existing version when one is equal, else the next one.

    An anonymous one may come without a name. Raises Invalid for an unusable name, Conflict for a curated one's.
    """
    digest = content_hash(recipe)
    name = name.strip() or (f"anonymous-{digest[:12]}" if anonymous else "")
    if not _NAME.match(name):
        raise Invalid(
            _("Use up to 128 letters, digits, dots, hyphens and underscores, starting with a letter or digit."),
            field="name",
        )
    if not curated and Environment.objects.filter(workspace=workspace, name=name, curated=True).exists():
        raise Conflict(
            _("%(name)s comes with the studio and does not change. Choose another name.") % {"name": name}, field="name"
        )
    description = clean_text(description, field="description")
    labels = _labels(tags)
    stored = clean_json(recipe.to_dict(), field="recipe")
    for _attempt in range(5):
        same_name = Environment.objects.filter(workspace=workspace, name=name).order_by("-version")
        for known in same_name.filter(content_hash=digest):
            if _orderless(known.recipe) == _orderless(stored):
                return known
        newest = same_name.values_list("version", flat=True).first() or 0
        try:
            with transaction.atomic():
                made = Environment.objects.create(
                    workspace=workspace,
                    name=name,
                    version=newest + 1,
                    recipe=stored,
                    content_hash=digest,
                    curated=curated,
                    anonymous=anonymous,
                    description=description,
                    tags=labels,
                    created_by=user,
                )
                if user is not None and not anonymous:
                    audit(user, "environment.register", workspace=workspace, object=made, label=str(made))
        except IntegrityError:
            continue  # somebody registered the same number in this moment
        return made
    raise Conflict(_("%(name)s is being registered by others right now. Try again.") % {"name": name}, field="name")


def _orderless(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored recipe without the order in which its packages were typed."""
    return {name: value for name, value in stored.items() if name != "order"}


def ensure_curated(workspace: Workspace) -> list[Environment]:
    """The environments that every workspace has from the start. Idempotent."""
    return [
        environment_register(workspace=workspace, name=name, recipe=recipe, user=None, curated=True, description=text)
        for name, (text, recipe) in CURATED.items()
    ]


def environment_prepare(
    environment: Environment, target: Target, *, since: dt.datetime | None = None
) -> EnvironmentBuild:
    """The build of an environment on a target, started now when there is none. Never builds the same twice at once.

    A build that failed is started again only when it failed before ``since`` (the moment when the caller's own unit
    was made): so a new run tries again, and a waiting one does not for ever. ``detail["warnings"]`` holds what the run
    should say, such as another Python than the recipe asks for. Raises Invalid where a strict recipe (or workspace)
    asks for a Python that this machine does not have, or a recipe that is an image meets a target without containers.

    On a target with containers the build is an image: ``image_for`` names it, and a ready one is used without asking
    the engine.
    """
    if images.has_containers(target):
        return images.prepare(environment, target, since=since)
    recipe = recipe_from_dict(environment.recipe)
    refused = environment_refusal(environment, target)
    if refused:
        raise Invalid(refused, field="target")
    if recipe.kind == "system":
        return _system_build(environment, recipe, target)
    strict = recipe.strict or bool(environment.workspace.preferences.get("strict_python"))
    chosen = choose_python(recipe.python, strict)
    with transaction.atomic():
        build, made = EnvironmentBuild.objects.get_or_create(
            content_hash=environment.content_hash, target=target, defaults={"state": BUILDING}
        )
        if made or (_is_stale(build, since) and claim(build)):
            _start(build, environment, recipe, chosen)
        else:
            used(build)
    return build


def environment_refusal(environment: Environment, target: Target) -> str:
    """Why an environment cannot be had on a target whatever anybody does; empty where nothing speaks against it."""
    if not recipe_from_dict(environment.recipe).needs_containers or images.has_containers(target):
        return ""
    return _(
        "%(name)s names an image or a Dockerfile, and runs on %(target)s have no container. Choose a target with "
        "containers: attach Docker on this machine, or Docker over SSH."
    ) % {"name": environment, "target": target}


def base_prepare(workspace: Workspace, target: Target, *, since: dt.datetime | None = None) -> EnvironmentBuild:
    """For a unit without an environment on a target with containers: the workspace's base image, taken as it is. Ready
    at once, until ``environment_missing`` was told that it is not there; then it is pulled by a build."""
    return images.prepare_base(workspace, target, since=since)


def environment_missing(build: EnvironmentBuild) -> None:
    """The engine does not have the image of a ready build: the next ``environment_prepare`` brings it back."""
    images.missing(build)


def environment_rebuild(environment: Environment, target: Target) -> EnvironmentBuild:
    """Build again what failed, or what is ready, from nothing. Raises Conflict while a build is running."""
    if images.has_containers(target):
        return images.rebuild(environment, target)
    recipe = recipe_from_dict(environment.recipe)
    if recipe.kind == "system":
        return _system_build(environment, recipe, target)
    build = EnvironmentBuild.objects.filter(content_hash=environment.content_hash, target=target).first()
    if build is None:
        return environment_prepare(environment, target)
    if build.state == BUILDING and not _is_stale(build, None):
        raise Conflict(_("%(name)s is being built right now.") % {"name": environment})
    chosen = choose_python(recipe.python, recipe.strict or bool(environment.workspace.preferences.get("strict_python")))
    with transaction.atomic():
        if claim(build):
            _marker_path(build.content_hash).unlink(missing_ok=True)
            _start(build, environment, recipe, chosen)
    return build


def python_for(build: EnvironmentBuild) -> str:
    """The interpreter of a ready build, in its image where it has one. Raises Conflict for one that is not ready."""
    if build.detail.get("image"):
        return images.python_for(build)
    if build.state != READY:
        raise Conflict(_("The environment is not ready: its build is %(state)s.") % {"state": build.state})
    interpreter = build.detail.get("interpreter")
    return str(interpreter or storage.environment_directory(build.content_hash) / "bin" / "python")


def build_end(unit: Unit) -> None:
    """Record the end of a build unit on its build. Called inside the transaction that ended the unit."""
    for build in EnvironmentBuild.objects.filter(unit=unit, state=BUILDING).select_related("target"):
        now = timezone.now()
        detail = _ended_well(build, unit) if unit.state == states.COMPLETED else None
        if detail is not None:
            columns: dict[str, Any] = {"state": READY, "ready_at": now, "last_used_at": now}
            columns["size"] = detail.pop("size", 0)
        else:
            detail = {**build.detail, **failure(unit)}
            columns = {"state": FAILED, "size": 0, "ready_at": None}
        detail["ended"] = now.timestamp()
        if EnvironmentBuild.objects.filter(pk=build.pk, unit=unit, state=BUILDING).update(detail=detail, **columns):
            build.refresh_from_db()
            build_finished.send(EnvironmentBuild, build=build)


def _ended_well(build: EnvironmentBuild, unit: Unit) -> dict[str, Any] | None:
    """The detail of a build that left what it was to make, with its ``size``; None where it did not."""
    if images.has_containers(build.target):
        found = images.result(unit)
        return images.detail_of(build, found) if found else None
    marker = _marker(build.content_hash)
    if marker is None:
        return None
    kept = {name: value for name, value in build.detail.items() if name != "error"}
    return {**kept, **{name: marker[name] for name in ("python", "packages", "seconds", "size")}}


def _system_build(environment: Environment, recipe: Recipe, target: Target) -> EnvironmentBuild:
    interpreter = recipe.interpreter or machine_python()
    version = platform.python_version() if not recipe.interpreter else ""
    build, _made = EnvironmentBuild.objects.get_or_create(
        content_hash=environment.content_hash,
        target=target,
        defaults={"state": READY, "ready_at": timezone.now()},
    )
    if build.detail.get("interpreter") != interpreter:  # the studio moved to another virtual environment
        build.detail = {"python": version, "interpreter": interpreter, "warnings": []}
        build.save(update_fields=["detail"])
    return build


def _marker_path(digest: str) -> Path:
    return storage.environment_directory(digest) / build_venv.READY


def _marker(digest: str) -> dict[str, Any] | None:
    found = build_venv.ready(str(storage.environment_directory(digest)))
    return found if isinstance(found, dict) else None


def _is_stale(build: EnvironmentBuild, since: dt.datetime | None) -> bool:
    """Whether to build again: its folder is gone, its unit died unheard, or it failed before ``since``."""
    if build.state == READY:
        return not _marker_path(build.content_hash).exists()
    return is_over(build, since)


def _start(
    build: EnvironmentBuild, environment: Environment, recipe: Recipe, chosen: tuple[str, str, str | None]
) -> None:
    """Create the build's unit. Runs in the transaction that made or claimed the row, so there is exactly one."""
    from compute.services import unit_create

    version, python, warning = chosen
    order = {
        "directory": str(storage.environment_directory(build.content_hash).resolve()),
        "uv": uv_binary(),
        "python": python,
        "python_version": version,
        "packages": recipe.packages,
        "unavailable": recipe.unavailable,
        "label": str(environment),
    }
    script = Path(build_venv.__file__)
    unit, _token = unit_create(
        workspace=environment.workspace,
        target=build.target,
        kind=UnitKind.BUILD,
        spec={
            "argv": ["{python}", "-u", script.name],
            "env": {"ATELIER_BUILD": json.dumps(order)},
            "code": [{"path": script.name, "source": str(script), "mode": 0o644}],
            "resources": {"slots": 0},
        },
        label=_("Environment %(name)s") % {"name": environment},
        time_limit_s=BUILD_TIME_LIMIT_S,
    )
    build.unit, build.state = unit, BUILDING
    build.detail = {
        "requested": recipe.python,
        "python": version,
        "warnings": [*([warning] if warning else []), *recipe.notes],
    }
    build.save(update_fields=["unit", "state", "detail"])
