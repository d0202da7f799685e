"""Bringing a unit from its row to its start: the environment, the code, the place in the queue, the submit.

Each step ends in one conditional change of state, so any of them may be cut short anywhere and done again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compute import failpoints, selectors, states, watching
from compute.data import carriers, inputs
from compute.data import selectors as selectors_data
from compute.drivers.base import Driver, DriverError, ImageMissing, Refused, Unreachable
from compute.installation import installation_id
from compute.leases import lease
from compute.models import Environment, EnvironmentBuild, Target, Unit, UnitKind
from compute.publish import publish
from compute.services.observe import cancel, finish, observe_now
from compute.services.targets import LOCAL, target_driver
from compute.services.units import after, unit_move, unit_touch
from compute.spec import UnitSpec
from studio.lib import secrets as locks
from studio.lib.errors import AtelierError

log = logging.getLogger(__name__)

BUILD_CHECK_S = 30.0  # a build that ends wakes its waiting units at once; this is for a message that was lost
RETRY_S = 5.0
QUEUE_CHECK_S = 15.0
FINISH_LEASE_S = 60.0
IMAGE_AGAIN = "The image was gone and is made again."


def unit_spec(unit: Unit, *, opened: bool) -> UnitSpec:
    """What crosses to the driver. ``opened``: with the secrets."""
    spec = unit.spec
    return UnitSpec(
        key=unit.key,
        kind=unit.kind,
        argv=spec["argv"],
        installation=installation_id(),
        attempt=unit.attempt,
        env={**spec.get("variables", {}), **spec["env"]},
        secret_env=json.loads(locks.decrypt(unit.secrets)) if opened and unit.secrets else {},
        image=spec.get("image"),
        python=spec.get("python"),
        code=spec["code"],
        time_limit_s=spec.get("time_limit_s"),
        grace_s=spec["grace_s"],
        restart=spec["restart"],
        inputs=spec.get("inputs", []),
        outputs=spec.get("outputs", []),
        resources=spec.get("resources", {}),
    )


def unit_advance(unit_id: int) -> None:
    """Take a unit as far towards its start as it will go now. Safe to call at any time, from anywhere, twice."""
    driver = Unit.objects.filter(pk=unit_id).values_list("target__driver", flat=True).first()
    with lease(unit_id, keep=driver != LOCAL) as got:
        if not got:
            return
        unit = Unit.objects.select_related("target", "workspace").filter(pk=unit_id).first()
        while unit is not None and unit.state in STEPS and _guarded(unit):
            pass


def _guarded(unit: Unit) -> bool:
    """One step; whether there may be another. What goes wrong is written on the unit."""
    try:
        return STEPS[unit.state](unit)
    except Unreachable as error:
        log.warning("%s: %s", unit.key, error)
        unit_touch(unit, unreachable_since=unit.unreachable_since or timezone.now(), next_check_at=after(RETRY_S))
    except (DriverError, AtelierError, locks.SecretUnreadable) as error:
        code = "Refused" if isinstance(error, Refused) else "CannotStart"
        unit_move(unit, states.FAILED, note=str(error), error={"code": code, "message": str(error)})
    except Exception as error:
        log.exception("unit %s could not be advanced", unit.key)
        unit.refresh_from_db()  # the step's transaction was rolled back, what it set on the object was not
        if unit.state not in STEPS:
            return False
        message = _("Atelier could not start it: %(error)s") % {"error": f"{type(error).__name__}: {error}"}
        unit_move(unit, states.FAILED, note=message, error={"code": "InternalError", "message": message})
    return False


def _created(unit: Unit) -> bool:
    return unit_move(unit, states.PREPARING)


def _environment(unit: Unit, driver: Driver, spec: dict[str, Any]) -> EnvironmentBuild | bool | None:
    """Write into ``spec`` what the unit's environment is on its target; its build, None where it has none of its own.

    False while it is being built, or where it cannot be: then the unit says so.
    """
    from compute import env_services

    environment = None
    if spec.get("environment_id") and "python" not in spec:
        environment = Environment.objects.get(pk=spec["environment_id"])
        build = env_services.environment_prepare(environment, unit.target, since=unit.created_at)
    elif driver.containers:
        build = env_services.base_prepare(unit.workspace, unit.target, since=unit.created_at)
    else:
        return None
    if build.state == "failed":
        message = build.detail.get("error") or _("The environment could not be built.")
        error = {"code": "EnvironmentBuildFailed", "message": str(message), "environment": str(environment or "")}
        unit_move(unit, states.FAILED, note=str(message), error=error)
        return False
    if build.state != "ready":
        unit_touch(unit, next_check_at=after(BUILD_CHECK_S))
        build.refresh_from_db()  # it may have ended before the look at it was planned
        if build.state != "building":
            publish("compute.advance", unit.pk)
        return False
    spec.setdefault("python", env_services.python_for(build))
    if driver.containers:
        spec["image"] = env_services.image_for(build)
    if environment is not None:
        spec["variables"] = environment.recipe.get("variables") or {}
    return build


def _preparing(unit: Unit) -> bool:
    spec = dict(unit.spec)
    driver = target_driver(unit.target)
    build = _environment(unit, driver, spec)
    if build is False:
        return False
    found = build if isinstance(build, EnvironmentBuild) else None
    warnings = list(unit.warnings)
    if found is not None:
        warnings += [text for text in found.detail.get("warnings", []) if text not in warnings]
    try:
        staged = inputs.stage_inputs(unit, spec)
        if staged is None:
            unit_touch(unit, next_check_at=after(BUILD_CHECK_S))
            if not selectors_data.is_moving(unit, carriers.IN):  # it may have ended before the look at it was planned
                publish("compute.advance", unit.pk)
            return False
        unit.spec = spec = staged
        driver.prepare(unit_spec(unit, opened=False))
        inputs.place_links(unit, spec, outside=not driver.containers)
    except inputs.StagingFailed as error:
        return unit_move(unit, states.FAILED, note=error.detail, error=error.error)
    except ImageMissing:
        return _image_missing(unit, found)
    if found is not None and driver.containers:
        unit.history = [*unit.history[:-1], [*unit.history[-1][:2], _image_note(unit, found)]]
    return unit_move(
        unit,
        states.QUEUED,
        spec=spec,
        warnings=warnings,
        unreachable_since=None,
        queued_at=timezone.now(),
        next_check_at=after(QUEUE_CHECK_S),
    )


def _image_note(unit: Unit, build: EnvironmentBuild) -> str:
    """What the timeline says of the image: there before the unit, or made for it."""
    from compute import env_services

    return env_services.reuse_note(build, since=unit.created_at)


def _image_missing(unit: Unit, build: EnvironmentBuild | None) -> bool:
    """Somebody removed the image: it is built again, once for this unit."""
    from compute import env_services

    again = any(note == IMAGE_AGAIN for _state, _at, note in unit.history)
    if build is None or again:
        image = unit.spec.get("image") or (build and env_services.image_for(build)) or ""
        message = _("The image %(image)s is not on %(target)s.") % {"image": image, "target": unit.target}
        return unit_move(unit, states.FAILED, note=message, error={"code": "ImageMissing", "message": message})
    env_services.environment_missing(build)
    unit_touch(unit, history=[*unit.history[:-1], [*unit.history[-1][:2], IMAGE_AGAIN]])
    publish("compute.advance", unit.pk)
    return False


def _queued(unit: Unit) -> bool:
    if unit.kind != UnitKind.COMMAND:
        return unit_move(unit, states.SUBMITTING)
    mine = False
    for started in queue_fill(unit.target):
        if started == unit.pk:
            mine = True
        else:
            publish("compute.advance", started)
    if mine:
        unit.refresh_from_db()
    return mine


def queue_fill(target: Target) -> list[int]:
    """Give the free slots to the units that have waited longest; their ids, now in ``submitting``."""
    waiting = selectors.units_waiting(target)
    if not waiting.exists():
        return []
    total = selectors.slots(target)
    moved = []
    with transaction.atomic():
        # One at a time: SQLite's transaction is alone anyway, elsewhere the targets' rows are the lock.
        list(Target.everything.select_for_update().filter(pk__in=selectors.pool(target)).order_by("pk"))
        free = None if total is None else max(0, total - selectors.slots_used(target))
        for unit in waiting.select_related("target", "workspace")[: 1000 if free is None else free]:
            if unit_move(unit, states.SUBMITTING):
                moved.append(unit.pk)
    return moved


def _submitting(unit: Unit) -> bool:
    """The state is committed; now the driver may be asked, and asked again after a crash."""
    driver = target_driver(unit.target)
    if unit.cancel_requested_at is not None and driver.find(unit.key) is None:
        return unit_move(unit, states.CANCELED, note=_("Canceled before it was started."))
    failpoints.reach(failpoints.BEFORE_SUBMIT)
    handle = driver.submit(unit_spec(unit, opened=True))
    failpoints.reach(failpoints.AFTER_SUBMIT)
    if unit_move(unit, states.STARTING, handle={"key": handle.key, "data": handle.data}, unreachable_since=None):
        if not driver.shared:
            watching.ensure(unit.target_id)
            return False
        try:
            observe_now(unit, driver)
        except Exception:
            # It is started, whatever went wrong in looking at it: the beat looks again.
            log.exception("unit %s could not be looked at", unit.key)
    return False


STEPS: dict[str, Callable[[Unit], bool]] = {
    states.CREATED: _created,
    states.PREPARING: _preparing,
    states.QUEUED: _queued,
    states.SUBMITTING: _submitting,
}


def send_cancel(unit_id: int) -> None:
    """Tell the driver of a unit that was asked to end. Idempotent."""
    unit = Unit.objects.select_related("target", "workspace").filter(pk=unit_id).first()
    if unit is None or unit.cancel_requested_at is None or unit.state in states.TERMINAL:
        return
    if unit.handle is None:
        unit_advance(unit_id)
        return
    cancel(unit, target_driver(unit.target))


def unit_finish(unit_id: int) -> None:
    """Finish a unit whose log and events take a while to read."""
    with lease(unit_id, FINISH_LEASE_S, keep=True) as got:
        unit = Unit.objects.select_related("target", "workspace").filter(pk=unit_id).first()
        while got and unit is not None and unit.state == states.FINALIZING:
            before = unit.events_offset
            finish(unit, target_driver(unit.target))
            if unit.state == states.FINALIZING and unit.events_offset == before:
                return
