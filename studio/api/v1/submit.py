"""What a submit names (target, environment, source, parent), resolved to rows."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from compute.models import Environment, Target
from runs.models import Run, Snapshot
from runs.services import snapshots
from studio.accounts.models import User, Workspace
from studio.api.v1.schemas_compute import RecipeIn
from studio.api.v1.schemas_runs import EnvironmentRef, InputIn, OutputIn, RunIn
from studio.lib.errors import AtelierError, Invalid, NotFound


def recipe_of(data: RecipeIn) -> Any:
    """The recipe; raises Invalid with what cannot be read in it."""
    from compute.environments import recipe_from_dict

    return recipe_from_dict(data.dict(exclude_none=True))


def target_find(workspace: Workspace, name: str) -> Target | None:
    return Target.objects.filter(workspace=workspace, name=name).first()


def environment_find(workspace: Workspace, name: str, version: int | None) -> Environment:
    rows = Environment.objects.filter(workspace=workspace, name=name)
    if version is not None:
        rows = rows.filter(version=version)
    found = rows.order_by("-version").first()
    if found is None:
        which = f"{name}:{version}" if version is not None else name
        raise NotFound(_("There is no environment %(which)s in this workspace.") % {"which": which[:200]})
    return found


def environment_resolve(workspace: Workspace, user: User, wanted: EnvironmentRef | None) -> Environment | None:
    """The environment that was named, or one registered from the recipe; None for this machine's own Python."""
    if wanted is None or (wanted.recipe is None and not wanted.name):
        return None
    if wanted.recipe is None:
        return environment_find(workspace, wanted.name or "", wanted.version)
    from compute.services import environment_register

    recipe, name = recipe_of(wanted.recipe), wanted.name or ""
    return environment_register(workspace=workspace, name=name, recipe=recipe, user=user, anonymous=not name)


def _snapshot(workspace: Workspace, data: RunIn) -> Snapshot | None:
    if data.snapshot and data.files:
        raise Invalid(_("Give either a snapshot or files, not both."), field="files")
    if data.files is not None:
        return snapshots.snapshot_from_texts(workspace, data.files)
    return snapshots.snapshot_get(workspace, data.snapshot) if data.snapshot else None


def parent_find(workspace: Workspace, run_id: str | None) -> Run | None:
    if not run_id:
        return None
    parent = Run.objects.select_related("experiment", "workspace").filter(workspace=workspace, run_id=run_id).first()
    if parent is None:
        raise NotFound(_("There is no run %(run)s in this workspace.") % {"run": run_id[:300]})
    return parent


class Gather:
    """Looks names up and collects what is wrong with them, so that one answer names every field."""

    def __init__(self) -> None:
        self.errors: dict[str, list[str]] = {}

    def find(self, field: str, look: Any, *arguments: Any) -> Any:
        try:
            return look(*arguments)
        except AtelierError as error:
            if error.status not in (404, 422):
                raise
            for name, texts in (error.errors or {field: [error.detail]}).items():
                self.errors.setdefault(name, []).extend(texts)
            return None

    def raise_all(self) -> None:
        if self.errors:
            raise Invalid(" ".join(text for texts in self.errors.values() for text in texts), errors=self.errors)


def input_find(workspace: Workspace, user: User, wanted: InputIn) -> dict[str, Any]:
    """The dataset version that an input names; a definition is saved. Raises Invalid or NotFound."""
    from studio.datasets import selectors
    from studio.datasets.services import datasets

    given = [value for value in (wanted.definition, wanted.dataset_id, wanted.dataset) if value]
    if len(given) != 1:
        raise Invalid(
            _("Input %(name)s: give exactly one of definition, dataset_id and dataset.") % {"name": wanted.name[:100]},
            field="inputs",
        )
    if wanted.definition:
        version = datasets.definition_save(workspace=workspace, user=user, definition=wanted.definition)
    elif wanted.dataset_id:
        version = selectors.version_by_id(workspace, wanted.dataset_id)
    else:
        name, _colon, number = (wanted.dataset or "").rpartition(":")
        if not name or not (number.isdigit() or number == "latest"):
            name, number = wanted.dataset or "", "latest"
        version = selectors.version_get(workspace, name, number)
    return {
        "name": wanted.name,
        "mode": wanted.mode,
        "version": version,
        "path_on_compute": wanted.path_on_compute,
    }


def output_wanted(wanted: OutputIn) -> dict[str, Any]:
    found = wanted.dict()
    found["register"] = found.pop("register_as")
    return found


def _output_changed(item: dict[str, Any]) -> dict[str, Any]:
    """An output of a resubmit's body, which was dumped under the names of its attributes."""
    return {**item, "register": item.get("register_as", item.get("register"))}


def submit_arguments(workspace: Workspace, user: User, data: RunIn) -> dict[str, Any]:
    """Keyword arguments of ``run_submit`` from the body; raises Invalid naming every name that is not there."""
    gather = Gather()
    target = target_find(workspace, data.target)
    if target is None:
        gather.errors["target"] = [_("There is no compute target %(name)s.") % {"name": data.target[:100]}]
    found = {
        "snapshot": gather.find("snapshot", _snapshot, workspace, data),
        "environment": gather.find("environment", environment_resolve, workspace, user, data.environment),
        "parent": gather.find("parent", parent_find, workspace, data.parent),
        "inputs": [gather.find("inputs", input_find, workspace, user, item) for item in data.inputs],
        "outputs": [output_wanted(item) for item in data.outputs],
    }
    gather.raise_all()
    return {
        "experiment": data.experiment,
        "script": data.script,
        "arguments": data.arguments,
        "command": data.command,
        "target": target,
        "environment_variables": data.environment_variables,
        "tags": data.tags,
        "properties": data.properties,
        "time_limit_s": data.time_limit_s,
        "name": data.name,
        "resources": data.resources.dict(exclude_none=True) if data.resources else {},
        **found,
    }


def resubmit_changes(workspace: Workspace, user: User, changes: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of ``run_resubmit`` from the fields that were sent."""
    gather = Gather()
    if changes.get("target") is not None:
        name = changes["target"]
        changes["target"] = target_find(workspace, name)
        if changes["target"] is None:
            gather.errors["target"] = [_("There is no compute target %(name)s.") % {"name": name[:100]}]
    if changes.get("snapshot") is not None:
        changes["snapshot"] = gather.find("snapshot", snapshots.snapshot_get, workspace, changes["snapshot"])
    if "environment" in changes and changes["environment"] is not None:
        wanted = EnvironmentRef.model_validate(changes["environment"])
        changes["environment"] = gather.find("environment", environment_resolve, workspace, user, wanted)
    if changes.get("inputs") is not None:
        wanted_inputs = [InputIn.model_validate(item) for item in changes["inputs"]]
        changes["inputs"] = [gather.find("inputs", input_find, workspace, user, item) for item in wanted_inputs]
    if changes.get("outputs") is not None:
        changes["outputs"] = [_output_changed(item) for item in changes["outputs"]]
    gather.raise_all()
    # Null means "as it was" but for what can really be nothing.
    return {
        name: value for name, value in changes.items() if value is not None or name in {"environment", "time_limit_s"}
    }
