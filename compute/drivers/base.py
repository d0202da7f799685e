"""The wall between Atelier and the places where units run.

A new kind of compute is one new file with one class, plus its row in ``registry.py``; it passes
``tests/drivers/contract.py`` as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Protocol

from compute.spec import Capacity, FormField, Handle, Observation, Owned, Problem, UnitSpec


class DriverError(Exception):
    """Base of what a driver may raise."""


class Unreachable(DriverError):
    """The target did not answer. Never fails a unit; the caller tries again later."""


class Refused(DriverError):
    """The target answered no, and will again: the unit cannot run as it is specified."""


class NotFound(DriverError):
    """The backend says for certain that it is not there."""


class ImageMissing(DriverError):
    """The target does not have the unit's image any more: somebody removed it. It has to be built again."""


class HostKeyUnknown(Unreachable):
    """Nobody has confirmed the machine's host key yet, so nothing was said to it. ``key``: "ssh-ed25519 AAAA..."."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class HostKeyChanged(HostKeyUnknown):
    """The machine shows another host key than the confirmed one: it was set up anew, or somebody stands between."""


class Driver(Protocol):
    """Blocking; no ORM, no request. Errors are Unreachable, Refused or NotFound, never a bare exception."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    fields: ClassVar[Sequence[FormField]]
    # What ``check`` looks at, in its order: (code of the problem that it may find, label). For the check list.
    checks: ClassVar[Sequence[tuple[str, Any]]]
    # Units run in containers, and environments are images.
    containers: ClassVar[bool]
    # A unit's folder on the target is ``storage.unit_directory(key)`` of this machine itself; else ``fetch`` brings it.
    shared: ClassVar[bool]

    def __init__(self, config: dict[str, Any], secrets: dict[str, str]) -> None: ...

    def check(self) -> list[Problem]:
        """The test button: everything that is wrong, at once; empty when all is well."""
        ...

    def facts(self) -> dict[str, Any]:
        """What the target says of itself, for people: engine, system, architecture, cpus, memory_bytes, gpus (names),
        disk_free_bytes, user; whatever is known. Raises Unreachable."""
        ...

    def slots(self) -> int | None:
        """How many units it takes at once, None without a limit. From the settings alone: asks nobody."""
        ...

    def capacity(self) -> Capacity:
        """Slots, total and used by what bears this installation's id."""
        ...

    def prepare(self, spec: UnitSpec) -> None:
        """Idempotent: the code, the client and the folders are in place afterwards."""
        ...

    def submit(self, spec: UnitSpec) -> Handle:
        """Idempotent on ``spec.key``: adopts what is already there and never starts it twice."""
        ...

    def find(self, key: str) -> Handle | None:
        """The handle of a unit that was submitted, None when the backend says for certain that it was not."""
        ...

    def list_owned(self) -> Iterable[Owned]:
        """All that bears this installation's id."""
        ...

    def observe(self, handles: Sequence[Handle]) -> dict[str, Observation]:
        """By key. Batched: one round trip for all of them where the backend can."""
        ...

    def read(self, handle: Handle, path: str, offset: int, limit: int) -> bytes:
        """At most ``limit`` bytes of a file of the unit from ``offset``; empty at its end. NotFound without it."""
        ...

    def fetch(self, handle: Handle, *, final: bool = False) -> bool:
        """Bring what is new of stdout.log and events.jsonl into ``storage.unit_directory(key)``, each by its offset,
        and with ``final`` everything else that the unit wrote too. Whether all that was there is here. Idempotent,
        and may be cut short anywhere: what is here counts. Where ``shared``, all is here already."""
        ...

    def cancel(self, handle: Handle, grace_s: float) -> None:
        """SIGTERM now, SIGKILL after the grace. Idempotent, returns at once."""
        ...

    def diagnose(self, handle: Handle) -> str:
        """Why it never started or died, in words for a person; empty when nothing is known."""
        ...

    def release(self, handle: Handle) -> None:
        """Idempotent, after the end and after the bytes are in: what only served the running may go. ``read`` still
        gives the unit's files afterwards."""
        ...
