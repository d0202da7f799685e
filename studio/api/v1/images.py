"""Images of environments on a target with containers."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router

from compute.drivers.base import DriverError
from compute.images import store
from studio.accounts.policy import Right
from studio.api.access import Ws, user_of, workspace_of
from studio.api.v1.schemas_images import ImageOut, PruneIn, PruneOut
from studio.api.v1.targets import Name, target_named
from studio.lib.errors import Conflict

router = Router(tags=["Compute and environments"])


@router.get("/targets/{name}/images", response=list[ImageOut])
def image_list(request: HttpRequest, workspace: Ws, name: Name) -> Any:
    """Images of environments on the target, the largest first, with who uses them and what deleting each gives back."""
    target = target_named(workspace_of(request, workspace), name)
    try:
        return store.images_on(target)
    except DriverError as error:
        raise Conflict(str(error), field="target") from error


@router.post("/targets/{name}/images/prune", response=PruneOut)
def image_prune(request: HttpRequest, workspace: Ws, name: Name, data: PruneIn) -> Any:
    """Delete images that nothing needs, or say with `preview` what would go and how many bytes come back.

    An image that a run or service which has not ended needs always stays.
    """
    target = target_named(workspace_of(request, workspace, Right.MANAGE), name)
    try:
        return store.images_prune(target, user=user_of(request), request=request, **data.dict())
    except DriverError as error:
        raise Conflict(str(error), field="target") from error
