"""Units: making them, the one way to change their state, canceling and deleting them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compute import states
from compute.models import Environment, LogStream, Target, Unit, UnitKind
from compute.publish import publish
from compute.signals import unit_changed
from studio.accounts.models import Workspace
from studio.lib import secrets as locks
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid

TOKEN_PREFIX = "atu"  # noqa: S105 - the prefix of a unit's token, not a secret
LOST_MESSAGE_S = 1.0  # how long a message may take before the beat does the work itself
DEFAULT_GRACE_S = 30.0


def after(seconds: float) -> Any:
    """The moment that many seconds from now."""
    return timezone.now() + timedelta(seconds=seconds)


@transaction.atomic
def unit_create(
    *,
    workspace: Workspace,
    target: Target,
    kind: str,
    spec: dict[str, Any],
    secrets: dict[str, str] | None = None,
    label: str = "",
    environment: Environment | None = None,
    time_limit_s: float | None = None,
    key: str | None = None,
) -> tuple[Unit, str]:
    """A unit in ``created``, and the plaintext of its own token. Work on it starts when the transaction commits.

    ``spec``: argv, env, code [{"path", "source", "mode"}], restart, grace_s (seconds), resources. ``secrets`` are
    environment variables that are stored encrypted and scrubbed from the output. Raises Invalid for an unusable spec.
    """
    if not spec.get("argv") or not all(isinstance(word, str) for word in spec["argv"]):
        raise Invalid(_("There is no command to run."), field="argv")
    token = locks.new_token(TOKEN_PREFIX)
    full = {
        "env": {},
        "code": [],
        "restart": "never",
        "grace_s": DEFAULT_GRACE_S,
        "resources": {},
        **spec,
        "time_limit_s": None if kind == UnitKind.SERVICE else time_limit_s,
    }
    if environment is not None:
        full["environment"], full["environment_id"] = environment.content_hash, environment.pk
    unit = Unit.objects.create(
        key=key or uuid.uuid4().hex,
        workspace=workspace,
        target=target,
        kind=kind,
        label=label[:300],
        spec=full,
        secrets=locks.encrypt(json.dumps({**(secrets or {}), "AZUREML_RUN_TOKEN": token})),
        token_digest=locks.digest(token),
        history=[[states.CREATED, time.time(), ""]],
        next_check_at=after(LOST_MESSAGE_S),
    )
    LogStream.objects.create(unit=unit, name="stdout")
    publish("compute.advance", unit.pk)
    return unit, token


def _written(unit: Unit, columns: dict[str, Any]) -> bool:
    """One UPDATE on (id, state, version). False: somebody else was first, and nothing was changed."""
    changed = Unit.objects.filter(pk=unit.pk, state=unit.state, version=unit.version).update(
        version=unit.version + 1, **columns
    )
    if changed:
        for name, value in {**columns, "version": unit.version + 1}.items():
            setattr(unit, name, value)
    return bool(changed)


@transaction.atomic
def unit_move(unit: Unit, new_state: str, *, note: str = "", **columns: Any) -> bool:
    """Bring a unit into another state, if it is still in the state and version that ``unit`` says.

    ``columns`` are written in the same UPDATE. ``unit_changed`` is sent inside the transaction. False when somebody
    else changed the unit first. Raises ValueError for a change that the table of states does not know.
    """
    old = unit.state
    if not states.allowed(old, new_state):
        raise ValueError(f"a unit does not go from {old} to {new_state}")
    columns["history"] = [*unit.history, [new_state, time.time(), note]]
    if new_state in states.TERMINAL:
        columns["next_check_at"] = None
        columns.setdefault("ended_at", timezone.now())
        columns.setdefault("unreachable_since", None)
        columns["secrets"] = ""  # the token dies with the unit, and nothing needs its secrets any more
    else:
        columns.setdefault("next_check_at", timezone.now())
    if not _written(unit, {"state": new_state, **columns}):
        return False
    unit_changed.send(Unit, unit=unit, old=old)
    if new_state in states.TERMINAL and old in states.HOLDS_SLOT:
        publish("compute.queue", unit.target_id)
    return True


@transaction.atomic
def unit_touch(unit: Unit, **columns: Any) -> bool:
    """Write columns without a change of state, and announce it (``old`` is the same state). False as for unit_move."""
    if not _written(unit, columns):
        return False
    unit_changed.send(Unit, unit=unit, old=unit.state)
    return True


def unit_cancel(unit: Unit, *, force: bool = False) -> bool:
    """Ask a unit to end: at once when it has not been started, else by SIGTERM and, after its grace, SIGKILL.

    ``force``: without the grace. False when it has ended already.
    """
    while True:
        unit.refresh_from_db()
        if unit.state in states.TERMINAL:
            return False
        if unit.cancel_requested_at is not None and (unit.cancel_forced or not force):
            return True
        request = {"cancel_requested_at": unit.cancel_requested_at or timezone.now(), "cancel_forced": force}
        if unit.state in (states.CREATED, states.PREPARING, states.QUEUED):
            if unit_move(unit, states.CANCELED, note=_("Canceled before it was started."), **request):
                return True
            continue
        with transaction.atomic():
            if unit_touch(unit, next_check_at=timezone.now(), **request):
                publish("compute.cancel", unit.pk)
                return True


def unit_by_token(token: str) -> Unit | None:
    """The living unit that this bearer token belongs to. A unit's token is good for that unit and dies with it."""
    if not token.startswith(TOKEN_PREFIX + "_"):
        return None
    found = Unit.objects.select_related("workspace").filter(token_digest=locks.digest(token)).first()
    return found if found is not None and found.state in states.LIVE else None


def unit_bytes(unit: Unit) -> int:
    """The bytes of the unit's directory on disk. Files that vanish meanwhile count for nothing."""
    total = 0
    for folder, _folders, names in os.walk(storage.unit_directory(unit.key)):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH116, PTH118 - a path less per file
    return total


@transaction.atomic
def unit_delete(unit: Unit) -> None:
    """Remove an ended unit: its row now, its directory on commit. Raises Conflict while it lives."""
    unit.refresh_from_db()
    if unit.state not in states.TERMINAL:
        raise Conflict(_("%(name)s has not ended yet. Cancel it first.") % {"name": unit})
    folder = storage.unit_directory(unit.key)
    unit.delete()
    transaction.on_commit(lambda: shutil.rmtree(folder, ignore_errors=True))
