"""Two pages of the wizard: how the files are read, and what the columns are called."""

from __future__ import annotations

import uuid
from typing import Any

from atelier.data.errors import DataError
from django.http import HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from studio.accounts.access import WorkspaceRequest, workspace_page
from studio.accounts.policy import Right
from studio.data_pages import drafts, matching
from studio.data_pages.forms import KINDS, TYPES, SettingsForm, read_columns
from studio.data_pages.wizard_step import Step, open_step
from studio.lib.errors import AtelierError, Invalid

# 2: how it is read


@workspace_page(Right.WRITE)
def wizard_settings(request: WorkspaceRequest, draft: uuid.UUID) -> HttpResponse:
    step = open_step(request, draft, "settings")
    if not step.chosen:
        return step.go("wizard-files")
    sql = step.state["place"] == "sql"
    if request.method != "POST":
        note = _guess(step)
        form = SettingsForm(initial=SettingsForm.initial_of(step.state), sql=sql)
        return _settings_page(step, form, {"guess_error": note})
    form = SettingsForm(request.POST, sql=sql)
    valid = form.is_valid()
    form.apply(step.state)
    step.save()
    go = request.POST.get("go", "next")
    if go == "back":
        return step.go("wizard-files")
    if not valid:
        return _settings_page(step, form, {}, status=422)
    if go == "anyway":
        step.state.update(columns=[], columns_for="")
        step.save()
        return step.go("wizard-name")
    seen = step.look()
    if go == "preview" or seen.get("preview_error"):
        status = 422 if seen.get("preview_error") else 200
        return _settings_page(step, form, {**seen, "stuck": go == "next"}, status=status)
    return step.go("wizard-name" if step.state["kind"] == "files" and not sql else "wizard-columns")


def _guess(step: Step) -> AtelierError | None:
    """Looks at the first file once for each choice of files; what a dataset already said is not guessed over."""
    state = step.state
    if state["place"] == "sql" or state["guessed_for"] == "given":
        return None
    places = repr(drafts.places_of(state))
    if state["guessed_for"] == places:
        return None
    try:
        kind, settings = matching.guessed(step.request.workspace, state)
    except AtelierError as error:
        return error
    state.update(kind=kind, guessed_for=places)
    state["settings"].update(settings)
    step.save()
    return None


def _settings_page(step: Step, form: SettingsForm, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    common = {"form": form, "kinds": KINDS, "sql": step.state["place"] == "sql", "choose": True}
    return step.page({**common, **context}, status=status)


@workspace_page(Right.WRITE)
@require_POST
def wizard_preview(request: WorkspaceRequest, draft: uuid.UUID) -> HttpResponse:
    """The first rows with the settings as they are on the page, as a part; the settings are kept."""
    step = open_step(request, draft, "settings")
    form = SettingsForm(request.POST, sql=step.state["place"] == "sql")
    valid = form.is_valid()
    form.apply(step.state)
    step.save()
    context = (
        step.look()
        if valid
        else {
            "wrong": [
                (form[name].label, text) for name, texts in form.errors.items() if name in form.fields for text in texts
            ]
        }
    )
    return step.page({**context, "choose": True}, template="data/parts/wizard_preview.html")


# 3: the columns


@workspace_page(Right.WRITE)
def wizard_columns(request: WorkspaceRequest, draft: uuid.UUID) -> HttpResponse:
    step = open_step(request, draft, "columns")
    if not step.chosen:
        return step.go("wizard-files")
    if step.state["kind"] == "files" and step.state["place"] != "sql":
        return step.go("wizard-name")
    failed = _find_columns(step)
    if failed or request.method != "POST":
        return _columns_page(step, {}, {"preview_error": failed})
    errors = _read_columns(step)
    step.save()
    go = request.POST.get("go", "next")
    if go == "back":
        return step.go("wizard-settings")
    if errors:
        return _columns_page(step, errors, {}, status=422)
    if go == "preview":
        return _columns_page(step, {}, step.look(settled=True))
    try:
        drafts.definition_of(step.state)
    except DataError as error:
        return _columns_page(step, {-1: str(error)}, {}, status=422)
    return step.go("wizard-name")


def _find_columns(step: Step) -> AtelierError | None:
    """Reads the columns where the settings have changed since; the error where they cannot be read."""
    state = step.state
    try:
        mark = drafts.mark(state)
    except (DataError, AtelierError) as error:
        return Invalid(str(error))
    if state["columns"] and state["columns_for"] == mark:
        return None
    seen = step.look()
    if failed := seen.get("preview_error"):
        return failed
    drafts.settle(state, seen["preview"]["definition"]["schema"] or [])
    state["columns_for"] = mark
    step.save()
    return None


def _read_columns(step: Step) -> dict[int, str]:
    """What was posted, into the draft: {index, or -1 for the whole: what is wrong}."""
    data, state = step.request.POST, step.state
    state["columns"], errors = read_columns(data, state["columns"])
    if state["columns"] and not any(column["keep"] for column in state["columns"]):
        errors[-1] = _("Keep at least one column.")
    kept = {column["name"] for column in state["columns"] if column["keep"]}
    for name in ("timestamp", "partition"):
        source = data.get(name, "")
        chosen = next((column["name"] for column in state["columns"] if column["source"] == source), "")
        state[name] = chosen if chosen in kept else ""
        if chosen and chosen not in kept:
            errors[-1] = _("%(name)s is left out, so it cannot be the timestamp.") % {"name": chosen}
    return errors


def _columns_page(step: Step, errors: dict[int, str], context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    rows = [
        {**column, "index": index, "error": errors.get(index, "")} for index, column in enumerate(step.state["columns"])
    ]
    context = {"rows": rows, "types": TYPES, "whole_error": errors.get(-1, ""), **context}
    return step.page(context, status=status)


@workspace_page(Right.WRITE)
@require_POST
def wizard_columns_preview(request: WorkspaceRequest, draft: uuid.UUID) -> HttpResponse:
    """The first rows with names and types as they are on the page, as a part; they are kept."""
    step = open_step(request, draft, "columns")
    errors = _read_columns(step)
    step.save()
    context: dict[str, Any] = {"wrong": [("", text) for text in errors.values()]} if errors else step.look(settled=True)
    return step.page(context, template="data/parts/wizard_preview.html")
