"""Keeping what is served in the state that people asked for. Called by beat, and when a unit changes."""

from __future__ import annotations

import http.client
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compute import states
from compute.drivers import unit_records
from compute.logs.store import LogFile
from compute.models import EnvironmentBuild, Unit
from models_registry.models import Deployment
from models_registry.services import keys as endpoint_keys
from models_registry.services.deploying import serving_environment, start_unit, version_difference
from models_registry.services.scoring import call
from studio.lib import beneath, storage
from studio.lib.errors import AtelierError

log = logging.getLogger(__name__)

PROBE_S = 2.0
LOADING_S = 300.0  # a model may take so long to be read before the service is called unhealthy
ANSWER_S = 60.0  # and a process so long until it answers at all
BACKOFF_S = (1.0, 5.0, 15.0, 60.0, 300.0)
STEADY_S = 600.0  # a service that was well for so long starts its back-off afresh
LAST_LINES = 12


def probe(deployment: Deployment) -> dict[str, Any] | None:
    """What the service says of itself, None when it does not answer."""
    try:
        _status, body, _headers = call(deployment.endpoint, "GET", "/healthz", timeout=PROBE_S)
        answer = json.loads(body)
    except (OSError, http.client.HTTPException, ValueError, AtelierError):
        return None
    # A port is not a name: another service may be answering there, or the version whose place this one takes.
    own = deployment.unit.key if deployment.unit is not None else None
    return answer if isinstance(answer, dict) and answer.get("unit") == own else None


def health_tick() -> None:
    """Look at every deployment that is wanted, and at what still has to end. Probes go out side by side."""
    rows = list(
        Deployment.objects.select_related(
            "endpoint__workspace", "version__model__workspace", "version__environment", "unit", "target"
        )
    )
    asked = [
        row for row in rows if row.desired == "running" and row.unit is not None and row.unit.state == states.RUNNING
    ]
    answers: dict[int, dict[str, Any] | None] = {}
    if asked:
        with ThreadPoolExecutor(min(16, len(asked))) as pool:
            answers = dict(zip([row.pk for row in asked], pool.map(probe, asked), strict=True))
    for row in rows:
        try:
            _look(row, answers.get(row.pk))
        except AtelierError as error:
            _say(row, "Unhealthy", {"code": error.code, "message": error.detail})
        except Exception:
            log.exception("the health of endpoint %s could not be looked at", row.endpoint.name)


def health_check(deployment: Deployment) -> str:
    """Look at one deployment now; its state."""
    deployment.refresh_from_db()
    running = deployment.unit is not None and deployment.unit.state == states.RUNNING
    _look(deployment, probe(deployment) if running and deployment.desired == "running" else None)
    deployment.refresh_from_db()
    return deployment.state


def _look(deployment: Deployment, answer: dict[str, Any] | None) -> None:
    unit = deployment.unit
    if deployment.desired != "running":
        ending = unit is not None and unit.state not in states.TERMINAL
        _say(deployment, "Transitioning" if ending else "Stopped", None)
        return
    if unit is None or unit.state in states.TERMINAL:
        _replace(deployment, unit)
        return
    endpoint_keys.write_digests(unit, endpoint_keys.digests(deployment.endpoint))
    if unit.state != states.RUNNING:
        _say(deployment, "Transitioning", _waiting(unit))
        return
    restarts = _shim_restarts(unit)
    if restarts is not None and restarts > deployment.restarts:
        Deployment.objects.filter(pk=deployment.pk).update(restarts=restarts)
        deployment.restarts = restarts
    _running(deployment, unit, answer)


def _running(deployment: Deployment, unit: Unit, answer: dict[str, Any] | None) -> None:
    up = (timezone.now() - unit.started_at).total_seconds() if unit.started_at else 0.0
    if answer is None:
        was_well = bool(deployment.health)
        if not was_well and up < ANSWER_S:
            _say(deployment, "Transitioning", {"code": "Starting", "message": _("The service is being started.")})
        else:
            message = _(
                "The service does not answer. It is started again when it crashes; these are the last lines of its log."
            )
            _say(deployment, "Unhealthy", {"code": "NoAnswer", "message": message, "lines": last_lines(unit)})
    elif answer.get("status") == "ok":
        _say(deployment, "Healthy", None, answer)
        _compare_versions(deployment, answer)
    elif answer.get("status") == "failed":
        error = {"code": "ModelFailed", "message": str(answer.get("error", ""))[:1000], "lines": last_lines(unit)}
        _say(deployment, "Failed", error, answer)
    else:
        state = "Transitioning" if up < LOADING_S else "Unhealthy"
        _say(deployment, state, {"code": "Loading", "message": _("The model is being loaded.")})


