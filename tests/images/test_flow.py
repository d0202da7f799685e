"""Environments of a target with containers: built once, used without asking the engine, cleaned up."""

from __future__ import annotations

import datetime as dt
import importlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from django.apps import apps
from django.utils import timezone

from compute import env_services
from compute.environments import recipe_from_dict
from compute.images import plan, store
from compute.installation import installation_id
from compute.models import Environment, EnvironmentBuild, Target, Unit
from compute.services import unit_create
from compute.services.registries import base_image_set, registry_create
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid
from tests.gear.docker import SOCKET, clean
from tests.images.conftest import Index

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

Drive = Callable[..., Unit]
Register = Callable[..., Environment]


@pytest.fixture
def containers(team: Any, settings: Any, base_image: str) -> Target:
    settings.ATELIER_DOCKER_SOCKET, settings.ATELIER_BASE_IMAGE = SOCKET, base_image
    return Target.objects.create(workspace=team.workspace, name="docker", driver="docker")


@pytest.fixture
def register(team: Any) -> Register:
    def make(**recipe: Any) -> Environment:
        return env_services.environment_register(
            workspace=team.workspace, name="mine", recipe=recipe_from_dict(recipe), user=team.owner
        )

    return make


@pytest.fixture
def tidy(engine: docker.APIClient, data_folder: Any) -> Iterator[None]:
    """Images of the test's own installation are removed."""
    own = installation_id()
    yield
    clean(own)


@pytest.fixture
def own_index(index: Index, monkeypatch: pytest.MonkeyPatch) -> Index:
    for name, value in index.environ.items():
        monkeypatch.setenv(name, value)
    return index


@pytest.mark.django_db
def test_an_image_is_built_once_and_then_used_without_asking_the_engine(
    containers: Target, register: Register, own_index: Index, published: list[Any], drive: Drive, tidy: None,
    monkeypatch: pytest.MonkeyPatch, team: Any,
) -> None:  # fmt: skip
    name = f"p{uuid.uuid4().hex[:8]}"
    own_index.add(name, "1.0")
    registry_create(
        workspace=team.workspace, user=None, address="example.org", username="u", password="pass-of-registry"
    )
    environment = register(packages=[name])
    asked = timezone.now()
    build = env_services.environment_prepare(environment, containers)
    assert (build.state, build.unit.kind, build.unit.target.name) == ("building", "build", "local")
    with pytest.raises(Conflict):
        env_services.image_for(build)
    assert drive(build.unit, timeout=240).state == "completed"
    build.refresh_from_db()
    folder = storage.unit_directory(build.unit.key)
    assert "pass-of-registry" not in (folder / "code" / "order.json").read_text() + (folder / "stdout.log").read_text()
    assert build.state == "ready" and build.detail["how"] == "built" and build.size > 1_000_000
    image = env_services.image_for(build)
    assert image.startswith("atelier-env:") and f"{name}==1.0" in build.detail["packages"]
    assert env_services.python_for(build).endswith("python3")
    assert env_services.reuse_note(build, asked).startswith(f"Built image {image} in ")
    assert env_services.reuse_note(build) == f"Reused image {image}"

    monkeypatch.setattr("docker.APIClient.send", lambda *_words, **_more: pytest.fail("the engine was asked"))
    again = env_services.environment_prepare(register(packages=[name]), containers, since=timezone.now())
    assert (again.pk, again.unit_id, again.state) == (build.pk, build.unit_id, "ready")
    monkeypatch.undo()

    # Somebody removed it: the next one who needs it has it brought back.
    env_services.environment_missing(again)
    later = env_services.environment_prepare(environment, containers, since=timezone.now())
    assert later.state == "building" and later.unit_id != build.unit_id
    assert drive(later.unit, timeout=240).state == "completed"
    later.refresh_from_db()
    assert (later.detail["how"], env_services.image_for(later)) == ("there", image)

    # Another base image of the workspace is another image.
    base_image_set(team.workspace, "example.org/other:1", user=None)
    environment.refresh_from_db()
    environment.workspace.refresh_from_db()
    assert env_services.environment_prepare(environment, containers).state == "building"


