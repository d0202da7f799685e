"""What a run is asked to be, checked field by field before anything is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from compute import env_services
from compute import resources as compute_resources
from compute.drivers import containers, registry
from compute.drivers.base import Refused
from compute.models import Environment, Target
from compute.states import TargetState
from runs.models import Run, Snapshot
from studio.accounts.models import Workspace
from studio.lib import storage
from studio.lib.errors import AtelierError, Invalid
from studio.lib.names import clean_name, clean_text

EXPERIMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,254}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Set by Atelier itself; a value from outside would point the run at another one.
RESERVED = (
    "AZUREML_RUN_ID",
    "AZUREML_RUN_TOKEN",
    "AZUREML_ARM_",
    "AZUREML_EXPERIMENT_ID",
    "AZUREML_SERVICE_ENDPOINT",
    "ATELIER_",
)
MAX_SPEC_BYTES = 256 * 1024
TIME_LIMIT_MAX_S = 365 * 86_400


def argument_text(value: Any) -> str:
    """An argument as the command line has it: ``1.0`` -> ``"1.0"``, ``True`` -> ``"True"``. None raises Invalid."""
    if value is None:
        raise Invalid(_("An argument is None: give a value, or leave the argument out."), field="arguments")
    if isinstance(value, (dict, list)):
        raise Invalid(
            _("An argument is a %(kind)s: write it as text.") % {"kind": type(value).__name__}, field="arguments"
        )
    text = value if isinstance(value, str) else str(value)
    if "\x00" in text:
        raise Invalid(_("An argument holds a NUL character."), field="arguments")
    return text


def tag_values(raw: Any, *, field: str = "tags") -> dict[str, str | None]:
    """Tags as they are stored. A plain string is one tag without a value, as in v1; values become text."""
    if not raw:
        return {}
    if isinstance(raw, str):
        raw = {raw: None}
    if not isinstance(raw, Mapping):
        raise Invalid(_("Tags are names with values."), field="tags")
    cleaned = {}
    for key, value in raw.items():
        name = clean_name(str(key), field=field)
        if not name or len(name) > 255:
            raise Invalid(_("A tag's name has 1 to 255 characters."), field=field)
        cleaned[name] = None if value is None else clean_text(str(value), field=field)
    return cleaned


class Checks:
    """Collects what is wrong, field by field, so that a person sees all of it at once."""

    def __init__(self) -> None:
        self.errors: dict[str, list[str]] = {}

    def say(self, field: str, message: str) -> None:
        self.errors.setdefault(field, []).append(message)

    def attempt(self, field: str, what: Any, *arguments: Any, default: Any) -> Any:
        """``what(*arguments)``, or ``default`` with its complaint written down."""
        try:
            return what(*arguments)
        except AtelierError as error:
            self.say(field, error.detail)
            return default

    def raise_all(self) -> None:
        if self.errors:
            raise Invalid(
                " ".join(message for messages in self.errors.values() for message in messages), errors=self.errors
            )


def check_experiment(name: str) -> str:
    if not EXPERIMENT_NAME.match(name or ""):
        raise Invalid(
            _(
                "An experiment's name has 1 to 255 letters, digits, dots, dashes and underscores, and starts with a "
                "letter or a digit."
            ),
            field="experiment",
        )
    return name


def check_script(checks: Checks, script: str, command: list[str], snapshot: Snapshot | None) -> str:
    """The script's path in the snapshot."""
    if command:
        return script or ""
    if not script:
        checks.say("script", _("Choose the script that the run starts, or give a command."))
        return ""
    clean: str = checks.attempt("script", lambda: storage.clean_relative(script, field="script"), default="")
    if clean and snapshot is not None and not any(file["path"] == clean for file in snapshot.files):
        scripts = [file["path"] for file in snapshot.files if file["path"].endswith(".py")][:10]
        hint = (
            _("Scripts in it: %(names)s.") % {"names": ", ".join(scripts)} if scripts else _("It has no Python script.")
        )
        checks.say("script", _("%(script)s is not in the source folder.") % {"script": clean} + " " + hint)
    return clean


