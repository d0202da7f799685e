"""The door of every workspace page."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponseBase
from django_htmx.middleware import HtmxDetails

from studio.accounts import policy
from studio.accounts.models import User, Workspace
from studio.accounts.policy import Right


class WorkspaceRequest(HttpRequest):
    """A request that came through ``workspace_page``."""

    user: User
    workspace: Workspace
    workspace_role: str
    htmx: HtmxDetails


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
            door = cast(WorkspaceRequest, request)
            found, role = policy.workspace_get(door.user, workspace, right)
            door.workspace, door.workspace_role = found, role
            if request.method not in {"GET", "HEAD"} and write not in policy.rights(role):
                policy.require(door.user, write, found)
            return view(door, **kwargs)

        wrapper.workspace_right = right  # type: ignore[attr-defined]  # read by the table of permissions
        return wrapper

    return decorate
