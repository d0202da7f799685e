"""The states of a unit and how they may follow each other; those of a target. Pure: nothing is imported from the
project.

``created -> preparing -> queued -> submitting -> starting -> running -> finalizing``, and then
``completed | failed | canceled | lost``.

Preparing (the environment, the code) comes before the wait for a slot, so that a unit that waits for a slot is
ready to start and one that waits for a build holds no slot.
"""

from __future__ import annotations

CREATED = "created"
PREPARING = "preparing"
QUEUED = "queued"
SUBMITTING = "submitting"
STARTING = "starting"
RUNNING = "running"
FINALIZING = "finalizing"
COMPLETED = "completed"
FAILED = "failed"
CANCELED = "canceled"
LOST = "lost"

ORDER = (CREATED, PREPARING, QUEUED, SUBMITTING, STARTING, RUNNING, FINALIZING)
TERMINAL = frozenset({COMPLETED, FAILED, CANCELED, LOST})
LIVE = frozenset(ORDER)
# States in which a unit holds one of its target's slots.
HOLDS_SLOT = frozenset({SUBMITTING, STARTING, RUNNING, FINALIZING})

TRANSITIONS: dict[str, frozenset[str]] = {
    CREATED: frozenset({PREPARING, CANCELED, FAILED}),
    PREPARING: frozenset({QUEUED, CANCELED, FAILED}),
    QUEUED: frozenset({SUBMITTING, CANCELED, FAILED}),
    SUBMITTING: frozenset({STARTING, RUNNING, FINALIZING, QUEUED, CANCELED, FAILED, LOST}),
    STARTING: frozenset({RUNNING, FINALIZING, CANCELED, FAILED, LOST}),
    RUNNING: frozenset({FINALIZING, LOST}),
    FINALIZING: TERMINAL,
    COMPLETED: frozenset(),
    FAILED: frozenset(),
    CANCELED: frozenset(),
    LOST: frozenset(),
}

# What a user sees: Azure ML's words.
STATUS = {
    CREATED: "NotStarted",
    PREPARING: "Preparing",
    QUEUED: "Queued",
    SUBMITTING: "Starting",
    STARTING: "Starting",
    RUNNING: "Running",
    FINALIZING: "Finalizing",
    COMPLETED: "Completed",
    FAILED: "Failed",
    CANCELED: "Canceled",
    LOST: "Failed",
}


class TargetState:
    """How far a target is: attached and not tested yet, or waiting for its host key; usable; with problems; going."""

    CREATING = "Creating"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DETACHING = "Detaching"

    MOVING = frozenset({CREATING, DETACHING})  # these change by themselves


def allowed(old: str, new: str) -> bool:
    return new in TRANSITIONS[old]


def status(state: str, *, cancel_requested: bool = False, unreachable: bool = False) -> str:
    """The word a user sees for a state and its two flags."""
    if state in TERMINAL:
        return STATUS[state]
    if cancel_requested:
        return "CancelRequested"
    if unreachable:
        return "NotResponding"
    return STATUS[state]
