"""From a request to a run: all is checked first, then the run and its unit are written together or not at all."""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from compute import services as compute_services
from compute.models import Environment, Target, UnitKind
from runs.models import Experiment, Run, RunParameter, RunProperty, RunTag, Snapshot
from runs.parameters import as_number, parse_arguments
from runs.services import data as flows
from runs.services.checks import (
    Checks,
    argument_text,
    check_experiment,
    check_owned,
    check_resources,
    check_script,
    check_sizes,
    checked_variables,
    run_name,
    tag_values,
    time_limit,
)
from runs.services.snapshots import snapshot_code
from studio.accounts.models import User, Workspace
from studio.accounts.services import audit
from studio.lib.errors import Conflict, Invalid


def _argv(script: str, arguments: list[str], command: list[str]) -> list[str]:
    return [*command, *arguments] if command else ["{python}", "-u", script, *arguments]


def run_environment(workspace: Workspace, experiment: Experiment, run_id: str, number: int) -> dict[str, str]:
    """The variables by which a script, and code written for v1, knows where it is. ``compute`` adds the token."""
    return {
        "AZUREML_RUN_ID": run_id,
        "AZUREML_ARM_SUBSCRIPTION": workspace.subscription_id,
        "AZUREML_ARM_RESOURCEGROUP": workspace.resource_group,
        "AZUREML_ARM_WORKSPACE_NAME": workspace.name,
        "AZUREML_ARM_PROJECT_NAME": experiment.name,
        "AZUREML_EXPERIMENT_ID": str(experiment.pk),
        "AZUREML_SERVICE_ENDPOINT": settings.ATELIER_UNIT_URL,
        "ATELIER_RUN_NUMBER": str(number),
    }


def experiment_number(workspace: Workspace, name: str) -> tuple[Experiment, int]:
    """The experiment, made when it is new, and the number of its next run. Inside a transaction.

    The number is taken by one conditional UPDATE, so that two submits at the same moment never share one.
    A new run brings an archived experiment back into the list.
    """
    check_experiment(name)
    while True:
        experiment = Experiment.objects.filter(workspace=workspace, name=name).first()
        if experiment is None:
            experiment, _made = Experiment.objects.get_or_create(workspace=workspace, name=name)
        number = experiment.run_count + 1
        now = timezone.now()
        taken = Experiment.objects.filter(pk=experiment.pk, run_count=experiment.run_count).update(
            run_count=number, last_run_at=now, archived_at=None
        )
        if taken:
            experiment.run_count, experiment.last_run_at, experiment.archived_at = number, now, None
            return experiment, number


def new_run_id(experiment: str) -> str:
    return f"{experiment}_{int(time.time())}_{secrets.token_hex(4)}"


def parameter_rows(run: Run, parameters: Mapping[str, str]) -> list[RunParameter]:
    """Rows not written yet, with what lists filter and sort by."""
    return [
        RunParameter(
            run=run,
            workspace_id=run.workspace_id,
            experiment_id=run.experiment_id,
            name=name,
            value=value,
            number=as_number(value),
        )
        for name, value in parameters.items()
    ]


def write_attributes(
    run: Run, *, parameters: Mapping[str, str], tags: Mapping[str, str | None], properties: Mapping[str, str]
) -> None:
    """The rows of a run that was just made; one statement each, none for what is empty."""
    RunParameter.objects.bulk_create(parameter_rows(run, parameters))
    RunTag.objects.bulk_create(RunTag(run=run, key=key, value=value) for key, value in tags.items())
    RunProperty.objects.bulk_create(
        RunProperty(run=run, key=key, value=str(value)) for key, value in properties.items()
    )


def earlier(workspace: Workspace, user: User | None, key: str | None, digest: str) -> Run | None:
    """The run that an earlier request with this idempotency key made; Conflict where that request was another one."""
    if not key:
        return None
    run = (
        Run.objects.filter(workspace=workspace, created_by=user, idempotency_key=key)
        .select_related("experiment")
        .first()
    )
    if run is not None and run.request_digest != digest:
        raise Conflict(
            _("The idempotency key %(key)s was used for another request (run %(run)s): use a new key.")
            % {"key": key, "run": run.run_id}
        )
    return run


