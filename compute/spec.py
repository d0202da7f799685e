"""What crosses to a driver: plain data, no ORM objects, nothing of Django."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from studio.lib.fields import FormField, Problem

__all__ = ["Capacity", "FormField", "Handle", "Observation", "Owned", "Phase", "Problem", "UnitSpec"]


@dataclass(frozen=True)
class UnitSpec:
    """What to run. Written once, as ``spec.json``, into the unit's directory (without ``secret_env``).

    ``argv`` is run with the unit's ``code/`` as the working directory; the words ``{python}``, ``{unit}`` and
    ``{lib}`` in it stand for the environment's interpreter, the unit's directory and the folder with the client.
    Times are in seconds. ``restart`` is "never" or "always" (services).
    """

    key: str
    kind: str
    argv: list[str]
    installation: str = ""
    attempt: int = 1
    env: dict[str, str] = field(default_factory=dict)
    secret_env: dict[str, str] = field(default_factory=dict)
    image: str | None = None  # of the container that it runs in, where its target has containers
    python: str | None = None  # interpreter of the prepared environment; None is the target's own
    code: list[dict[str, Any]] = field(
        default_factory=list
    )  # [{"path", "source", "mode"}]: source is a file on this machine
    time_limit_s: float | None = None
    grace_s: float = 30.0
    restart: str = "never"
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)  # [{"name", "leaf": "folder" | "parent"}]
    resources: dict[str, Any] = field(default_factory=dict)  # as ``compute.resources.parse`` gives them


@dataclass(frozen=True)
class Handle:
    """Where a driver finds a unit again. ``data`` is JSON and is kept in ``Unit.handle``."""

    key: str
    data: dict[str, Any] = field(default_factory=dict)


class Phase(enum.Enum):
    PENDING = "pending"
    RUNNING = "running"
    EXITED = "exited"
    GONE = "gone"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Observation:
    """What a driver saw of one unit. ``exit`` is the content of exit.json once the phase is EXITED.

    ``sizes`` are the current sizes in bytes of the unit's streams (``stdout``) and of ``events``.
    """

    phase: Phase
    exit: dict[str, Any] | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    started_at: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Owned:
    """Something on the target that bears this installation's id."""

    key: str
    handle: Handle
    since: float


@dataclass(frozen=True)
class Capacity:
    """Slots of a target. ``total`` None: without a limit of ours."""

    total: int | None
    used: int = 0
    detail: dict[str, Any] = field(default_factory=dict)
