"""The form of a new run. It checks what a person typed; ``runs.services.submit`` checks what the studio needs."""

from __future__ import annotations

import shlex
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _l

from compute import environments, resources
from compute.drivers import registry
from compute.environments import Recipe
from compute.models import Environment, Target
from compute.services import environment_register
from runs import data_forms
from runs.models import Run, Snapshot
from runs.services.checks import TIME_LIMIT_MAX_S
from runs.services.submit import run_resources
from studio.accounts.models import User, Workspace
from studio.lib.errors import AtelierError, Invalid

SOURCES = [("upload", _l("Upload")), ("paste", _l("Paste a script"))]
ENVIRONMENT_KINDS = [
    ("registered", _l("Registered")),
    ("system", _l("The target's Python")),
    ("pip", _l("pip packages")),
    ("requirements", _l("requirements.txt")),
    ("conda", _l("conda YAML")),
]
TIME_UNITS = [("60", _l("minutes")), ("3600", _l("hours")), ("86400", _l("days"))]
RESOURCES = ("cpus", "memory", "shm_size", "gpus")  # of ``compute.resources``, what the form asks for
RECIPE_FIELDS = {"pip": "packages", "requirements": "requirements", "conda": "conda"}
SAMPLE_SCRIPT = """\
import argparse

from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--epochs", type=int, default=20)
args = parser.parse_args()

run = Run.get_context()
loss = 1.0
for epoch in range(args.epochs):
    loss *= 1 - args.lr
    run.log("loss", loss, step=epoch)
    print(f"epoch {epoch + 1}: loss {loss:.4f}")

with open("outputs/result.txt", "w") as out:
    out.write(f"final loss {loss}\\n")
"""


def arguments_split(line: str) -> list[str]:
    """The words of a shell-like line, without expanding anything; raises Invalid where a quote is not closed."""
    try:
        return shlex.split(line.replace("\r\n", " ").replace("\n", " "))
    except ValueError as error:
        raise Invalid(_("The arguments cannot be split: %(why)s.") % {"why": error}, field="arguments") from error


def latest_environments(workspace: Workspace) -> list[Environment]:
    """The newest version of each environment that people named, by name. One query."""
    rows = Environment.objects.filter(workspace=workspace, anonymous=False).order_by("name", "-version")
    seen: dict[str, Environment] = {}
    for row in rows:
        seen.setdefault(row.name, row)
    return list(seen.values())


