"""Places where a test may stop a process for good, to kill it there.

``ATELIER_TEST_PAUSE=<name>`` in the environment of a process makes it write ``failpoint-<name>`` into the data folder
and sleep when it reaches that name for the first time. Without the variable, ``reach`` is one look into a dict.
"""

from __future__ import annotations

import os
import time

from studio.lib import storage

BEFORE_SUBMIT = "before-submit"  # the unit is committed as submitting, the driver has not been asked
AFTER_SUBMIT = "after-submit"  # the driver has started it, the handle is not saved
OUTPUT_MOVED = "output-moved"  # the first file of an output is at its place, the others are not


def reach(name: str) -> None:
    if os.environ.get("ATELIER_TEST_PAUSE") != name:
        return
    marker = storage.data(f"failpoint-{name}")
    if not marker.exists():
        marker.touch()
        time.sleep(3600)
