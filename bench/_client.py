"""What the benchmarks of the studio's pages and REST API share: a stack with an owner, and a plain client."""

from __future__ import annotations

import http.client
import json
import statistics
from collections.abc import Sequence
from typing import Any

from tests.stack import Stack

SETUP = """
from compute.services import ensure_local_target
from runs.services.interactive import run_start_interactive
from studio.accounts.models import User
from studio.accounts.services import workspace_create
from studio.accounts.tokens import token_create
owner = User.objects.create_user("bench", "bench@example.test", "correct-horse-battery")
workspace = workspace_create(name="bench", title="Bench", user=owner)
ensure_local_target(workspace)
run = run_start_interactive(workspace, owner, "bench")
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from importlib import import_module
from django.conf import settings
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY], session[HASH_SESSION_KEY] = str(owner.pk), owner.get_session_auth_hash()
session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
session.save()
import json
token = token_create(user=owner, name="bench")[1]
print(json.dumps({"token": token, "run": run.run_id, "session": session.session_key}))
"""


def prepare(stack: Stack) -> dict[str, str]:
    """A workspace ``bench`` with its owner: {"token", "run" (an interactive run's id), "session" (a cookie)}."""
    found: dict[str, str] = json.loads(stack.python(SETUP).splitlines()[-1])
    return found


class Client:
    """One kept connection."""

    def __init__(self, stack: Stack, headers: dict[str, str]) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=600)
        self.headers = headers

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> bytes:
        """The answer's body; raises RuntimeError for anything but success."""
        self.connection.request(method, path, body, {**self.headers, **headers})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
        return content


def percentile(values: Sequence[float], part: int) -> float:
    """The ``part``-th percentile of at least two values."""
    return statistics.quantiles(values, n=100, method="inclusive")[part - 1]
