"""What follows from a look at a unit that was started: its events, its state, its end."""

from __future__ import annotations

import contextlib
import datetime
import logging
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from compute import selectors, states
from compute.data import outputs
from compute.drivers import unit_records
from compute.drivers.base import Driver, DriverError, NotFound, Unreachable
from compute.leases import drop_dead
from compute.models import Unit
from compute.publish import publish
from compute.services.ingest import ingest
from compute.services.units import after, unit_move, unit_touch
from compute.spec import Observation, Phase

log = logging.getLogger(__name__)

DEADLINE_SLACK_S = 600.0
DRAIN_PATIENCE_S = 60.0
HEAVY_BYTES = 64 << 20
FINISH_CHECK_S = 30.0
BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)

CODES = {
    "exited": "UserError",
    "timeout": "Timeout",
    "start-failed": "StartFailed",
    "terminated": "MachineStopped",
    "disk-full": "DiskFull",
    "out-of-memory": "OutOfMemory",
    "lost": "Lost",
}


def observe_now(unit: Unit, driver: Driver) -> None:
    """Look at one unit at once, instead of at the next beat."""
    try:
        observation = driver.observe([selectors.handle_of(unit)])[unit.key]
    except Unreachable as error:
        observation = Observation(Phase.UNREACHABLE, detail=str(error))
    apply(unit, driver, observation)


def apply(unit: Unit, driver: Driver, observation: Observation) -> None:
    """Bring the row to what was seen. Every change is conditional: whoever comes second changes nothing."""
    if unit.state == states.FINALIZING:
        _finish_soon(unit, driver, observation)
        return
    if observation.phase is Phase.UNREACHABLE:
        _unreachable(unit, observation)
        return
    if unit.unreachable_since is not None and not unit_touch(
        unit, unreachable_since=None, next_check_at=timezone.now()
    ):
        return
    if observation.phase is Phase.RUNNING:
        _running(unit, driver, observation)
    elif observation.phase is Phase.EXITED:
        _ended(unit, driver, observation.exit or {}, observation)
    elif observation.phase is Phase.GONE:
        _gone(unit, driver, observation)


def cancel(unit: Unit, driver: Driver) -> None:
    """SIGTERM now, SIGKILL after the unit's grace, or at once when it was forced. Told again at every look."""
    grace = 0.0 if unit.cancel_forced else float(unit.spec.get("grace_s", 30.0))
    try:
        driver.cancel(selectors.handle_of(unit), grace)
    except DriverError as error:
        log.warning("%s could not be told to end, it will be told again: %s", unit.key, error)


def _running(unit: Unit, driver: Driver, observation: Observation) -> None:
    if unit.state != states.RUNNING:
        started = _moment(observation.started_at) or timezone.now()
        limit = unit.spec.get("time_limit_s")
        deadline = None
        if limit:
            allowance = float(limit) + float(unit.spec.get("grace_s", 30.0)) + DEADLINE_SLACK_S
            deadline = started + datetime.timedelta(seconds=allowance)
        if not unit_move(unit, states.RUNNING, started_at=started, deadline_at=deadline):
            return
    if unit.cancel_requested_at is not None:
        cancel(unit, driver)
    ingest(unit, driver, observation.sizes.get("events", 0))


def _unreachable(unit: Unit, observation: Observation) -> None:
    """Never fails a unit; only its own deadline can."""
    now = timezone.now()
    since = unit.unreachable_since or now
    if unit.deadline_at is not None and now > unit.deadline_at:
        message = _("The target has not answered since %(since)s, and the time limit has passed.") % {
            "since": since.isoformat(timespec="seconds")
        }
        _ended(unit, None, {"reason": "lost", "message": message}, observation)
        return
    waited = (now - since).total_seconds()
    pause = next((step for step in BACKOFF_S if step >= waited), BACKOFF_S[-1])
    if unit.unreachable_since is None:
        unit_touch(unit, unreachable_since=since, next_check_at=after(pause))
    else:
        Unit.objects.filter(pk=unit.pk, version=unit.version).update(next_check_at=after(pause))


def _gone(unit: Unit, driver: Driver, observation: Observation) -> None:
    """GONE fails a unit only after the exit record was looked for."""
    handle = selectors.handle_of(unit)
    record = None
    try:
        with contextlib.suppress(NotFound):
            record = unit_records.parsed(driver.read(handle, "exit.json", 0, unit_records.LIMIT + 1))
        record = record or {"reason": "lost", "message": driver.diagnose(handle)}
    except Unreachable as error:
        _unreachable(unit, Observation(Phase.UNREACHABLE, detail=str(error)))
        return
    _ended(unit, driver, record, observation)


