"""Watching the units of targets elsewhere: one thread per target and installation, for as long as units live there.

A look across a network may take long or hang until it times out, so it is never the beat's own; the beat only sees to
it that somebody watches. Nothing is lost with the thread: it holds a lock that dies with its process, and whoever comes
next goes on from the rows and the offsets. Each look brings the new bytes of the logs and events here
(``Driver.fetch``).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from django.db import close_old_connections, connection
from django.utils import timezone

from compute import selectors, states
from compute.drivers.base import Driver, DriverError, Unreachable
from compute.drivers.unit_folder import stream_sizes
from compute.models import Target, Unit
from compute.publish import publish
from compute.services import observe
from compute.services.streams import touch_streams
from compute.services.targets import target_driver
from compute.spec import Observation, Phase
from studio.lib import storage

log = logging.getLogger(__name__)

WATCHED = frozenset({states.STARTING, states.RUNNING, states.FINALIZING})
PAUSE_S = 0.2
QUIET_PAUSE_S = 0.4  # once nothing has come for a while
QUIET_AFTER_S = 5.0
CHECK_S = 10.0  # how long after a test of the target the next may be, where it says other than what is seen
CHECK_AGAIN_S = 30.0  # and where both say that something is wrong
ROWS_S = 1.0  # how often the rows are read again when nothing happens to them
AT_ONCE = 8  # units whose bytes are brought at the same time

_threads: dict[int, threading.Thread] = {}
_starting = threading.Lock()


def ensure(target_id: int) -> None:
    """See to it that somebody watches this target's units, in this process or another."""
    with _starting:
        thread = _threads.get(target_id)
        if thread is None or not thread.is_alive():
            name = f"watch-{target_id}"
            thread = _threads[target_id] = threading.Thread(target=_watch, args=(target_id,), name=name, daemon=True)
            thread.start()


@contextlib.contextmanager
def _alone(target_id: int) -> Iterator[bool]:
    """Whether nobody else watches this target."""
    path = storage.data("run", f"watch-{target_id}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _watch(target_id: int) -> None:
    try:
        with _alone(target_id) as alone, ThreadPoolExecutor(AT_ONCE, f"fetch-{target_id}") as pool:
            if alone:
                Watch(target_id, pool).run()
    except Exception:
        log.exception("target %d is not watched for the moment", target_id)
    finally:
        connection.close()


class Watch:
    """The looks at one target, until nothing lives there any more."""

    def __init__(self, target_id: int, pool: ThreadPoolExecutor) -> None:
        self.target_id = target_id
        self.pool = pool
        self.units: list[Unit] = []
        self.read_at = self.moved_at = 0.0
        self.seen: dict[int, tuple[Phase, int]] = {}

    def run(self) -> None:
        while self.round():
            time.sleep(PAUSE_S if time.monotonic() - self.moved_at < QUIET_AFTER_S else QUIET_PAUSE_S)

    def round(self) -> bool:
        """One look at what is due; whether there is anything left to watch."""
        fresh = time.monotonic() - self.read_at >= ROWS_S
        if fresh:
            self._read_rows()
        due = [unit for unit in self.units if _due(unit)]
        if due:
            try:
                self._look(due, fresh)
            except Exception:
                log.exception("the units of target %d could not be looked at", self.target_id)
                time.sleep(ROWS_S)
        return bool(self.units)

    def _read_rows(self) -> None:
        close_old_connections()
        self.read_at = time.monotonic()
        rows = Unit.objects.filter(target=self.target_id, state__in=list(WATCHED))
        self.units = list(rows.select_related("target", "workspace").order_by("pk"))

    def _look(self, units: Sequence[Unit], fresh: bool) -> None:
        driver = target_driver(units[0].target)
        seen = look(driver, units)
        _tell_target(units[0].target, seen.values())
        growing = [unit for unit in units if self._has_news(unit, seen)]
        for _done in self.pool.map(lambda unit: _fetch(driver, unit), growing):
            self.moved_at = time.monotonic()
        if fresh:
            touch_streams({unit.pk: seen[unit.key].sizes.get("stdout", 0) for unit in units if unit.key in seen})
        for unit in units:
            observation = seen.get(unit.key)
            if observation is None or not (fresh or unit in growing or self._changed(unit, observation)):
                continue
            self.seen[unit.pk] = (observation.phase, observation.sizes.get("events", 0))
            before = unit.version
            try:
                observe.apply(unit, driver, observation)
            except Exception:
                log.exception("unit %s could not be looked at", unit.key)
            if unit.version != before:
                self.read_at = 0.0

    def _has_news(self, unit: Unit, seen: dict[str, Observation]) -> bool:
        """Whether the target has bytes of a stream that are not here."""
        sizes = seen[unit.key].sizes if unit.key in seen else {}
        here = stream_sizes(storage.unit_directory(unit.key))
        return any(sizes.get(name, 0) > size for name, size in here.items())

    def _changed(self, unit: Unit, observation: Observation) -> bool:
        return self.seen.get(unit.pk) != (observation.phase, observation.sizes.get("events", 0))


def _due(unit: Unit) -> bool:
    """A unit that does not answer is asked less and less often."""
    return unit.unreachable_since is None or unit.next_check_at is None or unit.next_check_at <= timezone.now()


def _fetch(driver: Driver, unit: Unit) -> None:
    try:
        driver.fetch(selectors.handle_of(unit))
    except DriverError as error:
        log.info("%s: the next bytes must wait: %s", unit.key, error)
    except OSError as error:
        log.warning("%s: its bytes cannot be kept here: %s", unit.key, error)


def look(driver: Driver, units: Sequence[Unit]) -> dict[str, Observation]:
    """By key. A target that does not answer is seen as UNREACHABLE for each of them."""
    try:
        return driver.observe([selectors.handle_of(unit) for unit in units])
    except Unreachable as error:
        return {unit.key: Observation(Phase.UNREACHABLE, detail=str(error)) for unit in units}


def _tell_target(target: Target, seen: Iterable[Observation]) -> None:
    """The target's own page is to say what is wrong as soon as its units cannot be seen, and when that is over. What is
    wrong can become something else: a machine that was set up anew refuses first, and then shows another host key."""
    away = any(observation.phase is Phase.UNREACHABLE for observation in seen)
    failed = target.state == states.TargetState.FAILED
    if away or failed:
        moment = target.checked_at
        pause = CHECK_S if away != failed else CHECK_AGAIN_S
        if moment is None or (timezone.now() - moment).total_seconds() > pause:
            publish("compute.check", target.pk)
            target.checked_at = timezone.now()  # of this object alone: asked once, until the rows are read again
