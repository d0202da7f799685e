"""Compute targets: what can be attached, attaching, testing, changing and detaching."""

from __future__ import annotations

import json
from typing import Annotated, Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Path, Query, Router, Status

from compute import host_keys, selectors, services
from compute.drivers import registry
from compute.models import Target
from studio.accounts.models import Workspace
from studio.accounts.policy import Right
from studio.api.access import Ws, user_of, workspace_of
from studio.api.v1.paging import Cursor, Limit, by_key
from studio.api.v1.schemas import PageOf
from studio.api.v1.schemas_compute import HostKeyIn, TargetIn, TargetKind, TargetOut, TargetPatch
from studio.api.v1.submit import target_find
from studio.lib import secrets as locks
from studio.lib.errors import Invalid, NotFound

router = Router(tags=["Compute and environments"])

Name = Annotated[str, Path(..., description="Name of the target.", examples=["local"])]
KINDS = "kinds"  # its address is not one of a target


def _host_key(target: Target) -> dict[str, Any] | None:
    """The key that somebody has to look at, else the confirmed one."""
    shown = target.offered_key if host_keys.key_type(target.offered_key) else target.host_key
    if not host_keys.key_type(shown):
        return None
    confirmed = shown == target.host_key
    return {
        "type": host_keys.key_type(shown),
        "fingerprint": host_keys.fingerprint(shown),
        "confirmed": confirmed,
        "before": "" if confirmed else host_keys.fingerprint(target.host_key),
    }


def _secrets(target: Target) -> list[str]:
    try:
        return sorted(json.loads(locks.decrypt(target.secrets))) if target.secrets else []
    except locks.SecretUnreadable:
        return []


def target_out(target: Target, *, capacity: bool = False) -> dict[str, Any]:
    slots = selectors.capacity(target) if capacity else None
    return {
        "name": target.name,
        "driver": target.driver,
        "description": target.description,
        "containers": registry.driver_class(target.driver).containers,
        "state": target.state,
        "problems": target.problems or [],
        "checks": [{**one, "label": str(one["label"])} for one in selectors.target_checks(target)],
        "capacity": {"total": slots.total, "used": slots.used} if slots else None,
        "config": target.config,
        "secrets": _secrets(target),
        "facts": target.facts or {},
        "host_key": _host_key(target),
        "url": f"{settings.ATELIER_URL}/w/{target.workspace.name}/compute/{target.name}/",
        "checked_at": target.checked_at,
        "created_at": target.created_at,
    }


def target_named(workspace: Workspace, name: str) -> Target:
    found = target_find(workspace, name)
    if found is None:
        raise NotFound(_("There is no compute target %(name)s in this workspace.") % {"name": name[:100]})
    return found


@router.get("/targets", response=PageOf[TargetOut])
def target_list(request: HttpRequest, workspace: Ws, cursor: Cursor = None, limit: Limit = 50) -> Any:
    """Compute targets by name."""
    place = workspace_of(request, workspace)
    rows, after = by_key(Target.objects.filter(workspace=place).select_related("workspace"), "name", cursor, limit)
    return {"items": [target_out(row) for row in rows], "next": after}


@router.get("/targets/kinds", response=list[TargetKind])
def target_kinds(request: HttpRequest, workspace: Ws) -> Any:
    """The kinds of compute that can be attached, with the settings that each takes."""
    workspace_of(request, workspace)
    return [
        {
            "name": name,
            "title": str(kind.title),
            "summary": str(kind.summary),
            "containers": kind.containers,
            "fields": [
                {
                    "name": one.name,
                    "label": str(one.label),
                    "kind": one.kind,
                    "help": str(one.help),
                    "required": one.required,
                    "secret": one.secret,
                    "default": one.default,
                    "choices": [[str(value), str(label)] for value, label in one.choices],
                }
                for one in kind.fields
            ],
        }
        for name, kind in registry.DRIVERS.items()
    ]


@router.post("/targets", response={201: TargetOut})
def target_attach(request: HttpRequest, workspace: Ws, data: TargetIn) -> Any:
    """Attach a target. It is tested: this machine's own at once; one behind a network soon, and Creating until then."""
    place = workspace_of(request, workspace, Right.MANAGE)
    if data.name == KINDS:
        raise Invalid(_("No target can be named %(name)s. Choose another name.") % {"name": KINDS}, field="name")
    made = services.target_create(
        workspace=place,
        user=user_of(request),
        name=data.name,
        driver=data.driver,
        config=data.config,
        secrets=data.secrets,
        description=data.description,
        host_key=data.host_key or "",
        request=request,
    )
    return Status(201, target_out(made, capacity=True))


@router.get("/targets/{name}", response=TargetOut)
def target_get(request: HttpRequest, workspace: Ws, name: Name) -> Any:
    """One target, with its slots. Its secrets are never shown."""
    return target_out(target_named(workspace_of(request, workspace), name), capacity=True)


@router.patch("/targets/{name}", response=TargetOut)
def target_change(request: HttpRequest, workspace: Ws, name: Name, data: TargetPatch) -> Any:
    """Change a target's settings, secrets or description, and test it again."""
    target = target_named(workspace_of(request, workspace, Right.MANAGE), name)
    changed = {key: value for key, value in {**target.config, **(data.config or {})}.items() if value is not None}
    services.target_update(
        target,
        user=user_of(request),
        config=changed,
        secrets=data.secrets,
        description=data.description,
        request=request,
    )
    return target_out(target, capacity=True)


@router.post("/targets/{name}/check", response=TargetOut)
def target_check(request: HttpRequest, workspace: Ws, name: Name) -> Any:
    """The test button: look now at everything that could be wrong with the target."""
    target = target_named(workspace_of(request, workspace, Right.WRITE), name)
    services.target_check(target)
    target.refresh_from_db()
    return target_out(target, capacity=True)


@router.post("/targets/{name}/host-key", response=TargetOut)
def target_host_key(request: HttpRequest, workspace: Ws, name: Name, data: HostKeyIn) -> Any:
    """Confirm the host key that the machine shows, after comparing it with what the machine itself says."""
    target = target_named(workspace_of(request, workspace, Right.MANAGE), name)
    services.target_confirm_key(target, fingerprint=data.fingerprint, user=user_of(request), request=request)
    return target_out(target, capacity=True)


@router.delete("/targets/{name}", response={204: None, 202: TargetOut})
def target_detach(
    request: HttpRequest,
    workspace: Ws,
    name: Name,
    cancel: Annotated[
        bool, Query(False, description="Ask what lives on it to end, instead of refusing; 202 until the last has.")
    ] = False,
) -> Any:
    """Detach a target. What ran there keeps its history."""
    target = target_named(workspace_of(request, workspace, Right.MANAGE), name)
    gone = services.target_delete(target, user=user_of(request), request=request, cancel=cancel)
    return Status(204, None) if gone else Status(202, target_out(target))
