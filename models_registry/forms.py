"""Forms of the model and endpoint pages: they read and show; the services judge."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from compute.models import Environment, Target
from models_registry.models import ModelVersion
from models_registry.services import FRAMEWORKS
from studio.accounts.models import Workspace

_PLAIN = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "off"}
_CODE = {"class": "at-code-input", "rows": 3, **_PLAIN}


def read_tags(text: str) -> dict[str, str | None]:
    """One ``name=value`` or ``name`` per line."""
    tags: dict[str, str | None] = {}
    for line in text.splitlines():
        name, sign, value = line.strip().partition("=")
        if name.strip():
            tags[name.strip()] = value.strip() if sign else None
    return tags


def write_tags(tags: dict[str, Any]) -> str:
    return "\n".join(name if value is None else f"{name}={value}" for name, value in (tags or {}).items())


class DetailsForm(forms.Form):
    """What is said of a version; also the page that changes it."""

    framework = forms.ChoiceField(label=_("Framework"), required=False)
    framework_version = forms.CharField(
        label=_("Framework version"),
        max_length=64,
        required=False,
        help_text=_("Left empty: what the environment has."),
        widget=forms.TextInput(attrs=_PLAIN),
    )
    description = forms.CharField(label=_("Description"), required=False, widget=forms.Textarea(attrs={"rows": 2}))
    tags = forms.CharField(
        label=_("Tags"), required=False, help_text=_("One name=value per line."), widget=forms.Textarea(attrs=_CODE)
    )
    cpu = forms.FloatField(label=_("Processors"), required=False, min_value=0.01)
    memory_in_gb = forms.FloatField(label=_("Memory in GB"), required=False, min_value=0.01)
    sample_input = forms.CharField(
        label=_("Sample input"),
        required=False,
        help_text=_("JSON rows that the model takes, such as [[5.1, 3.5, 1.4, 0.2]]. The Test tab starts with them."),
        widget=forms.Textarea(attrs=_CODE),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = [(name, name) for name in FRAMEWORKS]
        self.fields["framework"].choices = [("", gettext("Not said")), *names]  # type: ignore[attr-defined]

    def clean_tags(self) -> dict[str, str | None]:
        return read_tags(self.cleaned_data["tags"])

    def clean_sample_input(self) -> Any:
        text = self.cleaned_data["sample_input"].strip()
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise forms.ValidationError(gettext("This is not JSON.")) from None

    def columns(self) -> dict[str, Any]:
        """As the services take them."""
        data = self.cleaned_data
        resources = {name: data[name] for name in ("cpu", "memory_in_gb") if data.get(name)}
        names = ("framework", "framework_version", "description", "tags", "sample_input")
        return {**{name: data[name] for name in names}, "resource_configuration": resources}

    @staticmethod
    def initial_of(version: ModelVersion) -> dict[str, Any]:
        return {
            "framework": version.framework,
            "framework_version": version.framework_version,
            "description": version.description,
            "tags": write_tags(version.tags),
            "sample_input": json.dumps(version.sample_input) if version.sample_input is not None else "",
            **version.resource_configuration,
        }


class RegisterForm(DetailsForm):
    """From the files of a run. ``path`` is chosen in the tree that the page draws, or typed."""

    field_order = ["name", "path", "framework", "framework_version", "description"]
    name = forms.CharField(
        label=_("Name"),
        max_length=255,
        help_text=_("A name that is there already gets its next version."),
        widget=forms.TextInput(attrs={**_PLAIN, "list": "model-names"}),
    )
    path = forms.CharField(label=_("File or folder"), max_length=1000, widget=forms.TextInput(attrs=_PLAIN))


class ManyFiles(forms.ClearableFileInput):
    allow_multiple_selected = True


class ManyFilesField(forms.FileField):
    """The files as a list; the service judges whether there are any."""

    widget = ManyFiles

    def clean(self, data: Any, initial: Any = None) -> list[Any]:
        return list(data) if isinstance(data, (list, tuple)) else [file for file in [data] if file]


class UploadForm(DetailsForm):
    field_order = ["name", "files", "framework", "framework_version", "environment", "description"]
    name = RegisterForm.base_fields["name"]
    files = ManyFilesField(  # type: ignore[assignment]
        label=_("Files"), help_text=_("For scikit-learn a .joblib or .pkl file.")
    )
    environment = forms.ModelChoiceField(
        label=_("Environment"),
        queryset=Environment.objects.none(),
        required=False,
        help_text=_("What the model was trained with and is served in."),
        empty_label=_("Chosen at deployment"),
    )

    def __init__(self, *args: Any, workspace: Workspace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["environment"].queryset = environments(workspace)  # type: ignore[attr-defined]


def environments(workspace: Workspace) -> Any:
    return Environment.objects.filter(workspace=workspace, anonymous=False).order_by("name", "-version")


class DeployForm(forms.Form):
    name = forms.CharField(
        label=_("Endpoint"),
        max_length=64,
        help_text=_("Part of its address in the studio: lower-case letters, digits and hyphens."),
        widget=forms.TextInput(attrs={**_PLAIN, "list": "endpoint-names"}),
    )
    model = forms.ChoiceField(label=_("Model version"))
    target = forms.ModelChoiceField(label=_("Compute target"), queryset=Target.objects.none(), empty_label=None)
    auth_enabled = forms.BooleanField(
        label=_("Callers need a key"),
        required=False,
        initial=True,
        help_text=_("Without it everybody who reaches the address may call."),
    )
    overwrite = forms.BooleanField(
        label=_("Replace what the endpoint serves now"),
        required=False,
        help_text=_("The address and the keys stay."),
    )
    description = forms.CharField(label=_("Description"), required=False, widget=forms.Textarea(attrs={"rows": 2}))

    def __init__(self, *args: Any, workspace: Workspace, versions: list[ModelVersion], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        labels = [(str(row), f"{row} · {row.framework or gettext('no framework')}") for row in versions]
        self.fields["model"].choices = labels  # type: ignore[attr-defined]
        targets = Target.objects.filter(workspace=workspace, driver="local").order_by("name")
        self.fields["target"].queryset = targets  # type: ignore[attr-defined]
