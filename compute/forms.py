"""Forms of the compute and environment pages. A driver's fields draw themselves; recipes are read as typed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from compute import resources
from compute.drivers import registry
from compute.environments import MAX_TEXT, Recipe, recipe_from_conda, recipe_from_dict, recipe_from_requirements
from compute.models import Target
from studio.lib.errors import Invalid
from studio.lib.forms import CODE, KindForm, kind_field

RESERVED_TARGETS = {"attach"}  # words that the addresses of the compute pages use themselves
# What a run may take of a target, in the words that every driver uses; all else says how the target is reached.
LIMITS = frozenset({"slots", "cpus", "memory", "pids", "shm_size", "gpus", "volumes"})


class TargetForm(KindForm):
    """Name and description (when attaching), and what the driver asks for, in groups."""

    def __init__(self, *args: Any, driver: str, target: Target | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.specs = list(registry.driver_class(driver).fields)
        if target is None:
            self.fields["name"] = forms.SlugField(
                label=_("Name"), max_length=64, help_text=_("Letters, digits, hyphens and underscores. Runs name it.")
            )
        self.fields["description"] = forms.CharField(
            label=_("Description"), required=False, max_length=2000, initial=target.description if target else ""
        )
        for spec in self.specs:
            field = kind_field(spec, stored=bool(target and target.secrets and spec.secret))
            if target is not None and not spec.secret:
                field.initial = target.config.get(spec.name, spec.default)
            self.fields[spec.name] = field
        if target is None and not registry.driver_class(driver).shared:
            self.fields["host_key"] = forms.CharField(
                label=_("Host key, where you know it"),
                required=False,
                max_length=4000,
                help_text=_("Its SHA256 fingerprint or the public key. Empty: the page shows it to be confirmed."),
                widget=forms.TextInput(attrs=CODE),
            )

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name in RESERVED_TARGETS:
            raise forms.ValidationError(gettext("This word is used by the studio itself. Choose another name."))
        return name

    def clean(self) -> dict[str, Any]:
        """Limits are read as runs will read them, so that a wrong one is named beside its field."""
        data = super().clean() or {}
        names = {spec.name for spec in self.specs} & set(resources.LABELS)
        try:
            resources.parse({name: data.get(name) for name in names})
        except Invalid as error:
            for field, texts in error.errors.items():
                for text in texts:
                    self.add_error(field.removeprefix("resources."), text)
        return data

    def groups(self) -> list[dict[str, Any]]:
        """The fields as the page draws them: how the target is reached, how to sign in there, what runs may take."""
        named = [
            ("connection", gettext("Connection"), lambda spec: not spec.secret and spec.name not in LIMITS),
            ("sign-in", gettext("Sign-in"), lambda spec: spec.secret),
            ("limits", gettext("Limits"), lambda spec: not spec.secret and spec.name in LIMITS),
        ]
        found: list[dict[str, Any]] = [
            {"key": key, "title": title, "fields": [self[spec.name] for spec in self.specs if belongs(spec)]}
            for key, title, belongs in named
        ]
        if "host_key" in self.fields:
            found[0]["fields"].append(self["host_key"])
        return [group for group in found if group["fields"]]

    def secrets_dropped(self) -> bool:
        """Whether a secret was typed into a form that comes back with errors: pages never hold one."""
        return bool(self.errors) and any(self.data.get(spec.name) for spec in self.specs if spec.secret)


class EnvironmentForm(forms.Form):
    """A recipe: pip requirements (typed, or a requirements.txt), a conda file, or a Dockerfile. A valid one has
    ``recipe``."""

    name = forms.RegexField(
        r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
        label=_("Name"),
        help_text=_("An existing name gets a new version."),
        error_messages={
            "invalid": _("Use letters, digits, dots, hyphens and underscores. Start with a letter or digit.")
        },
    )
    description = forms.CharField(label=_("Description"), required=False, max_length=2000)
    kind = forms.ChoiceField(
        label=_("Recipe"),
        choices=[("pip", _("pip")), ("conda", _("conda")), ("dockerfile", _("Dockerfile"))],
        initial="pip",
        widget=forms.RadioSelect,
    )
    packages = forms.CharField(
        label=_("Packages"),
        required=False,
        max_length=MAX_TEXT,
        help_text=_("One per line, as in a requirements.txt."),
        widget=forms.Textarea(attrs={"rows": 9, "placeholder": "scikit-learn==1.5.*\npandas>=2\nmatplotlib", **CODE}),
    )
    requirements = forms.FileField(
        label=_("or a requirements.txt"),
        required=False,
        help_text=_("Its lines are added to the packages above."),
        widget=forms.FileInput(attrs={"accept": ".txt,.in,text/plain"}),
    )
    python = forms.CharField(
        label=_("Python"),
        required=False,
        max_length=64,
        widget=forms.TextInput(attrs={"list": "pythons", "placeholder": "3.11", "autocomplete": "off"}),
    )
    conda = forms.CharField(
        label=_("Conda file"),
        required=False,
        max_length=MAX_TEXT,
        help_text=_("A conda_dependencies.yml or environment.yml. Its packages are taken from PyPI."),
        widget=forms.Textarea(
            attrs={
                "rows": 12,
                "placeholder": "dependencies:\n  - python=3.11\n  - scikit-learn\n  - pip:\n      - lightgbm",
                **CODE,
            }
        ),
    )
    conda_file = forms.FileField(
        label=_("or a file"), required=False, widget=forms.FileInput(attrs={"accept": ".yml,.yaml"})
    )
    dockerfile = forms.CharField(
        label=_("Dockerfile"),
        required=False,
        max_length=MAX_TEXT,
        strip=False,
        help_text=_("It is built as it stands, without files beside it. The image needs a Python 3.8 or later."),
        widget=forms.Textarea(
            attrs={
                "rows": 12,
                "placeholder": "FROM python:3.11-slim-bookworm\nRUN pip install --no-cache-dir scikit-learn pandas",
                **CODE,
            }
        ),
    )
    dockerfile_file = forms.FileField(label=_("or a file"), required=False)
    base_image = forms.CharField(
        label=_("Base image"),
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs={"class": "at-code-input", "autocomplete": "off", "spellcheck": "false"}),
    )
    strict = forms.BooleanField(
        label=_("Refuse another Python"),
        required=False,
        help_text=_("Without this, the nearest Python that the machine has is taken, with a warning."),
    )

    recipe: Recipe

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        readers = {
            "pip": (self._pip, "packages"),
            "conda": (self._conda, "conda"),
            "dockerfile": (self._docker, "dockerfile"),
        }
        if data.get("kind") in readers:
            read, field = readers[data["kind"]]
            try:
                recipe = read(data)
                base = (data.get("base_image") or "").strip()
                if base and recipe.kind != "dockerfile":
                    recipe = recipe_from_dict({**recipe.to_dict(), "base_image": base})
                self.recipe = recipe
            except Invalid as error:
                self._point(error, field)
        return data

    def _docker(self, data: dict[str, Any]) -> Recipe:
        text = _text(data.get("dockerfile_file"), "dockerfile_file") or data.get("dockerfile", "")
        if not text.strip():
            raise Invalid(gettext("Paste the Dockerfile, or choose it."), field="dockerfile")
        return recipe_from_dict({"kind": "dockerfile", "dockerfile": text})

    def _pip(self, data: dict[str, Any]) -> Recipe:
        text = "\n".join(filter(None, [data.get("packages", ""), _text(data.get("requirements"), "requirements")]))
        recipe = recipe_from_requirements(text, python=data.get("python") or None, strict=bool(data.get("strict")))
        if not recipe.packages:
            raise Invalid(
                gettext("Name at least one package, or use AzureML-Minimal, which has none."), field="packages"
            )
        return recipe

    def _conda(self, data: dict[str, Any]) -> Recipe:
        text = _text(data.get("conda_file"), "conda_file") or data.get("conda", "")
        if not text.strip():
            raise Invalid(gettext("Paste the conda file, or choose it."), field="conda")
        return recipe_from_conda(text, strict=bool(data.get("strict")))

    def _point(self, error: Invalid, field: str) -> None:
        """Errors of the recipe beside the field that it was typed into."""
        for name, messages in (error.errors or {field: [error.detail]}).items():
            where = field if name == "requirements" and not self.files.get("requirements") else name
            for message in messages:
                self.add_error(where if where in self.fields else field, message)


def _text(upload: UploadedFile | None, field: str) -> str:
    """The text of an uploaded file; empty without one. Raises Invalid for what is not text or too long."""
    if upload is None:
        return ""
    if (upload.size or 0) > MAX_TEXT:
        raise Invalid(gettext("The file is longer than %(kb)d KB.") % {"kb": MAX_TEXT // 1024}, field=field)
    try:
        return upload.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Invalid(gettext("The file is not UTF-8 text."), field=field) from None
