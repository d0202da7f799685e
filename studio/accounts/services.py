"""Workspaces, members, tokens and the audit log: what people change."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.http import HttpRequest

from studio.accounts.models import AuditEntry, Membership, Role, User, Workspace


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
        object_label=label or (str(object) if object is not None else ""),
        detail=detail or {},
        address=request.META.get("REMOTE_ADDR") or None if request is not None else None,
    )


@transaction.atomic
def workspace_create(*, name: str, user: User, title: str = "", request: HttpRequest | None = None) -> Workspace:
    """A workspace with ``user`` as its owner. Apps that put something into every new workspace listen to post_save."""
    workspace = Workspace.objects.create(name=name, title=title or name, created_by=user)
    Membership.objects.create(workspace=workspace, user=user, role=Role.OWNER)
    audit(user, "workspace.create", workspace=workspace, object=workspace, request=request)
    return workspace
