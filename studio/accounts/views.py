"""Members, invitations, service principals, tokens, the audit log, and a workspace's settings."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from studio.accounts import selectors, services, tokens
from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.forms import InviteForm, PrincipalForm, SettingsForm, TokenForm, WorkspaceForm
from studio.accounts.models import Role, ServicePrincipal
from studio.accounts.policy import Right
from studio.lib.errors import AtelierError, Conflict, Forbidden, Invalid, NotFound
from studio.lib.forms import add_errors


def _members(request: WorkspaceRequest, *, status: int = 200, **more: Any) -> HttpResponse:
    context = {
        "members": services.members(request.workspace),
        "invitations": selectors.open_invitations(request.workspace),
        "roles": Role.choices,
        "invite_form": InviteForm(prefix="invite"),
        "principal_form": PrincipalForm(prefix="principal"),
        **more,
    }
    return render(request, "accounts/members.html", context, status=status)


@never_cache
@workspace_page()
def member_list(request: WorkspaceRequest) -> HttpResponse:
    return _members(request)


@never_cache
@require_POST
@workspace_page(write=Right.MANAGE)
def member_invite(request: WorkspaceRequest) -> HttpResponse:
    """Makes the link and shows it, this once, on the members page."""
    form = InviteForm(request.POST, prefix="invite")
    if not form.is_valid():
        return _members(request, invite_form=form, status=422)
    _made, secret = services.invitation_create(
        workspace=request.workspace,
        role=form.cleaned_data["role"],
        email=form.cleaned_data["email"],
        by=request.user,
        request=request,
    )
    link = settings.ATELIER_URL + reverse("invite-accept", args=[secret])
    return _members(request, invite_link=link)


@require_POST
@workspace_page(write=Right.MANAGE)
def member_role(request: WorkspaceRequest, user_id: int) -> HttpResponse:
    role = request.POST.get("role", "")
    try:
        changed = services.member_set_role(
            workspace=request.workspace, user_id=user_id, role=role, by=request.user, request=request
        )
        messages.success(request, _("%(who)s is now %(role)s.") % {"who": changed.user.label, "role": changed.role})
    except (Conflict, Invalid) as error:
        messages.error(request, error.detail)
    return redirect("member-list", workspace=request.workspace.name)


@require_POST
@workspace_page(write=Right.MANAGE)
def member_remove(request: WorkspaceRequest, user_id: int) -> HttpResponse:
    try:
        services.member_remove(workspace=request.workspace, user_id=user_id, by=request.user, request=request)
        messages.success(request, _("The member was removed."))
    except (Conflict, Invalid) as error:
        messages.error(request, error.detail)
    return redirect("member-list", workspace=request.workspace.name)


@require_POST
@workspace_page(write=Right.MANAGE)
def invitation_revoke(request: WorkspaceRequest, invitation_id: int) -> HttpResponse:
    services.invitation_revoke(
        workspace=request.workspace, invitation_id=invitation_id, by=request.user, request=request
    )
    messages.success(request, _("The invitation was taken back."))
    return redirect("member-list", workspace=request.workspace.name)


@never_cache
@require_POST
@workspace_page(write=Right.MANAGE)
def principal_create(request: WorkspaceRequest) -> HttpResponse:
    """Makes the service principal and shows its secret, this once."""
    form = PrincipalForm(request.POST, prefix="principal")
    if form.is_valid():
        try:
            principal, secret = tokens.principal_create(
                workspace=request.workspace, user=request.user, request=request, **form.cleaned_data
            )
            return _members(request, principal=principal, principal_secret=secret)
        except AtelierError as error:
            add_errors(form, error)
    return _members(request, principal_form=form, status=422)


def _principal(request: WorkspaceRequest, principal_id: int) -> ServicePrincipal:
    found = ServicePrincipal.objects.filter(workspace=request.workspace, pk=principal_id).first()
    if found is None:
        raise NotFound(_("There is no such service principal in this workspace."))
    return found


@never_cache
@require_POST
@workspace_page(write=Right.MANAGE)
def principal_rotate(request: WorkspaceRequest, principal_id: int) -> HttpResponse:
    principal = _principal(request, principal_id)
    secret = tokens.principal_rotate(principal=principal, user=request.user, request=request)
    return _members(request, principal=principal, principal_secret=secret)


@require_POST
@workspace_page(write=Right.MANAGE)
def principal_delete(request: WorkspaceRequest, principal_id: int) -> HttpResponse:
    tokens.principal_delete(principal=_principal(request, principal_id), user=request.user, request=request)
    messages.success(request, _("The service principal can no longer sign in."))
    return redirect("member-list", workspace=request.workspace.name)


@workspace_page(Right.MANAGE)
def audit_log(request: WorkspaceRequest) -> HttpResponse:
    search = request.GET.get("q", "").strip()
    page = selectors.audit_page(request.workspace, search=search, cursor=request.GET.get("cursor") or None)
    return render(request, "accounts/audit.html", {"page": page, "search": search})


@workspace_page(Right.MANAGE, write=Right.MANAGE)
def workspace_settings(request: WorkspaceRequest) -> HttpResponse:
    workspace = request.workspace
    form = SettingsForm(request.POST if request.method == "POST" else None, initial=SettingsForm.initial_of(workspace))
    if request.method == "POST" and form.is_valid():
        services.workspace_update(
            workspace=workspace,
            user=request.user,
            title=form.cleaned_data["title"],
            description=form.cleaned_data["description"],
            preferences=form.preferences(),
            request=request,
        )
        messages.success(request, _("The settings are saved."))
        return redirect("workspace-settings", workspace=workspace.name)
    status = 422 if form.errors else 200
    return render(request, "accounts/settings.html", {"form": form, "endpoint": settings.ATELIER_URL}, status=status)


@login_required
def workspace_new(request: HttpRequest) -> HttpResponse:
    """Site administrators make workspaces."""
    if not request.user.is_superuser:
        raise Forbidden(_("Only a site administrator makes workspaces. Ask one."))
    form = WorkspaceForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            workspace = services.workspace_create(user=request.user, request=request, **form.cleaned_data)
            return redirect("home", workspace=workspace.name)
        except AtelierError as error:
            add_errors(form, error)
    return render(request, "accounts/workspace_new.html", {"form": form}, status=422 if form.errors else 200)


@never_cache
@login_required
def token_list(request: HttpRequest) -> HttpResponse:
    """One's own tokens; a POST makes one and shows its secret, this once."""
    form = TokenForm(request.POST or None)
    secret = ""
    if request.method == "POST" and form.is_valid():
        _made, secret = tokens.token_create(user=request.user, request=request, **form.cleaned_data)  # type: ignore[arg-type]
        form = TokenForm()
    context = {
        "form": form,
        "secret": secret,
        "tokens": selectors.tokens_of(request.user),  # type: ignore[arg-type]
        "endpoint": settings.ATELIER_URL,
    }
    return render(request, "accounts/tokens.html", context, status=422 if form.errors else 200)


@require_POST
@login_required
def token_revoke(request: HttpRequest, token_id: int) -> HttpResponse:
    tokens.token_revoke(user=request.user, token_id=token_id, request=request)  # type: ignore[arg-type]
    messages.success(request, _("The token no longer works."))
    return redirect("token-list")


@never_cache
def invite_accept(request: HttpRequest, secret: str) -> HttpResponse:
    """Who is signed in joins with one press; who is not signs in or up first and comes back here."""
    invitation = services.invitation_find(secret)
    if not request.user.is_authenticated:
        request.session["invitation"] = invitation.pk
        return render(request, "accounts/invite.html", {"invitation": invitation})
    error = ""
    if request.method == "POST":
        try:
            services.invitation_accept(invitation=invitation, user=request.user, request=request)
            request.session.pop("invitation", None)
            return redirect("home", workspace=invitation.workspace.name)
        except AtelierError as refused:
            error = refused.detail
    context = {"invitation": invitation, "refused": error}
    return render(request, "accounts/invite.html", context, status=409 if error else 200)
