"""The reconciling beat: whatever is due is looked at, whoever was killed in the middle of it."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict

from django.utils import timezone

from compute import states, watching
from compute.data import housekeeping as data_housekeeping
from compute.drivers.base import Driver, DriverError
from compute.drivers.unit_folder import read_json, write_atomic
from compute.leases import drop_dead
from compute.models import Target, Unit
from compute.publish import publish
from compute.services import observe
from compute.services.advance import QUEUE_CHECK_S
from compute.services.streams import touch_streams
from compute.services.targets import target_driver
from compute.services.units import after
from compute.spec import Handle, Phase
from compute.watching import WATCHED
from studio.lib import secrets as locks
from studio.lib import storage

log = logging.getLogger(__name__)

AT_ONCE = 2000
STEP_CHECK_S = 2.0
ORPHAN_GRACE_S = 3600.0

_one_at_a_time = threading.Lock()


def tick() -> int:
    """Look at everything that is due; how many units that were. Idle, it is one indexed query."""
    if not _one_at_a_time.acquire(blocking=False):
        return 0
    try:
        due = list(
            Unit.objects.filter(next_check_at__lte=timezone.now())
            .select_related("target", "workspace")
            .order_by("next_check_at")[:AT_ONCE]
        )
        if due:
            _send_on([unit for unit in due if unit.state not in WATCHED])
            _watch([unit for unit in due if unit.state in WATCHED])
        return len(due)
    finally:
        _one_at_a_time.release()


def _send_on(units: list[Unit]) -> None:
    """Units whose message was lost, or whose worker was killed: the work is given out again."""
    queued = [unit for unit in units if unit.state == states.QUEUED]
    others = [unit for unit in units if unit.state in states.LIVE and unit.state != states.QUEUED]
    if queued:
        ids = [unit.pk for unit in queued]
        Unit.objects.filter(pk__in=ids, state=states.QUEUED).update(next_check_at=after(QUEUE_CHECK_S))
        for target_id in {unit.target_id for unit in queued}:
            publish("compute.queue", target_id)
    drop_dead(others)
    for unit in others:
        Unit.objects.filter(pk=unit.pk, version=unit.version).update(next_check_at=after(STEP_CHECK_S))
        publish("compute.advance", unit.pk)


def _watch(units: list[Unit]) -> None:
    """Started units, in one look per target. Those elsewhere are watched apart: a look at them may take long."""
    by_target: dict[int, list[Unit]] = defaultdict(list)
    for unit in units:
        by_target[unit.target_id].append(unit)
    for target_id, group in by_target.items():
        try:
            driver = target_driver(group[0].target)
        except Exception:
            log.exception("target %s has no usable driver", group[0].target)
            continue
        if not driver.shared:
            watching.ensure(target_id)
            continue
        seen = watching.look(driver, group)
        touch_streams({unit.pk: seen[unit.key].sizes.get("stdout", 0) for unit in group if unit.key in seen})
        for unit in group:
            try:
                if unit.key in seen:
                    observe.apply(unit, driver, seen[unit.key])
            except Exception:
                log.exception("unit %s could not be looked at", unit.key)


def housekeeping() -> None:
    """Once a minute: what bears this installation's id and has no row, and what data has left behind."""
    try:
        data_housekeeping.housekeeping()
    except OSError as error:
        log.warning("the cache of data could not be looked after: %s", error)
    for target_id in Target.objects.values_list("pk", flat=True):
        publish("compute.orphans", target_id)


def orphans(target: Target) -> None:
    """Report what runs on a target without a row; after a grace, end it and release it."""
    try:
        _orphans(target, target_driver(target))
    except (DriverError, locks.SecretUnreadable) as error:
        log.warning("%s could not be asked for its units: %s", target, error)


def _release(unit: Unit, driver: Driver, handle: Handle) -> None:
    """A unit that was given up while its target did not answer: what it left there is ended, and brought here."""
    driver.cancel(handle, 0.0)
    if driver.observe([handle])[unit.key].phase not in (Phase.EXITED, Phase.GONE):
        return
    if driver.fetch(handle, final=True):
        driver.release(handle)
        Unit.objects.filter(pk=unit.pk).update(released=True)


def _orphans(target: Target, driver: Driver) -> None:
    owned = {item.key: item for item in driver.list_owned()}
    known = set()
    for unit in Unit.objects.filter(key__in=owned).only("key", "state", "released"):
        known.add(unit.key)
        if unit.state in states.TERMINAL and not unit.released:
            _release(unit, driver, owned[unit.key].handle)
    path = storage.data("orphans", f"{target.pk}.json")
    before = read_json(path) or {}
    found = {}
    for key in sorted(set(owned) - known):
        found[key] = before.get(key, time.time())
        log.warning("%s on %s has no row in the database", key, target)
        if time.time() - found[key] > ORPHAN_GRACE_S:
            handle = owned[key].handle
            driver.cancel(handle, 10.0)
            if driver.observe([handle])[key].phase in (Phase.EXITED, Phase.GONE):
                driver.release(handle)
    if found or before:
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, found)