def run_submit(
    *,
    workspace: Workspace,
    user: User,
    experiment: str,
    script: str,
    arguments: Sequence[Any],
    command: Sequence[Any] | None = None,
    snapshot: Snapshot | None,
    target: Target | None,
    environment: Environment | None,
    environment_variables: Mapping[str, Any] | None = None,
    tags: Any = None,
    properties: Mapping[str, Any] | None = None,
    time_limit_s: int | None = None,
    name: str = "",
    parent: Run | None = None,
    inputs: Sequence[Mapping[str, Any]] | None = None,
    outputs: Sequence[Mapping[str, Any]] | None = None,
    resources: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    request: HttpRequest | None = None,
    action: str = "run.submit",
) -> Run:
    """A new run, already on its way.

    Raises Invalid with every field that is wrong; Conflict where the idempotency key was used for another request.
    The same key with the same request gives the same run again. ``time_limit_s`` in seconds. ``inputs``: {"name",
    "mode", "version" (a DatasetVersion), "path_on_compute"}; ``outputs``: {"name", "mode", "datastore" (its name),
    "path", "leaf", "register", "type", "options"}; arguments, command and variables name them as
    ``${{inputs.<name>}}`` and ``${{outputs.<name>}}``. ``resources`` as ``compute.resources.parse`` takes them.
    """
    checks = Checks()
    checks.attempt("experiment", check_experiment, experiment, default="")
    words = [checks.attempt("arguments", argument_text, one, default="") for one in arguments or ()]
    line = [checks.attempt("command", argument_text, one, default="") for one in command or ()]
    if snapshot is None and not line:
        checks.say("snapshot", _("Give the source folder, its files, or a pasted script."))
    script = check_script(checks, script, line, snapshot)
    variables = checks.attempt("environment_variables", checked_variables, environment_variables, default={})
    labels = checks.attempt("tags", tag_values, tags, default={})
    fixed = checks.attempt("properties", partial(tag_values, field="properties"), properties, default={})
    name = checks.attempt("name", run_name, name, default="")
    limit = checks.attempt("time_limit_s", time_limit, time_limit_s, default=None)
    asked = check_resources(checks, resources, target)
    check_owned(checks, workspace, snapshot=snapshot, target=target, environment=environment, parent=parent)
    texts = {"arguments": words, "command": line, "environment_variables": list(variables.values())}
    flow = flows.check_flow(checks, workspace, inputs, outputs, variables, texts)
    check_sizes(checks, idempotency_key, words + line, variables)
    checks.raise_all()
    assert target is not None  # noqa: S101 - check_owned has said so

    draft = Run(
        workspace=workspace, name=name, parent=parent, target=target, environment=environment, snapshot=snapshot,
        script=script, arguments=words, command=line, environment_variables=variables, time_limit_s=limit,
        idempotency_key=idempotency_key or None, created_by=user,
    )  # fmt: skip
    draft.request_digest = _digest(draft, experiment, labels, fixed, flow, asked)
    values = {key: value or "" for key, value in fixed.items()}
    return _once(draft, partial(_write, draft, experiment, labels, values, flow, asked, action, request))


def _once(draft: Run, write: Callable[[], Run]) -> Run:
    """The run that ``write`` makes, or the one that an earlier request with the same key has made."""
    asked = (draft.workspace, draft.created_by, draft.idempotency_key, draft.request_digest)
    if found := earlier(*asked):
        return found
    try:
        with transaction.atomic():
            return write()
    except IntegrityError:
        # Two requests with one key at the same moment: the other one was first.
        if found := earlier(*asked):
            return found
        raise


