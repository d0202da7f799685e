"""Compute targets: attaching, testing and detaching them."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from compute import host_keys, states
from compute.drivers import containers, registry
from compute.drivers.base import Driver, DriverError, HostKeyChanged, HostKeyUnknown
from compute.models import Target, Unit
from compute.publish import publish
from compute.spec import Problem
from compute.states import TargetState
from studio.accounts.models import User, Workspace
from studio.accounts.services import audit
from studio.lib import fields
from studio.lib import secrets as locks
from studio.lib.errors import Conflict, Invalid
from studio.lib.names import clean_text

LOCAL = "local"

log = logging.getLogger(__name__)


def target_driver(target: Target) -> Driver:
    """The driver of a target, with its secrets opened."""
    opened = json.loads(locks.decrypt(target.secrets)) if target.secrets else {}
    config = {**target.config, "host_key": target.host_key}
    if target.config.get("volumes"):
        config["volumes_trusted"] = _may_mount_any(target.created_by)
    return registry.make(target.driver, config, opened)


def _may_mount_any(user: User | None) -> bool:
    return user is not None and user.is_superuser


def validated(driver: str, config: dict[str, Any], secrets: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Config and secrets as the driver's fields say. Raises Invalid with every wrong field at once."""
    try:
        kind = registry.driver_class(driver)
    except KeyError:
        raise Invalid(_("There is no kind of compute named %(name)r.") % {"name": driver}, field="driver") from None
    clean, hidden = fields.validated(
        kind.fields,
        config,
        secrets,
        unknown=_("This kind of compute has no such setting."),
        refusal=_("Some settings of the target cannot be used."),
    )
    if kind.containers:
        containers.configured(clean)
    return clean, hidden


def _check_volumes(config: dict[str, Any], *, trusted: bool, before: str = "") -> None:
    """On this machine a volume is a hole in the wall between workspaces. A target that a site administrator attached
    (``trusted``) may have any; others those below ATELIER_DOCKER_VOLUMES. What was there ``before`` may stay. Raises
    Invalid, also for lines that cannot be read."""
    kept = set(before.splitlines())
    fresh = [line for line in str(config.get("volumes") or "").splitlines() if line not in kept]
    wanted, wrong = containers.volumes("\n".join(fresh))
    if not trusted:
        outside = containers.not_allowed(wanted, settings.ATELIER_DOCKER_VOLUMES)
        wrong += [containers.not_allowed_words(folder) for folder in outside]
    if wrong:
        raise Invalid(" ".join(wrong), errors={"volumes": wrong})


def target_create(
    *,
    workspace: Workspace,
    user: User | None,
    name: str,
    driver: str,
    config: dict[str, Any] | None = None,
    secrets: dict[str, str] | None = None,
    description: str = "",
    host_key: str = "",
    request: HttpRequest | None = None,
) -> Target:
    """Attach a target and test it: this machine's own at once, one behind a network soon (its state is Creating).

    ``host_key``: the fingerprint or the public key of a machine behind SSH, where it is known beforehand; without it
    the key that the machine shows has to be confirmed. Raises Invalid with every wrong field, Conflict when the name is
    taken.
    """
    if not name or slugify(name) != name.lower() or len(name) > 64:
        raise Invalid(_("Use up to 64 letters, digits, hyphens and underscores."), field="name")
    clean, hidden = validated(driver, config or {}, secrets or {})
    _check_volumes(clean, trusted=_may_mount_any(user))
    shared = registry.driver_class(driver).shared
    try:
        with transaction.atomic():
            target = Target.objects.create(
                workspace=workspace,
                name=name,
                driver=driver,
                description=clean_text(description, field="description"),
                config=clean,
                secrets=locks.encrypt(json.dumps(hidden)) if hidden else "",
                offered_key=host_key.strip(),
                state=TargetState.CREATING,
                created_by=user,
            )
            if not shared:
                publish("compute.check", target.pk)
            audit(user, "target.create", workspace=workspace, object=target, detail={"driver": driver}, request=request)
    except IntegrityError:
        raise Conflict(_("A target named %(name)s exists already.") % {"name": name}, field="name") from None
    if shared:
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
    """Change a target's settings and test it again. Secrets that are not given stay as they are, unless an address
    changed: then they have to be given again, so that nobody has them sent elsewhere. Raises Invalid."""
    kept = json.loads(locks.decrypt(target.secrets)) if target.secrets else {}
    given = {name: value for name, value in (secrets or {}).items() if value}
    declared = registry.driver_class(target.driver).fields
    moved = [
        one
        for one in declared
        if one.leads and one.address and str(config.get(one.name) or "") != str(target.config.get(one.name) or "")
    ]
    clean, hidden = validated(target.driver, config, given if moved else {**kept, **given})
    if moved and set(kept) - set(given) and not given:
        why = _("%(field)s changed: give the password or the key again.") % {"field": moved[0].label}
        raise Invalid(why, errors={name: [why] for name in kept})
    trusted = _may_mount_any(user) and _may_mount_any(target.created_by)
    _check_volumes(clean, trusted=trusted, before=str(target.config.get("volumes") or ""))
    changed = sorted(name for name in {*clean, *target.config} if clean.get(name) != target.config.get(name))
    target.config = clean
    target.secrets = locks.encrypt(json.dumps(hidden)) if hidden else ""
    if any(one.name in ("address", "port") for one in moved):
        target.host_key = target.offered_key = ""
    if description is not None:
        target.description = clean_text(description, field="description")
    with transaction.atomic():
        target.save(update_fields=["config", "secrets", "description", "host_key", "offered_key"])
        detail = {"changed": changed, "secrets": sorted(given)}  # their names
        audit(user, "target.update", workspace=target.workspace, object=target, detail=detail, request=request)
    target_check(target)
    return target


