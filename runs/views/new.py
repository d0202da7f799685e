"""New run: the source first becomes a snapshot, then the form carries its digest, so no error loses a file."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Iterator
from typing import IO, Any

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from compute import environments, resources
from compute.drivers import registry
from compute.models import Target
from compute.states import TargetState
from runs import data_forms, forms
from runs.forms import RunForm
from runs.models import Experiment, Run, Snapshot
from runs.parameters import parse_arguments
from runs.services import snapshots, submit
from runs.views import common
from runs.views.uploads import FolderUploadHandler
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.lib.errors import AtelierError, Invalid

CODE_SUFFIXES = (".py", ".sh", ".ipynb", ".r", ".R")


def _uploaded(request: HttpRequest) -> Iterator[tuple[str, IO[bytes], int]]:
    """(path, content, mode) of every file of the request; ``paths`` goes beside ``files`` with the folders' names."""
    files = request.FILES.getlist("files")
    paths = request.POST.getlist("paths")
    if len(paths) != len(files):
        paths = [file.name or "" for file in files]
    for path, file in zip(paths, files, strict=True):
        yield path, file, 0o644


def _snapshot_of(request: WorkspaceRequest) -> Snapshot | None:
    """The snapshot of the files in the request, None when it has none. One zip alone is unpacked."""
    files = request.FILES.getlist("files")
    if not files:
        return None
    content = files[0].file
    if len(files) == 1 and content is not None and (files[0].name or "").lower().endswith(".zip"):
        return snapshots.snapshot_from_zip(request.workspace, content)
    return snapshots.snapshot_from_uploads(request.workspace, _uploaded(request))


def script_choices(snapshot: Snapshot | None) -> list[str]:
    """Files that can be a script, the likely ones first."""
    if snapshot is None:
        return []
    names = [entry["path"] for entry in snapshot.files]
    code = [name for name in names if name.endswith(CODE_SUFFIXES)] or names
    likely = {"train.py": 0, "main.py": 1, "run.py": 2}
    return sorted(code, key=lambda name: (name.count("/"), likely.get(name, 3), name))


def _source_context(snapshot: Snapshot | None, script: str = "", *, choose: bool = True) -> dict[str, Any]:
    choices = script_choices(snapshot)
    return {
        "snapshot": snapshot,
        "snapshot_files": (snapshot.files[:200] if snapshot else []),
        "script_choices": choices,
        "script": script if script in choices or not (choices and choose) else choices[0],
    }


RESOURCE_EXAMPLES = {"cpus": "4", "memory": "8g", "shm_size": "1g", "gpus": "1"}  # of ``forms.RESOURCES``


def _targets(request: WorkspaceRequest, chosen: str) -> list[dict[str, Any]]:
    """Where the run may compute. One that is being detached takes nothing new."""
    rows = Target.objects.filter(workspace=request.workspace).order_by("name")
    return [
        {"name": row.name, "state": row.state, "kind": driver.title, "containers": driver.containers}
        for row in rows
        if row.state != TargetState.DETACHING or row.name == chosen
        for driver in [registry.driver_class(row.driver)]
    ]


def _context(request: WorkspaceRequest, form: RunForm, origin: Run | None) -> dict[str, Any]:
    digest = form["snapshot"].value() or ""
    snapshot = Snapshot.objects.filter(workspace=request.workspace, digest=digest).first() if digest else None
    names = forms.latest_environments(request.workspace)
    labels = [f"{row.name}:{row.version}" for row in names]
    chosen = form["environment"].value() or ""
    if chosen and chosen not in labels:
        labels.insert(0, chosen)
    return {
        "form": form,
        "origin": origin,
        "environments": [(label, label.rpartition(":")) for label in labels],
        "targets": _targets(request, form["target"].value() or ""),
        "resources": [(form[name], resources.LABELS[name], RESOURCE_EXAMPLES[name]) for name in forms.RESOURCES],
        "resources_typed": any(form[name].value() or form[name].errors for name in forms.RESOURCES),
        "experiments": Experiment.objects.filter(workspace=request.workspace, archived_at=None)
        .order_by("-last_run_at")
        .values_list("name", flat=True)[:200],
        "pythons": environments.local_pythons(),
        "variable_rows": form.rows("variable"),
        "tag_rows": form.rows("tag"),
        "input_rows": form.data_rows("input"),
        "output_rows": form.data_rows("output"),
        **data_forms.choices(request.workspace),
        "row_errors": form.row_errors(),
        "arguments_line": form["arguments"].value() or "",
        "idempotency_key": form["idempotency_key"].value() or uuid.uuid4().hex,
        **_arguments_context(form["arguments"].value() or ""),
        "command_line": shlex.join(origin.command) if origin is not None else "",
        **_source_context(snapshot, form["script"].value() or "", choose=not form.has_command),
    }


def _arguments_context(line: str) -> dict[str, Any]:
    try:
        words = forms.arguments_split(line)
    except Invalid as error:
        return {"argument_error": error.detail}
    return {"argument_words": words, "argument_parameters": parse_arguments(words)}


