"""Errors of services beside the fields of a form."""

from __future__ import annotations

from django.forms import BaseForm

from studio.lib.errors import AtelierError


def add_errors(form: BaseForm, error: AtelierError) -> None:
    """Each message beside its field; one whose field the form does not have goes above the form."""
    if not error.errors:
        form.add_error(None, error.detail)
    for field, texts in error.errors.items():
        for text in texts:
            form.add_error(field if field in form.fields else None, text)