def _compare_versions(deployment: Deployment, answer: dict[str, Any]) -> None:
    """An interpreter that people manage themselves says only now which scikit-learn it has."""
    here = str((answer.get("packages") or {}).get("scikit-learn", ""))
    found = version_difference(deployment.version, serving_environment(deployment.version), here)
    if here and found != deployment.warnings:
        Deployment.objects.filter(pk=deployment.pk, unit=deployment.unit_id).update(warnings=found)


def _waiting(unit: Unit) -> dict[str, Any] | None:
    """Why a unit is not running yet; while its environment is built, with the key of the build's log."""
    content_hash = unit.spec.get("environment")
    if unit.state == states.PREPARING and content_hash:
        build = (
            EnvironmentBuild.objects.filter(content_hash=content_hash, target=unit.target_id, state="building")
            .select_related("unit")
            .first()
        )
        if build is not None:
            message = _("The environment is being built.")
            return {"code": "Building", "message": message, "log": build.unit.key if build.unit else None}
    return {"code": "Starting", "message": _("The service is being started.")}


def _replace(deployment: Deployment, unit: Unit | None) -> None:
    """The unit has ended though it should run: say why, and start another one after a pause that grows."""
    if unit is not None and (unit.error or {}).get("code") == "EnvironmentBuildFailed":
        _say(deployment, "Failed", unit.error)  # building it again would fail again; people start it when it is mended
        return
    now = timezone.now()
    if deployment.next_start_at is None:
        steady = bool(
            unit and unit.started_at and unit.ended_at and (unit.ended_at - unit.started_at).total_seconds() > STEADY_S
        )
        pause = BACKOFF_S[0 if steady else min(deployment.restarts, len(BACKOFF_S) - 1)]
        Deployment.objects.filter(pk=deployment.pk, next_start_at=None).update(
            next_start_at=now + timedelta(seconds=pause)
        )
        message = _("The service ended and is started again. %(why)s") % {
            "why": str(((unit and unit.error) or {}).get("message", ""))
        }
        lines = last_lines(unit) if unit is not None else []
        _say(deployment, "Unhealthy", {"code": "Ended", "message": message.strip(), "lines": lines})
    elif deployment.next_start_at <= now:
        with transaction.atomic():
            claimed = Deployment.objects.filter(
                pk=deployment.pk, next_start_at=deployment.next_start_at, desired="running"
            ).update(next_start_at=None)
            if claimed:
                deployment.restarts += 1
                deployment.health = {}
                start_unit(deployment)


def _say(
    deployment: Deployment, state: str, error: dict[str, Any] | None, health: dict[str, Any] | None = None
) -> None:
    """Write what changed, unless somebody deployed something else in the meantime."""
    kept = (
        deployment.health
        if health is None
        else {name: health[name] for name in ("started", "pid", "packages") if name in health}
    )
    if (deployment.state, deployment.error, deployment.health) != (state, error, kept):
        Deployment.objects.filter(pk=deployment.pk, unit=deployment.unit_id, desired=deployment.desired).update(
            state=state, error=error, health=kept, updated_at=timezone.now()
        )


def _shim_restarts(unit: Unit) -> int | None:
    """How often the shim has started the process again; None when it cannot be read just now."""
    try:
        beat = unit_records.parsed(
            beneath.read_small(storage.unit_directory(unit.key) / "beat.json", unit_records.LIMIT)
        )
        return int(beat.get("restarts") or 0) if beat is not None else None
    except OSError:
        return None


def last_lines(unit: Unit) -> list[str]:
    """The end of the service's log, for the page that says why it is not well."""
    try:
        stream = LogFile(unit.key)
        tail = stream.read(max(0, stream.size() - 8192), 8192)
    except OSError:
        return []
    return [line[:400] for line in tail.decode("utf-8", "replace").splitlines()[-LAST_LINES:]]
