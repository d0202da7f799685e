"""Who am I, tokens, workspaces, members, invitations, service principals, the audit log."""

from __future__ import annotations

import re
from typing import Any

import orjson
from django.conf import settings
from django.db import IntegrityError
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Router, Status
from pydantic import ValidationError

from studio.accounts import policy, services, tokens
from studio.accounts.models import AuditEntry, Invitation, Membership, ServicePrincipal, Token, User, Workspace
from studio.accounts.policy import Right
from studio.api.access import Ws, user_of, workspace_of
from studio.api.v1.paging import Cursor, Limit, by_key
from studio.api.v1.schemas import PageOf
from studio.api.v1.schemas_accounts import (
    AuditOut,
    InvitationIn,
    InvitationMade,
    InvitationOut,
    MemberOut,
    MeOut,
    PrincipalIn,
    PrincipalMade,
    PrincipalOut,
    RoleIn,
    TokenAnswer,
    TokenIn,
    TokenMade,
    TokenOut,
    TokenRequest,
    WorkspaceChange,
    WorkspaceIn,
    WorkspaceOut,
)
from studio.lib.errors import Conflict, Forbidden, Invalid, NotFound

router = Router(tags=["People and workspaces"])

_TOKEN_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": TokenRequest.model_json_schema()},
        "application/x-www-form-urlencoded": {"schema": TokenRequest.model_json_schema()},
    },
}


def user_out(user: User) -> dict[str, Any]:
    return {"id": user.pk, "username": user.username, "label": user.label, "is_service": user.is_service}


def workspace_out(workspace: Workspace, role: str | None) -> dict[str, Any]:
    return {
        "name": workspace.name,
        "title": workspace.title,
        "description": workspace.description,
        "subscription_id": workspace.subscription_id,
        "resource_group": workspace.resource_group,
        "preferences": workspace.preferences or {},
        "role": role,
        "created_at": workspace.created_at,
        "url": settings.ATELIER_URL + workspace.get_absolute_url(),
    }


def _roles(user: User) -> dict[int, str]:
    return dict(Membership.objects.filter(user=user).values_list("workspace_id", "role"))


def _mine(user: User) -> list[dict[str, Any]]:
    roles, otherwise = _roles(user), "owner" if user.is_superuser else None
    return [workspace_out(one, roles.get(one.pk, otherwise)) for one in policy.visible_workspaces(user)]


@router.post("/token", response=TokenAnswer, auth=None, openapi_extra={"requestBody": _TOKEN_BODY})
def token_exchange(request: HttpRequest) -> Any:
    """Exchange a service principal's client id and secret for a token that expires (OAuth 2 client credentials)."""
    if (request.content_type or "").startswith("application/x-www-form-urlencoded"):
        given: Any = request.POST.dict()
        given.pop("scope", None)
        given.pop("resource", None)
    else:
        try:
            given = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            raise Invalid(_("The body is neither JSON nor a form.")) from None
    try:
        asked = TokenRequest.model_validate(given)
    except ValidationError as error:
        errors = {".".join(map(str, one["loc"])) or "body": [one["msg"]] for one in error.errors()}
        raise Invalid(
            _("client_id, client_secret and grant_type=client_credentials are needed."), errors=errors
        ) from None
    plain, seconds = tokens.token_exchange(asked.client_id, asked.client_secret)
    return {"access_token": plain, "expires_in": seconds}


@router.get("/me", response=MeOut)
def me(request: HttpRequest) -> Any:
    """The caller and the workspaces that the caller sees."""
    user = user_of(request)
    return {"user": user_out(user), "email": user.email, "is_superuser": user.is_superuser, "workspaces": _mine(user)}


@router.get("/me/tokens", response=PageOf[TokenOut])
def token_list(request: HttpRequest, cursor: Cursor = None, limit: Limit = 50) -> Any:
    """The caller's personal access tokens, the newest first."""
    rows, after = by_key(Token.objects.filter(user=user_of(request)), "id", cursor, limit, newest_first=True)
    return {"items": rows, "next": after}


def _person(request: HttpRequest) -> User:
    user = user_of(request)
    if user.is_service:
        raise Forbidden(_("A service principal cannot do this: it would outlive its own secret."))
    return user


@router.post("/me/tokens", response={201: TokenMade})
def token_create(request: HttpRequest, data: TokenIn) -> Any:
    """Make a personal access token. Its secret is in this answer only."""
    token, plain = tokens.token_create(user=_person(request), name=data.name, days=data.days, request=request)
    return Status(201, {**TokenOut.from_orm(token).dict(), "token": plain})


