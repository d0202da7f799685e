"""Workspaces, members, invitations and the audit log: what people change."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Lower
from django.http import HttpRequest
from django.utils import timezone

from studio.accounts.models import AuditEntry, Invitation, Membership, Role, User, Workspace
from studio.lib import secrets
from studio.lib.errors import Conflict, Invalid, NotFound
from studio.lib.names import clean_name, clean_text

WORKSPACE_NAME = re.compile(r"[a-z][a-z0-9-]{1,62}")
INVITATION_DAYS = 14


def audit(
    actor: User | None,
    action: str,
    *,
    workspace: Workspace | None = None,
    object: Any = None,
    label: str = "",
    detail: dict[str, Any] | None = None,
    request: HttpRequest | None = None,
) -> None:
    """Write down who did what. ``object`` is a model instance; ``label`` what people call it."""
    AuditEntry.objects.create(
        workspace=workspace,
        actor=actor,
        actor_label=actor.label if actor else "",
        action=action,
        object_type=object._meta.model_name if object is not None else "",
        object_id=str(object.pk) if object is not None else "",
        object_label=(label or (str(object) if object is not None else ""))[:300],
        detail=detail or {},
        address=caller_address(request) if request is not None else None,
    )


def caller_address(request: HttpRequest) -> str | None:
    """The caller's IP address: as many forwarded ones are believed, from the right, as there are proxies of ours."""
    proxies = settings.ALLAUTH_TRUSTED_PROXY_COUNT
    forwarded = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
    raw = forwarded[-proxies] if proxies and len(forwarded) >= proxies else request.META.get("REMOTE_ADDR", "")
    try:
        return str(ipaddress.ip_address(raw))
    except ValueError:
        return None


@transaction.atomic
def workspace_create(*, name: str, user: User, title: str = "", request: HttpRequest | None = None) -> Workspace:
    """A workspace with ``user`` as its owner. Apps that put something into every new workspace listen to post_save."""
    name = name.strip()
    if not WORKSPACE_NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} is not a workspace name: use 2 to 63 lower-case letters, digits and hyphens, a letter first.",
            field="name",
        )
    if Workspace.objects.filter(name=name).exists():
        raise Conflict(f"A workspace named {name!r} exists already. Choose another name.", field="name")
    workspace = Workspace.objects.create(name=name, title=clean_name(title, field="title") or name, created_by=user)
    Membership.objects.create(workspace=workspace, user=user, role=Role.OWNER)
    audit(user, "workspace.create", workspace=workspace, object=workspace, request=request)
    return workspace


# What an owner may set on the settings page: name -> (type, smallest value).
PREFERENCES: dict[str, tuple[type[bool] | type[int] | type[str], int]] = {
    "strict_python": (bool, 0),
    "snapshot_max_bytes": (int, 1),
    "snapshot_max_files": (int, 1),
    "base_image": (str, 1),
}
_IMAGE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,499}$")


def workspace_update(
    *,
    workspace: Workspace,
    user: User,
    title: str | None = None,
    description: str | None = None,
    preferences: dict[str, Any] | None = None,
    request: HttpRequest | None = None,
) -> Workspace:
    """Change what is given. A preference of None goes back to the studio's default."""
    fields = dict(workspace.preferences)
    errors: dict[str, list[str]] = {}
    for name, value in (preferences or {}).items():
        if name not in PREFERENCES:
            errors[name] = [f"{name!r} is not a preference. Known are: {', '.join(PREFERENCES)}."]
            continue
        kind, smallest = PREFERENCES[name]
        if value is None:
            fields.pop(name, None)
        elif kind is str:
            if isinstance(value, str) and _IMAGE.match(value):
                fields[name] = value
            else:
                errors[name] = [f"{value!r} cannot be used for {name}: write it like python:3.11."]
        elif isinstance(value, bool) != (kind is bool) or not isinstance(value, int) or value < smallest:
            errors[name] = [f"{value!r} cannot be used for {name}."]
        else:
            fields[name] = value
    if errors:
        raise Invalid("Some preferences cannot be used.", errors=errors)
    workspace.preferences = fields
    if title is not None:
        workspace.title = clean_name(title, field="title")[:200] or workspace.name
    if description is not None:
        workspace.description = clean_text(description.strip(), field="description")
    with transaction.atomic():
        workspace.save(update_fields=["title", "description", "preferences"])
        audit(user, "workspace.update", workspace=workspace, object=workspace, request=request)
    return workspace


def _membership(workspace: Workspace, user_id: int) -> Membership:
    membership = (
        Membership.objects.select_for_update()
        .select_related("user")
        .filter(workspace=workspace, user_id=user_id)
        .first()
    )
    if membership is None:
        raise NotFound("There is no such member in this workspace.")
    return membership


