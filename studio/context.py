"""What every page's shell needs: the workspace it stands in, the user's role there, and the other workspaces."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from studio.accounts.policy import Right, rights, visible_workspaces


def shell(request: HttpRequest) -> dict[str, Any]:
    """``workspace`` and ``role`` are put on the request by ``studio.accounts.access.workspace_page``."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    role = getattr(request, "workspace_role", None)
    allowed = rights(role)
    return {
        "workspace": getattr(request, "workspace", None),
        "role": role,
        "can_write": Right.WRITE in allowed,
        "can_manage": Right.MANAGE in allowed,
        "workspaces": visible_workspaces(user),
    }
