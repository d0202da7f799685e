"""Pages of datastores: the list, registering and editing one, its folders, its test.

Files go up and down through the REST API, so that the page and a script use the same door.
"""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.data_pages import snippets
from studio.datasets.backends import registry
from studio.datasets.backends.base import Backend, StoreError
from studio.datasets.models import Datastore
from studio.datasets.services import datastores as services
from studio.lib.errors import AtelierError, NotFound
from studio.lib.fields import Problem
from studio.lib.forms import KindForm, add_errors, kind_field
from studio.lib.htmx import render_page
from studio.lib.storage import clean_relative

SHOWN = 200  # entries of a folder on one page
RESERVED = {"new"}  # words that the addresses of these pages use themselves


class DatastoreForm(KindForm):
    """Name and description, and what the kind declares."""

    def __init__(self, *args: Any, kind: str, datastore: Datastore | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.specs = list(registry.backend_class(kind).fields)
        if datastore is None:
            self.fields["name"] = forms.CharField(
                label=gettext_lazy("Name"),
                max_length=64,
                help_text=gettext_lazy("Letters, digits, hyphens and underscores. Scripts and datasets name it."),
            )
        for spec in self.specs:
            field = kind_field(spec, stored=bool(datastore and datastore.secrets and spec.secret))
            if datastore is not None and not spec.secret:
                field.initial = datastore.config.get(spec.name, spec.default)
            self.fields[spec.name] = field
        self.fields["description"] = forms.CharField(
            label=gettext_lazy("Description"),
            required=False,
            max_length=2000,
            initial=datastore.description if datastore else "",
        )

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name in RESERVED:
            raise forms.ValidationError(_("This word is used by the studio itself. Choose another name."))
        return name


def _datastore(request: WorkspaceRequest, name: str) -> Datastore:
    found = Datastore.objects.filter(workspace=request.workspace, name=name).first()
    if found is None:
        raise NotFound(_("There is no datastore %(name)s in this workspace.") % {"name": name[:100]})
    found.workspace = request.workspace
    return found


def _kind(name: str) -> dict[str, Any]:
    """What a kind says of itself. Plain values: a template would call the class."""
    backend = registry.backend_class(name)
    return {"name": name, "label": backend.label, "summary": backend.summary, "icon": backend.icon}


def _row(store: Datastore) -> dict[str, Any]:
    """A datastore with its kind and, where it can be opened at all, its address."""
    try:
        address = services.store_open(store).address()
    except AtelierError as error:
        address = error.detail
    return {"store": store, "kind": _kind(store.kind), "address": address}


@workspace_page()
@require_GET
def datastore_list(request: WorkspaceRequest) -> HttpResponse:
    stores = Datastore.objects.filter(workspace=request.workspace).select_related("created_by")
    rows = [_row(store) for store in stores.order_by("-is_default", "name")]
    return render(request, "data/datastore_list.html", {"rows": rows})


def _filled(request: HttpRequest, form: DatastoreForm, *, trying: bool) -> bool:
    """Whether what was typed can be used. A test needs no name yet."""
    if request.method != "POST":
        return False
    if trying and "name" in form.fields:
        form.fields["name"].required = False
    return form.is_valid()


def _tried(request: WorkspaceRequest, form: DatastoreForm, kind: str, store: Datastore | None) -> HttpResponse:
    """What the test of the form's settings says, as a part of the page. Nothing is saved."""
    context: dict[str, Any] = {"form": form}
    if _filled(request, form, trying=True):
        try:
            problems, entries = services.datastore_try(
                kind=kind, config=form.config, secrets=form.secrets, datastore=store
            )
            context.update(problems=problems, entries=entries, tried=True)
        except AtelierError as error:
            add_errors(form, error)
    if form.errors:
        texts = [f"{form.fields[name].label if name in form.fields else ''}: {' '.join(map(str, said))}".lstrip(": ")
                 for name, said in form.errors.items()]  # fmt: skip
        context.update(problems=[Problem("form", text) for text in texts], tried=True)
    return render(request, "data/datastore_form.html#tried", context)


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_http_methods(["GET", "HEAD", "POST"])
def datastore_new(request: WorkspaceRequest) -> HttpResponse:
    """The kinds, and the fields of the chosen one. ``try``: only test what is typed."""
    kinds = [_kind(backend.kind) for backend in services.kinds()]
    kind = request.POST.get("kind") or request.GET.get("kind") or kinds[0]["name"]
    if kind not in {one["name"] for one in kinds}:
        raise NotFound(_("There is no kind of datastore named %(name)s.") % {"name": kind[:60]})
    form = DatastoreForm(request.POST or None, kind=kind)
    if "try" in request.POST and request.htmx:
        return _tried(request, form, kind, None)
    problems: list[Problem] = []
    if _filled(request, form, trying=False):
        try:
            made = services.datastore_create(
                workspace=request.workspace, user=request.user, name=form.cleaned_data["name"], kind=kind,
                config=form.config, secrets=form.secrets, description=form.cleaned_data["description"],
                check="force" not in request.POST, request=request,
            )  # fmt: skip
        except services.CheckFailed as error:
            problems = error.problems
        except AtelierError as error:
            add_errors(form, error)
        else:
            messages.success(request, _("%(name)s is registered.") % {"name": made.name})
            return redirect("datastore-detail", workspace=request.workspace.name, name=made.name)
    context = {"form": form, "kind": kind, "kinds": kinds, "problems": problems, "tried": bool(problems)}
    return render(request, "data/datastore_form.html", context, status=422 if form.errors or problems else 200)


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_http_methods(["GET", "HEAD", "POST"])
def datastore_edit(request: WorkspaceRequest, name: str) -> HttpResponse:
    store = _datastore(request, name)
    if store.builtin:
        raise NotFound(_("%(name)s comes with the workspace and has no settings.") % {"name": name})
    form = DatastoreForm(request.POST or None, kind=store.kind, datastore=store)
    if "try" in request.POST and request.htmx:
        return _tried(request, form, store.kind, store)
    problems: list[Problem] = []
    if _filled(request, form, trying=False):
        try:
            services.datastore_update(
                store, user=request.user, config=form.config, secrets=form.secrets,
                description=form.cleaned_data["description"], check="force" not in request.POST, request=request,
            )  # fmt: skip
        except services.CheckFailed as error:
            problems = error.problems
        except AtelierError as error:
            add_errors(form, error)
        else:
            messages.success(request, _("The settings of %(name)s are saved.") % {"name": name})
            return redirect("datastore-detail", workspace=request.workspace.name, name=name)
    context = {"form": form, "store": store, "kind": store.kind, "problems": problems, "tried": bool(problems)}
    return render(request, "data/datastore_form.html", context, status=422 if form.errors or problems else 200)


def _crumbs(path: str) -> list[dict[str, str]]:
    parts = path.split("/") if path else []
    return [{"name": part, "path": "/".join(parts[: index + 1])} for index, part in enumerate(parts)]


def _contents(request: WorkspaceRequest, store: Datastore) -> str:
    """The address that the files' paths follow. Paths are quoted in the page: a file may have any name."""
    names = {"workspace": request.workspace.name, "name": store.name, "path": "-"}
    return reverse("api-1:datastore_content", kwargs=names).removesuffix("-")


def _folder(store: Datastore, backend: Backend, path: str, after: str | None) -> dict[str, Any]:
    """One page of a folder, or the sentence that says why there is none."""
    try:
        page = backend.list(path, limit=SHOWN, after=after)
    except StoreError as error:
        return {"refusal": error.problem(), "listed": True}
    rows = [
        {"entry": one, "modified": dt.datetime.fromtimestamp(one.modified, tz=dt.UTC) if one.modified else None}
        for one in page.entries
    ]
    return {"rows": rows, "next": page.next, "listed": True}


@workspace_page()
@require_GET
def datastore_detail(request: WorkspaceRequest, name: str) -> HttpResponse:
    """A folder of the datastore. Stores elsewhere are asked after the page is there, so a slow one blocks nothing."""
    store = _datastore(request, name)
    raw = request.GET.get("path", "").strip("/")
    path = clean_relative(raw) if raw else ""
    context: dict[str, Any] = {
        **_row(store),
        "path": path,
        "contents": _contents(request, store),
        "crumbs": _crumbs(path),
        "after": request.GET.get("after", ""),
        "folder_query": urlencode({"path": path, "after": request.GET.get("after", "")}),
    }
    backend = None
    try:
        backend = services.store_open(store)
    except StoreError as error:
        context.update(refusal=error.problem(), listed=True)
    if backend is not None:
        context["writable"] = backend.writable
        if request.htmx or "now" in request.GET or backend.local_path("") is not None:
            context.update(_folder(store, backend, path, request.GET.get("after") or None))
    fields = registry.backend_class(store.kind).fields
    said = {one.label: store.config.get(one.name) for one in fields if not one.secret and one.kind != "textarea"}
    context["settings"] = [
        (label, {True: _("yes"), False: _("no")}.get(value, value) if isinstance(value, bool) else value)
        for label, value in said.items()
        if value not in (None, "") and str(value).rstrip("/") != context["address"].rstrip("/")
    ]
    if not request.htmx:
        context["uses"] = services.datastore_uses(store)
    context["python"] = snippets.of_folder(store, path)
    return render_page(request, "data/datastore_detail.html", context, part="folder")


@workspace_page(write=Right.WRITE)
@require_POST
def datastore_check(request: WorkspaceRequest, name: str) -> HttpResponse:
    """The test button: asks the store now. htmx gets the list of what was found."""
    store = _datastore(request, name)
    services.datastore_check(store)
    if not request.htmx:
        return redirect("datastore-detail", workspace=request.workspace.name, name=name)
    return render(request, "data/datastore_detail.html#checks", {"store": store})


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_POST
def datastore_default(request: WorkspaceRequest, name: str) -> HttpResponse:
    services.datastore_set_default(_datastore(request, name), user=request.user, request=request)
    messages.success(request, _("Outputs go to %(name)s where a script names no datastore.") % {"name": name})
    return redirect("datastore-detail", workspace=request.workspace.name, name=name)


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_http_methods(["GET", "HEAD", "POST"])
def datastore_remove(request: WorkspaceRequest, name: str) -> HttpResponse:
    """What names it is shown first."""
    store = _datastore(request, name)
    if request.method == "POST":
        try:
            services.datastore_remove(store, user=request.user, force=True, request=request)
        except AtelierError as error:
            messages.error(request, error.detail)
            return redirect("datastore-detail", workspace=request.workspace.name, name=name)
        messages.success(request, _("%(name)s is removed. Its files stay where they are.") % {"name": name})
        return redirect("datastore-list", workspace=request.workspace.name)
    context = {**_row(store), "uses": services.datastore_uses(store)}
    return render(request, "data/datastore_remove.html", context)


@workspace_page(write=Right.WRITE)
@require_POST
def datastore_delete_entry(request: WorkspaceRequest, name: str) -> HttpResponse:
    """Delete one file or folder, and show the folder that it was in."""
    store = _datastore(request, name)
    path = clean_relative(request.POST.get("entry", ""))
    try:
        services.content_delete(store, path, user=request.user, request=request)
        messages.success(request, _("%(path)s is deleted.") % {"path": path})
    except AtelierError as error:
        messages.error(request, error.detail)
    query = urlencode({"path": path.rpartition("/")[0]})
    return redirect(f"{reverse('datastore-detail', args=[request.workspace.name, name])}?{query}")
