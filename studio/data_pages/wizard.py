"""The wizard that makes a dataset, or the next version of one: four pages, each with its own address.

Whatever is typed goes into a draft at once, so that Back, a reload and another tab find it again.
"""

from __future__ import annotations

import uuid
from typing import Any

from atelier.data.errors import DataError
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect

from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.data_pages import drafts, matching
from studio.data_pages.wizard_step import Step, open_step
from studio.datasets import selectors
from studio.datasets.backends import registry
from studio.datasets.models import Datastore
from studio.datasets.services import datasets as services
from studio.lib.errors import AtelierError, Invalid

PLACES = (
    ("store", gettext_lazy("Files in a datastore"), gettext_lazy("Browse, tick, or upload some now."), "folder"),
    ("web", gettext_lazy("Web addresses"), gettext_lazy("Files that anybody can fetch."), "world"),
    ("sql", gettext_lazy("A query"), gettext_lazy("Rows of a database."), "database"),
)
SQL_KINDS = ("postgresql",)


def _stores(request: WorkspaceRequest) -> list[Datastore]:
    return list(selectors.datastores_of(request.workspace))


@workspace_page(Right.WRITE)
@require_safe
def wizard_start(request: WorkspaceRequest) -> HttpResponse:
    """A new draft. ``?dataset=`` (and ``&version=``), or ``?id=``, begins with what a dataset says,
    ``?datastore=&path=`` with a file or folder of a datastore; ``?datastore=&open=`` shows a folder, and nothing is
    chosen yet."""
    name, key = request.GET.get("dataset", ""), request.GET.get("id", "")
    if name or key:
        if name:
            version = selectors.version_get(request.workspace, name, request.GET.get("version") or "latest")
        else:
            version = selectors.version_by_id(request.workspace, key)
        state = drafts.state_of(version, services.opened_definition(version))
        state["datastore"] = state["datastore"] or selectors.default_datastore(request.workspace).name
    else:
        default = next(iter(_stores(request)), None)
        state = drafts.blank(default.name if default else "")
        state["datastore"] = request.GET.get("datastore") or state["datastore"]
        state["folder"] = request.GET.get("open", "").strip("/")
        if path := request.GET.get("path", "").strip("/"):
            folder = bool(request.GET.get("folder"))
            state["folder"] = path if folder else path.rpartition("/")[0]
            state["picks"] = [drafts.escaped(path) + ("/**" if folder else "")]
    draft = drafts.draft_new(request.workspace, request.user, state)
    return redirect("wizard-files", workspace=request.workspace.name, draft=draft.pk)


# 1: where the data lies


@workspace_page(Right.WRITE)
def wizard_files(request: WorkspaceRequest, draft: uuid.UUID) -> HttpResponse:
    step = open_step(request, draft, "files")
    if request.method != "POST":
        return _files_page(step)
    _read_files(step)
    go = request.POST.get("go", "")
    if go == "next":
        return _files_next(step)
    if go == "discard":
        step.draft.delete()
        messages.info(request, _("The draft is thrown away."))
        return HttpResponseClientRedirect(_list_url(request)) if request.htmx else redirect(_list_url(request))
    _move(step.state, go)
    step.save()
    return _files_page(step) if request.htmx else step.go("wizard-files")


def _list_url(request: WorkspaceRequest) -> str:
    return reverse("dataset-list", kwargs={"workspace": request.workspace.name})


def _read_files(step: Step) -> None:
    """What was posted, into the draft. Fields of places that the page does not show keep what they had."""
    data, state = step.request.POST, step.state
    for name in ("pattern", "urls", "database", "query"):
        if name in data:
            state[name] = data[name].replace("\r\n", "\n").strip(" " if name != "pattern" else None)[:20_000]
    if "picks" in data:  # a hidden field says that the ticks are part of what came
        state["picks"] = list(dict.fromkeys(data.getlist("pick")))[:2000]
    store = data.get("datastore")
    if store and store != state["datastore"]:
        state.update(datastore=store, folder="", after="", picks=[])
    state["pattern"] = state["pattern"].lstrip("/")


def _move(state: drafts.State, go: str) -> None:
    what, _colon, value = go.partition(":")
    if what == "place" and value in {key for key, *_rest in PLACES}:
        state["place"] = value
    elif what == "open":
        state.update(folder=value.strip("/"), after="")
    elif what == "after":
        state["after"] = value
    elif what == "whole" and value not in state["picks"]:
        state["picks"].append(value)


def _files_next(step: Step) -> HttpResponse:
    state = step.state
    errors: dict[str, list[str]] = {}
    try:
        if state["place"] == "sql":
            _sql_store(step)
            state["kind"] = "sql"
            drafts.source_of(state)
        else:
            drafts.places_of(state)
            state["kind"] = "" if state["kind"] == "sql" else state["kind"]
            found = matching.matches(step.request.workspace, state)
            if found.error:
                raise found.error
            if not found.files:
                raise Invalid(_("No file matches. Tick files, or try another pattern."), field="pattern")
        drafts.definition_of({**state, "kind": state["kind"] or "files"}, settled=False)
    except DataError as error:
        errors = {"": [str(error)]}
    except AtelierError as error:
        errors = error.errors or {"": [error.detail]}
    step.save()
    if errors:
        return _files_page(step, errors=errors, status=422)
    return step.go("wizard-settings")


def _sql_store(step: Step) -> None:
    stores = [row for row in _stores(step.request) if row.kind in SQL_KINDS]
    if step.state["database"] not in {row.name for row in stores}:
        raise Invalid(_("Choose a database."), field="database")


def _files_page(step: Step, *, errors: dict[str, list[str]] | None = None, status: int = 200) -> HttpResponse:
    request, state = step.request, step.state
    stores = _stores(request)
    chosen = next((row for row in stores if row.name == state["datastore"]), None)
    context: dict[str, Any] = {
        "places": PLACES,
        "stores": [row for row in stores if (row.kind in SQL_KINDS) == (state["place"] == "sql")],
        "store": chosen,
        "writable": chosen is not None and registry.backend_class(chosen.kind).writable,
        "errors": errors or {},
        "crumbs": matching.crumbs(state["folder"]),
        "content_url": f"/api/v1/workspaces/{request.workspace.name}/datastores/{state['datastore']}/content/",
    }
    if state["place"] == "store" and chosen is not None:
        context["late"] = chosen.kind not in registry.ON_DISK
        context["folder"] = None if context["late"] else matching.folder_of(request.workspace, state)
        shown = {pattern for _entry, pattern, _on in context["folder"].rows} if context["folder"] else set()
        context["elsewhere"] = [pattern for pattern in state["picks"] if pattern not in shown]
    return step.page(context, part="step", status=status)


@workspace_page(Right.WRITE)
@require_safe
def wizard_listing(request: WorkspaceRequest, draft: uuid.UUID) -> HttpResponse:
    """The open folder of a datastore that may be slow, as a part."""
    step = open_step(request, draft, "files")
    folder = matching.folder_of(request.workspace, step.state)
    return step.page({"folder": folder}, template="data/parts/wizard_folder.html")


@workspace_page(Right.WRITE)
@require_POST
def wizard_matches(request: WorkspaceRequest, draft: uuid.UUID) -> HttpResponse:
    """How much is chosen, as a part; what was typed is kept."""
    step = open_step(request, draft, "files")
    _read_files(step)
    step.save()
    context: dict[str, Any] = {}
    if step.state["place"] != "sql" and (step.state["picks"] or step.state["pattern"] or step.state["urls"]):
        context["matches"] = matching.matches(request.workspace, step.state)
    return step.page(context, template="data/parts/wizard_matches.html")
