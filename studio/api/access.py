"""From the names in an address to rows, past the policy: an outsider gets 404, a member without the right 403."""

from __future__ import annotations

from typing import Annotated

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Path

from runs.models import Run
from studio.accounts import policy
from studio.accounts.models import User, Workspace
from studio.accounts.policy import Right
from studio.api.auth import actor_of
from studio.lib.errors import Forbidden, NotFound

Ws = Annotated[str, Path(..., description="Name of the workspace.", examples=["main"])]
ONLY_OWN = "The token of a running unit is good for its own run alone."


def user_of(request: HttpRequest) -> User:
    return actor_of(request).user


def workspace_of(request: HttpRequest, name: str, right: Right = Right.READ) -> Workspace:
    """The workspace, or NotFound for an outsider, Forbidden for a member without the right (and a foreign unit)."""
    actor = actor_of(request)
    if actor.run is not None and actor.run.workspace.name != name:
        raise Forbidden(_(ONLY_OWN))
    return policy.workspace_get(actor.user, name, right)[0]


def is_own(request: HttpRequest, run: Run | None) -> bool:
    """False where a unit's token reaches for a run that is neither its own nor a child of its own."""
    own = actor_of(request).run
    return own is None or (run is not None and own.pk in (run.pk, run.parent_id))


_RELATED = ("workspace", "experiment", "unit", "parent", "target", "environment", "snapshot", "created_by")


def run_of(
    request: HttpRequest, workspace: str, run_id: str, right: Right = Right.READ, *, related: bool = True
) -> Run:
    """A run of the workspace, with what its JSON needs where ``related`` (one query), or NotFound/Forbidden."""
    place = workspace_of(request, workspace, right)
    runs = Run.objects.select_related(*_RELATED) if related else Run.objects
    run = runs.filter(workspace=place, run_id=run_id).first()
    if not is_own(request, run):
        raise Forbidden(_(ONLY_OWN))
    if run is None:
        raise NotFound(_("There is no run %(run)s in this workspace.") % {"run": run_id[:300]})
    return run


def own_or_forbidden(request: HttpRequest, run: Run | None) -> None:
    """For operations that name a run in their body (register a model, a child of a parent)."""
    if not is_own(request, run):
        raise Forbidden(_(ONLY_OWN))
