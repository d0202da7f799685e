"""Images of environments as rows: having each built once per target, and what its build left.

A ready build is used without a word to the engine. Where the image turns out to be gone, ``missing`` has the next
``prepare`` bring it back.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import sys
import uuid
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compute.build_rows import BUILDING, FAILED, READY, claim, is_over, used
from compute.drivers import registry
from compute.drivers.unit_folder import write_atomic
from compute.environments import Recipe, recipe_from_dict
from compute.images import plan
from compute.installation import installation_id
from compute.models import Environment, EnvironmentBuild, Target, Unit, UnitKind
from compute.resolving import uv_binary
from studio.accounts.models import Workspace
from studio.datasets import programs
from studio.lib import secrets as locks
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid

TIME_LIMIT_S = 2 * 3600.0
GRACE_S = 5.0
PYTHON = "python3"
# What the program that builds needs of the studio's settings to find an engine.
_SETTINGS = ("ATELIER_DOCKER_SOCKET", "ATELIER_BASE_IMAGE", "ATELIER_DOCKER_VOLUMES")


def has_containers(target: Target) -> bool:
    """Whether environments are images there."""
    return bool(registry.driver_class(target.driver).containers)


def base_image_for(workspace: Workspace) -> str:
    """The image of runs that ask for nothing else, and below those that ask for packages."""
    return str(workspace.preferences.get("base_image") or settings.ATELIER_BASE_IMAGE)


def _base_of(recipe: Recipe, workspace: Workspace) -> str:
    return "" if recipe.dockerfile else recipe.base_image or base_image_for(workspace)


def prepare(environment: Environment, target: Target, *, since: dt.datetime | None = None) -> EnvironmentBuild:
    """The image build of an environment, started now when there is none; see ``env_services.environment_prepare``."""
    recipe = recipe_from_dict(environment.recipe)
    base = _base_of(recipe, environment.workspace)
    if recipe.kind == "system":
        return _of_base(environment.content_hash, target, base, recipe, since=since)
    with transaction.atomic():
        build, made = EnvironmentBuild.objects.get_or_create(
            content_hash=environment.content_hash, target=target, defaults={"state": BUILDING}
        )
        if made or ((is_over(build, since) or _outdated(build, base)) and claim(build)):
            _start(build, recipe, environment.workspace, base, label=str(environment))
        else:
            used(build)
    _hold_strict(build, recipe, environment.workspace)
    return build


def _is_strict(recipe: Recipe, workspace: Workspace) -> bool:
    return recipe.strict or bool(workspace.preferences.get("strict_python"))


def _hold_strict(build: EnvironmentBuild, recipe: Recipe, workspace: Workspace) -> None:
    """An image is shared with recipes that take another Python; a strict one does not. Raises Invalid."""
    have = str(build.detail.get("python") or "")
    if build.state != READY or not recipe.python or not have or not _is_strict(recipe, workspace):
        return
    if not plan.fits(have, recipe.python):
        raise Invalid(
            _(
                "The recipe asks for Python %(wanted)s, and its image has %(have)s. Choose a base image with that "
                "Python, or allow the nearest one by turning strict off."
            )
            % {"wanted": recipe.python, "have": have},
            field="python",
        )


def prepare_base(workspace: Workspace, target: Target, *, since: dt.datetime | None = None) -> EnvironmentBuild:
    """Of a unit without an environment: the workspace's base image. Nothing is started as long as it is there."""
    base = base_image_for(workspace)
    digest = hashlib.sha256(f"base image\n{base}".encode()).hexdigest()
    return _of_base(digest, target, base, Recipe(kind="system"), since=since)


def _of_base(digest: str, target: Target, base: str, recipe: Recipe, *, since: dt.datetime | None) -> EnvironmentBuild:
    """An image that is taken as it is. Ready as long as nobody found it missing; then it is pulled once."""
    detail = {"image": base, "base_image": base, "how": "base", "warnings": []}
    detail["interpreter"] = recipe.interpreter or PYTHON
    with transaction.atomic():
        build, _made = EnvironmentBuild.objects.get_or_create(
            content_hash=digest,
            target=target,
            defaults={"state": READY, "ready_at": timezone.now(), "detail": detail},
        )
        if is_over(build, since) and claim(build):
            _start(build, recipe, target.workspace, base, label=base, mode="base")
        elif build.state == READY and build.detail.get("base_image") != base:
            build.detail = detail
            build.save(update_fields=["detail"])
        else:
            used(build)
    return build


def _outdated(build: EnvironmentBuild, base: str) -> bool:
    """Whether a ready image was made from another base image than is asked for now, or by rules of before."""
    detail = build.detail
    return build.state == READY and (detail.get("base_image") != base or detail.get("generator") != plan.GENERATOR)


def rebuild(environment: Environment, target: Target) -> EnvironmentBuild:
    """Build again from nothing: no cache, and the base image as it is today. Raises Conflict while one is running."""
    recipe = recipe_from_dict(environment.recipe)
    base = _base_of(recipe, environment.workspace)
    build = EnvironmentBuild.objects.filter(content_hash=environment.content_hash, target=target).first()
    if build is None and recipe.kind != "system":
        return prepare(environment, target)
    if build is None:
        build = prepare(environment, target)
    if build.state == BUILDING and not is_over(build, None):
        raise Conflict(_("%(name)s is being built right now.") % {"name": environment})
    mode = "base" if recipe.kind == "system" else "environment"
    with transaction.atomic():
        if claim(build):
            _start(build, recipe, environment.workspace, base, label=str(environment), mode=mode, fresh=True)
    return build


