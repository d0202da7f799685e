"""What every page's shell needs: the workspace it stands in, the user's role there, and the other workspaces."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from studio import nav
from studio.accounts.policy import Right, rights, visible_workspaces

THEMES = ("auto", "light", "dark")


def shell(request: HttpRequest) -> dict[str, Any]:
    """``workspace`` and ``role`` are put on the request by ``studio.accounts.access.workspace_page``.

    ``theme`` comes from a cookie, so that the first byte is drawn in the right colours. ``workspaces`` is lazy: a part
    that htmx asked for does not pay for it.
    """
    theme = request.COOKIES.get("theme", "auto")
    context: dict[str, Any] = {"theme": theme if theme in THEMES else "auto"}
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return context
    workspace = getattr(request, "workspace", None)
    role = getattr(request, "workspace_role", None)
    allowed = rights(role)
    context |= {
        "workspace": workspace,
        "role": role,
        "can_write": Right.WRITE in allowed,
        "can_manage": Right.MANAGE in allowed,
        "workspaces": visible_workspaces(user),
    }
    if workspace is not None:
        context["navigation"] = nav.navigation(workspace.get_absolute_url(), request.path, allowed)
    return context
