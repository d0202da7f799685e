"""Ending this machine's units before the machine itself goes, where it is a container."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from compute.drivers.local import alive
from compute.drivers.unit_folder import read_json
from studio.lib import storage


def _supervisors() -> list[tuple[int, str]]:
    """(pid, start time) of each unit's supervisor that runs here; other machines may share the data folder."""
    found = []
    for marker in storage.data("units", "started").glob("*"):
        beat = read_json(storage.unit_directory(marker.name) / "beat.json")
        if beat is not None and alive(int(beat["pid"]), beat.get("start_time", "")):
            found.append((int(beat["pid"]), str(beat.get("start_time", ""))))
    return found


def end_units_here(grace_s: float) -> int:
    """SIGTERM to every supervisor on this machine, then wait until all have written their exit records, at most
    ``grace_s`` seconds. The number that were told."""
    told = _supervisors()
    for pid, _start in told:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + grace_s
    while any(alive(*one) for one in told) and time.monotonic() < end:
        time.sleep(0.1)
    return len(told)
