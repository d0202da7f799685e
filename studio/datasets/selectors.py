"""What pages, the API and runs read of datastores and datasets."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast
from django.utils.translation import gettext as _

from studio.accounts.models import Workspace
from studio.datasets.models import Dataset, DatasetVersion, Datastore
from studio.lib.errors import Invalid, NotFound
from studio.lib.paging import Page, decode_cursor, encode_cursor

PAGE = 50
SHOWN = 10  # runs that the preview of a deletion names
_INT = (1 << 31) - 1


def _bad_cursor() -> Invalid:
    return Invalid(_("The cursor is not one that this list gave out: start at the first page."), field="cursor")


# Datastores


def datastores_of(workspace: Workspace) -> QuerySet[Datastore]:
    """The default one first, then by name."""
    rows = Datastore.objects.filter(workspace=workspace).select_related("created_by", "workspace")
    return rows.order_by("-is_default", "name")


def datastores_page(
    workspace: Workspace, *, search: str = "", cursor: str | None = None, limit: int = PAGE
) -> Page[Datastore]:
    """Datastores by name. One query."""
    rows = Datastore.objects.filter(workspace=workspace).select_related("created_by", "workspace").order_by("name")
    if search:
        rows = rows.filter(Q(name__icontains=search) | Q(description__icontains=search))
    if cursor:
        rows = rows.filter(name__gt=str(decode_cursor(cursor, 1)[0]))
    found = list(rows[: limit + 1])
    return Page(found[:limit], encode_cursor([found[limit - 1].name]) if len(found) > limit else None)


def datastore_get(workspace: Workspace, name: str) -> Datastore:
    """Raises NotFound."""
    found = Datastore.objects.select_related("workspace", "created_by").filter(workspace=workspace, name=name).first()
    if found is None:
        raise NotFound(_("There is no datastore %(name)s in this workspace.") % {"name": name[:100]})
    return found


def default_datastore(workspace: Workspace) -> Datastore:
    """The one that is taken where none is named. Raises NotFound, which no workspace should see."""
    found = Datastore.objects.select_related("workspace").filter(workspace=workspace, is_default=True).first()
    if found is None:
        raise NotFound(_("The workspace has no default datastore: make one of them the default."))
    return found


# Datasets


@dataclass(frozen=True)
class DatasetRow:
    """A line of the list of datasets: the dataset, its newest version, and how many versions there are."""

    dataset: Dataset
    latest: DatasetVersion
    versions: int


def datasets_page(
    workspace: Workspace,
    *,
    search: str = "",
    tag: str | None = None,
    type: str | None = None,  # noqa: A002 - v1's word
    archived: bool = False,
    cursor: str | None = None,
    limit: int = PAGE,
) -> Page[DatasetRow]:
    """Datasets, the last changed first. Three queries, whatever the number of datasets and versions.

    ``type`` and ``tag`` (a name, or ``name=value``) are those of the newest version; ``search`` looks into names,
    descriptions and tags.
    """
    newest = DatasetVersion.objects.filter(dataset=OuterRef("pk"), version=OuterRef("latest_version"))
    rows = Dataset.objects.filter(workspace=workspace, archived_at__isnull=not archived)
    if type:
        rows = rows.filter(Exists(newest.filter(type=type)))
    if tag:
        rows = rows.filter(Exists(_tagged(newest, tag)))
    if search:
        tags = newest.annotate(text=Cast("tags", TextField())).filter(text__icontains=search)
        rows = rows.filter(Q(name__icontains=search) | Q(description__icontains=search) | Exists(tags))
    if cursor:
        when, pk = decode_cursor(cursor, 2)
        try:
            moment, last = dt.datetime.fromisoformat(when), int(pk)
        except (TypeError, ValueError):
            raise _bad_cursor() from None
        rows = rows.filter(Q(updated_at__lt=moment) | Q(updated_at=moment, pk__lt=last))
    found = list(rows.select_related("created_by").order_by("-updated_at", "-pk")[: limit + 1])
    more, found = len(found) > limit, found[:limit]
    items = _rows(found)
    return Page(items, encode_cursor([found[-1].updated_at.isoformat(), found[-1].pk]) if more else None)


def _tagged(versions: QuerySet[DatasetVersion], tag: str) -> QuerySet[DatasetVersion]:
    """Versions that have a tag, ``name`` or ``name=value``."""
    key, equals, value = tag.partition("=")
    versions = versions.filter(tags__has_key=key)
    if not equals:
        return versions
    if key.lstrip("-").isdigit():  # Django would take it for a place in a list
        pair = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=ascii_only)}" for ascii_only in (True, False)]
        versions = versions.annotate(text=Cast("tags", TextField()))
        return versions.filter(Q(text__contains=pair[0]) | Q(text__contains=pair[1]))
    return versions.annotate(found=Cast(KeyTextTransform(key, "tags"), TextField())).filter(found=value)


def _rows(found: list[Dataset]) -> list[DatasetRow]:
    """The datasets with their newest versions. Two queries."""
    keys = [row.pk for row in found]
    newest = DatasetVersion.objects.filter(dataset__in=keys, version=F("dataset__latest_version"))
    latest = {one.dataset_id: one for one in newest.select_related("created_by", "dataset", "workspace")}
    versions = DatasetVersion.objects.filter(dataset__in=keys).order_by().values_list("dataset")
    counts = dict(versions.annotate(count=Count("pk")))
    return [DatasetRow(row, latest[row.pk], counts[row.pk]) for row in found if row.pk in latest]


def dataset_get(workspace: Workspace, name: str) -> Dataset:
    """Raises NotFound."""
    found = Dataset.objects.select_related("workspace", "created_by").filter(workspace=workspace, name=name).first()
    if found is None:
        raise NotFound(_("There is no dataset %(name)s in this workspace.") % {"name": name[:100]})
    return found


def dataset_row(dataset: Dataset) -> DatasetRow:
    """Raises NotFound for a dataset that was deleted meanwhile."""
    rows = _rows([dataset])
    if not rows:
        raise NotFound(_("There is no dataset %(name)s in this workspace.") % {"name": dataset.name[:100]})
    return rows[0]


def versions_of(workspace: Workspace) -> QuerySet[DatasetVersion]:
    return DatasetVersion.objects.filter(workspace=workspace).select_related("dataset", "workspace", "created_by")


def versions_page(dataset: Dataset, *, cursor: str | None = None, limit: int = PAGE) -> Page[DatasetVersion]:
    """Versions of a dataset, the newest first. One query."""
    rows = versions_of(dataset.workspace).filter(dataset=dataset).order_by("-version")
    if cursor:
        (last,) = decode_cursor(cursor, 1)
        if not isinstance(last, int):
            raise _bad_cursor()
        rows = rows.filter(version__lt=min(last, _INT))
    found = list(rows[: limit + 1])
    return Page(found[:limit], encode_cursor([found[limit - 1].version]) if len(found) > limit else None)


def version_get(workspace: Workspace, name: str, version: int | str = "latest") -> DatasetVersion:
    """A version by number or "latest". Raises NotFound."""
    rows = versions_of(workspace).filter(dataset__name=name)
    if str(version) == "latest":
        found = rows.filter(version=F("dataset__latest_version")).first()
    elif str(version).isascii() and str(version).isdigit():
        found = rows.filter(version=min(int(str(version)[:12]), _INT)).first()
    else:
        raise Invalid(_("%(version)r is no version: a number, or latest.") % {"version": version}, field="version")
    if found is None:
        which = name[:100] if str(version) == "latest" else f"{name[:100]}:{version}"
        raise NotFound(_("There is no dataset %(which)s in this workspace.") % {"which": which})
    return found


def latest_id(workspace: Workspace, name: str) -> uuid.UUID | None:
    """The id of a dataset's newest version, if there is such a dataset."""
    rows = DatasetVersion.objects.filter(dataset__workspace=workspace, dataset__name=name.strip())
    return rows.filter(version=F("dataset__latest_version")).values_list("pk", flat=True).first()


def version_by_id(workspace: Workspace, key: uuid.UUID | str) -> DatasetVersion:
    """A version by its id. Raises NotFound, also for what is no id."""
    try:
        found = versions_of(workspace).filter(pk=key).first()
    except (ValidationError, ValueError):
        found = None
    if found is None:
        raise NotFound(_("There is no dataset with the id %(id)s in this workspace.") % {"id": str(key)[:100]})
    return found


@dataclass(frozen=True)
class DatasetUses:
    """What names a dataset: how many runs have a version of it, and the ids of the newest of them."""

    versions: int
    runs: int
    names: list[str] = field(default_factory=list)


def dataset_uses(dataset: Dataset) -> DatasetUses:
    """The preview of deleting a dataset. Three queries."""
    rows = DatasetVersion.objects.filter(dataset=dataset)
    runs = rows.exclude(run_data__run=None).values("run_data__run__run_id").distinct()
    names = runs.order_by("-run_data__run__pk").values_list("run_data__run__run_id", flat=True)
    return DatasetUses(rows.count(), runs.count(), list(dict.fromkeys(names[:SHOWN])))