def missing(build: EnvironmentBuild) -> None:
    """Somebody removed the image: the next ``prepare`` has it built or pulled again. Idempotent."""
    detail = {**build.detail, "ended": 0, "error": _("The image is not on the engine any more.")}
    EnvironmentBuild.objects.filter(pk=build.pk, state=READY).update(state=FAILED, ready_at=None, detail=detail)


def image_for(build: EnvironmentBuild) -> str:
    """The name of a ready build's image. Raises Conflict for one that is not ready."""
    if build.state != READY:
        raise Conflict(_("The environment is not ready: its build is %(state)s.") % {"state": build.state})
    return str(build.detail.get("image") or "")


def python_for(build: EnvironmentBuild) -> str:
    """The interpreter inside a ready build's image."""
    image_for(build)
    return str(build.detail.get("interpreter") or PYTHON)


def reuse_note(build: EnvironmentBuild, since: dt.datetime | None = None) -> str:
    """What the run page says of a ready image: reused, or, where it came after ``since``, how it came."""
    image = {"image": build.detail.get("image") or ""}
    how = build.detail.get("how")
    if since is not None and build.ready_at is not None and build.ready_at > since and how != "there":
        image["seconds"] = f"{float(build.detail.get('seconds') or 0):.0f}"
        if how == "pulled":
            return _("Pulled image %(image)s from the workspace's registry in %(seconds)s s.") % image
        if how == "built":
            return _("Built image %(image)s in %(seconds)s s.") % image
        if how == "base":
            return _("Image %(image)s is there.") % image
    return _("Reused image %(image)s") % image


def registries_of(workspace: Workspace) -> tuple[list[dict[str, Any]], str]:
    """([{"address", "username", "password"}] with the passwords opened, address of the one to push to or "").

    Raises SecretUnreadable.
    """
    found, push = [], ""
    for row in workspace.container_registries.order_by("pk"):
        password = locks.decrypt(row.password) if row.password else ""
        found.append({"address": row.address, "username": row.username, "password": password})
        push = row.address if row.push else push
    return found, push


def engine_access(target: Target) -> tuple[dict[str, Any], dict[str, str]]:
    """What ``compute.drivers.engine.connect`` takes for a target's engine."""
    from compute.services.targets import target_driver

    driver: Any = target_driver(target)
    return driver.engine_access(), driver.secrets


def _order(
    build: EnvironmentBuild, recipe: Recipe, workspace: Workspace, base: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """(what ``compute.images.job`` reads, but for its mode and label; its secrets). Raises SecretUnreadable."""
    access, opened = engine_access(build.target)
    registries, push = registries_of(workspace)
    order = {
        "recipe": recipe.to_dict(),
        "content_hash": build.content_hash,
        "base_image": base,
        "strict": _is_strict(recipe, workspace),
        "installation": installation_id(),
        "uv": uv_binary(),
        "access": access,
        "push_to": push,
        "settings": {name: getattr(settings, name) for name in _SETTINGS},
    }
    secrets = {"ATELIER_ENGINE": json.dumps(opened), "ATELIER_REGISTRIES": json.dumps(registries)}
    # Each on its own too: what the program prints is scrubbed of the values of its secrets.
    inner = [*opened.values(), *(one["password"] for one in registries)]
    return order, secrets | {f"ATELIER_HIDDEN_{index}": str(value) for index, value in enumerate(inner) if value}


def _start(
    build: EnvironmentBuild,
    recipe: Recipe,
    workspace: Workspace,
    base: str,
    *,
    label: str,
    mode: str = "environment",
    fresh: bool = False,
) -> None:
    """Create the build's unit. Runs in the transaction that made or claimed the row, so there is exactly one."""
    from compute.services import ensure_local_target, unit_create

    order, secrets = _order(build, recipe, workspace, base)
    key = uuid.uuid4().hex
    code = storage.unit_directory(key) / "code"
    code.mkdir(parents=True)
    write_atomic(code / "order.json", {**order, "mode": mode, "label": label, "fresh": fresh})
    unit, _token = unit_create(
        key=key,
        workspace=workspace,
        # The studio's own program, which knows the engine's secrets: it never runs on anybody else's machine.
        target=ensure_local_target(workspace),
        kind=UnitKind.BUILD,
        spec={
            "argv": [sys.executable, "-u", "-m", "compute.images.job"],
            "env": programs.studio_environment(),
            "grace_s": GRACE_S,
            "resources": {"slots": 0},
        },
        secrets=secrets,
        label=_("Image of %(name)s") % {"name": label},
        time_limit_s=TIME_LIMIT_S,
    )
    build.unit, build.state = unit, BUILDING
    build.detail = {"requested": recipe.python, "base_image": base, "warnings": list(recipe.notes)}
    build.save(update_fields=["unit", "state", "detail"])


def result(unit: Unit) -> dict[str, Any] | None:
    """What the program left, None where there is no image."""
    try:
        found = json.loads((storage.unit_directory(unit.key) / "outputs" / "image.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("image") else None


def detail_of(build: EnvironmentBuild, found: dict[str, Any]) -> dict[str, Any]:
    """The build's detail once its image is there."""
    kept = {name: value for name, value in build.detail.items() if name not in {"error", "problems"}}
    warnings = [*kept.get("warnings", []), *found.pop("warnings", [])]
    return {**kept, **found, "warnings": list(dict.fromkeys(warnings)), "generator": plan.GENERATOR}
