"""Pages of endpoints."""

from __future__ import annotations

import json
import time
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from compute.models import Unit
from compute.services import ensure_local_target
from models_registry import selectors, services
from models_registry.forms import DeployForm
from models_registry.models import Deployment, Endpoint, ModelVersion
from models_registry.services.deploying import NO_CODE
from models_registry.views import snippets
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.lib.errors import AtelierError
from studio.lib.forms import add_errors
from studio.lib.htmx import render_page

TABS = (
    ("overview", "endpoint-detail", gettext_lazy("Overview")),
    ("test", "endpoint-test", gettext_lazy("Test")),
    ("swagger", "endpoint-swagger", gettext_lazy("Swagger")),
    ("logs", "endpoint-logs", gettext_lazy("Logs")),
    ("keys", "endpoint-keys", gettext_lazy("Keys")),
)
SHOWN_ANSWER = 100_000


@workspace_page()
@require_safe
def endpoint_list(request: WorkspaceRequest) -> HttpResponse:
    search = request.GET.get("search", "").strip()
    page = selectors.endpoints_page(request.workspace, search=search, cursor=request.GET.get("cursor") or None)
    moving = any(row.deployment and row.deployment.state == "Transitioning" for row in page.items)
    context = {"page": page, "search": search, "moving": moving}
    return render_page(request, "models_registry/endpoint_list.html", context, part="rows")


def _context(request: WorkspaceRequest, name: str, tab: str) -> tuple[Endpoint, Deployment | None, dict[str, Any]]:
    endpoint = selectors.endpoint_get(request.workspace, name)
    deployment = selectors.deployment_of(endpoint)
    context = {
        "endpoint": endpoint,
        "deployment": deployment,
        "unit": deployment.unit if deployment else None,
        "version": deployment.version if deployment else None,
        "moving": bool(deployment and deployment.state == "Transitioning"),
        "scoring_uri": selectors.scoring_uri(endpoint),
        "swagger_uri": selectors.swagger_uri(endpoint),
        "tabs": TABS,
        "tab": tab,
    }
    return endpoint, deployment, context


@workspace_page()
@require_safe
def endpoint_detail(request: WorkspaceRequest, name: str) -> HttpResponse:
    endpoint, deployment, context = _context(request, name, "overview")
    error = (deployment.error or {}) if deployment else {}
    if error.get("log"):
        context["build"] = Unit.objects.filter(key=error["log"], workspace=request.workspace).first()
    body = services.sample_body(
        endpoint, services.describe(endpoint) if deployment and deployment.state == "Healthy" else None
    )
    context["curl"] = snippets.curl(context["scoring_uri"], body, endpoint.auth_enabled)
    context["python"] = snippets.python(context["scoring_uri"], body, endpoint.auth_enabled)
    return render_page(request, "models_registry/endpoint_overview.html", context, part="live")


@workspace_page(write=Right.READ)
def endpoint_test(request: WorkspaceRequest, name: str) -> HttpResponse:
    """The Test tab; POST sends the body through the studio and shows the answer; every member may call."""
    endpoint, deployment, context = _context(request, name, "test")
    if request.method == "POST":
        body = request.POST.get("body", "")
        context.update(_send(endpoint, body), body=body)
        return render_page(request, "models_registry/endpoint_test.html", context, part="answer")
    document = services.describe(endpoint) if deployment else None
    context["body"] = _pretty(services.sample_body(endpoint, document))
    return render_page(request, "models_registry/endpoint_test.html", context)


def _pretty(body: str) -> str:
    """A row per line: short enough to edit, and a row stays a row."""
    value = json.loads(body)
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        rows = ",\n    ".join(json.dumps(row) for row in value["data"])
        others = "".join(f",\n  {json.dumps(key)}: {json.dumps(part)}" for key, part in value.items() if key != "data")
        return f'{{\n  "data": [\n    {rows}\n  ]{others}\n}}'
    return json.dumps(value, indent=2)


def _send(endpoint: Endpoint, body: str) -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        status, answer, _headers = services.score(endpoint, body.encode(), "application/json")
    except AtelierError as error:
        return {"failed": error.detail}
    spent = (time.perf_counter() - begun) * 1000
    text = answer[:SHOWN_ANSWER].decode("utf-8", "replace")
    try:
        value = json.loads(answer)
    except ValueError:
        value = None
    if status != 200 and isinstance(value, dict) and value.get("detail"):
        return {"status": status, "failed": str(value["detail"]), "spent": round(spent, 1)}
    return {"status": status, "answer": text, "spent": round(spent, 1), "cut": len(answer) > SHOWN_ANSWER}