class RunForm(forms.Form):
    """Everything of a submit but the files, which are a snapshot by then (``snapshot`` is its digest)."""

    source = forms.ChoiceField(choices=SOURCES, required=False)
    snapshot = forms.CharField(required=False)
    script = forms.CharField(required=False, max_length=1000)
    code = forms.CharField(required=False, strip=False)
    code_name = forms.CharField(required=False, max_length=255)
    arguments = forms.CharField(required=False, max_length=20_000)
    experiment = forms.CharField(
        max_length=255, error_messages={"required": _l("Name the experiment that this run belongs to.")}
    )
    name = forms.CharField(required=False, max_length=255)
    target = forms.CharField(error_messages={"required": _l("Choose where the run computes.")})
    environment_kind = forms.ChoiceField(choices=ENVIRONMENT_KINDS)
    environment = forms.CharField(required=False)
    python = forms.CharField(required=False, max_length=16)
    packages = forms.CharField(required=False)
    requirements = forms.CharField(required=False)
    conda = forms.CharField(required=False, strip=False)
    strict = forms.BooleanField(required=False)
    time_limit = forms.IntegerField(
        required=False,
        min_value=1,
        error_messages={"min_value": _l("The time limit is a whole number, 1 or more, and at most 365 days.")},
    )
    time_unit = forms.ChoiceField(choices=TIME_UNITS, required=False)
    idempotency_key = forms.CharField(required=False, max_length=64)
    cpus = forms.CharField(required=False, max_length=20)
    memory = forms.CharField(required=False, max_length=20)
    shm_size = forms.CharField(required=False, max_length=20)
    gpus = forms.CharField(required=False, max_length=20)

    def __init__(self, *args: Any, workspace: Workspace, user: User, has_command: bool = False, **kwargs: Any) -> None:
        """``has_command``: the run that is submitted again was a command, so no script needs to be chosen."""
        super().__init__(*args, **kwargs)
        self.workspace, self.user, self.has_command = workspace, user, has_command

    def rows(self, kind: str) -> list[tuple[str, str]]:
        """The (name, value) rows of ``variable`` or ``tag`` as they were typed, without the empty ones."""
        if not self.is_bound:
            return list(self.initial.get(f"{kind}_rows", []))
        names, values = self.data.getlist(f"{kind}_name"), self.data.getlist(f"{kind}_value")  # type: ignore[attr-defined]
        return [
            (name.strip(), value) for name, value in zip(names, values, strict=False) if name.strip() or value.strip()
        ]

    def data_rows(self, kind: str) -> list[dict[str, str]]:
        """The rows of ``input`` or ``output``."""
        if not self.is_bound:
            return list(self.initial.get(f"{kind}_rows", []))
        return data_forms.typed(self.data, kind)

    def clean_arguments(self) -> list[str]:
        try:
            return arguments_split(self.cleaned_data["arguments"])
        except Invalid as error:
            raise forms.ValidationError(error.detail) from error

    def clean_target(self) -> Target:
        target = Target.objects.filter(workspace=self.workspace, name=self.cleaned_data["target"]).first()
        if target is None:
            raise forms.ValidationError(_("There is no compute target of that name. Choose one of the list."))
        return target

    def clean_snapshot(self) -> Snapshot | None:
        digest = self.cleaned_data["snapshot"]
        if not digest:
            return None
        found = Snapshot.objects.filter(workspace=self.workspace, digest=digest).first()
        if found is None:
            raise forms.ValidationError(_("The uploaded files are gone. Upload them again."))
        return found

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        self._clean_source(data)
        self._clean_environment(data)
        self._clean_resources(data)
        for kind in ("variable", "tag"):
            self._clean_rows(data, kind)
        if data.get("time_limit"):
            data["time_limit_s"] = data["time_limit"] * int(data.get("time_unit") or 60)
            if data["time_limit_s"] > TIME_LIMIT_MAX_S:
                self.add_error("time_limit", _("A time limit has at most 365 days."))
        return data

    def _clean_source(self, data: dict[str, Any]) -> None:
        if data.get("source") == "paste":
            if not (data.get("code") or "").strip():
                self.add_error("code", _("Paste the script that shall run."))
            data["code_name"] = (data.get("code_name") or "").strip() or "train.py"
            return
        snapshot = data.get("snapshot")
        if self.has_command and not (data.get("script") or "").strip():
            data["script"] = ""
            return
        if snapshot is None:
            if "snapshot" not in self.errors:
                self.add_error(
                    "snapshot", _("Upload the folder, the zip or the files of your script, or paste a script.")
                )
            return
        names = {entry["path"] for entry in snapshot.files}
        script = (data.get("script") or "").strip().removeprefix("./")
        if not script:
            self.add_error("script", _("Choose the script that shall run."))
        elif script not in names:
            self.add_error("script", _("%(name)s is not among the uploaded files.") % {"name": script})
        data["script"] = script

    def _clean_environment(self, data: dict[str, Any]) -> None:
        kind = data.get("environment_kind")
        field = RECIPE_FIELDS.get(kind or "", "environment")
        if kind == "registered":
            name, _colon, version = (data.get("environment") or "").rpartition(":")
            row = (
                Environment.objects.filter(workspace=self.workspace, name=name, version=version or 0).first()
                if (version.isdigit())
                else None
            )
            if row is None:
                self.add_error("environment", _("Choose one of the registered environments."))
            data["environment_row"] = row
            return
        if field in RECIPE_FIELDS.values() and not (data.get(field) or "").strip():
            self.add_error(field, _("Say which packages the script needs, or choose another kind of environment."))
            return
        try:
            data["recipe"] = recipe_of(data)
        except AtelierError as error:
            self.add_error(field, error.detail)

    def _clean_resources(self, data: dict[str, Any]) -> None:
        """What a container may use. The fields are not there for other targets: what was typed before is left out."""
        target = data.get("target")
        asked = {name: data.get(name, "").strip() for name in RESOURCES}
        data["resources"] = {}
        if target is None or not registry.driver_class(target.driver).containers:
            return
        try:
            resources.parse(asked)
        except Invalid as error:
            for field, messages in error.errors.items():
                for message in messages:
                    self.add_error(field.removeprefix("resources."), message)
        data["resources"] = {name: value for name, value in asked.items() if value}

    def _clean_rows(self, data: dict[str, Any], kind: str) -> None:
        rows = self.rows(kind)
        names = [name for name, _value in rows]
        message = ""
        if "" in names:
            message = _("Every row needs a name.")
        elif len(set(names)) != len(names):
            message = _("Each name may be used once.")
        elif kind == "variable" and any("=" in name or "\0" in name or " " in name for name in names):
            message = _("A variable's name has no space and no equals sign.")
        if message:
            self.add_error(None, forms.ValidationError(message, code=kind))
        data[f"{kind}s"] = {name: value if kind == "variable" else (value or None) for name, value in rows}

    def row_errors(self) -> dict[str, str]:
        """Messages of the two tables of rows, by kind."""
        found = self.errors.as_data().get("__all__", []) if self.is_bound else []
        kinds = {"variable", "tag", "inputs", "outputs"}
        return {str(error.code): str(error.message) for error in found if error.code in kinds}

    def environment_row(self) -> Environment | None:
        """The environment to submit with; a typed recipe is registered (equal ones give the same row)."""
        if "environment_row" in self.cleaned_data:
            return self.cleaned_data["environment_row"]
        recipe: Recipe = self.cleaned_data["recipe"]
        if recipe.kind == "system":
            return Environment.objects.filter(workspace=self.workspace, name="system", curated=True).first()
        name = f"run-{environments.content_hash(recipe)[:12]}"
        return environment_register(workspace=self.workspace, name=name, recipe=recipe, user=self.user, anonymous=True)


