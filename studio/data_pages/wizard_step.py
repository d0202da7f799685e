"""What the pages of the wizard share: the draft of a request, its steps, a look at the data."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from atelier.data.errors import DataError
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext_lazy
from django_htmx.http import HttpResponseClientRedirect

from studio.accounts.access import WorkspaceRequest
from studio.data_pages import drafts
from studio.datasets import inspect
from studio.datasets.models import DatasetDraft
from studio.lib.errors import AtelierError, Invalid
from studio.lib.htmx import render_page

STEPS = (
    ("files", "wizard-files", gettext_lazy("Files")),
    ("settings", "wizard-settings", gettext_lazy("Settings")),
    ("columns", "wizard-columns", gettext_lazy("Columns")),
    ("name", "wizard-name", gettext_lazy("Name")),
)


@dataclass
class Step:
    """One request's view of the draft."""

    request: WorkspaceRequest
    draft: DatasetDraft
    state: drafts.State
    key: str

    def save(self) -> None:
        drafts.draft_save(self.draft, self.state)

    def url(self, name: str) -> str:
        return reverse(name, kwargs={"workspace": self.request.workspace.name, "draft": self.draft.pk})

    def go(self, name: str) -> HttpResponse:
        url = self.url(name)
        return HttpResponseClientRedirect(url) if self.request.htmx else redirect(url)

    def page(
        self, context: dict[str, Any], *, part: str | None = None, status: int = 200, template: str = ""
    ) -> HttpResponse:
        context = {"draft": self.draft, "state": self.state, "step": self.key, "steps": self._steps(), **context}
        return render_page(self.request, template or f"data/wizard_{self.key}.html", context, part=part, status=status)

    @property
    def chosen(self) -> bool:
        """Whether the first page has been answered."""
        try:
            drafts.source_of(self.state)
        except AtelierError:
            return False
        return True

    def look(self, *, settled: bool = False) -> dict[str, Any]:
        """{"preview"} or {"preview_error"}; without ``settled`` the columns are found out."""
        try:
            definition = drafts.definition_of(self.state, settled=settled)
            reader = inspect.preview_of if settled else inspect.inspect
            return {"preview": reader(definition, workspace=self.request.workspace)}
        except DataError as error:
            return {"preview_error": Invalid(str(error))}
        except AtelierError as error:
            return {"preview_error": error}

    def _steps(self) -> list[dict[str, Any]]:
        current = [key for key, _name, _label in STEPS].index(self.key)
        skipped = {"columns"} if self.state["kind"] == "files" and self.state["place"] != "sql" else set()
        return [
            {
                "label": label,
                "url": self.url(name) if index < current and key not in skipped else "",
                "state": "skipped" if key in skipped else "done" if index < current else "",
                "current": index == current,
            }
            for index, (key, name, label) in enumerate(STEPS)
        ]


def open_step(request: WorkspaceRequest, draft: uuid.UUID, key: str) -> Step:
    row, state = drafts.draft_get(request.workspace, request.user, draft)
    return Step(request, row, state, key)
