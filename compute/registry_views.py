"""What the workspace's containers are made of: its base image, and the registries that it may use."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from compute.models import ContainerRegistry
from compute.services import registries
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.lib.errors import AtelierError, NotFound
from studio.lib.fields import Problem
from studio.lib.forms import CODE, add_errors

PAGE = "compute/containers.html"


class BaseImageForm(forms.Form):
    base_image = forms.CharField(
        label=gettext_lazy("Base image"),
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs=CODE),
        help_text=gettext_lazy(
            "What lies below the packages of every environment, and runs without one. Empty: the studio's own, as "
            "shown."
        ),
    )


class RegistryForm(forms.Form):
    address = forms.CharField(
        label=gettext_lazy("Address"),
        max_length=255,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "registry.example.org:5000/team"}),
        help_text=gettext_lazy("What stands before an image's name: a host, with its port or a prefix."),
    )
    username = forms.CharField(label=gettext_lazy("User name"), required=False, max_length=255)
    password = forms.CharField(
        label=gettext_lazy("Password or token"),
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=gettext_lazy("Stored encrypted, never shown again."),
    )
    push = forms.BooleanField(
        label=gettext_lazy("Push built images here"),
        required=False,
        help_text=gettext_lazy("Images are looked for here before they are built, and sent here after. One has it."),
    )


def _registry(request: WorkspaceRequest, registry_id: int) -> ContainerRegistry:
    found = ContainerRegistry.objects.filter(workspace=request.workspace, pk=registry_id).first()
    if found is None:
        raise NotFound(_("There is no such registry in this workspace."))
    return found


def _render(request: WorkspaceRequest, base: BaseImageForm, form: RegistryForm, **context: Any) -> HttpResponse:
    base.fields["base_image"].widget.attrs["placeholder"] = settings.ATELIER_BASE_IMAGE
    rows = ContainerRegistry.objects.filter(workspace=request.workspace).select_related("created_by")
    full = {"base": base, "form": form, "registries": rows.order_by("address"), **context}
    return render(request, PAGE, full, status=422 if base.errors or form.errors else 200)


def _unbound(request: WorkspaceRequest) -> BaseImageForm:
    return BaseImageForm(initial={"base_image": request.workspace.preferences.get("base_image", "")})


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_http_methods(["GET", "HEAD", "POST"])
def container_settings(request: WorkspaceRequest) -> HttpResponse:
    """A POST changes the base image."""
    if request.method != "POST":
        return _render(request, _unbound(request), RegistryForm())
    base = BaseImageForm(request.POST)
    if base.is_valid():
        try:
            registries.base_image_set(
                request.workspace, base.cleaned_data["base_image"], user=request.user, request=request
            )
        except AtelierError as error:
            add_errors(base, error)
        else:
            messages.success(request, _("The base image is saved. What is built next is built on it."))
            return redirect("container-settings", workspace=request.workspace.name)
    return _render(request, base, RegistryForm())


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_POST
def registry_add(request: WorkspaceRequest) -> HttpResponse:
    """It is tested first; ``force`` adds it without."""
    form = RegistryForm(request.POST)
    problems: list[Problem] = []
    if form.is_valid():
        data = form.cleaned_data
        try:
            if "force" not in request.POST:
                problems = registries.check(
                    registries.clean_address(data["address"]), data["username"].strip(), data["password"]
                )
            if not problems:
                made = registries.registry_create(
                    workspace=request.workspace, user=request.user, request=request, **data
                )
                messages.success(request, _("%(address)s is added.") % {"address": made.address})
                return redirect("container-settings", workspace=request.workspace.name)
        except AtelierError as error:
            add_errors(form, error)
    for problem in problems:
        text = f"{problem.message} {problem.hint}".strip()
        form.add_error(problem.field if problem.field in form.fields else None, text)
    return _render(request, _unbound(request), form, tried=bool(problems))


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_POST
def registry_test(request: WorkspaceRequest, registry_id: int) -> HttpResponse:
    """Whether it answers now and takes the password. htmx gets the answer as a part of the list."""
    one = _registry(request, registry_id)
    problems = registries.registry_check(one)
    if request.htmx:
        return render(request, f"{PAGE}#tested", {"one": one, "problems": problems, "tested": True})
    if problems:
        messages.error(request, " ".join(f"{problem.message} {problem.hint}".strip() for problem in problems))
    else:
        messages.success(request, _("%(address)s answers.") % {"address": one.address})
    return redirect("container-settings", workspace=request.workspace.name)


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_POST
def registry_push(request: WorkspaceRequest, registry_id: int) -> HttpResponse:
    """Whether built images are sent there (``push``: 1 or 0)."""
    one = _registry(request, registry_id)
    registries.registry_update(one, user=request.user, push=request.POST.get("push") == "1", request=request)
    return redirect("container-settings", workspace=request.workspace.name)


@workspace_page(Right.MANAGE, write=Right.MANAGE)
@require_POST
def registry_remove(request: WorkspaceRequest, registry_id: int) -> HttpResponse:
    one = _registry(request, registry_id)
    registries.registry_delete(one, user=request.user, request=request)
    messages.success(request, _("%(address)s is removed, with its password.") % {"address": one.address})
    return redirect("container-settings", workspace=request.workspace.name)
