"""Forms drawn from what a kind declares, and errors of services beside the fields that they name."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext

from studio.lib.errors import AtelierError
from studio.lib.fields import FormField

CODE = {"class": "at-code-input", "spellcheck": "false", "autocomplete": "off", "autocapitalize": "off"}


def add_errors(form: forms.BaseForm, error: AtelierError) -> None:
    """Each message beside its field; one whose field the form does not have goes above the form."""
    if not error.errors:
        form.add_error(None, error.detail)
    for field, texts in error.errors.items():
        for text in texts:
            form.add_error(field if field in form.fields else None, text)


class SecretTextarea(forms.Textarea):
    """For a secret of several lines, such as a private key: what was typed is not sent back to the page."""

    def format_value(self, value: Any) -> None:
        return None


def kind_field(spec: FormField, *, stored: bool = False) -> forms.Field:
    """A declared field as a form field. ``stored``: a secret that is there already may stay empty."""
    common: dict[str, Any] = {
        "label": spec.label,
        "help_text": spec.help,
        "required": spec.required and not stored,
        "initial": spec.default,
    }
    if spec.secret or spec.kind == "password":
        if stored:
            common["help_text"] = gettext("Stored. Leave it empty to keep it. %(help)s") % {"help": spec.help}
        widget: forms.Widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
        if spec.kind == "textarea":
            widget = SecretTextarea(attrs={"rows": 6, **CODE})
        return forms.CharField(widget=widget, strip=False, **common)
    if spec.kind == "number":
        return forms.IntegerField(min_value=spec.minimum, max_value=spec.maximum, **common)
    if spec.kind == "checkbox":
        return forms.BooleanField(**{**common, "required": False})
    if spec.kind == "select":
        return forms.ChoiceField(choices=spec.choices, **common)
    if spec.kind == "textarea":
        return forms.CharField(widget=forms.Textarea(attrs={"rows": 6, **CODE}), **common)
    return forms.CharField(**common)


class KindForm(forms.Form):
    """A form whose declared fields (``specs``) part into plain settings and secrets. A box that is not ticked is False
    among them: browsers send nothing for it, and to the kind nothing would mean its default."""

    specs: list[FormField]

    @property
    def config(self) -> dict[str, Any]:
        return self._values(secret=False)

    @property
    def secrets(self) -> dict[str, str]:
        return {name: value for name, value in self._values(secret=True).items() if value}

    def _values(self, *, secret: bool) -> dict[str, Any]:
        return {
            spec.name: self.cleaned_data[spec.name]
            for spec in self.specs
            if spec.secret is secret and self.cleaned_data.get(spec.name) not in (None, "")
        }
