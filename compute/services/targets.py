"""Compute targets: attaching, testing and detaching them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from compute import states
from compute.drivers import registry
from compute.drivers.base import Driver, DriverError
from compute.models import Target, Unit
from compute.spec import Problem
from studio.accounts.models import User, Workspace
from studio.accounts.services import audit
from studio.lib import fields
from studio.lib import secrets as locks
from studio.lib.errors import Conflict, Invalid
from studio.lib.names import clean_text

LOCAL = "local"


def target_driver(target: Target) -> Driver:
    """The driver of a target, with its secrets opened."""
    opened = json.loads(locks.decrypt(target.secrets)) if target.secrets else {}
    return registry.make(target.driver, target.config, opened)


def validated(driver: str, config: dict[str, Any], secrets: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Config and secrets as the driver's fields say. Raises Invalid with every wrong field at once."""
    try:
        declared = registry.driver_class(driver).fields
    except KeyError:
        raise Invalid(_("There is no kind of compute named %(name)r.") % {"name": driver}, field="driver") from None
    return fields.validated(
        declared,
        config,
        secrets,
        unknown=_("This kind of compute has no such setting."),
        refusal=_("Some settings of the target cannot be used."),
    )


def target_create(
    *,
    workspace: Workspace,
    user: User | None,
    name: str,
    driver: str,
    config: dict[str, Any] | None = None,
    secrets: dict[str, str] | None = None,
    description: str = "",
    request: HttpRequest | None = None,
) -> Target:
    """Attach a target and test it. Raises Invalid with every wrong field, Conflict when the name is taken."""
    if not name or slugify(name) != name.lower() or len(name) > 64:
        raise Invalid(_("Use up to 64 letters, digits, hyphens and underscores."), field="name")
    clean, hidden = validated(driver, config or {}, secrets or {})
    try:
        with transaction.atomic():
            target = Target.objects.create(
                workspace=workspace,
                name=name,
                driver=driver,
                description=clean_text(description, field="description"),
                config=clean,
                secrets=locks.encrypt(json.dumps(hidden)) if hidden else "",
                created_by=user,
            )
            audit(user, "target.create", workspace=workspace, object=target, detail={"driver": driver}, request=request)
    except IntegrityError:
        raise Conflict(_("A target named %(name)s exists already.") % {"name": name}, field="name") from None
    target_check(target)
    return target


def target_update(
    target: Target,
    *,
    user: User | None,
    config: dict[str, Any],
    secrets: dict[str, str] | None = None,
    description: str | None = None,
    request: HttpRequest | None = None,
) -> Target:
    """Change a target's settings and test it again. Secrets that are not given stay as they are."""
    kept = json.loads(locks.decrypt(target.secrets)) if target.secrets else {}
    given = {name: value for name, value in (secrets or {}).items() if value}
    target.config, hidden = validated(target.driver, config, {**kept, **given})
    target.secrets = locks.encrypt(json.dumps(hidden)) if hidden else ""
    if description is not None:
        target.description = clean_text(description, field="description")
    with transaction.atomic():
        target.save(update_fields=["config", "secrets", "description"])
        audit(user, "target.update", workspace=target.workspace, object=target, request=request)
    target_check(target)
    return target


def target_check(target: Target) -> list[Problem]:
    """The test button: everything that is wrong with the target, kept on its row."""
    try:
        problems = target_driver(target).check()
    except (DriverError, locks.SecretUnreadable) as error:
        problems = [Problem("unreachable", str(error) or _("The target did not answer."))]
    target.problems = [asdict(problem) for problem in problems]
    target.state = "Failed" if problems else "Succeeded"
    target.checked_at = timezone.now()
    target.save(update_fields=["problems", "state", "checked_at"])
    return problems


@transaction.atomic
def target_delete(target: Target, *, user: User | None = None, request: HttpRequest | None = None) -> None:
    """Detach a target. Raises Conflict while units live on it. What ran there keeps its history."""
    living = Unit.objects.filter(target=target, state__in=states.LIVE).count()
    if living:
        raise Conflict(
            _("%(count)d runs or services still live on %(name)s. Cancel them first.")
            % {"count": living, "name": target.name}
        )
    audit(user, "target.delete", workspace=target.workspace, object=target, request=request)
    if Unit.objects.filter(target=target).exists():
        target.deleted_at, target.secrets = timezone.now(), ""
        target.save(update_fields=["deleted_at", "secrets"])
    else:
        target.delete()


def ensure_local_target(workspace: Workspace) -> Target:
    """The target "local" of a workspace: this machine."""
    target, _made = Target.objects.get_or_create(
        workspace=workspace,
        name=LOCAL,
        defaults={"driver": "local", "description": "", "created_by": workspace.created_by},
    )
    return target
