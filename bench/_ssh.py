"""What the benchmarks of runs over SSH share: an SSH server on this machine, and a target behind it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from tests.gear.sshd import Sshd
from tests.stack import Stack

ATTACH = """
import json
from compute.services import target_check, target_create
from studio.accounts.models import Workspace
workspace = Workspace.objects.get(name="bench")
target = target_create(
    workspace=workspace, user=workspace.created_by, name={name!r}, driver="remotedocker", **json.loads({given!r})
)
target_check(target)
assert target.state == "Succeeded", target.problems
"""


@contextlib.contextmanager
def ssh_target(stack: Stack, name: str = "ssh-docker", **config: Any) -> Iterator[Sshd]:
    """A target over SSH in the workspace ``bench``, which has to be there; the server behind it."""
    with Sshd() as server:
        user = server.user(groups=["docker"])
        given = {
            "config": {"address": "127.0.0.1", "port": server.port, "username": user.name, **config},
            "secrets": {"private_key": user.key},
            "host_key": server.host_key(),
        }
        stack.python(ATTACH.format(name=name, given=json.dumps(given)))
        yield server
