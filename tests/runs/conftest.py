"""A run to write into, and a target that nothing is started on."""

from __future__ import annotations

from typing import Any

import pytest

from compute.models import Target
from runs.models import Run, Snapshot
from runs.services.interactive import run_start_interactive
from runs.services.snapshots import snapshot_from_texts


@pytest.fixture
def run(team: Any) -> Run:
    """An interactive run of the contributor."""
    return run_start_interactive(team.workspace, team.contributor, "trial")


@pytest.fixture
def snapshot(team: Any) -> Snapshot:
    return snapshot_from_texts(team.workspace, {"train.py": "print('hello')\n", "data/x.csv": "a,b\n1,2\n"})


@pytest.fixture
def target(team: Any) -> Target:
    return Target.objects.get_or_create(workspace=team.workspace, name="local", defaults={"driver": "local"})[0]