def recipe_of(data: dict[str, Any]) -> Recipe:
    """The recipe that the environment fields describe; raises Invalid with the line that cannot be read."""
    kind = data.get("environment_kind")
    strict = bool(data.get("strict"))
    if kind == "system":
        return environments.recipe_from_dict({"kind": "system"})
    if kind == "conda":
        return environments.recipe_from_dict({"kind": "conda", "conda": data.get("conda") or "", "strict": strict})
    text = data.get("requirements") if kind == "requirements" else data.get("packages")
    return environments.recipe_from_dict(
        {
            "kind": "pip",
            "requirements": text or "",
            "python": (data.get("python") or "").strip() or None,
            "strict": strict,
        }
    )


def initial_of(workspace: Workspace) -> dict[str, Any]:
    """What an empty form starts with."""
    targets = list(Target.objects.filter(workspace=workspace).order_by("id").values_list("name", flat=True)[:1])
    return {
        "source": "upload",
        "code": SAMPLE_SCRIPT,
        "code_name": "train.py",
        "target": targets[0] if targets else "",
        "environment_kind": "system",
        "time_unit": "60",
    }


def initial_from(run: Run) -> dict[str, Any]:
    """The form that would submit ``run`` again. Values of environment variables are shown: secrets do not go there."""
    initial = initial_of(run.workspace) | {
        "snapshot": run.snapshot.digest if run.snapshot else "",
        "script": run.script,
        "arguments": shlex.join(run.arguments),
        "experiment": run.experiment.name,
        "name": run.name,
        "variable_rows": sorted(run.environment_variables.items()),
        "tag_rows": [(tag.key, tag.value or "") for tag in run.tag_rows.order_by("key")],
        **data_forms.rows_of(run),
    }
    if run.target:
        initial["target"] = run.target.name
    asked = run_resources(run)
    initial |= {name: resources.words(name, asked[name]) for name in RESOURCES if name in asked}
    if run.time_limit_s:
        unit = next((u for u in (86400, 3600, 60) if run.time_limit_s % u == 0), 60)
        initial |= {"time_limit": max(1, run.time_limit_s // unit), "time_unit": str(unit)}
    return initial | _environment_initial(run.environment)


def _environment_initial(environment: Environment | None) -> dict[str, Any]:
    if environment is None or environment.recipe.get("kind") == "system":
        return {"environment_kind": "system"}
    return {"environment_kind": "registered", "environment": f"{environment.name}:{environment.version}"}