def target_check(target: Target) -> list[Problem]:
    """The test button: everything that is wrong with the target, kept on its row with what it says of itself."""
    facts = target.facts
    try:
        driver = target_driver(target)
        problems = driver.check()
        if not problems:
            facts = driver.facts()
            target.offered_key = ""
    except HostKeyUnknown as error:
        if not isinstance(error, HostKeyChanged) and host_keys.same(error.key, target.offered_key):
            target.host_key = error.key
            target.save(update_fields=["host_key"])
            return target_check(target)
        problems = [_host_key_problem(target, error)]
        target.offered_key = error.key
    except (DriverError, locks.SecretUnreadable) as error:
        problems = [Problem("unreachable", str(error) or _("The target did not answer."), stops=True)]
    except Exception as error:
        log.exception("target %s could not be tested", target)
        problems = [Problem("unreachable", f"{type(error).__name__}: {error}", stops=True)]
    target.problems = [asdict(problem) for problem in problems]
    target.facts, target.checked_at = facts, timezone.now()
    if target.state != TargetState.DETACHING:
        waits = [problem.code for problem in problems] == ["host-key"]
        target.state = TargetState.CREATING if waits else TargetState.FAILED if problems else TargetState.SUCCEEDED
    target.save(update_fields=["problems", "state", "facts", "checked_at", "offered_key"])
    if target.state == TargetState.SUCCEEDED:
        publish("compute.queue", target.pk)
    return problems


def _host_key_problem(target: Target, error: HostKeyUnknown) -> Problem:
    shown = {"kind": host_keys.key_type(error.key), "key": host_keys.fingerprint(error.key)}
    if isinstance(error, HostKeyChanged):
        shown["pinned"] = host_keys.fingerprint(target.host_key)
        return Problem(
            "host-key-changed",
            _("The machine shows the host key %(kind)s %(key)s, and %(pinned)s was confirmed.") % shown,
            _("Nothing is sent to it. If the machine was set up anew, compare the key there and confirm it. If it was "
              "not, somebody may stand between."),
            stops=True,
        )  # fmt: skip
    if target.offered_key and not host_keys.same(error.key, target.offered_key):
        return Problem(
            "host-key",
            _("The machine shows the host key %(kind)s %(key)s, and another one was expected.") % shown,
            _("Compare it on the machine itself before you confirm it."),
            stops=True,
        )
    return Problem(
        "host-key",
        _("Confirm the machine's host key: %(kind)s %(key)s.") % shown,
        _("Compare it with what the machine itself says. Nothing is sent to it before."),
        stops=True,
    )


def target_confirm_key(
    target: Target, *, fingerprint: str, user: User | None, request: HttpRequest | None = None
) -> Target:
    """Trust the host key that the machine shows, and test the target. ``fingerprint`` says which one was looked at.

    Raises Invalid where that is not the one that it showed last.
    """
    if not host_keys.same(target.offered_key, fingerprint):
        raise Invalid(
            _("The machine shows %(key)s. Look at it again before you confirm it.")
            % {"key": host_keys.fingerprint(target.offered_key) or _("no key that waits for you")},
            field="fingerprint",
        )
    with transaction.atomic():
        before = host_keys.fingerprint(target.host_key)
        target.host_key, target.offered_key = target.offered_key, ""
        target.save(update_fields=["host_key", "offered_key"])
        detail = {"key": host_keys.fingerprint(target.host_key), "before": before}
        audit(user, "target.host_key", workspace=target.workspace, object=target, detail=detail, request=request)
    target_check(target)
    return target


@transaction.atomic
def target_delete(
    target: Target, *, user: User | None = None, request: HttpRequest | None = None, cancel: bool = False
) -> bool:
    """Detach a target; what ran there keeps its history. Whether it is gone already.

    Raises Conflict while units live on it. ``cancel``: asks them to end instead, and the target goes with the last one
    (its state is Detaching until then).
    """
    living = list(Unit.objects.filter(target=target, state__in=states.LIVE))
    if living and not cancel:
        raise Conflict(
            ngettext(
                "%(count)d run, build or service still lives on %(name)s. Cancel it first.",
                "%(count)d runs, builds or services still live on %(name)s. Cancel them first.",
                len(living),
            )
            % {"count": len(living), "name": target.name}
        )
    audit(user, "target.delete", workspace=target.workspace, object=target, request=request)
    if living:
        from compute.services.units import unit_cancel

        target.state = TargetState.DETACHING
        target.save(update_fields=["state"])
        for unit in living:
            unit_cancel(unit)
    return target_gone(target)


def target_gone(target: Target) -> bool:
    """Remove a target that nothing lives on any more. False while something does."""
    if Unit.objects.filter(target=target, state__in=states.LIVE).exists():
        return False
    if Unit.objects.filter(target=target).exists():
        target.deleted_at, target.secrets = timezone.now(), ""
        target.save(update_fields=["deleted_at", "secrets"])
    else:
        target.delete()
    return True


def ensure_local_target(workspace: Workspace) -> Target:
    """The target "local" of a workspace: this machine."""
    target, _made = Target.objects.get_or_create(
        workspace=workspace,
        name=LOCAL,
        defaults={"driver": "local", "description": "", "created_by": workspace.created_by},
    )
    return target
