"""The only home of who may do what.

An outsider learns nothing: NotFound. A member without the right is told so: Forbidden.
Read: every member. Write: contributors and owners. Manage: owners.
"""

from __future__ import annotations

import enum

from django.db.models import QuerySet

from studio.accounts.models import Membership, Role, User, Workspace
from studio.lib.errors import Forbidden, NotAuthenticated, NotFound


class Right(enum.Enum):
    """What a request wants to do in a workspace."""

    READ = "read"
    WRITE = "write"  # submit, cancel, tag, register, deploy
    MANAGE = "manage"  # members, service principals, compute targets, workspace settings, audit log


_ROLE_RIGHTS: dict[str, frozenset[Right]] = {
    Role.READER: frozenset({Right.READ}),
    Role.CONTRIBUTOR: frozenset({Right.READ, Right.WRITE}),
    Role.OWNER: frozenset(Right),
}


def role_of(user: User, workspace: Workspace) -> str | None:
    """The user's role in the workspace. Site administrators own every workspace. One query."""
    if not user.is_authenticated or not user.is_active:
        return None
    if user.is_superuser:
        return Role.OWNER
    return Membership.objects.filter(workspace=workspace, user=user).values_list("role", flat=True).first()


def rights(role: str | None) -> frozenset[Right]:
    return _ROLE_RIGHTS.get(role or "", frozenset())


def can(user: User, right: Right, workspace: Workspace) -> bool:
    return right in rights(role_of(user, workspace))


def require(user: User, right: Right, workspace: Workspace) -> str:
    """The user's role, or NotFound for an outsider, Forbidden for a member without the right."""
    role = role_of(user, workspace)
    if role is None:
        raise NotFound("There is no such workspace, or you are not a member of it.")
    if right not in rights(role):
        raise Forbidden(
            f"Your role in {workspace.name} is {role}; this needs the right to {right.value}. Ask an owner."
        )
    return role


def workspace_get(user: User, name: str, right: Right = Right.READ) -> tuple[Workspace, str]:
    """The workspace by name with the user's role in it, or NotFound/Forbidden as ``require`` says."""
    if not user.is_authenticated:
        raise NotAuthenticated("Sign in first.")
    workspace = Workspace.objects.filter(name=name).first()
    if workspace is None:
        raise NotFound("There is no such workspace, or you are not a member of it.")
    return workspace, require(user, right, workspace)


def visible_workspaces(user: User) -> QuerySet[Workspace]:
    """Workspaces that the user may see, by name."""
    if user.is_superuser:
        return Workspace.objects.order_by("name")
    return Workspace.objects.filter(memberships__user=user).order_by("name")