@pytest.mark.django_db
def test_a_failed_build_says_which_package_first(
    containers: Target, register: Register, own_index: Index, published: list[Any], drive: Drive
) -> None:
    build = env_services.environment_prepare(register(packages=["nosuchthing"]), containers)
    assert drive(build.unit, timeout=120).state == "failed"
    build.refresh_from_db()
    assert build.state == "failed" and build.detail["error"].startswith("nosuchthing: ")
    assert build.detail["problems"][0]["package"] == "nosuchthing"


@pytest.mark.django_db
def test_without_an_environment_it_is_the_base_image_and_nothing_is_built(
    containers: Target, team: Any, published: list[Any], base_image: str
) -> None:
    build = env_services.base_prepare(team.workspace, containers)
    assert (build.state, build.unit, env_services.image_for(build)) == ("ready", None, base_image)
    assert env_services.python_for(build) == "python3"
    system = Environment.objects.get(workspace=team.workspace, name="system")
    assert env_services.image_for(env_services.environment_prepare(system, containers)) == base_image
    based = env_services.environment_register(
        workspace=team.workspace, name="own", user=team.owner,
        recipe=recipe_from_dict({"kind": "system", "base_image": "example.org/a:1", "interpreter": "/opt/py"}),
    )  # fmt: skip
    other = env_services.environment_prepare(based, containers)
    assert (env_services.image_for(other), env_services.python_for(other)) == ("example.org/a:1", "/opt/py")
    # It turned out not to be there: now it is pulled.
    env_services.environment_missing(build)
    again = env_services.base_prepare(team.workspace, containers, since=timezone.now())
    assert again.pk == build.pk and again.state == "building" and again.unit.kind == "build"


@pytest.mark.django_db
def test_what_is_an_image_does_not_run_on_this_machine_itself(register: Register, team: Any) -> None:
    from compute.services import ensure_local_target

    local = ensure_local_target(team.workspace)
    for recipe in ({"base_image": "python:3.12"}, {"dockerfile": "FROM python:3.12\n"}):
        environment = register(**recipe)
        with pytest.raises(Invalid, match="attach Docker on this machine") as caught:
            env_services.environment_prepare(environment, local)
        assert list(caught.value.errors) == ["target"]


@pytest.mark.django_db
def test_a_strict_recipe_does_not_share_an_image_with_another_python(containers: Target, register: Register) -> None:
    loose = register(packages=[], python="3.9")
    EnvironmentBuild.objects.create(
        content_hash=loose.content_hash, target=containers, state="ready", ready_at=timezone.now(),
        detail={"image": "atelier-env:x", "python": "3.11.4", "generator": plan.GENERATOR,
                "base_image": env_services.base_image_for(loose.workspace)},
    )  # fmt: skip
    assert env_services.environment_prepare(loose, containers).state == "ready"
    with pytest.raises(Invalid, match=r"asks for Python 3\.9, and its image has 3\.11\.4"):
        env_services.environment_prepare(register(packages=[], python="3.9", strict=True), containers)


@pytest.mark.django_db
def test_workspaces_of_before_get_the_new_curated_environments(team: Any) -> None:
    Environment.objects.filter(name__in=["AzureML-sklearn", "AzureML-PySpark"]).delete()
    migration = importlib.import_module("compute.migrations.0005_curated_for_containers")
    for _twice in range(2):
        migration.add(apps, None)
    for name in ("AzureML-sklearn", "AzureML-PySpark"):
        made = Environment.objects.get(workspace=team.workspace, name=name)
        assert made.curated and made.recipe == env_services.CURATED[name][1].to_dict()
    count = Environment.objects.count()
    env_services.ensure_curated(team.workspace)
    assert Environment.objects.count() == count


