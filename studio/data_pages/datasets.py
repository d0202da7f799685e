"""Pages of datasets: the list, and the tabs of one version. A version without a name has the same tabs but two."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Count, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from compute import profiles
from runs.models import RunData
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.data_pages import drafts, lineage, snippets
from studio.data_pages.facts import difference, graph_of, source_facts
from studio.data_pages.forms import AboutForm
from studio.datasets import inspect, selectors
from studio.datasets.models import Dataset, DatasetProfile, DatasetVersion
from studio.datasets.services import datasets as services
from studio.lib.errors import AtelierError, NotFound
from studio.lib.forms import add_errors
from studio.lib.htmx import render_page

TABS = (
    ("overview", gettext_lazy("Overview")),
    ("preview", gettext_lazy("Preview")),
    ("profile", gettext_lazy("Profile")),
    ("lineage", gettext_lazy("Lineage")),
    ("versions", gettext_lazy("Versions")),
    ("consume", gettext_lazy("Consume")),
)
TABULAR_ONLY = {"profile"}
NAMED_ONLY = {"versions"}
USED_BY = 10
SWITCHED = 100  # versions in the switcher


@dataclass
class Subject:
    """The version that a page is about, with its dataset where it has a name."""

    request: WorkspaceRequest
    version: DatasetVersion
    tab: str

    @property
    def dataset(self) -> Dataset | None:
        return self.version.dataset

    def url(self, tab: str) -> str:
        workspace, dataset = self.request.workspace.name, self.dataset
        if dataset is None:
            return reverse(f"data-{tab}", kwargs={"workspace": workspace, "key": self.version.pk})
        plain = reverse(f"dataset-{tab}", kwargs={"workspace": workspace, "name": dataset.name})
        return plain if self.latest else f"{plain}?version={self.version.version}"

    @property
    def latest(self) -> bool:
        return self.dataset is None or self.version.version == self.dataset.latest_version

    def context(self) -> dict[str, Any]:
        hidden = (set() if self.dataset else NAMED_ONLY) | (TABULAR_ONLY if self.version.type == "file" else set())
        return {
            "subject": self,
            "version": self.version,
            "dataset": self.dataset,
            "tab": self.tab,
            "tabs": [(key, self.url(key), label) for key, label in TABS if key not in hidden],
            "latest": self.latest,
            "numbers": self._numbers(),
            "columns": self.version.definition.get("schema") or [],
            "subject_url": self.url("overview"),
            "rows_url": self.url("rows"),
            "consume_url": self.url("consume"),
        }

    def _numbers(self) -> list[int]:
        if self.dataset is None:
            return []
        rows = self.dataset.versions.order_by("-version").values_list("version", flat=True)
        return list(rows[:SWITCHED])


def _subject(request: WorkspaceRequest, tab: str, name: str = "", key: uuid.UUID | None = None) -> Subject:
    if key is not None:
        return Subject(request, selectors.version_by_id(request.workspace, key), tab)
    wanted = request.GET.get("version") or "latest"
    return Subject(request, selectors.version_get(request.workspace, name, wanted), tab)


@workspace_page()
@require_safe
def dataset_list(request: WorkspaceRequest) -> HttpResponse:
    given = {key: request.GET.get(key, "").strip() for key in ("search", "type", "tag", "archived")}
    page = selectors.datasets_page(
        request.workspace,
        search=given["search"],
        tag=given["tag"] or None,
        type=given["type"] or None,
        archived=bool(given["archived"]),
        cursor=request.GET.get("cursor") or None,
    )
    used = _used([row.dataset.pk for row in page.items])
    rows = [(row, used.get(row.dataset.pk, 0)) for row in page.items]
    context = {"page": page, "rows": rows, **given, "filtered": any(given.values())}
    context["python"] = snippets.REGISTER
    return render_page(request, "data/dataset_list.html", context)


def _used(datasets: list[int]) -> dict[int, int]:
    """{dataset: how many runs have read a version of it}. One query."""
    rows = RunData.objects.filter(version__dataset__in=datasets, direction="in").order_by()
    counted = rows.values("version__dataset").annotate(n=Count("run", distinct=True))
    return {row["version__dataset"]: row["n"] for row in counted}


def _runs(version: DatasetVersion, direction: str) -> QuerySet[RunData]:
    rows = RunData.objects.filter(version=version, direction=direction)
    return rows.select_related("run__experiment", "run__workspace", "run__created_by").order_by("-run__pk")


@workspace_page()
def dataset_overview(request: WorkspaceRequest, name: str = "", key: uuid.UUID | None = None) -> HttpResponse:
    """POST changes the description and the tags."""
    subject = _subject(request, "overview", name, key)
    version, dataset = subject.version, subject.dataset
    said = version.description or (dataset.description if dataset else "")
    form = AboutForm(initial={"description": said, "tags": drafts.write_tags(version.tags)})
    if request.method == "POST":
        form = AboutForm(request.POST)
        if form.is_valid() and _about(request, subject, form):
            messages.success(request, _("Saved."))
            return redirect(subject.url("overview"))
    readers = _runs(version, "in")
    context = {
        **subject.context(),
        "form": form,
        "description": said,
        "facts": source_facts(request.workspace, version),
        "made_by": _runs(version, "out").first(),
        "used_by": list(readers[:USED_BY]),
        "used_count": readers.values("run").distinct().count(),
        "uses": selectors.dataset_uses(dataset) if dataset else None,
    }
    return render_page(request, "data/dataset_overview.html", context, status=422 if form.errors else 200)


def _about(request: WorkspaceRequest, subject: Subject, form: AboutForm) -> bool:
    data = form.cleaned_data
    try:
        services.version_update(
            subject.version,
            user=request.user,
            description=data["description"],
            tags=drafts.read_tags(data["tags"]),
            request=request,
        )
        if subject.dataset is not None and subject.latest:
            services.dataset_update(
                subject.dataset, user=request.user, description=data["description"], request=request
            )
    except AtelierError as error:
        add_errors(form, error)
        return False
    return True


@workspace_page()
@require_safe
def dataset_preview(request: WorkspaceRequest, name: str = "", key: uuid.UUID | None = None) -> HttpResponse:
    subject = _subject(request, "preview", name, key)
    return render_page(request, "data/dataset_preview.html", subject.context())


@workspace_page()
@require_safe
def dataset_rows(request: WorkspaceRequest, name: str = "", key: uuid.UUID | None = None) -> HttpResponse:
    """The first rows, as a part: a slow store holds this up and not the page."""
    subject = _subject(request, "rows", name, key)
    context: dict[str, Any] = subject.context()
    try:
        context["preview"] = inspect.preview(subject.version)
    except AtelierError as error:
        context["preview_error"] = error
    return render_page(request, "data/parts/dataset_rows.html", context)


@workspace_page()
def dataset_profile(request: WorkspaceRequest, name: str = "", key: uuid.UUID | None = None) -> HttpResponse:
    """The Profile tab, or its part; POST starts a profile."""
    subject = _subject(request, "profile", name, key)
    if subject.version.type == "file":
        raise NotFound(_("Files have no columns, so there is no profile of them."))
    if request.method == "POST":
        profiles.profile_start(subject.version, request.user)
        if not request.htmx:
            return redirect(subject.url("profile"))
    profile = DatasetProfile.objects.filter(version=subject.version).first()
    context = {
        **subject.context(),
        "profile": profile,
        "profile_url": subject.url("profile"),
        "profile_cancel_url": subject.url("profile-cancel"),
    }
    if request.htmx and not request.htmx.boosted and not request.htmx.history_restore_request:
        return render_page(request, "data/parts/profile.html", context)
    return render_page(request, "data/dataset_profile.html", context)


@workspace_page()
@require_POST
def dataset_profile_cancel(request: WorkspaceRequest, name: str = "", key: uuid.UUID | None = None) -> HttpResponse:
    subject = _subject(request, "profile", name, key)
    profile = DatasetProfile.objects.filter(version=subject.version).first()
    if profile is not None:
        profiles.profile_cancel(profile)
    if not request.htmx:
        return redirect(subject.url("profile"))
    profile = DatasetProfile.objects.filter(version=subject.version).first()
    urls = {"profile_url": subject.url("profile"), "profile_cancel_url": subject.url("profile-cancel")}
    return render_page(request, "data/parts/profile.html", {**subject.context(), "profile": profile, **urls})


@workspace_page()
@require_safe
def dataset_lineage(request: WorkspaceRequest, name: str = "", key: uuid.UUID | None = None) -> HttpResponse:
    subject = _subject(request, "lineage", name, key)
    nodes, edges, cut = graph_of(subject.version)
    labels = {node.key: node for node in nodes}
    sentences = [(labels[edge.source], labels[edge.target]) for edge in edges]
    context = {
        **subject.context(),
        "drawing": lineage.draw(nodes, edges),
        "box": {"width": lineage.WIDTH, "height": lineage.HEIGHT, "middle": lineage.HEIGHT // 2 + 5},
        "sentences": sentences,
        "cut": cut,
    }
    return render_page(request, "data/dataset_lineage.html", context)


@workspace_page()
@require_safe
def dataset_versions(request: WorkspaceRequest, name: str) -> HttpResponse:
    """All versions; with ``?a=&b=`` two of them side by side."""
    subject = _subject(request, "versions", name)
    assert subject.dataset is not None  # noqa: S101 - it was found by its name
    page = selectors.versions_page(subject.dataset, cursor=request.GET.get("cursor") or None)
    pks = [row.pk for row in page.items]
    counted = RunData.objects.filter(version__in=pks, direction="in").order_by().values("version")
    used = {row["version"]: row["n"] for row in counted.annotate(n=Count("run", distinct=True))}
    context = {**subject.context(), "page": page, "rows": [(row, used.get(row.pk, 0)) for row in page.items]}
    if request.GET.get("a") and request.GET.get("b"):
        pair = [selectors.version_get(request.workspace, name, request.GET[side]) for side in ("a", "b")]
        context.update(pair=pair, difference=difference(pair[0], pair[1]))
    return render_page(request, "data/dataset_versions.html", context)


@workspace_page()
@require_safe
def dataset_version(request: WorkspaceRequest, name: str, version: int) -> HttpResponse:
    return redirect(selectors.version_get(request.workspace, name, version).get_absolute_url())


@workspace_page()
@require_safe
def dataset_consume(request: WorkspaceRequest, name: str = "", key: uuid.UUID | None = None) -> HttpResponse:
    subject = _subject(request, "consume", name, key)
    context = {**subject.context(), "snippets": snippets.consume(subject.version)}
    return render_page(request, "data/dataset_consume.html", context)


def _dataset(request: WorkspaceRequest, name: str) -> Dataset:
    dataset = selectors.version_get(request.workspace, name).dataset
    assert dataset is not None  # noqa: S101 - it was found by its name
    return dataset


@workspace_page()
@require_POST
def dataset_archive(request: WorkspaceRequest, name: str) -> HttpResponse:
    dataset = _dataset(request, name)
    services.dataset_archive(dataset, user=request.user, archived=dataset.archived_at is None, request=request)
    messages.success(request, _("Archived.") if dataset.archived_at else _("Restored."))
    return redirect("dataset-overview", workspace=request.workspace.name, name=name)


@workspace_page(Right.WRITE)
def dataset_delete(request: WorkspaceRequest, name: str) -> HttpResponse:
    """GET shows what names the dataset; POST deletes it."""
    dataset = _dataset(request, name)
    if request.method == "POST":
        services.dataset_delete(dataset, user=request.user, request=request)
        messages.success(request, _("The dataset %(name)s is deleted.") % {"name": name})
        return redirect("dataset-list", workspace=request.workspace.name)
    uses = selectors.dataset_uses(dataset)
    return render_page(request, "data/dataset_delete.html", {"dataset": dataset, "uses": uses})
