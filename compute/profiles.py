"""Profiles of datasets: each is computed by a unit of work on the workspace's own machine.

Such a unit takes no slot, outlives the worker that started it, and tells how far it is by its events.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext as _

from compute import states
from compute.drivers.unit_folder import write_atomic
from compute.models import Unit, UnitKind
from compute.services.targets import ensure_local_target
from compute.services.units import unit_cancel, unit_create, unit_delete
from compute.signals import unit_changed, unit_events
from studio.accounts.models import User
from studio.accounts.services import audit
from studio.datasets import programs
from studio.datasets.models import DatasetProfile, DatasetVersion
from studio.lib import secrets as locks
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid

log = logging.getLogger(__name__)

RUNNING, READY, FAILED = "running", "ready", "failed"
TIME_LIMIT_S = 6 * 3600.0
GRACE_S = 5.0
MOST_THREADS = 4
LONGEST_RESULT = 32 << 20


def profile_start(version: DatasetVersion, user: User | None, *, request: Any = None) -> DatasetProfile:
    """The profile of a version: the one that is being computed, else a new one from now on.

    An earlier result stays on the row until the new one is there. Raises Invalid for a dataset of files, NotFound for
    a datastore that is not there any more.
    """
    if version.type != "tabular":
        raise Invalid(_("Only tabular datasets have columns to profile."), field="type")
    key = uuid.uuid4().hex
    stores = programs.stores_of(version.workspace, version.definition)
    try:
        with transaction.atomic():
            row, made = DatasetProfile.objects.get_or_create(
                version=version, defaults={"state": RUNNING, "unit_key": key, "created_by": user}
            )
            if not made and not _claim(row, key, user):
                row.refresh_from_db()
                return row
            _start(version, key, stores)
            if user is not None:
                audit(user, "dataset.profile", workspace=version.workspace, object=version, request=request)
    except BaseException:
        shutil.rmtree(storage.unit_directory(key), ignore_errors=True)
        raise
    row.refresh_from_db()
    return row


def profile_cancel(profile: DatasetProfile) -> bool:
    """Ask the computation to end; False when it has ended already."""
    unit = Unit.objects.filter(key=profile.unit_key).first()
    if unit is not None and unit.state not in states.TERMINAL:
        return unit_cancel(unit)
    if profile.state == RUNNING:
        _end(profile.unit_key, FAILED, error=_said("Lost", _("Its computation is gone. Start it again.")))
    return False


def _claim(row: DatasetProfile, key: str, user: User | None) -> bool:
    """One caller of many gets to start it again; nobody while it is being computed."""
    before = Unit.objects.filter(key=row.unit_key).first() if row.unit_key else None
    if row.state == RUNNING and before is not None and before.state not in states.TERMINAL:
        return False
    got = DatasetProfile.objects.filter(pk=row.pk, unit_key=row.unit_key, state=row.state).update(
        state=RUNNING, unit_key=key, progress=0.0, error=None, created_by=user, created_at=timezone.now(), ended_at=None
    )
    if got and before is not None and before.state in states.TERMINAL:
        try:
            unit_delete(before)
        except Conflict:
            log.info("the unit of an earlier profile stays: %s", before.key)
    return bool(got)


def _start(version: DatasetVersion, key: str, stores: dict[str, Any]) -> None:
    """Create the unit. Its plan lies in its folder before the unit exists, so that no start can miss it."""
    folder = storage.unit_directory(key) / "code"
    folder.mkdir(parents=True)
    write_atomic(folder / "plan.json", {"definition": version.definition, "memory": settings.ATELIER_PROFILE_MEMORY})
    secrets = {"ATELIER_STORES": json.dumps(stores)}
    if version.secrets:
        secrets["ATELIER_SIGNATURES"] = locks.decrypt(version.secrets)
    threads = str(min(MOST_THREADS, os.cpu_count() or 1))
    unit_create(
        key=key,
        workspace=version.workspace,
        target=ensure_local_target(version.workspace),
        kind=UnitKind.PROFILE,
        spec={
            "argv": [sys.executable, "-u", "-m", "studio.datasets.jobs.profile"],
            "env": {**programs.studio_environment(), "OMP_NUM_THREADS": threads, "ATELIER_THREADS": threads},
            "grace_s": GRACE_S,
            "resources": {"slots": 0},
        },
        secrets=secrets,
        label=_("Profile of %(name)s") % {"name": version},
        time_limit_s=TIME_LIMIT_S,
    )


def _said(code: str, message: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "message": message, **more}


def _end(key: str, state: str, **columns: Any) -> None:
    DatasetProfile.objects.filter(unit_key=key, state=RUNNING).update(state=state, ended_at=timezone.now(), **columns)


@receiver(unit_events, dispatch_uid="compute.profile_progress")
def profile_progress(unit: Unit, lines: list[bytes], **_rest: Any) -> None:
    """The last word on how far it is goes to the row."""
    if unit.kind != UnitKind.PROFILE:
        return
    for line in reversed(lines):
        try:
            event = json.loads(line)
            value = min(1.0, max(0.0, float(event["v"]))) if event.get("k") == "progress" else None
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        if value is not None:
            DatasetProfile.objects.filter(unit_key=unit.key, state=RUNNING).update(progress=value)
            return


@receiver(unit_changed, dispatch_uid="compute.profile_end")
def profile_end(unit: Unit, old: str, **_rest: Any) -> None:
    """The end of the unit is the end of the profile: its figures, or what went wrong."""
    if unit.kind != UnitKind.PROFILE or unit.state not in states.TERMINAL or old in states.TERMINAL:
        return
    outputs = storage.unit_directory(unit.key) / "outputs"
    if unit.state == states.COMPLETED and (result := _read(outputs / "profile.json")) is not None:
        _end(unit.key, READY, result=result, progress=1.0, error=None)
        return
    if unit.state == states.CANCELED:
        error = _said("Canceled", _("It was canceled."))
    elif problem := _read(outputs / "problem.json"):
        error = _said("Unreadable", str(problem.get("message") or ""), **{k: problem.get(k) for k in _PLACES})
    else:
        error = _said(**_without_word(unit))
    _end(unit.key, FAILED, error=error)


_PLACES = ("kind", "file", "line", "hint")


def _without_word(unit: Unit) -> dict[str, str]:
    """What to say of a unit whose program left no word."""
    why = unit.error or {}
    if why.get("signal") == 9:
        message = _("It was ended from outside: the machine may have run out of memory. Lower ATELIER_PROFILE_MEMORY.")
        return {"code": "Killed", "message": message}
    message = str(why.get("message") or _("It ended without a result. Its log says where."))
    return {"code": str(why.get("code") or "Lost"), "message": message}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > LONGEST_RESULT:
            return None
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
