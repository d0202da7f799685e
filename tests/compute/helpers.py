"""Waiting for what real processes do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compute.models import Unit
from studio.lib import storage
from tests.stack import wait_until


def until(check: Callable[[], Any]) -> None:
    """At most ten seconds."""
    wait_until("it", check, 10, 0.01)


def wait_exit(unit: Unit) -> None:
    """Until the shim has written how the command ended."""
    until((storage.unit_directory(unit.key) / "exit.json").exists)
