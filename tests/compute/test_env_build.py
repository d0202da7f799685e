"""Building environments: really, with uv, once however many ask, again after a failure or a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from compute import env_services
from compute.environments import Recipe, choose_python, recipe_from_dict, recipe_from_requirements
from compute.models import Environment, EnvironmentBuild, Target, Unit
from compute.resolving import uv_binary
from compute.shim import build_venv
from compute.signals import build_finished
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid
from tests.stack import Stack, wait_until

Drive = Callable[..., Unit]


@pytest.fixture
def register(team: Any) -> Callable[..., Environment]:
    def make(text: str, **options: Any) -> Environment:
        recipe = recipe_from_requirements(text, **options)
        return env_services.environment_register(workspace=team.workspace, name="mine", recipe=recipe, user=team.owner)

    return make


@pytest.mark.django_db
def test_characters_that_cannot_be_stored_or_seen_are_refused(team: Any) -> None:
    given: dict[str, Any] = {"workspace": team.workspace, "name": "mine", "user": team.owner}
    for field, extra in {
        "recipe": {"recipe": Recipe(kind="pip", variables={"A": "a\0b"})},
        "description": {"recipe": Recipe(kind="pip"), "description": "\u2066x"},
        "tags": {"recipe": Recipe(kind="pip"), "tags": {"a\nb": 1}},
    }.items():
        with pytest.raises(Invalid, match="control character U") as refused:
            env_services.environment_register(**given, **extra)
        assert list(refused.value.errors) == [field]
    assert not Environment.objects.filter(name="mine").exists()


@pytest.mark.django_db
def test_a_build_ends_ready_with_its_python_packages_and_size(
    register: Callable[..., Environment], target: Target, published: list[Any], drive: Drive
) -> None:
    environment = register("packaging==24.0")
    build = env_services.environment_prepare(environment, target)
    assert (build.state, build.unit.kind) == ("building", "build")
    with pytest.raises(Conflict):
        env_services.python_for(build)
    finished: list[EnvironmentBuild] = []
    build_finished.connect(lambda build, **_rest: finished.append(build), weak=False, dispatch_uid="test")
    try:
        assert drive(build.unit, timeout=120).state == "completed"
    finally:
        build_finished.disconnect(dispatch_uid="test")
    build.refresh_from_db()
    assert finished == [build] and build.state == "ready" and build.ready_at is not None
    assert build.detail["packages"] == ["packaging==24.0"]
    assert build.size > 100_000
    python = env_services.python_for(build)
    said = subprocess.run(
        [python, "-c", "import packaging; print(packaging.__version__)"], capture_output=True, text=True
    )
    assert said.stdout.strip() == "24.0"
    assert list(Path(python).parent.parent.glob("lib/*/site-packages/packaging/__pycache__/*.pyc"))
    log = (storage.unit_directory(build.unit.key) / "stdout.log").read_text()
    assert "Resolving 1 requirements" in log and "Installing 1 packages" in log and "Ready: 1 packages" in log
    again = env_services.environment_prepare(register("packaging == 24.0"), target)
    assert (again.pk, again.unit_id, again.state) == (build.pk, build.unit_id, "ready")


@pytest.mark.django_db
def test_a_package_that_cannot_be_had_is_named_and_nothing_is_installed(
    register: Callable[..., Environment], target: Target, published: list[Any], drive: Drive
) -> None:
    environment = register("nosuch-package-of-atelier-xyz\nsix\n")
    build = env_services.environment_prepare(environment, target)
    first = build.unit
    drive(first, timeout=60)
    build.refresh_from_db()
    assert build.state == "failed"
    assert build.detail["error"].startswith("nosuch-package-of-atelier-xyz: ")
    assert not storage.environment_directory(environment.content_hash).exists()
    # Who waited for this build is told; who comes later has it tried again.
    assert env_services.environment_prepare(environment, target, since=first.created_at).unit_id == first.pk
    later = env_services.environment_prepare(environment, target, since=timezone.now())
    assert (later.state, later.unit_id == first.pk) == ("building", False)
    with pytest.raises(Conflict):
        env_services.environment_rebuild(environment, target)


@pytest.mark.django_db
def test_a_build_whose_folder_is_gone_is_made_again(
    register: Callable[..., Environment], target: Target, published: list[Any]
) -> None:
    environment = register("six")
    build = EnvironmentBuild.objects.create(content_hash=environment.content_hash, target=target, state="ready")
    assert env_services.environment_prepare(environment, target).state == "building"
    assert EnvironmentBuild.objects.get(pk=build.pk).unit is not None


@pytest.mark.django_db
def test_another_python_than_asked_for_is_a_warning_or_a_refusal(
    register: Callable[..., Environment], target: Target, published: list[Any], team: Any
) -> None:
    build = env_services.environment_prepare(register("six", python="3.1"), target)
    assert "asks for Python 3.1" in build.detail["warnings"][0]
    with pytest.raises(Invalid, match=r"asks for Python 3\.1"):
        env_services.environment_prepare(register("six", python="3.1", strict=True), target)
    team.workspace.preferences = {"strict_python": True}
    team.workspace.save()
    environment = register("six", python="3.1")
    environment.workspace.refresh_from_db()
    with pytest.raises(Invalid):
        env_services.environment_prepare(environment, target)


@pytest.mark.django_db
def test_this_machines_python_needs_no_build(team: Any, target: Target) -> None:
    environment = env_services.environment_register(
        workspace=team.workspace, name="here", recipe=recipe_from_dict({"kind": "system"}), user=team.owner
    )
    build = env_services.environment_prepare(environment, target)
    assert (build.state, build.unit) == ("ready", None)
    assert os.access(env_services.python_for(build), os.X_OK)
    chosen = recipe_from_dict({"kind": "system", "interpreter": sys.executable})
    other = env_services.environment_register(workspace=team.workspace, name="here", recipe=chosen, user=team.owner)
    assert env_services.python_for(env_services.environment_prepare(other, target)) == sys.executable


def order_for(directory: Path, *packages: str) -> dict[str, Any]:
    version, python, _warning = choose_python(None, False)
    order = {"directory": str(directory), "uv": uv_binary(), "python": python, "python_version": version}
    return {**order, "packages": list(packages), "unavailable": []}


def start_build(folder: Path, order: dict[str, Any]) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    env = {**os.environ, "ATELIER_BUILD": json.dumps(order)}
    return subprocess.Popen(
        [sys.executable, "-u", build_venv.__file__],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_build_that_was_killed_is_made_anew(tmp_path: Path) -> None:
    order = order_for(tmp_path / "envs" / "aa", "packaging==24.0", "six", "attrs", "idna")
    for pause in (0.15, 0.5):
        killed = start_build(tmp_path / "unit", order)
        time.sleep(pause)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
    done = start_build(tmp_path / "unit", order)
    said = done.communicate()[0]
    assert done.returncode == 0, said
    marker = build_venv.ready(order["directory"])
    assert {package.split("==")[0] for package in marker["packages"]} == {"packaging", "six", "attrs", "idna"}
    again = start_build(tmp_path / "unit", order)
    assert "already there" in again.communicate()[0] and again.returncode == 0


def test_two_builders_of_one_folder_take_turns(tmp_path: Path) -> None:
    order = order_for(tmp_path / "envs" / "bb", "six")
    both = [start_build(tmp_path / name, order) for name in ("one", "two")]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Ready: 1 packages" in text for text in said) == 1
    assert sum("already there" in text for text in said) == 1


def test_packages_that_cannot_be_had_together_are_named(tmp_path: Path) -> None:
    order = order_for(tmp_path / "envs" / "cc", "requests==2.31.0", "urllib3==1.20")
    process = start_build(tmp_path / "unit", order)
    assert "ERROR  requests==2.31.0, urllib3==1.20: these cannot be had together." in process.communicate()[0]
    assert process.returncode == 2
    assert json.loads((tmp_path / "unit/outputs/problems.json").read_text())[0]["code"] == "conflict"
    assert not Path(order["directory"]).exists()


RACE = """
from compute.environments import recipe_from_requirements
from compute.env_services import environment_prepare, environment_register
from compute.models import Target
from studio.accounts.models import Workspace
workspace = Workspace.objects.get(name="main")
environment = environment_register(workspace=workspace, name="race", recipe=recipe_from_requirements("six"), user=None)
target = Target.objects.get(workspace=workspace, name="local")
print(environment.version, environment_prepare(environment, target).unit_id)
"""
MAIN = """
from studio.accounts.models import User
from studio.accounts.services import workspace_create
owner = User.objects.create_user("owner", "o@example.test", "correct-horse-battery")
workspace_create(name="main", title="Main", user=owner)
"""


@pytest.mark.services
def test_racing_processes_start_one_build(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.migrate()
    stack.python(MAIN)
    with ThreadPoolExecutor(4) as pool:
        said = set(pool.map(lambda _number: stack.python(RACE).split("\n")[-2], range(4)))
    assert len(said) == 1
    assert stack.query("SELECT count(*) AS n FROM compute_unit WHERE kind = 'build'")[0]["n"] == 1
    wait_until("one row", lambda: stack.query("SELECT count(*) AS n FROM compute_environmentbuild")[0]["n"] == 1)