def checked_variables(raw: Mapping[str, Any] | None) -> dict[str, str]:
    cleaned = {}
    for name, value in (raw or {}).items():
        if not _VARIABLE.match(name):
            raise Invalid(
                _("%(name)s is no name for an environment variable: letters, digits and underscores.")
                % {"name": repr(name)[:80]}
            )
        if name.startswith(RESERVED):
            raise Invalid(_("%(name)s is set by Atelier itself: choose another name.") % {"name": name})
        text = "" if value is None else str(value)
        if "\x00" in text:
            raise Invalid(_("The value of %(name)s holds a NUL character.") % {"name": name})
        cleaned[name] = text
    return cleaned


def time_limit(value: Any) -> int | None:
    """Seconds; None is no limit."""
    if value in (None, ""):
        return None
    try:
        seconds = int(value)
    except (TypeError, ValueError, OverflowError):
        seconds = -1
    if not 1 <= seconds <= TIME_LIMIT_MAX_S:
        raise Invalid(
            _("The time limit is a whole number of seconds from 1 to %(most)s (365 days), or null for none.")
            % {"most": f"{TIME_LIMIT_MAX_S:,}"},
            field="time_limit_s",
        )
    return seconds


def run_name(raw: str) -> str:
    """The name that people give a run; empty is none."""
    name = clean_name(raw)
    if len(name) > 255:
        raise Invalid(_("A run's name has at most 255 characters."), field="name")
    return name


def check_owned(
    checks: Checks,
    workspace: Workspace,
    *,
    snapshot: Snapshot | None,
    target: Target | None,
    environment: Environment | None,
    parent: Run | None,
) -> None:
    """What a run refers to belongs to its workspace."""
    for field, thing in (("snapshot", snapshot), ("environment", environment), ("target", target), ("parent", parent)):
        if thing is not None and thing.workspace_id != workspace.pk:
            checks.say(field, _("There is no such %(field)s in this workspace.") % {"field": field})
    if target is None:
        checks.say("target", _("Choose the compute target that the run goes to."))
    elif environment is not None and (refusal := env_services.environment_refusal(environment, target)):
        checks.say("environment", refusal)
    elif target.state == TargetState.DETACHING:
        checks.say("target", _("%(name)s is being detached: nothing new starts there.") % {"name": target.name})


def check_resources(checks: Checks, asked: Mapping[str, Any] | None, target: Target | None) -> dict[str, Any]:
    """What the run asks of its container, as the unit's spec has it. A target without containers runs a process as it
    is, which nothing holds to a limit: what would have to be is refused there."""
    try:
        found = compute_resources.parse(asked)
    except Invalid as error:
        for field, messages in error.errors.items():
            for message in messages:
                checks.say(field, message)
        return {}
    if target is None:
        return found
    if registry.driver_class(target.driver).containers:
        _check_limits(checks, found, target)
        return found
    for name, value in found.items():
        if name != "gpus":
            checks.say(
                f"resources.{name}",
                _("%(target)s runs processes without a container, and nothing holds them to a limit of %(name)s. "
                  "Choose a Docker target, or leave it out.") % {"target": target.name, "name": name},
            )  # fmt: skip
        elif value not in (0, "all"):
            checks.say(
                "resources.gpus",
                _("%(target)s runs processes without a container: they see all GPUs of the machine. Choose a Docker "
                  "target, or leave it out.") % {"target": target.name},
            )  # fmt: skip
    return found


def _check_limits(checks: Checks, asked: dict[str, Any], target: Target) -> None:
    """What is more than the target gives is said now, and not when the run would start."""
    try:
        most = containers.configured(target.config)
    except Invalid:
        return  # the target's own test says so
    for name, value in asked.items():
        try:
            containers.granted({name: value}, most)
        except Refused as error:
            checks.say(f"resources.{name}", str(error))


def check_sizes(checks: Checks, idempotency_key: str | None, words: list[str], variables: Mapping[str, str]) -> None:
    """Nothing is longer than its column, and ``words`` with ``variables`` fit on a command line."""
    if idempotency_key is not None and len(idempotency_key) > 200:
        checks.say("idempotency_key", _("An idempotency key has at most 200 characters."))
    if sum(map(len, words)) + sum(len(k) + len(v) for k, v in variables.items()) > MAX_SPEC_BYTES:
        checks.say(
            "arguments", _("Arguments and environment variables are together larger than a command line may be.")
        )