@pytest.mark.django_db
def test_images_that_nothing_needs_are_deleted_with_their_bytes_said_before(
    containers: Target, register: Register, engine: docker.APIClient, base_image: str, team: Any, tidy: None,
    published: list[Any], client: Any,
) -> None:  # fmt: skip
    import io

    def image(*sizes: int) -> str:
        """An image of ours with layers of so many bytes."""
        tag = f"{plan.REPOSITORY}:{uuid.uuid4().hex[:24]}"
        lines = [f"FROM {base_image}", f"RUN echo {shared} && head -c 300000 /dev/zero > /shared"]
        lines += [f"RUN head -c {size} /dev/zero > /f{size} && echo {tag}" for size in sizes]
        text = "\n".join([*lines, f"LABEL {plan.LABEL_INSTALLATION}={installation_id()}"])
        assert "errorDetail" not in "".join(map(str, engine.build(fileobj=io.BytesIO(text.encode()), tag=tag, rm=True)))
        return tag

    shared = uuid.uuid4().hex
    one, two, three = image(70_000), image(50_000, 1), image(11)
    environment = register(packages=["six"])
    used = timezone.now() - dt.timedelta(days=40)
    EnvironmentBuild.objects.create(
        content_hash=environment.content_hash,
        target=containers,
        state="ready",
        detail={"image": one},
        last_used_at=used,
    )
    found = {image.tag: image for image in store.images_on(containers) if image.tag in (one, two, three)}
    assert found[one].environments == ["mine:1"] and found[one].last_used_at == used and not found[one].in_use
    assert (found[one].own_bytes, found[two].own_bytes) == (70_000, 50_001)
    preview = store.images_prune(containers, tags=[one, two])
    assert (preview.bytes, preview.deleted) == (120_001, False)
    # With the last of them goes what they share.
    assert store.images_prune(containers, tags=[one, two, three]).bytes == 120_001 + 11 + 300_000
    assert [image.tag for image in store.images_prune(containers, tags=[one, two], unused_days=30).images] == [one]

    # A unit that has not ended keeps its image, whatever is asked.
    unit, _token = unit_create(
        workspace=team.workspace, target=containers, kind="command", spec={"argv": ["true"]}, environment=environment
    )
    with pytest.raises(Invalid, match="A run that has not ended needs it"):
        store.images_prune(containers, preview=False, tags=[one])
    assert one not in [image.tag for image in store.images_prune(containers).images]
    Unit.objects.filter(pk=unit.pk).update(state="completed")
    running = engine.create_container(two, command=["true"])
    try:
        with pytest.raises(Invalid, match="A container on the engine uses it"):
            store.images_prune(containers, preview=False, tags=[two])
    finally:
        engine.remove_container(running["Id"])

    client.force_login(team.owner)
    address = f"/api/v1/workspaces/{team.workspace.name}/targets/docker/images"
    listed = client.get(address).json()
    assert one in [item["tag"] for item in listed]
    done = client.post(
        f"{address}/prune", {"preview": False, "tags": [one, two]}, content_type="application/json"
    ).json()
    assert done["deleted"] and done["bytes"] == 120_001 and not done["failed"]
    left = [image.tag for image in store.images_on(containers)]
    assert one not in left and two not in left and three in left
    assert not EnvironmentBuild.objects.filter(detail__image=one).exists()
    with pytest.raises(Invalid, match="is not on the engine"):
        store.images_prune(containers, tags=["atelier-env:nothing"])


@pytest.mark.django_db
def test_images_of_another_workspace_are_not_ones_business(containers: Target, team: Any, engine: Any) -> None:
    from compute.services import ensure_local_target

    with pytest.raises(Invalid, match="has no images"):
        store.images_on(ensure_local_target(team.workspace))
    assert not [image for image in store.images_on(containers) if image.environments]