def _digest(
    draft: Run,
    experiment: str,
    tags: Mapping[str, str | None],
    properties: Mapping[str, str | None],
    flow: flows.Flow,
    resources: Mapping[str, Any],
) -> str:
    """What was asked for, by which two requests with one idempotency key are told apart."""
    asked = {
        "experiment": experiment, "script": draft.script, "arguments": draft.arguments, "command": draft.command,
        "variables": draft.environment_variables, "snapshot": draft.snapshot_id, "target": draft.target_id,
        "name": draft.name, "tags": tags, "properties": properties, "limit": draft.time_limit_s,
        "environment": draft.environment.content_hash if draft.environment else None, "parent": draft.parent_id,
    }  # fmt: skip
    if flow.inputs or flow.outputs:
        asked["data"] = flow.asked()
    if resources:
        asked["resources"] = resources
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _spec(run: Run, experiment: Experiment, flow: flows.Flow, resources: dict[str, Any]) -> dict[str, Any]:
    """What the unit is to run, with inputs and outputs rendered into its words."""
    environment, values = run.environment, flow.values()
    recipe_variables = (environment.recipe.get("variables") or {}) if environment else {}
    argv = _argv(run.script, run.arguments, run.command)
    return {
        "argv": [flows.replaced(word, values) for word in argv],
        "env": {
            **{name: str(value) for name, value in recipe_variables.items()},
            **{name: flows.replaced(value, values) for name, value in run.environment_variables.items()},
            **flows.variables_of(flow),
            **run_environment(run.workspace, experiment, run.run_id, run.number),
        },
        "code": snapshot_code(run.snapshot) if run.snapshot else [],
        "restart": "never",
        "grace_s": 30.0,
        "resources": resources,
        "environment": environment.content_hash if environment else None,
        "environment_id": environment.pk if environment else None,
        **flows.unit_parts(flow, run.run_id),
    }


def _write(
    run: Run,
    experiment: str,
    tags: dict[str, str | None],
    properties: dict[str, str],
    flow: flows.Flow,
    resources: dict[str, Any],
    action: str,
    request: HttpRequest | None,
) -> Run:
    """Every row of the submit; inside the caller's transaction."""
    workspace, environment, snapshot = run.workspace, run.environment, run.snapshot
    if snapshot is not None and not Snapshot.objects.filter(pk=snapshot.pk).exists():
        raise Conflict(_("The source folder was deleted a moment ago, with the last run that used it: submit again."))
    run.experiment, run.number = experiment_number(workspace, experiment)
    run.run_id, run.key = new_run_id(experiment), uuid.uuid4().hex
    assert run.target is not None  # noqa: S101 - checked by run_submit
    unit, _token = compute_services.unit_create(
        workspace=workspace,
        target=run.target,
        kind=UnitKind.COMMAND,
        spec=_spec(run, run.experiment, flow, resources),
        secrets=None,
        label=run.run_id,
        environment=environment,
        time_limit_s=float(run.time_limit_s) if run.time_limit_s else None,
        key=run.key,
    )
    run.unit = unit
    run.save(force_insert=True)
    flows.write_rows(run, flow)
    shown = flow.names()
    parameters = parse_arguments([flows.replaced(word, shown) for word in run.arguments or run.command])
    write_attributes(run, parameters=parameters, tags=tags, properties=properties)
    audit(run.created_by, action, workspace=workspace, object=run, label=run.run_id, request=request)
    return run


CHANGES = frozenset({
    "experiment", "script", "arguments", "command", "snapshot", "target", "environment", "environment_variables",
    "tags", "properties", "time_limit_s", "name", "parent", "inputs", "outputs", "resources",
    "idempotency_key", "request",
})  # fmt: skip


def run_resources(run: Run) -> dict[str, Any]:
    """What the run asked of its container, as ``compute.resources.parse`` gives it: its unit keeps it."""
    return dict(run.unit.spec.get("resources") or {}) if run.unit is not None else {}


def run_resubmit(run: Run, *, user: User, **changes: Any) -> Run:
    """A new run like ``run`` with ``changes`` (keyword arguments of ``run_submit``). Not for interactive runs."""
    if run.type != "script":
        raise Conflict(
            _("%(run)s was reported by a script and not submitted: there is nothing to submit again.") % {"run": run}
        )
    unknown = changes.keys() - CHANGES
    if unknown:
        raise Invalid(_("A resubmit cannot change %(names)s.") % {"names": ", ".join(sorted(unknown))}, field="changes")
    same = {} if {"inputs", "outputs"} <= changes.keys() else flows.flow_again(run)
    request: dict[str, Any] = {
        "experiment": run.experiment.name,
        "script": run.script,
        "arguments": run.arguments,
        "command": run.command,
        "snapshot": run.snapshot,
        "target": run.target,
        "environment": run.environment,
        "environment_variables": run.environment_variables,
        "tags": dict(run.tag_rows.values_list("key", "value")),
        "time_limit_s": run.time_limit_s,
        "name": run.name,
        "resources": run_resources(run),
        **same,
        **changes,
    }
    return run_submit(workspace=run.workspace, user=user, action="run.resubmit", **request)
