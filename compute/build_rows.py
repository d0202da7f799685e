"""Builds of environments as rows: what a virtual environment's and an image's have in common."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from compute import states
from compute.models import EnvironmentBuild, Unit
from studio.lib import storage

BUILDING, READY, FAILED = "building", "ready", "failed"
_USED_AGAIN = dt.timedelta(minutes=1)


def claim(build: EnvironmentBuild) -> bool:
    """One caller of many gets to start the build again."""
    return bool(
        EnvironmentBuild.objects.filter(pk=build.pk, state=build.state, unit=build.unit).update(
            state=BUILDING, unit=None, ready_at=None
        )
    )


def is_over(build: EnvironmentBuild, since: dt.datetime | None) -> bool:
    """Whether a build is to be started again: its unit died unheard, or it failed before ``since``."""
    if build.state == FAILED:
        return since is not None and since.timestamp() > float(build.detail.get("ended", 0))
    return build.state == BUILDING and (build.unit is None or build.unit.state in states.TERMINAL)


def used(build: EnvironmentBuild) -> None:
    """Write down that somebody uses it, at most once a minute."""
    now = timezone.now()
    if build.state == READY and (build.last_used_at is None or now - build.last_used_at > _USED_AGAIN):
        EnvironmentBuild.objects.filter(pk=build.pk).update(last_used_at=now)


def failure(unit: Unit) -> dict[str, Any]:
    """``error`` (the failing package first) and ``problems`` of a build that did not work."""
    try:
        problems = json.loads(
            (storage.unit_directory(unit.key) / "outputs" / "problems.json").read_text(encoding="utf-8")
        )
    except (OSError, ValueError):
        problems = []
    if problems:
        return {"error": " ".join(problem["message"] for problem in problems), "problems": problems}
    if unit.state == states.CANCELED:
        return {"error": _("The build was canceled."), "problems": []}
    said = (unit.error or {}).get("message") or (unit.exit or {}).get("message")
    return {"error": str(said or _("The build ended without a result. Its log says where.")), "problems": []}
