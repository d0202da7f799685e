"""What the benchmarks of runs in containers share: a stack on this machine's engine, and a target there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.gear.docker import SOCKET, clean, test_image
from tests.stack import Stack

ATTACH = """
from compute.services import target_create
from studio.accounts.models import Workspace
workspace = Workspace.objects.get(name="bench")
target = target_create(
    workspace=workspace, user=workspace.created_by, name={name!r}, driver={driver!r}, config={config!r},
)
assert target.state == "Succeeded", target.problems
"""


@contextlib.contextmanager
def docker_stack(folder: Path, **environ: str) -> Iterator[Stack]:
    """A stack whose base image is the one of the tests; what its runs leave on the engine is removed at the end."""
    given = {"ATELIER_DOCKER_SOCKET": SOCKET, "ATELIER_BASE_IMAGE": test_image(), **environ}
    with Stack(folder, environ=given) as stack:
        try:
            yield stack
        finally:
            stack.end_units()
            clean(stack.installation)


def attach(stack: Stack, name: str = "docker", driver: str = "docker", config: dict[str, Any] | None = None) -> None:
    """A target in the workspace ``bench``, which has to be there."""
    stack.python(ATTACH.format(name=name, driver=driver, config=config or {"slots": os.cpu_count() or 1}))