def _submit(request: WorkspaceRequest, form: RunForm, origin: Run | None) -> Run:
    data = form.cleaned_data
    snapshot = data.get("snapshot")
    script = data["script"]
    if data.get("source") == "paste":
        text = data["code"].replace("\r\n", "\n")
        snapshot = snapshots.snapshot_from_texts(request.workspace, {data["code_name"]: text})
        script = data["code_name"]
    return submit.run_submit(
        workspace=request.workspace,
        user=request.user,
        experiment=data["experiment"],
        script=script,
        arguments=data["arguments"],
        command=origin.command if origin is not None and not script else None,
        snapshot=snapshot,
        target=data["target"],
        environment=form.environment_row(),
        environment_variables=data["variables"],
        tags=data["tags"],
        properties={},
        time_limit_s=data.get("time_limit_s"),
        resources=data["resources"],
        name=data.get("name") or "",
        inputs=data_forms.inputs_typed(request.workspace, form.data_rows("input"), origin),
        outputs=data_forms.outputs_typed(form.data_rows("output"), origin),
        idempotency_key=data.get("idempotency_key") or None,
        request=request,
        action="run.submit" if origin is None else "run.resubmit",
    )


def _form(request: WorkspaceRequest, origin: Run | None, *args: Any, **kwargs: Any) -> RunForm:
    has_command = origin is not None and bool(origin.command)
    return RunForm(*args, workspace=request.workspace, user=request.user, has_command=has_command, **kwargs)


def _handle(request: WorkspaceRequest, origin: Run | None) -> HttpResponse:
    if request.method != "POST":
        initial = forms.initial_from(origin) if origin else forms.initial_of(request.workspace)
        initial |= {
            name: request.GET[name] for name in ("experiment", "target", "environment") if request.GET.get(name)
        }
        if request.GET.get("environment"):
            initial["environment_kind"] = "registered"
        initial |= data_forms.rows_with(request.workspace, request.GET.get("dataset", ""))
        form = _form(request, origin, initial=initial)
        return render(request, "runs/new.html", _context(request, form, origin))
    data = request.POST.copy()
    failed: AtelierError | None = None
    for field in ("requirements", "conda"):
        upload = request.FILES.get(f"{field}_file")
        if upload is not None:
            data[field] = upload.read(1_000_000).decode("utf-8", "replace")
    try:
        uploaded = _snapshot_of(request)
        if uploaded is not None:
            data["snapshot"], data["source"] = uploaded.digest, "upload"
            names = script_choices(uploaded)
            if data.get("script") not in names and len(names) == 1:
                data["script"] = names[0]
    except AtelierError as error:
        failed = error
    form = _form(request, origin, data)
    valid = form.is_valid()
    if failed is not None:
        form.errors["snapshot"] = form.error_class([failed.detail])
    elif valid:
        try:
            return redirect(_submit(request, form, origin))
        except AtelierError as error:
            _show(form, error)
    return render(request, "runs/new.html", _context(request, form, origin), status=422)


def _show(form: RunForm, error: AtelierError) -> None:
    """Puts a service's error beside its field, or above the form where there is no such field."""
    renamed = {"time_limit_s": "time_limit", "environment_variables": None, "recipe": "environment"}
    for field, messages in (error.errors or {"": [error.detail]}).items():
        name = renamed.get(field, field.removeprefix("resources."))
        for message in messages:
            shown = ValidationError(message, code=field) if field in {"inputs", "outputs"} else message
            form.add_error(name if name in form.fields else None, shown)


@workspace_page(Right.WRITE)
@require_http_methods(["GET", "HEAD", "POST"])
@csrf_protect
def _run_new(request: WorkspaceRequest) -> HttpResponse:
    return _handle(request, None)


@workspace_page(Right.WRITE)
@require_http_methods(["GET", "HEAD", "POST"])
@csrf_protect
def _run_resubmit(request: WorkspaceRequest, run_id: str) -> HttpResponse:
    return _handle(request, common.run_of(request, run_id))


@workspace_page(Right.WRITE)
@require_POST
@csrf_protect
def _run_upload(request: WorkspaceRequest) -> HttpResponse:
    try:
        snapshot = _snapshot_of(request)
        if snapshot is None:
            raise Invalid(_("No file arrived. Choose a folder, a zip or some files."), field="files")
    except AtelierError as error:
        return render(request, "runs/new.html#source", {"source_error": error.detail}, status=422)
    return render(request, "runs/new.html#source", _source_context(snapshot, request.POST.get("script", "")))


def _into_one_file(view: Any) -> Any:
    """Sets the upload handler before anything reads the body; the view inside checks the CSRF token itself."""

    @csrf_exempt
    def outer(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        request.upload_handlers = [FolderUploadHandler(request)]
        return view(request, **kwargs)

    outer.workspace_right = view.workspace_right  # type: ignore[attr-defined]
    return outer


run_new = _into_one_file(_run_new)
run_resubmit = _into_one_file(_run_resubmit)
run_upload = _into_one_file(_run_upload)


@workspace_page(Right.WRITE)
@require_GET
def run_arguments(request: WorkspaceRequest) -> HttpResponse:
    """How the argument line splits, drawn beside it while it is typed."""
    return render(request, "runs/new.html#arguments", _arguments_context(request.GET.get("arguments", "")))


@workspace_page(Right.WRITE)
@require_POST
def run_packages(request: WorkspaceRequest) -> HttpResponse:
    """Names the packages of the typed recipe that cannot be had. Asks the package index: seconds."""
    context: dict[str, Any] = {}
    try:
        recipe = forms.recipe_of(request.POST.dict())
        context = {"checked": True, "problems": environments.check_packages(recipe), "recipe": recipe}
        if recipe.kind != "system":
            version, _path, warning = environments.choose_python(recipe.python, recipe.strict)
            context |= {"python_version": version, "python_warning": warning}
    except AtelierError as error:
        context |= {"check_error": error.detail}
    return render(request, "runs/new.html#packages", context)
