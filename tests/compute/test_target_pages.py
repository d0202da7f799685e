"""Pages of targets elsewhere and of containers: attaching, host keys, detaching, images, environments as images."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from compute import host_keys
from compute.drivers.base import HostKeyUnknown, Unreachable
from compute.images import store
from compute.models import ContainerRegistry, Environment, EnvironmentBuild, Target, Unit
from compute.selectors import target_checks
from compute.services import registries
from compute.spec import Problem
from tests.compute.test_pages import client_of, unit

pytestmark = pytest.mark.django_db


def key(number: int) -> str:
    return "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519" + bytes([number]) * 36).decode()


class Machine:
    """Stands for every driver: what its check finds, in turn."""

    found: list[Any] = []

    def check(self) -> list[Problem]:
        said = self.found.pop(0) if self.found else []
        if isinstance(said, Exception):
            raise said
        return said

    def facts(self) -> dict[str, Any]:
        return {"engine": "Docker 24.0.7", "cpus": 64, "memory_bytes": 64 << 30, "gpus": [], "user": "trainer"}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> type[Machine]:
    monkeypatch.setattr(Machine, "found", [])
    monkeypatch.setattr("compute.services.targets.target_driver", lambda target: Machine())
    monkeypatch.setattr("compute.services.targets.publish", lambda *_anything: None)
    return Machine


@pytest.fixture
def owner(team: Any) -> Client:
    return client_of(team, "owner")


def attached(team: Any, name: str = "gpu", **columns: Any) -> Target:
    config = {"address": "gpu.example", "port": 22, "username": "trainer", "memory": "8g"}
    known = {"driver": "remotedocker", "config": config, "checked_at": timezone.now(), "created_by": team.owner}
    return Target.objects.create(workspace=team.workspace, name=name, **{**known, **columns})


FORM = {"driver": "remotedocker", "name": "gpu", "address": "gpu.example", "port": "22", "username": "trainer"}


def test_a_wrong_field_is_named_and_secrets_do_not_come_back(team, owner, machine):
    typed = {
        **FORM,
        "port": "99999",
        "memory": "lots",
        "private_key": "-----BEGIN SECRET-----",
        "password": "hush-hush",
    }
    answer = owner.post("/w/main/compute/attach/", typed)
    html = answer.content.decode()
    assert answer.status_code == 422 and 'value="gpu.example"' in html and 'id="id_port_error"' in html
    assert 'id="id_memory_error"' in html and "Write 512m or 8g." in html
    assert "BEGIN SECRET" not in html and "hush-hush" not in html and "not sent back to the page" in html
    assert "Connection" in html and "Sign-in" in html and "Limits" in html
    assert not Target.objects.filter(name="gpu").exists()


def test_a_machine_elsewhere_is_looked_at_while_the_page_follows(team, owner, machine):
    answer = owner.post("/w/main/compute/attach/", {**FORM, "password": "hush-hush"})
    assert answer["Location"] == "/w/main/compute/gpu/"
    html = owner.get("/w/main/compute/gpu/").content.decode()
    assert "Getting to know it." in html and 'hx-trigger="every 2s"' in html and "Creating" in html
    assert html.count('data-state="unknown"') >= 5 and "hush-hush" not in html
    assert "Waits for its host key" not in owner.get("/w/main/compute/").content.decode()


def test_the_host_key_is_compared_and_confirmed(team, owner, machine):
    target = attached(team, state="Creating", checked_at=None)
    machine.found = [HostKeyUnknown("?", key(1)), []]
    owner.post("/w/main/compute/gpu/check/")
    html = owner.get("/w/main/compute/gpu/").content.decode()
    shown = host_keys.fingerprint(key(1))
    assert "Confirm the host key" in html and f'value="{shown}"' in html
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in html
    assert "Waits for its host key" in owner.get("/w/main/compute/").content.decode()
    for person in ("reader", "contributor"):
        seen = client_of(team, person).get("/w/main/compute/gpu/").content.decode()
        assert shown in seen and "/host-key/" not in seen
    other = owner.post("/w/main/compute/gpu/host-key/", {"fingerprint": host_keys.fingerprint(key(2))}, follow=True)
    assert b"Look at it again before you confirm it" in other.content
    done = owner.post("/w/main/compute/gpu/host-key/", {"fingerprint": shown}, follow=True).content.decode()
    twice = owner.post("/w/main/compute/gpu/host-key/", {"fingerprint": shown}, follow=True).content.decode()
    assert "Look at it again" not in twice
    target.refresh_from_db()
    assert target.host_key == key(1) and target.state == "Succeeded"
    assert (
        "can be used" in done and "Docker 24.0.7" in done and "64.0 GB" in done and "Confirm the host key" not in done
    )


def test_a_host_key_that_is_known_beforehand_is_not_asked_for(team, owner, machine):
    typed = {**FORM, "password": "hush-hush", "host_key": host_keys.fingerprint(key(1))}
    owner.post("/w/main/compute/attach/", typed)
    machine.found = [HostKeyUnknown("?", key(1)), []]
    html = owner.post("/w/main/compute/gpu/check/", follow=True).content.decode()
    assert "Confirm the host key" not in html and "Ready" in html and host_keys.fingerprint(key(1)) in html


def test_a_changed_host_key_is_loud_and_only_owners_accept_it(team, owner):
    problem = {"code": "host-key-changed", "message": "Another key.", "hint": "", "stops": True}
    target = attached(team, state="Failed", host_key=key(1), offered_key=key(2), problems=[problem])
    states = {row["code"]: row["state"] for row in target_checks(target)}
    assert (states["connect"], states["host-key"], states["login"]) == ("ok", "bad", "unknown")
    assert "host-key-changed" not in states
    html = owner.get("/w/main/compute/gpu/").content.decode()
    assert 'role="alert"' in html and "has changed" in html and "Accept the new key" in html and "data-confirm=" in html
    assert host_keys.fingerprint(key(1)) in html and host_keys.fingerprint(key(2)) in html
    seen = client_of(team, "contributor").get("/w/main/compute/gpu/").content.decode()
    assert "has changed" in seen and "/host-key/" not in seen


def test_what_changed_of_a_target_comes_with_the_next_poll_and_only_then(team, owner, machine):
    attached(team, problems=[{"code": "disk", "message": "Only 3 MB are free.", "hint": "Free some."}], state="Failed")
    page = owner.get("/w/main/compute/gpu/").content.decode()
    assert "Only 3 MB are free." in page and 'data-state="bad"' in page and 'data-state="ok"' in page
    version = page.partition("/w/main/compute/gpu/?v=")[2].partition('"')[0]
    part = owner.get(f"/w/main/compute/gpu/?v={version}", headers={"HX-Request": "true"}).content.decode()
    assert 'id="target-live"' in part and "hx-swap-oob" not in part
    tested = owner.post("/w/main/compute/gpu/check/", headers={"HX-Request": "true"}).content.decode()
    assert tested.count("hx-swap-oob") == 3 and "Only 3 MB" not in tested and "Docker 24.0.7" in tested
    part = owner.get(f"/w/main/compute/gpu/?v={version}", headers={"HX-Request": "true"}).content.decode()
    assert part.count("hx-swap-oob") == 4 and "<html" not in part


def test_what_a_machine_says_of_itself_cannot_disguise_itself(team, owner):
    attached(
        team, facts={"system": "Deb\u202eian <b>"}, problems=[{"code": "disk", "message": "\u202efull", "hint": ""}]
    )
    html = owner.get("/w/main/compute/gpu/").content.decode()
    assert "\u202e" not in html and "U+202E" in html and "&lt;b&gt;" in html


def test_detaching_says_how_many_live_and_cancels_them_where_asked(team, owner, machine):
    target = attached(team)
    here = {"target": target, "workspace": team.workspace}
    lives = [unit(team, number, "running", **here) for number in (1, 2)]
    assert "2 runs and builds still live on it" in owner.get("/w/main/compute/gpu/delete/").content.decode()
    assert "2 runs and builds still live on it" in owner.get("/w/main/compute/gpu/").content.decode()
    assert b"still live on gpu" in owner.post("/w/main/compute/gpu/delete/", follow=True).content
    page = owner.post("/w/main/compute/gpu/delete/", {"cancel": "1"}, follow=True).content.decode()
    target.refresh_from_db()
    assert target.state == "Detaching" and "being detached" in page and "Cancel requested" in page
    assert "Test now" not in page and 'id="target-detach"' not in page
    assert all(one.cancel_requested_at for one in Unit.objects.filter(pk__in=[one.pk for one in lives]))
    target.deleted_at = timezone.now()
    target.save()
    gone = owner.get("/w/main/compute/gpu/", headers={"HX-Request": "true"})
    assert gone["HX-Redirect"] == "/w/main/compute/"
    assert owner.get("/w/main/compute/gpu/").status_code == 404


def image(tag: str, **columns: Any) -> store.Image:
    return store.Image(**{"tag": tag, "id": f"sha256:{tag}", "bytes": 3 << 20, "created_at": None, **columns})


def test_images_are_shown_previewed_and_deleted_by_name(team, owner, monkeypatch):
    attached(team)
    held = [image("atelier-env:a", environments=["mine:1"]), image("atelier-env:b", in_use="A run needs it.")]
    asked: list[dict[str, Any]] = []

    def prune(target: Target, **options: Any) -> store.Pruned:
        asked.append(options)
        return store.Pruned(held[:1], 2 << 20, deleted=not options.get("preview", True))

    monkeypatch.setattr(store, "images_on", lambda target: held)
    monkeypatch.setattr(store, "images_prune", prune)
    assert "/w/main/compute/gpu/images/" in owner.get("/w/main/compute/gpu/").content.decode()
    part = owner.get("/w/main/compute/gpu/images/", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part and "mine:1" in part and "A run needs it." in part and "6.0 MB" in part
    assert "images/prune/" in part
    reader = client_of(team, "reader").get("/w/main/compute/gpu/images/").content.decode()
    assert "atelier-env:a" in reader and "images/prune/" not in reader
    preview = owner.get("/w/main/compute/gpu/images/prune/?days=30").content.decode()
    assert (
        'value="atelier-env:a"' in preview and "<strong>2.0 MB</strong>" in preview and asked[-1] == {"unused_days": 30}
    )
    assert not any(one.get("preview") is False for one in asked)
    none = owner.post("/w/main/compute/gpu/images/prune/", follow=True)
    assert b"No image was chosen" in none.content
    done = owner.post("/w/main/compute/gpu/images/prune/", {"tags": ["atelier-env:a"]}, follow=True)
    assert asked[-1]["tags"] == ["atelier-env:a"] and b"1 image is deleted, and 2.0 MB are free again." in done.content


def test_an_engine_that_does_not_answer_is_said_where_its_images_would_be(team, owner, monkeypatch):
    def away(*_anything: Any, **_options: Any) -> None:
        raise Unreachable("gpu.example does not answer.")

    attached(team)
    monkeypatch.setattr(store, "images_on", away)
    monkeypatch.setattr(store, "images_prune", away)
    for path in ("images/", "images/prune/"):
        answer = owner.get(f"/w/main/compute/gpu/{path}")
        assert answer.status_code == 200 and b"gpu.example does not answer." in answer.content


def test_environments_with_a_dockerfile_or_a_base_image_are_for_docker_targets(team, owner):
    def made(**fields: Any) -> Any:
        return owner.post("/w/main/environments/new/", {"name": "mine", **fields})

    wrong = made(kind="dockerfile", dockerfile="COPY x /x")
    assert wrong.status_code == 422 and b'id="id_dockerfile_error"' in wrong.content and b"COPY x /x" in wrong.content
    assert b"Paste the Dockerfile" in made(kind="dockerfile").content
    wrong = made(kind="pip", packages="numpy", base_image="not an image!")
    assert wrong.status_code == 422 and b'id="base-image-error"' in wrong.content
    assert made(kind="dockerfile", dockerfile="FROM python:3.11\nRUN true\n").status_code == 302
    page = owner.get("/w/main/environments/mine/1/").content.decode()
    assert "RUN true" in page and "needs a Docker target" in page and "/prepare/" not in page
    again = owner.get("/w/main/environments/new/?from=mine:1").content.decode()
    assert "RUN true" in again and 'value="dockerfile" checked' in again
    attached(team)
    assert made(kind="pip", packages="numpy", base_image="example.org/base:1").status_code == 302
    recipe = Environment.objects.get(workspace=team.workspace, name="mine", version=2).recipe
    assert recipe["base_image"] == "example.org/base:1" and recipe["packages"] == ["numpy"]
    page = owner.get("/w/main/environments/mine/2/").content.decode()
    assert "example.org/base:1" in page and 'name="target" value="gpu"' in page
    assert 'name="target" value="local"' not in page


def test_a_build_shows_its_image_and_a_failed_one_its_package_first(team, owner):
    environment = Environment.objects.get(workspace=team.workspace, name="AzureML-Tutorial")
    detail = {"image": "atelier-env:0123", "base_image": "python:3.11", "python": "3.11.9", "packages": ["numpy==1"]}
    EnvironmentBuild.objects.create(
        content_hash=environment.content_hash, target=attached(team), state="ready", size=5 << 20, detail=detail
    )
    problems = [
        {"package": "spam", "message": "nobody has it", "hint": ""},
        {"line": 7, "message": "ended with code 1"},
        {"line": 9, "message": "Line 9: RUN x: ended with code 2"},
    ]
    EnvironmentBuild.objects.create(
        content_hash=environment.content_hash, target=attached(team, "other"), state="failed",
        detail={"problems": problems, "error": "x"},
    )  # fmt: skip
    html = owner.get("/w/main/environments/AzureML-Tutorial/").content.decode()
    assert "the target has problems" not in html
    Target.objects.filter(name="other").update(state="Failed")
    assert "the target has problems" in owner.get("/w/main/environments/AzureML-Tutorial/").content.decode()
    assert "atelier-env:0123" in html and "on python:3.11" in html and "5.0 MB" in html and "1 package" in html
    assert ">spam</strong> nobody has it" in html and ">line 7</strong> ended with code 1" in html
    assert "Line 9: RUN x" in html and ">line 9</strong>" not in html


def test_without_a_choice_it_is_built_where_something_can_be(team, owner, machine, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(
        "compute.env_views._prepare", lambda _request, _made, target, **_more: asked.append(target.name)
    )
    attached(team, "broken", state="Failed")
    attached(team, "works", state="Succeeded")
    typed = {"name": "own", "kind": "dockerfile", "dockerfile": "FROM python:3.11", "prepare": "1", "target": ""}
    owner.post("/w/main/environments/new/", typed)
    assert asked == ["works"]


def test_the_base_image_and_the_registries_of_a_workspace(team, owner, monkeypatch):
    said: list[Problem] = []
    monkeypatch.setattr(registries, "check", lambda *_credentials: list(said))
    page, adding = "/w/main/settings/containers/", "/w/main/settings/containers/registries/"
    assert owner.post(page, {"base_image": "no image!"}).status_code == 422
    assert owner.post(page, {"base_image": "example.org/base:2"}).status_code == 302
    team.workspace.refresh_from_db()
    assert team.workspace.preferences["base_image"] == "example.org/base:2"
    assert b"example.org/base:2" in owner.get(page).content
    assert b"/settings/containers/" in owner.get("/w/main/settings/").content
    said.append(Problem("credentials", "It does not take this password.", "Give another.", field="password"))
    typed = {"address": "registry.example:5000", "username": "robot", "password": "hush-hush", "push": "on"}
    refused = owner.post(adding, typed)
    assert refused.status_code == 422 and b"It does not take this password." in refused.content
    assert b"hush-hush" not in refused.content and b'name="force"' in refused.content
    assert b"registry.example:5000" in refused.content and not ContainerRegistry.objects.exists()
    assert owner.post(adding, {**typed, "force": "1"}).status_code == 302
    one = ContainerRegistry.objects.get()
    assert one.push and b"built images go here" in owner.get(page).content
    tested = owner.post(f"{adding}{one.pk}/test/", headers={"HX-Request": "true"}).content.decode()
    assert "It does not take this password." in tested and "<html" not in tested
    owner.post(f"{adding}{one.pk}/push/", {"push": "0"})
    one.refresh_from_db()
    assert not one.push
    assert b"is removed" in owner.post(f"{adding}{one.pk}/remove/", follow=True).content
    assert not ContainerRegistry.objects.exists()


def test_the_list_costs_the_same_for_many_targets(team, owner, django_assert_max_num_queries):
    for number in range(12):
        target = attached(team, f"gpu-{number}", config={"slots": 2})
        unit(team, 100 + number, target=target)
        unit(team, 200 + number, "queued", target=target, queued_at=timezone.now())
    with django_assert_max_num_queries(14):
        html = owner.get("/w/main/compute/").content.decode()
    assert html.count("<strong>1</strong> of 2 slots in use") == 12 and html.count("1 waiting") == 12
