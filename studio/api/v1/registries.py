"""Container registries of a workspace."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Path, Router, Status

from compute.models import ContainerRegistry
from compute.services import registries
from studio.accounts.policy import Right
from studio.api.access import Ws, user_of, workspace_of
from studio.api.v1.schemas_images import RegistryCheck, RegistryIn, RegistryOut, RegistryPatch
from studio.lib.errors import Invalid, NotFound

router = Router(tags=["Compute and environments"])

Id = Annotated[int, Path(..., description="Id of the registry.")]


def registry_out(one: ContainerRegistry) -> dict[str, Any]:
    return {
        "id": one.pk,
        "address": one.address,
        "username": one.username,
        "has_password": bool(one.password),
        "push": one.push,
        "created_by": one.created_by.label if one.created_by is not None else None,
        "created_at": one.created_at,
    }


def _registry(request: HttpRequest, workspace: str, registry_id: int) -> ContainerRegistry:
    place = workspace_of(request, workspace, Right.MANAGE)
    found = ContainerRegistry.objects.filter(workspace=place, pk=registry_id).select_related("created_by").first()
    if found is None:
        raise NotFound(_("There is no such registry in this workspace."))
    return found


@router.get("/container-registries", response=list[RegistryOut])
def registry_list(request: HttpRequest, workspace: Ws) -> Any:
    """Registries whose images the workspace may pull. Passwords are never shown."""
    place = workspace_of(request, workspace)
    rows = ContainerRegistry.objects.filter(workspace=place).select_related("created_by").order_by("address")
    return [registry_out(one) for one in rows]


@router.post("/container-registries", response={201: RegistryOut})
def registry_create(request: HttpRequest, workspace: Ws, data: RegistryIn) -> Any:
    """Add a registry. It is tried first, unless `check` is false."""
    place = workspace_of(request, workspace, Right.MANAGE)
    if data.check:
        address = registries.clean_address(data.address)
        problems = registries.check(address, data.username.strip(), data.password)
        if problems:
            errors: dict[str, list[str]] = {}
            for one in problems:
                errors.setdefault(one.field or "address", []).append(f"{one.message} {one.hint}".strip())
            raise Invalid(" ".join(one.message for one in problems), errors=errors)
    given = data.dict(exclude={"check"})
    made = registries.registry_create(workspace=place, user=user_of(request), request=request, **given)
    return Status(201, registry_out(made))


@router.patch("/container-registries/{registry_id}", response=RegistryOut)
def registry_update(request: HttpRequest, workspace: Ws, registry_id: Id, data: RegistryPatch) -> Any:
    """Change the user name, the password, or whether images are sent there."""
    one = _registry(request, workspace, registry_id)
    return registry_out(
        registries.registry_update(one, user=user_of(request), request=request, **data.dict(exclude_unset=True))
    )


@router.post("/container-registries/{registry_id}/test", response=RegistryCheck)
def registry_test(request: HttpRequest, workspace: Ws, registry_id: Id) -> Any:
    """Look now whether the registry answers and takes the password."""
    one = _registry(request, workspace, registry_id)
    return {"problems": [asdict(problem) for problem in registries.registry_check(one)]}


@router.delete("/container-registries/{registry_id}", response={204: None})
def registry_delete(request: HttpRequest, workspace: Ws, registry_id: Id) -> Any:
    """Forget a registry and its password. The images there stay."""
    one = _registry(request, workspace, registry_id)
    registries.registry_delete(one, user=user_of(request), request=request)
    return Status(204, None)