@router.delete("/me/tokens/{int:token_id}", response={204: None})
def token_revoke(request: HttpRequest, token_id: int) -> Any:
    """Revoke one of one's own tokens."""
    tokens.token_revoke(user=user_of(request), token_id=token_id, request=request)
    return Status(204, None)


@router.get("/workspaces", response=PageOf[WorkspaceOut])
def workspace_list(request: HttpRequest, cursor: Cursor = None, limit: Limit = 50) -> Any:
    """The workspaces that the caller sees, by name."""
    user = user_of(request)
    roles, otherwise = _roles(user), "owner" if user.is_superuser else None
    rows, after = by_key(policy.visible_workspaces(user), "name", cursor, limit)
    return {"items": [workspace_out(one, roles.get(one.pk, otherwise)) for one in rows], "next": after}


@router.post("/workspaces", response={201: WorkspaceOut})
def workspace_create(request: HttpRequest, data: WorkspaceIn) -> Any:
    """Make a workspace; the caller becomes its owner. Site administrators only."""
    user = user_of(request)
    if not user.is_superuser:
        raise Forbidden(_("Only site administrators make workspaces."))
    try:
        workspace = services.workspace_create(name=data.name, user=user, title=data.title, request=request)
    except IntegrityError:
        raise Conflict(_("A workspace with this name exists already."), field="name") from None
    return Status(201, workspace_out(workspace, "owner"))


@router.get("/workspaces/{workspace}", response=WorkspaceOut)
def workspace_get(request: HttpRequest, workspace: Ws) -> Any:
    """One workspace, with the caller's role in it."""
    found = workspace_of(request, workspace)
    return workspace_out(found, policy.role_of(user_of(request), found))


@router.patch("/workspaces/{workspace}", response=WorkspaceOut)
def workspace_update(request: HttpRequest, workspace: Ws, data: WorkspaceChange) -> Any:
    """Change title, description or preferences. Owners only."""
    found = workspace_of(request, workspace, Right.MANAGE)
    services.workspace_update(
        workspace=found,
        user=user_of(request),
        title=data.title,
        description=data.description,
        preferences=data.preferences,
        request=request,
    )
    return workspace_out(found, policy.role_of(user_of(request), found))


def _member_out(membership: Membership) -> dict[str, Any]:
    return {"user": user_out(membership.user), "role": membership.role, "created_at": membership.created_at}


@router.get("/workspaces/{workspace}/members", response=PageOf[MemberOut])
def member_list(request: HttpRequest, workspace: Ws, cursor: Cursor = None, limit: Limit = 50) -> Any:
    """Members and their roles, in the order in which they came."""
    found = workspace_of(request, workspace)
    rows, after = by_key(found.memberships.select_related("user"), "id", cursor, limit)
    return {"items": [_member_out(one) for one in rows], "next": after}


@router.patch("/workspaces/{workspace}/members/{int:user_id}", response=MemberOut)
def member_set_role(request: HttpRequest, workspace: Ws, user_id: int, data: RoleIn) -> Any:
    """Give a member another role. Owners only; the last owner stays one."""
    found = workspace_of(request, workspace, Right.MANAGE)
    return _member_out(
        services.member_set_role(workspace=found, user_id=user_id, role=data.role, by=user_of(request), request=request)
    )


@router.delete("/workspaces/{workspace}/members/{int:user_id}", response={204: None})
def member_remove(request: HttpRequest, workspace: Ws, user_id: int) -> Any:
    """Take a member out of the workspace. Owners only."""
    found = workspace_of(request, workspace, Right.MANAGE)
    services.member_remove(workspace=found, user_id=user_id, by=user_of(request), request=request)
    return Status(204, None)


@router.get("/workspaces/{workspace}/invitations", response=PageOf[InvitationOut])
def invitation_list(request: HttpRequest, workspace: Ws, cursor: Cursor = None, limit: Limit = 50) -> Any:
    """Invitations, the newest first. Owners only."""
    found = workspace_of(request, workspace, Right.MANAGE)
    rows, after = by_key(Invitation.objects.filter(workspace=found), "id", cursor, limit, newest_first=True)
    return {"items": rows, "next": after}