def _keep_an_owner(membership: Membership) -> None:
    others = Membership.objects.filter(
        workspace=membership.workspace, role=Role.OWNER, user__is_active=True, user__is_service=False
    ).exclude(pk=membership.pk)
    if membership.role == Role.OWNER and not others.exists():
        raise Conflict("This is the last owner of the workspace. Make somebody else an owner first.", field="role")


@transaction.atomic
def member_set_role(
    *, workspace: Workspace, user_id: int, role: str, by: User, request: HttpRequest | None = None
) -> Membership:
    """Raises Conflict rather than leave a workspace without an owner."""
    if role not in Role.values:
        raise Invalid(f"{role!r} is not a role. Use one of: {', '.join(Role.values)}.", field="role")
    membership = _membership(workspace, user_id)
    if role != Role.OWNER:
        _keep_an_owner(membership)
    detail = {"from": membership.role, "to": role}
    membership.role = role
    membership.save(update_fields=["role"])
    audit(
        by,
        "member.role",
        workspace=workspace,
        object=membership.user,
        label=membership.user.label,
        detail=detail,
        request=request,
    )
    return membership


@transaction.atomic
def member_remove(*, workspace: Workspace, user_id: int, by: User, request: HttpRequest | None = None) -> None:
    membership = _membership(workspace, user_id)
    _keep_an_owner(membership)
    audit(
        by, "member.remove", workspace=workspace, object=membership.user, label=membership.user.label, request=request
    )
    membership.delete()


@transaction.atomic
def invitation_create(
    *,
    workspace: Workspace,
    role: str,
    by: User,
    email: str = "",
    days: int = INVITATION_DAYS,
    request: HttpRequest | None = None,
) -> tuple[Invitation, str]:
    """An invitation and the secret of its link (``/invite/<secret>/``), which is never shown again."""
    if role not in Role.values:
        raise Invalid(f"{role!r} is not a role. Use one of: {', '.join(Role.values)}.", field="role")
    if not 1 <= days <= 90:
        raise Invalid(f"{days} days is not possible: choose 1 to 90.", field="days")
    email = clean_name(email, field="email")
    plain = secrets.new_token("ati")
    invitation = Invitation.objects.create(
        workspace=workspace,
        role=role,
        email=email.strip().lower(),
        digest=secrets.digest(plain),
        created_by=by,
        expires_at=timezone.now() + dt.timedelta(days=days),
    )
    audit(
        by,
        "invitation.create",
        workspace=workspace,
        object=invitation,
        label=email,
        detail={"role": role},
        request=request,
    )
    return invitation, plain


def invitation_find(plain: str) -> Invitation:
    """A usable invitation, or NotFound saying why it is not."""
    invitation = Invitation.objects.select_related("workspace").filter(digest=secrets.digest(plain)).first()
    if invitation is None or invitation.revoked_at:
        raise NotFound("This invitation does not exist or was taken back. Ask for a new one.")
    if invitation.accepted_at:
        raise NotFound("This invitation was used already. Ask for a new one.")
    if invitation.expires_at <= timezone.now():
        raise NotFound("This invitation has expired. Ask for a new one.")
    return invitation


@transaction.atomic
def invitation_accept(*, invitation: Invitation, user: User, request: HttpRequest | None = None) -> Membership:
    """Once, for one person: the UPDATE decides between two who open the link at the same time."""
    if invitation.email and invitation.email != user.email.lower():
        raise Conflict(f"This invitation is for {invitation.email}; you are signed in as {user.email}.", field="email")
    claimed = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, revoked_at=None).update(
        accepted_at=timezone.now(), accepted_by=user
    )
    if not claimed:
        raise NotFound("This invitation was used already. Ask for a new one.")
    try:
        with transaction.atomic():
            membership = Membership.objects.create(workspace=invitation.workspace, user=user, role=invitation.role)
    except IntegrityError:
        raise Conflict(f"You are already a member of {invitation.workspace.name}.") from None
    audit(
        user, "invitation.accept", workspace=invitation.workspace, object=invitation, label=user.label, request=request
    )
    return membership


@transaction.atomic
def invitation_revoke(
    *, workspace: Workspace, invitation_id: int, by: User, request: HttpRequest | None = None
) -> None:
    changed = Invitation.objects.filter(
        pk=invitation_id, workspace=workspace, accepted_at=None, revoked_at=None
    ).update(revoked_at=timezone.now())
    if not changed:
        raise NotFound("There is no such open invitation.")
    audit(by, "invitation.revoke", workspace=workspace, label=str(invitation_id), request=request)


def members(workspace: Workspace) -> list[Membership]:
    """People first, then service principals, each by name. One query."""
    rows = Membership.objects.filter(workspace=workspace).select_related("user", "user__service_principal")
    return list(rows.order_by("user__is_service", Lower("user__username")))
