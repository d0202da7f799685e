"""The last page of the wizard: the name, and registering."""

from __future__ import annotations

import re
import uuid
from typing import Any

from atelier.data import definition
from atelier.data.errors import DataError
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.data_pages import drafts
from studio.data_pages.forms import KINDS, NameForm
from studio.data_pages.wizard_step import Step, open_step
from studio.datasets.models import Dataset
from studio.datasets.services import datasets as services
from studio.lib.errors import AtelierError
from studio.lib.forms import add_errors

_AWKWARD = re.compile(r"[^\w.-]+")

# 4: its name


@workspace_page(Right.WRITE)
def wizard_name(request: WorkspaceRequest, draft: uuid.UUID) -> HttpResponse:
    step = open_step(request, draft, "name")
    state = step.state
    if not step.chosen:
        return step.go("wizard-files")
    if request.method != "POST":
        initial = {key: state[key] for key in ("name", "description", "tags")}
        initial["name"] = initial["name"] or _proposed(step)
        return _name_page(step, NameForm(initial=initial))
    state.update({key: request.POST.get(key, "") for key in ("name", "description", "tags")})
    step.save()
    form = NameForm(request.POST)
    if request.POST.get("go") == "back":
        return step.go("wizard-settings" if state["kind"] == "files" and state["place"] != "sql" else "wizard-columns")
    if not form.is_valid():
        return _name_page(step, form, status=422)
    return _register(step, form)


def _proposed(step: Step) -> str:
    """A name from what is read: ``Titanic`` of ``raw/Titanic.csv``; none of a query, or where the name is taken."""
    state = step.state
    if state["place"] == "sql":
        return ""
    try:
        label = definition.label(drafts.definition_of(state))
    except (AtelierError, DataError):
        return ""
    words = [word for word in label.partition(" | ")[0].partition(" + ")[0].split("/") if word and "*" not in word]
    name = _AWKWARD.sub("-", words[-1].partition(".")[0]).strip("-") if words else ""
    return "" if Dataset.objects.filter(workspace=step.request.workspace, name=name).exists() else name[:255]


def _register(step: Step, form: NameForm) -> HttpResponse:
    request, state = step.request, step.state
    name = form.cleaned_data["name"].strip()
    there = Dataset.objects.filter(workspace=request.workspace, name=name).first()
    if there is not None and name not in (state["dataset"], request.POST.get("confirmed", "")):
        return _name_page(step, form, {"there": there}, status=422)
    try:
        version = services.dataset_register(
            workspace=request.workspace,
            user=request.user,
            name=name,
            definition=drafts.definition_of(state),
            description=form.cleaned_data["description"],
            tags=drafts.read_tags(form.cleaned_data["tags"]),
            create_new_version=there is not None,
            request=request,
        )
    except DataError as error:
        form.add_error(None, str(error))
    except AtelierError as error:
        add_errors(form, error)
    else:
        if there is not None and version.version == there.latest_version:
            messages.info(request, _("Version %(n)d says exactly this already.") % {"n": version.version})
        else:
            messages.success(request, _("%(name)s is registered.") % {"name": version})
        step.draft.delete()
        return redirect(version.get_absolute_url())
    return _name_page(step, form, status=422)


def _name_page(step: Step, form: NameForm, context: dict[str, Any] | None = None, *, status: int = 200) -> HttpResponse:
    state = step.state
    names = Dataset.objects.filter(workspace=step.request.workspace, archived_at=None).order_by("name")
    summary = {
        "kind": {key: label for key, label, _text, _icon in KINDS}.get(state["kind"], _("SQL query")),
        "columns": sum(column["keep"] for column in state["columns"]),
        "left_out": sum(not column["keep"] for column in state["columns"]),
        "places": [_place(place) for place in drafts.places_of(state)] if state["place"] != "sql" else [],
    }
    own = names.filter(name=state["dataset"]).first() if state["dataset"] else None
    return step.page(
        {
            "form": form,
            "names": list(names.values_list("name", flat=True)[:200]),
            "summary": summary,
            "next_version": own.latest_version + 1 if own else None,
            **(context or {}),
        },
        status=status,
    )


def _place(place: dict[str, Any]) -> str:
    return str(place["url"]).partition("?")[0] if "url" in place else f"{place['datastore']}:{place['path']}"
