"""Fixtures for every test: a data folder of its own, and a workspace with one user of each role."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# Before Django reads its settings: tests never touch the data folder of an installation.
_DATA = Path(tempfile.mkdtemp(prefix="atelier-test-"))
os.environ["ATELIER_DATA"] = str(_DATA)


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, settings: object) -> Path:
    """Each test writes into its own data folder."""
    settings.ATELIER_DATA = tmp_path / "data"  # type: ignore[attr-defined]
    settings.ATELIER_KEYS_FILE = tmp_path / "data" / "secrets" / "fernet.keys"  # type: ignore[attr-defined]
    # Argon2 is slow on purpose; tests/accounts/test_security.py looks at the real setting.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # type: ignore[attr-defined]
    from django.core.cache import cache

    cache.clear()  # rate limits of one test must not reach the next
    return tmp_path / "data"


@dataclass
class Team:
    """One workspace, a user of each role, and an outsider who owns another workspace."""

    workspace: object
    owner: object
    contributor: object
    reader: object
    outsider: object


@pytest.fixture
def team(db: None) -> Team:
    from studio.accounts.models import Membership, Role, User
    from studio.accounts.services import workspace_create

    people = {
        name: User.objects.create_user(name, f"{name}@example.test", "correct-horse-battery")
        for name in ("owner", "contributor", "reader", "outsider")
    }
    workspace = workspace_create(name="main", title="Main", user=people["owner"])
    workspace_create(name="elsewhere", title="Elsewhere", user=people["outsider"])
    for role in (Role.CONTRIBUTOR, Role.READER):
        Membership.objects.create(workspace=workspace, user=people[role.value], role=role)
    return Team(workspace=workspace, **people)


@pytest.fixture(scope="session", autouse=True)
def _one_connection_per_test() -> None:
    """A response that is closed inside a test must not close the connection whose transaction the test lives in."""
    from django.db import connection

    connection.close_if_unusable_or_obsolete = lambda: None  # type: ignore[method-assign]


@pytest.fixture(scope="session", autouse=True)
def _remove_data() -> Iterator[None]:
    yield
    import shutil

    shutil.rmtree(_DATA, ignore_errors=True)
