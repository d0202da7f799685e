"""Pages of registered models."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from compute.models import Environment
from models_registry import selectors, services
from models_registry.forms import DetailsForm, RegisterForm, UploadForm
from models_registry.models import RegisteredModel
from models_registry.services import deploying
from runs.models import Run
from runs.services import artifacts
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.lib import storage
from studio.lib.errors import AtelierError, Invalid, NotFound
from studio.lib.forms import add_errors
from studio.lib.htmx import render_page
from studio.lib.responses import file_response, zip_response

TREE_FILES = 2000


@workspace_page()
@require_safe
def model_list(request: WorkspaceRequest) -> HttpResponse:
    search, archived = request.GET.get("search", "").strip(), bool(request.GET.get("archived"))
    page = selectors.models_page(
        request.workspace, search=search, archived=archived, cursor=request.GET.get("cursor") or None
    )
    context = {"page": page, "search": search, "archived": archived}
    return render_page(request, "models_registry/model_list.html", context)


@workspace_page()
@require_safe
def model_detail(request: WorkspaceRequest, name: str) -> HttpResponse:
    model = selectors.model_get(request.workspace, name)
    page = selectors.versions_page(model, cursor=request.GET.get("cursor") or None)
    return render_page(request, "models_registry/model_detail.html", {"model": model, "page": page})


@workspace_page()
@require_POST
def model_archive(request: WorkspaceRequest, name: str) -> HttpResponse:
    model = selectors.model_get(request.workspace, name)
    services.model_archive(model, user=request.user, archived=model.archived_at is None, request=request)
    messages.success(request, _("Archived.") if model.archived_at else _("Restored."))
    return redirect("model-detail", workspace=request.workspace.name, name=name)


@workspace_page()
@require_safe
def model_version(request: WorkspaceRequest, name: str, version: int) -> HttpResponse:
    found = selectors.version_get(request.workspace, name, version)
    context: dict[str, Any] = {
        "version": found,
        "model": found.model,
        "deployments": found.deployments.select_related("endpoint").order_by("endpoint__name"),
        "cannot": "",
        "warnings": deploying.version_warnings(found, found.environment) if found.environment else [],
    }
    try:
        deploying.model_file(found)
    except Invalid as error:
        context["cannot"] = error.detail
    return render_page(request, "models_registry/model_version.html", context)


@workspace_page(Right.WRITE)
def version_edit(request: WorkspaceRequest, name: str, version: int) -> HttpResponse:
    found = selectors.version_get(request.workspace, name, version)
    form = DetailsForm(request.POST or None, initial=DetailsForm.initial_of(found))
    if request.method == "POST" and form.is_valid():
        try:
            services.version_update(found, user=request.user, request=request, **form.columns())
        except AtelierError as error:
            add_errors(form, error)
        else:
            return redirect("model-version", workspace=request.workspace.name, name=name, version=version)
    status = 422 if form.errors else 200
    context = {"form": form, "version": found, "model": found.model}
    return render_page(request, "models_registry/version_edit.html", context, status=status)


@workspace_page(Right.WRITE)
def version_delete(request: WorkspaceRequest, name: str, version: int) -> HttpResponse:
    """GET shows what goes and what stands against it; POST deletes."""
    found = selectors.version_get(request.workspace, name, version)
    if request.method == "POST":
        freed = services.version_delete(found, user=request.user, request=request)
        messages.success(request, _("%(name)s is deleted; %(bytes)d bytes are free.") % {"name": found, "bytes": freed})
        return redirect("model-detail", workspace=request.workspace.name, name=name)
    context = {"version": found, "model": found.model, "preview": services.version_delete_preview(found)}
    return render_page(request, "models_registry/version_delete.html", context)


@workspace_page()
@require_safe
def version_zip(request: WorkspaceRequest, name: str, version: int) -> HttpResponseBase:
    found = selectors.version_get(request.workspace, name, version)
    return zip_response(services.version_zip(found), f"{name}-{version}.zip")


@workspace_page()
@require_safe
def version_file(request: WorkspaceRequest, name: str, version: int, path: str) -> HttpResponseBase:
    found = selectors.version_get(request.workspace, name, version)
    if all(file["path"] != path for file in found.files):
        raise NotFound(_("This version has no file %(path)s.") % {"path": path[:200]})
    return file_response(request, storage.safe_join(storage.model_directory(found.key), path))


def _names(request: WorkspaceRequest) -> list[str]:
    """For the list of suggestions beside a name field."""
    rows = RegisteredModel.objects.filter(workspace=request.workspace, archived_at=None)
    return list(rows.order_by("name").values_list("name", flat=True)[:200])


def _run(request: WorkspaceRequest) -> Run:
    wanted = request.GET.get("run", "")
    rows = Run.objects.select_related("workspace", "experiment", "environment", "snapshot", "unit")
    run = rows.filter(workspace=request.workspace, run_id=wanted).first()
    if run is None:
        raise NotFound(_("There is no run %(run)s in this workspace.") % {"run": wanted[:200]})
    return run


def tree(names: list[tuple[str, int]], chosen: str) -> list[dict[str, Any]]:
    """Files as nested nodes {"name", "path", "size", "children", "chosen"}; folders can be chosen too."""
    root: dict[str, Any] = {"children": {}}
    for path, size in names:
        node, so_far = root, []
        *folders, last = path.split("/")
        for folder in folders:
            so_far.append(folder)
            joined = "/".join(so_far)
            fresh = {"name": folder, "path": joined, "size": 0, "children": {}, "chosen": joined == chosen}
            node = node["children"].setdefault(folder, fresh)
            node["size"] += size
        node["children"][last] = {"name": last, "path": path, "size": size, "children": {}, "chosen": path == chosen}

    def plain(node: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**child, "children": plain(child)} for child in node["children"].values()]

    return plain(root)


def _guess(names: list[tuple[str, int]]) -> str:
    """The file that is most likely the model."""
    found = [name for name, _size in names if name.lower().endswith(deploying.MODEL_SUFFIXES)]
    found.sort(key=lambda name: (name.rpartition("/")[2] not in deploying.PREFERRED, name.count("/"), name))
    return found[0] if found else (names[0][0] if len(names) == 1 else "")


@workspace_page(Right.WRITE)
def model_register(request: WorkspaceRequest) -> HttpResponse:
    if not request.GET.get("run"):
        recent = Run.objects.filter(workspace=request.workspace, archived_at=None, output_bytes__gt=0)
        rows = recent.select_related("experiment", "workspace").order_by("-id")[:20]
        return render_page(request, "models_registry/register_choose.html", {"rows": rows})
    run = _run(request)
    files = artifacts.list_files(run, limit=TREE_FILES)
    names = [(file.path, file.size) for file in files if file.kind != "folder" and file.path.startswith("outputs/")]
    guess = request.GET.get("path") or _guess(names)
    framework = "ScikitLearn" if guess.lower().endswith(deploying.MODEL_SUFFIXES) else ""
    initial = {
        "path": guess,
        "framework": framework,
        "framework_version": services.detect_framework_version(run.environment, framework),
    }
    form = RegisterForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        made = _registered(request, form, run=run, path=form.cleaned_data["path"])
        if made is not None:
            return made
    chosen = str(form["path"].value() or "")
    context = {"form": form, "run": run, "tree": tree(names, chosen), "names": _names(request), "chosen": chosen}
    return render_page(request, "models_registry/register.html", context, status=422 if form.errors else 200)


def _registered(request: WorkspaceRequest, form: DetailsForm, **source: Any) -> HttpResponse | None:
    """The way to the version that was made of ``source``; None where the form now says what is wrong."""
    try:
        made = services.model_register(
            workspace=request.workspace,
            user=request.user,
            name=form.cleaned_data["name"],
            request=request,
            **source,
            **form.columns(),
        )
    except AtelierError as error:
        add_errors(form, error)
        return None
    return redirect("model-version", workspace=request.workspace.name, name=made.model.name, version=made.version)


@workspace_page(Right.WRITE)
@require_safe
def framework_version(request: WorkspaceRequest) -> HttpResponse:
    """The field of the framework's version anew, after another framework or environment was chosen."""
    framework, environment = request.GET.get("framework", ""), None
    if request.GET.get("run"):
        environment = _run(request).environment
    elif request.GET.get("environment", "").isdigit():
        rows = Environment.objects.filter(workspace=request.workspace)
        environment = rows.filter(pk=int(request.GET["environment"][:18])).first()
    found = services.detect_framework_version(environment, framework)
    field = DetailsForm(initial={"framework_version": found})["framework_version"]
    return render_page(request, "models_registry/parts/framework_version.html", {"field": field})


@workspace_page(Right.WRITE)
def model_upload(request: WorkspaceRequest) -> HttpResponse:
    form = UploadForm(request.POST or None, request.FILES or None, workspace=request.workspace)
    if request.method == "POST" and form.is_valid():
        given = [(file.name or "model", file) for file in form.cleaned_data["files"]]
        if not given:
            add_errors(form, Invalid(_("Choose at least one file."), field="files"))
        else:
            made = _registered(request, form, files=given, environment=form.cleaned_data["environment"])
            if made is not None:
                return made
    context = {"form": form, "names": _names(request)}
    return render_page(request, "models_registry/upload.html", context, status=422 if form.errors else 200)
