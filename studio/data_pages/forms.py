"""Forms of the dataset pages: they read and show; definitions and services judge."""

from __future__ import annotations

from typing import Any

from atelier.data import definition as definitions
from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from studio.data_pages import drafts

_PLAIN = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "off"}
_CODE = {"class": "at-code-input", "rows": 3, **_PLAIN}
_WORDS = {"tab": "\t", "space": " "}
KINDS = (
    ("delimited", _("Delimited text"), _("CSV and the like: values cut by a character."), "table"),
    ("parquet", _("Parquet"), _("Columns with types of their own."), "columns"),
    ("json_lines", _("JSON lines"), _("One JSON object a line."), "code"),
    ("files", _("Files"), _("Taken as they are: images, text, models."), "folder"),
)
SEPARATORS = (
    (",", _("Comma  ,")),
    (";", _("Semicolon  ;")),
    ("tab", _("Tab")),
    ("|", _("Bar  |")),
    ("space", _("Space")),
    ("other", _("Another character")),
)
_SKIP_OR_FAIL = [("skip", _("Leave the row out")), ("fail", _("Stop with an error"))]
ENCODINGS = (
    ("utf8", "UTF-8"),
    ("utf-8-sig", _("UTF-8 with a byte order mark")),
    ("utf-16", "UTF-16"),
    ("latin-1", _("Latin-1 (ISO 8859-1)")),
    ("cp1252", "Windows-1252"),
    ("ascii", "ASCII"),
    ("gb18030", "GB 18030"),
    ("shift_jis", "Shift JIS"),
    ("cp949", _("Korean (CP949)")),
)
TYPES = (
    ("string", _("Text")),
    ("integer", _("Whole number")),
    ("float", _("Number")),
    ("boolean", _("True or false")),
    ("datetime", _("Date and time")),
)


class SettingsForm(forms.Form):
    """How the files are read. Fields that a kind does not have keep their values, so that going back loses nothing."""

    kind = forms.ChoiceField(label=_("What it is"), choices=[(key, label) for key, label, _text, _icon in KINDS])
    separator = forms.ChoiceField(label=_("Separator"), required=False, choices=SEPARATORS)
    separator_other = forms.CharField(
        label=_("Another separator"), required=False, max_length=1, strip=False, widget=forms.TextInput(attrs=_PLAIN)
    )
    header = forms.BooleanField(label=_("The first row names the columns"), required=False)
    encoding = forms.ChoiceField(label=_("Encoding"), required=False)
    multi_line = forms.BooleanField(
        label=_("Quoted values may go over several lines"),
        required=False,
        help_text=_("Slower: files are then read from their beginning to their end."),
    )
    skip_rows = forms.IntegerField(label=_("Lines to skip at the top"), required=False, min_value=0, max_value=10**9)
    empty_as_string = forms.BooleanField(
        label=_("An empty value is empty text"), required=False, help_text=_("Otherwise it is missing (null).")
    )
    include_path = forms.BooleanField(label=_("Add a column with the file's path"), required=False)
    on_ragged = forms.ChoiceField(
        label=_("Rows with too few or too many values"),
        required=False,
        choices=[("fill", _("Fill with nulls, drop what is too much")), *_SKIP_OR_FAIL],
    )
    on_error = forms.ChoiceField(
        label=_("Values that do not fit their column's type"),
        required=False,
        choices=[("null", _("Make it a null")), *_SKIP_OR_FAIL],
    )
    on_bytes = forms.ChoiceField(
        label=_("Bytes that the encoding does not know"),
        required=False,
        choices=[("replace", _("Put � in their place")), *_SKIP_OR_FAIL],
    )

    def __init__(self, *args: Any, sql: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        encodings = list(ENCODINGS)
        chosen = self.data.get("encoding") or self.initial.get("encoding")
        if chosen and chosen not in dict(encodings):
            encodings.append((chosen, chosen))
        self.fields["encoding"].choices = encodings  # type: ignore[attr-defined]
        if sql:
            self.fields["kind"].required = False

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("kind") == "delimited" and data.get("separator") == "other" and not data.get("separator_other"):
            self.add_error("separator_other", gettext("Type the character."))
        return data

    def apply(self, state: drafts.State) -> None:
        """Puts what is valid into the draft; a field with an error leaves what was there."""
        data = dict(self.cleaned_data)
        if data.get("kind"):
            state["kind"] = data["kind"]
        separator = data.pop("separator", "")
        other = data.pop("separator_other", "")
        if separator == "other" and other:
            data["separator"] = other
        elif separator and separator != "other":
            data["separator"] = _WORDS.get(separator, separator)
        for name, value in data.items():
            if name != "kind" and value is not None and value != "":
                state["settings"][name] = value
        if "skip_rows" in data and data["skip_rows"] is None:
            state["settings"]["skip_rows"] = 0

    @staticmethod
    def initial_of(state: drafts.State) -> dict[str, Any]:
        found = {**definitions.DEFAULTS["delimited"], **definitions.COMMON, **state["settings"]}
        separator = {value: word for word, value in _WORDS.items()}.get(found["separator"], found["separator"])
        if separator not in (",", ";", "|", *_WORDS):
            found.update(separator_other=separator)
            separator = "other"
        return {**found, "separator": separator, "kind": state["kind"] or "delimited"}


class NameForm(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        max_length=255,
        help_text=_("Scripts ask for it by this name."),
        widget=forms.TextInput(attrs=_PLAIN),
    )
    description = forms.CharField(label=_("Description"), required=False, widget=forms.Textarea(attrs={"rows": 3}))
    tags = forms.CharField(
        label=_("Tags"), required=False, help_text=_("One name=value per line."), widget=forms.Textarea(attrs=_CODE)
    )


class AboutForm(forms.Form):
    """What is said about a dataset, on its page."""

    description = forms.CharField(label=_("Description"), required=False, widget=forms.Textarea(attrs={"rows": 3}))
    tags = forms.CharField(
        label=_("Tags of this version"),
        required=False,
        help_text=_("One name=value per line."),
        widget=forms.Textarea(attrs=_CODE),
    )


def read_columns(data: Any, columns: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """(columns as posted, {index: what is wrong with its name})."""
    errors: dict[int, str] = {}
    found: list[dict[str, Any]] = []
    taken: dict[str, str] = {}
    types = dict(TYPES)
    for index, column in enumerate(columns):
        name = str(data.get(f"name-{index}", column["name"])).strip()
        kind = data.get(f"type-{index}", column["type"])
        row = {
            **column,
            "name": name,
            "type": kind if kind in types else column["type"],
            "keep": f"keep-{index}" in data,
        }
        if not name:
            errors[index] = gettext("A column needs a name.")
        elif name.casefold() in taken:
            errors[index] = gettext("Another column has this name too: %(source)s.") % {
                "source": taken[name.casefold()]
            }
        taken.setdefault(name.casefold(), column["source"])
        found.append(row)
    return found, errors