@router.post("/workspaces/{workspace}/invitations", response={201: InvitationMade})
def invitation_create(request: HttpRequest, workspace: Ws, data: InvitationIn) -> Any:
    """Invite by link. The link is in this answer only. Owners only."""
    found = workspace_of(request, workspace, Right.MANAGE)
    if data.email and not re.fullmatch(r"[^@\s]+@[^@\s]+", data.email):
        raise Invalid(_("%(email)s is not an address.") % {"email": data.email[:100]}, field="email")
    invitation, plain = services.invitation_create(
        workspace=found, role=data.role, by=user_of(request), email=data.email, days=data.days, request=request
    )
    link = f"{settings.ATELIER_URL}/invite/{plain}/"
    return Status(201, {**InvitationOut.from_orm(invitation).dict(), "link": link})


@router.delete("/workspaces/{workspace}/invitations/{int:invitation_id}", response={204: None})
def invitation_revoke(request: HttpRequest, workspace: Ws, invitation_id: int) -> Any:
    """Take an invitation back. Owners only."""
    found = workspace_of(request, workspace, Right.MANAGE)
    services.invitation_revoke(workspace=found, invitation_id=invitation_id, by=user_of(request), request=request)
    return Status(204, None)


def _principal_out(principal: ServicePrincipal, role: str | None) -> dict[str, Any]:
    return {
        "name": principal.name,
        "client_id": str(principal.client_id),
        "role": role,
        "created_at": principal.created_at,
        "last_used_at": principal.last_used_at,
        "disabled_at": principal.disabled_at,
    }


def _principal(workspace: Workspace, name: str) -> ServicePrincipal:
    found = ServicePrincipal.objects.select_related("user", "workspace").filter(workspace=workspace, name=name).first()
    if found is None:
        raise NotFound(_("There is no service principal %(name)s in this workspace.") % {"name": name[:100]})
    return found


@router.get("/workspaces/{workspace}/service-principals", response=PageOf[PrincipalOut])
def principal_list(request: HttpRequest, workspace: Ws, cursor: Cursor = None, limit: Limit = 50) -> Any:
    """Service principals in the order in which they were made. Owners only."""
    found = workspace_of(request, workspace, Right.MANAGE)
    rows, after = by_key(ServicePrincipal.objects.filter(workspace=found), "id", cursor, limit)
    roles = dict(found.memberships.filter(user__in=[one.user_id for one in rows]).values_list("user_id", "role"))
    return {"items": [_principal_out(one, roles.get(one.user_id)) for one in rows], "next": after}


@router.post("/workspaces/{workspace}/service-principals", response={201: PrincipalMade})
def principal_create(request: HttpRequest, workspace: Ws, data: PrincipalIn) -> Any:
    """Make a service principal. Its secret is in this answer only. Owners only."""
    found = workspace_of(request, workspace, Right.MANAGE)
    principal, secret = tokens.principal_create(
        workspace=found, name=data.name, role=data.role, user=user_of(request), request=request
    )
    return Status(201, {**_principal_out(principal, data.role), "client_secret": secret})


@router.post("/workspaces/{workspace}/service-principals/{name}/rotate", response=PrincipalMade)
def principal_rotate(request: HttpRequest, workspace: Ws, name: str) -> Any:
    """A fresh secret; the old one and the tokens issued for it end at once. Owners only."""
    found = workspace_of(request, workspace, Right.MANAGE)
    principal = _principal(found, name)
    secret = tokens.principal_rotate(principal=principal, user=user_of(request), request=request)
    return {**_principal_out(principal, policy.role_of(principal.user, found)), "client_secret": secret}


@router.delete("/workspaces/{workspace}/service-principals/{name}", response={204: None})
def principal_delete(request: HttpRequest, workspace: Ws, name: str) -> Any:
    """Delete a service principal; what it made stays. Owners only."""
    found = workspace_of(request, workspace, Right.MANAGE)
    tokens.principal_delete(principal=_principal(found, name), user=user_of(request), request=request)
    return Status(204, None)


@router.get("/workspaces/{workspace}/audit", response=PageOf[AuditOut])
def audit_list(request: HttpRequest, workspace: Ws, cursor: Cursor = None, limit: Limit = 50) -> Any:
    """Who did what, the newest first. Owners only."""
    found = workspace_of(request, workspace, Right.MANAGE)
    rows, after = by_key(AuditEntry.objects.filter(workspace=found), "id", cursor, limit, newest_first=True)
    items = [
        {
            "id": one.pk,
            "at": one.at,
            "actor": one.actor_label,
            "action": one.action,
            "object_type": one.object_type,
            "object_label": one.object_label,
            "detail": one.detail,
            "address": one.address,
        }
        for one in rows
    ]
    return {"items": items, "next": after}
