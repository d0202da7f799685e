"""What pages and the API read of the registry."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db.models import Count, OuterRef, Q, Subquery, Sum
from django.utils.translation import gettext as _

from models_registry.models import Deployment, Endpoint, ModelVersion, RegisteredModel
from models_registry.services.scoring import base_url
from studio.accounts.models import Workspace
from studio.lib.errors import Invalid, NotFound
from studio.lib.paging import Page, decode_cursor, encode_cursor

PAGE = 50


@dataclass(frozen=True)
class ModelRow:
    """A line of the list of models: the model, its newest version (None when all were deleted), how many, and bytes."""

    model: RegisteredModel
    newest: ModelVersion | None
    versions: int
    bytes: int


def models_page(
    workspace: Workspace, *, search: str = "", archived: bool = False, cursor: str | None = None, limit: int = PAGE
) -> Page[ModelRow]:
    """Models, the last changed first. Two queries, whatever the number of models and versions."""
    newest = ModelVersion.objects.filter(model=OuterRef("pk")).order_by("-version").values("pk")[:1]
    rows = RegisteredModel.objects.filter(workspace=workspace, archived_at__isnull=not archived)
    if search:
        rows = rows.filter(Q(name__icontains=search) | Q(description__icontains=search))
    if cursor:
        when, pk = _moment_and_id(cursor)
        rows = rows.filter(Q(updated_at__lt=when) | Q(updated_at=when, pk__lt=pk))
    rows = rows.annotate(newest_id=Subquery(newest), count=Count("versions"), total=Sum("versions__size"))
    found = list(rows.order_by("-updated_at", "-pk")[: limit + 1])
    more, found = len(found) > limit, found[:limit]
    versions = ModelVersion.objects.select_related("created_by").in_bulk(
        [row.newest_id for row in found if row.newest_id]
    )
    items = [ModelRow(row, versions.get(row.newest_id), row.count, row.total or 0) for row in found]
    return Page(items, encode_cursor([found[-1].updated_at.isoformat(), found[-1].pk]) if more else None)


def _moment_and_id(cursor: str) -> tuple[dt.datetime, int]:
    when, pk = decode_cursor(cursor, 2)
    try:
        return dt.datetime.fromisoformat(when), int(pk)
    except (ValueError, TypeError):
        raise Invalid(
            _("The cursor is not one that this list gave out: start at the first page."), field="cursor"
        ) from None


def _number(cursor: str) -> int:
    (value,) = decode_cursor(cursor, 1)
    if not isinstance(value, int):
        raise Invalid(_("The cursor is not one that this list gave out: start at the first page."), field="cursor")
    return value


def model_get(workspace: Workspace, name: str) -> RegisteredModel:
    """Raises NotFound."""
    found = RegisteredModel.objects.select_related("workspace").filter(workspace=workspace, name=name).first()
    if found is None:
        raise NotFound(_("There is no model %(name)s in this workspace.") % {"name": name[:100]})
    return found


def version_get(workspace: Workspace, name: str, version: int | None = None) -> ModelVersion:
    """The version, or the newest one; raises NotFound."""
    rows = ModelVersion.objects.filter(model__workspace=workspace, model__name=name)
    if version is not None:
        rows = rows.filter(version=version)
    related = ("model__workspace", "run__experiment", "run__snapshot", "run__workspace", "environment", "created_by")
    found = rows.select_related(*related).order_by("-version").first()
    if found is None:
        which = name[:100] if version is None else f"{name[:100]}:{version}"
        raise NotFound(_("There is no model %(name)s in this workspace.") % {"name": which})
    return found


def version_by_id(workspace: Workspace, text: str) -> ModelVersion:
    """By its public id ``name:version``, or a name for its newest version; raises NotFound."""
    name, colon, number = text.rpartition(":")
    if not colon:
        return version_get(workspace, text)
    if not number.isdigit() or len(number) > 9:
        raise NotFound(_("There is no model %(name)s in this workspace.") % {"name": text[:100]})
    return version_get(workspace, name, int(number))


def versions_page(model: RegisteredModel, *, cursor: str | None = None, limit: int = PAGE) -> Page[ModelVersion]:
    """Versions, the newest first, each with ``endpoints``: the number of endpoints that serve it."""
    rows = model.versions.select_related("run", "created_by", "environment").annotate(endpoints=Count("deployments"))
    if cursor:
        rows = rows.filter(version__lt=_number(cursor))
    found = list(rows.order_by("-version")[: limit + 1])
    more, found = len(found) > limit, found[:limit]
    return Page(found, encode_cursor([found[-1].version]) if more else None)


@dataclass(frozen=True)
class EndpointRow:
    """A line of the list of endpoints; ``deployment`` is None only for the moment in which it is being made."""

    endpoint: Endpoint
    deployment: Deployment | None


def endpoints_page(
    workspace: Workspace, *, search: str = "", cursor: str | None = None, limit: int = PAGE
) -> Page[EndpointRow]:
    """Endpoints by name. Two queries."""
    rows = Endpoint.objects.filter(workspace=workspace)
    if search:
        rows = rows.filter(name__icontains=search)
    if cursor:
        rows = rows.filter(name__gt=str(decode_cursor(cursor, 1)[0]))
    found = list(rows.select_related("created_by").order_by("name")[: limit + 1])
    more, found = len(found) > limit, found[:limit]
    deployments = {
        row.endpoint_id: row
        for row in Deployment.objects.filter(endpoint__in=[row.pk for row in found]).select_related(
            "version__model", "target", "unit"
        )
    }
    items = [EndpointRow(row, deployments.get(row.pk)) for row in found]
    return Page(items, encode_cursor([found[-1].name]) if more else None)


def endpoint_get(workspace: Workspace, name: str) -> Endpoint:
    """Raises NotFound."""
    found = Endpoint.objects.select_related("workspace", "created_by").filter(workspace=workspace, name=name).first()
    if found is None:
        raise NotFound(_("There is no endpoint %(name)s in this workspace.") % {"name": name[:100]})
    return found


def deployment_of(endpoint: Endpoint) -> Deployment | None:
    related = (
        "endpoint__workspace",
        "version__model__workspace",
        "version__environment",
        "version__run",
        "target",
        "unit",
    )
    return endpoint.deployments.select_related(*related).first()


def scoring_uri(endpoint: Endpoint) -> str:
    """Where callers send their rows; empty before the endpoint has a port."""
    base = base_url(endpoint)
    return f"{base}/score" if base else ""


def swagger_uri(endpoint: Endpoint) -> str:
    base = base_url(endpoint)
    return f"{base}/swagger.json" if base else ""
