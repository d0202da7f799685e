"""What the worker and the beat do differently where each is a container: signs of life, and an end for their units."""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from typing import Any

from celery import Celery, bootsteps
from celery.beat import PersistentScheduler
from celery.signals import worker_shutdown, worker_shutting_down

from studio.bootstrap.container import alive_file

LIFE_S = 5.0
TASKS_GRACE_S = 30.0
UNITS_GRACE_S = 15.0  # supervisors give their commands 10 s; compose.yaml gives the whole container 60


class Life(bootsteps.StartStopStep):
    """A sign of life from the consumer's own loop, while it is connected: what the health check looks at."""

    requires = {"celery.worker.consumer.tasks:Tasks"}

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self.timer: Any = None

    def start(self, parent: Any) -> None:
        alive_file("worker").touch()
        self.timer = parent.timer.call_repeatedly(LIFE_S, alive_file("worker").touch)

    def stop(self, parent: Any) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class LivingScheduler(PersistentScheduler):
    """The beat's schedule, with the same sign of life."""

    touched = float("-inf")

    def tick(self, *args: Any, **kwargs: Any) -> float:
        if time.monotonic() - self.touched >= LIFE_S:
            self.touched = time.monotonic()
            alive_file("beat").touch()
        return float(super().tick(*args, **kwargs))


def _end_units(**kwargs: object) -> None:
    """Nothing survives its container: units on "this machine" are told, and have a moment to end by themselves."""
    from compute.drivers import ending

    ending.end_units_here(UNITS_GRACE_S)


def _bound(**kwargs: object) -> None:
    """A shutdown that waits for a task that hangs must not be killed with the container: the tasks in hand come back by
    themselves, and units are told in time. Where it hangs is written to the log."""

    def end() -> None:
        time.sleep(TASKS_GRACE_S)
        faulthandler.dump_traceback(all_threads=True)
        _end_units()
        os._exit(0)

    threading.Thread(target=end, name="bounded-shutdown", daemon=True).start()


def equip(app: Celery) -> None:
    app.steps["consumer"].add(Life)
    app.conf.beat_scheduler = f"{__name__}:LivingScheduler"
    worker_shutting_down.connect(_bound, weak=False)
    worker_shutdown.connect(_end_units, weak=False)
