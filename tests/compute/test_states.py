"""The table of states: pure, so it is checked as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

from compute import states


def test_every_state_has_a_row_and_a_word() -> None:
    everything = set(states.ORDER) | states.TERMINAL
    assert set(states.TRANSITIONS) == everything
    assert set(states.STATUS) == everything
    assert all(targets <= everything for targets in states.TRANSITIONS.values())


def test_terminal_states_are_final() -> None:
    assert all(not states.TRANSITIONS[state] for state in states.TERMINAL)
    assert states.LIVE.isdisjoint(states.TERMINAL)


def test_the_way_forward_is_open() -> None:
    for old, new in zip(states.ORDER, states.ORDER[1:], strict=False):
        assert states.allowed(old, new)
    assert all(states.allowed(states.FINALIZING, end) for end in states.TERMINAL)


def test_no_way_back_but_to_the_queue() -> None:
    for old in states.ORDER:
        for new in states.TRANSITIONS[old] & set(states.ORDER):
            assert states.ORDER.index(new) > states.ORDER.index(old) or (old, new) == ("submitting", "queued")


def test_every_living_state_reaches_an_end() -> None:
    reaches = set(states.TERMINAL)
    for _ in states.ORDER:
        reaches |= {state for state in states.ORDER if states.TRANSITIONS[state] & reaches}
    assert reaches >= set(states.ORDER)


@pytest.mark.parametrize(
    ("state", "flags", "word"),
    [
        ("created", {}, "NotStarted"),
        ("queued", {}, "Queued"),
        ("submitting", {}, "Starting"),
        ("running", {}, "Running"),
        ("running", {"cancel_requested": True}, "CancelRequested"),
        ("running", {"unreachable": True}, "NotResponding"),
        ("running", {"cancel_requested": True, "unreachable": True}, "CancelRequested"),
        ("completed", {"cancel_requested": True, "unreachable": True}, "Completed"),
        ("lost", {}, "Failed"),
    ],
)
def test_words_that_people_see(state: str, flags: dict[str, bool], word: str) -> None:
    assert states.status(state, **flags) == word


def test_the_table_imports_nothing_of_ours() -> None:
    code = "import sys, compute.states; print([m for m in sys.modules if m.startswith(('django', 'studio', 'runs'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