@workspace_page()
@require_safe
def endpoint_swagger(request: WorkspaceRequest, name: str) -> HttpResponse:
    endpoint, deployment, context = _context(request, name, "swagger")
    document = services.describe(endpoint) if deployment else None
    context["document"] = document
    if document:
        context["operations"] = snippets.operations(document)
        context["raw"] = json.dumps(document, indent=2)
    return render_page(request, "models_registry/endpoint_swagger.html", context)


@workspace_page()
@require_safe
def endpoint_logs(request: WorkspaceRequest, name: str) -> HttpResponse:
    _endpoint, _deployment, context = _context(request, name, "logs")
    return render_page(request, "models_registry/endpoint_logs.html", context)


@workspace_page()
def endpoint_keys(request: WorkspaceRequest, name: str) -> HttpResponse:
    """POST shows the keys once (and puts that on record), or makes one new."""
    endpoint, _deployment, context = _context(request, name, "keys")
    if request.method == "POST":
        which = request.POST.get("rotate", "")
        if which:
            services.key_rotate(endpoint, which, user=request.user, request=request)
            messages.success(request, _("There is a new key; the old one does not work any more."))
        context["keys"] = services.keys(endpoint, user=request.user, request=request)
    response = render_page(request, "models_registry/endpoint_keys.html", context)
    response.headers["Cache-Control"] = "no-store"
    return response


@workspace_page(Right.WRITE)
def endpoint_deploy(request: WorkspaceRequest) -> HttpResponse:
    local = ensure_local_target(request.workspace)
    rows = ModelVersion.objects.filter(model__workspace=request.workspace, model__archived_at=None)
    versions = list(
        rows.filter(framework__in=NO_CODE).select_related("model").order_by("model__name", "-version")[:500]
    )
    chosen = request.GET.get("model", "")
    if chosen and all(str(row) != chosen for row in versions):
        versions.insert(0, selectors.version_by_id(request.workspace, chosen))
        chosen = str(versions[0])
    initial = {"model": chosen, "target": local, "name": request.GET.get("endpoint", "") or _free_name(chosen)}
    form = DeployForm(request.POST or None, initial=initial, workspace=request.workspace, versions=versions)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        try:
            deployment = services.deploy(
                workspace=request.workspace,
                user=request.user,
                name=data["name"],
                version=selectors.version_by_id(request.workspace, data["model"]),
                target=data["target"],
                auth_enabled=data["auth_enabled"],
                overwrite=data["overwrite"],
                description=data["description"],
                request=request,
            )
        except AtelierError as error:
            error.errors = {{"version": "model"}.get(key, key): value for key, value in error.errors.items()}
            add_errors(form, error)
        else:
            return redirect("endpoint-detail", workspace=request.workspace.name, name=deployment.endpoint.name)
    names = Endpoint.objects.filter(workspace=request.workspace).order_by("name").values_list("name", flat=True)
    context = {"form": form, "versions": versions, "names": list(names[:200])}
    return render_page(request, "models_registry/deploy.html", context, status=422 if form.errors else 200)


def _free_name(model: str) -> str:
    """A proposal for the endpoint's name, from the model's."""
    plain = "".join(
        letter if letter.isascii() and letter.isalnum() else "-" for letter in model.partition(":")[0].lower()
    )
    plain = plain.strip("-")[:60]
    return plain if len(plain) > 2 and plain[0].isalpha() else ""


def _act(request: WorkspaceRequest, name: str, action: Any, said: str) -> HttpResponse:
    action(selectors.endpoint_get(request.workspace, name), user=request.user, request=request)
    messages.success(request, said)
    return redirect("endpoint-detail", workspace=request.workspace.name, name=name)


@workspace_page()
@require_POST
def endpoint_stop(request: WorkspaceRequest, name: str) -> HttpResponse:
    return _act(request, name, services.endpoint_stop, _("The service is being stopped."))


@workspace_page()
@require_POST
def endpoint_start(request: WorkspaceRequest, name: str) -> HttpResponse:
    return _act(request, name, services.endpoint_start, _("The service is being started."))


@workspace_page()
@require_POST
def endpoint_delete(request: WorkspaceRequest, name: str) -> HttpResponse:
    services.endpoint_delete(selectors.endpoint_get(request.workspace, name), user=request.user, request=request)
    messages.success(request, _("The endpoint %(name)s is deleted.") % {"name": name})
    return redirect("endpoint-list", workspace=request.workspace.name)
