"""What the environment pages read."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from django.db.models import OuterRef, Q, QuerySet, Subquery

from compute.models import Environment, EnvironmentBuild
from studio.accounts.models import Workspace
from studio.lib.errors import NotFound
from studio.lib.paging import Page, decode_cursor, encode_cursor


@dataclass(frozen=True)
class EnvironmentRow:
    """The newest version of a name, with its builds on the workspace's targets."""

    environment: Environment
    builds: list[EnvironmentBuild] = field(default_factory=list)


def _named(workspace: Workspace) -> QuerySet[Environment]:
    """The newest version of every name. Those made by a submit alone have a name that nobody chose: left out."""
    newest = Environment.objects.filter(workspace=workspace, name=OuterRef("name")).order_by("-version")
    return Environment.objects.filter(
        workspace=workspace, anonymous=False, version=Subquery(newest.values("version")[:1])
    )


def environments_page(
    workspace: Workspace, *, search: str = "", kind: str = "", cursor: str | None = None, limit: int = 50
) -> Page[EnvironmentRow]:
    """Curated ones first, then by name. ``kind`` is "curated", "custom" or empty. Two queries."""
    rows = _named(workspace).select_related("created_by")
    for word in search.split()[:8]:
        rows = rows.filter(Q(name__icontains=word) | Q(description__icontains=word))
    if kind in {"curated", "custom"}:
        rows = rows.filter(curated=kind == "curated")
    if cursor:
        curated, name = decode_cursor(cursor, 2)
        after = Q(curated=bool(curated), name__gt=str(name))
        rows = rows.filter(after | Q(curated=False) if curated else after)
    found = list(rows.order_by("-curated", "name")[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    builds = _builds(workspace, {row.content_hash for row in found})
    items = [EnvironmentRow(row, builds[row.content_hash]) for row in found]
    return Page(items, encode_cursor([found[-1].curated, found[-1].name]) if more else None)


def _builds(workspace: Workspace, hashes: set[str]) -> dict[str, list[EnvironmentBuild]]:
    rows = EnvironmentBuild.objects.filter(
        content_hash__in=hashes, target__workspace=workspace, target__deleted_at=None
    ).select_related("target", "unit__workspace")
    grouped: dict[str, list[EnvironmentBuild]] = defaultdict(list)
    for row in rows.order_by("target__name"):
        grouped[row.content_hash].append(row)
    return grouped


def environment_get(workspace: Workspace, name: str, version: int | None = None) -> Environment:
    """A version, or the newest one. Raises NotFound."""
    rows = Environment.objects.filter(workspace=workspace, name=name).select_related("created_by", "workspace")
    if version is not None:
        rows = rows.filter(version=version)
    found = rows.order_by("-version").first()
    if found is None:
        asked = name if version is None else f"{name}:{version}"
        raise NotFound(f"There is no environment {asked} in this workspace.")
    return found


def environment_versions(environment: Environment) -> QuerySet[Environment]:
    """All versions of its name, the newest first."""
    rows = Environment.objects.filter(workspace=environment.workspace, name=environment.name)
    return rows.select_related("created_by").order_by("-version")


def environment_builds(environment: Environment) -> list[EnvironmentBuild]:
    """Its builds on the workspace's targets, by target. Equal recipes share a build. One query."""
    return _builds(environment.workspace, {environment.content_hash})[environment.content_hash]