def _ended(unit: Unit, driver: Driver | None, record: dict[str, Any], observation: Observation) -> None:
    record = unit_records.clean(record)  # whoever wrote it: it goes into the database
    started = unit.started_at or _moment(record.get("started") or observation.started_at)
    if unit_move(unit, states.FINALIZING, exit=record, started_at=started):
        _finish_soon(unit, driver, observation)


def _finish_soon(unit: Unit, driver: Driver | None, observation: Observation) -> None:
    """Finish here and now, or elsewhere when there is so much to read that the other units would wait for it."""
    heavy = sum(observation.sizes.values()) - unit.events_offset > HEAVY_BYTES
    near = driver is None or driver.shared
    if near and not heavy and not unit.spec.get("outputs"):
        finish(unit, driver)
        return
    drop_dead([unit])
    Unit.objects.filter(pk=unit.pk, version=unit.version).update(next_check_at=after(FINISH_CHECK_S))
    publish("compute.finish", unit.pk)


def _moment(unix: float | None) -> datetime.datetime | None:
    unix = unit_records.clean({"at": unix})["at"]
    return datetime.datetime.fromtimestamp(unix, tz=datetime.UTC) if unix else None


def finish(unit: Unit, driver: Driver | None) -> None:
    """The last events, the sealed log, the released target, and then the end. Done again as often as it takes."""
    record, sent = unit.exit or {}, outputs.NOTHING
    if driver is not None:
        try:
            if not driver.fetch(selectors.handle_of(unit), final=True):
                Unit.objects.filter(pk=unit.pk, version=unit.version).update(next_check_at=after(BACKOFF_S[0]))
                return
            if not _drained(unit, driver):
                return
            sent = outputs.send_outputs(unit) if outcome(unit, record)[0] == states.COMPLETED else outputs.NOTHING
            if sent.moving:
                Unit.objects.filter(pk=unit.pk, version=unit.version).update(next_check_at=after(FINISH_CHECK_S))
                return
            driver.release(selectors.handle_of(unit))
        except Unreachable as error:
            log.warning("%s: the last bytes must wait: %s", unit.key, error)
            Unit.objects.filter(pk=unit.pk, version=unit.version).update(next_check_at=after(BACKOFF_S[2]))
            return
        except DriverError as error:
            log.warning("%s: %s", unit.key, error)
    seal(unit)
    state, why = outcome(unit, record)
    if sent.error is not None:
        state = states.CANCELED if unit.cancel_requested_at is not None else states.FAILED
        why, record = (sent.error if state == states.FAILED else None), {**record, "message": sent.error["message"]}
    warnings = [*unit.warnings, *(text for text in sent.warnings if text not in unit.warnings)]
    ended = _moment(record.get("ended")) or timezone.now()
    note = "" if state == states.COMPLETED else str(record.get("message", ""))
    unit_move(unit, state, note=note, error=why, ended_at=ended, released=driver is not None, warnings=warnings)


def _drained(unit: Unit, driver: Driver) -> bool:
    """Whether every event is in. Patience has an end: a line that nobody can take must not keep a run from ending."""
    try:
        size = driver.observe([selectors.handle_of(unit)])[unit.key].sizes.get("events", 0)
        if ingest(unit, driver, size, final=True):
            return True
    except DriverError:
        raise
    except Exception:
        log.exception("the last events of unit %s could not be taken in", unit.key)
    since = next((at for state, at, _note in reversed(unit.history) if state == states.FINALIZING), 0.0)
    if timezone.now().timestamp() - since < DRAIN_PATIENCE_S:
        return False
    text = _("Some of the run's last events could not be taken in.")
    if text not in unit.warnings:
        unit_touch(unit, warnings=[*unit.warnings, text])
    return True


def outcome(unit: Unit, record: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """(terminal state, error or None) of an exit record."""
    reason = record.get("reason", "lost")
    if reason == "exited" and record.get("code") == 0:
        return states.COMPLETED, None
    if reason == "canceled" or (unit.cancel_requested_at is not None and reason != "exited"):
        return states.CANCELED, None
    error = {
        "code": CODES.get(reason, "SystemError"),
        "message": str(record.get("message") or _("It ended without a word.")),
        "exit_code": record.get("code"),
        "signal": record.get("signal"),
    }
    return (states.LOST if reason == "lost" else states.FAILED), error


def seal(unit: Unit) -> None:
    """Nothing is added to the log any more: its size, lines and checksum are kept on its row."""
    from compute.logs.store import LogFile

    try:
        LogFile(unit.key).seal()
    except OSError as error:
        log.warning("the log of %s could not be sealed: %s", unit.key, error)
