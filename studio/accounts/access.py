"""The door of every workspace page."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponseBase

from studio.accounts import policy
from studio.accounts.models import User, Workspace
from studio.accounts.policy import Right


class WorkspaceRequest(HttpRequest):
    """A request that came through ``workspace_page``."""

    user: User
    workspace: Workspace
    workspace_role: str


View = Callable[..., HttpResponseBase]


def workspace_page(right: Right = Right.READ, *, write: Right = Right.WRITE) -> Callable[[View], View]:
    """For views under ``/w/<workspace>/``: signs in, resolves the workspace and asks the policy.

    GET and HEAD need ``right``, every other method needs ``write`` (the stronger of the two wins). The view is
    called as ``view(request, **rest_of_the_url)`` with ``request.workspace`` and ``request.workspace_role`` set.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        @login_required
        def wrapper(request: HttpRequest, workspace: str, **kwargs: Any) -> HttpResponseBase:
            user: User = request.user  # type: ignore[assignment]
            found, role = policy.workspace_get(user, workspace, right)
            request.workspace, request.workspace_role = found, role  # type: ignore[attr-defined]
            if request.method not in {"GET", "HEAD"} and write not in policy.rights(role):
                policy.require(user, write, found)
            return view(request, **kwargs)

        wrapper.workspace_right = right  # type: ignore[attr-defined]
        return wrapper

    return decorate
