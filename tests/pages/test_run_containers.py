"""Runs in containers: what the form asks for, and what their pages say."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from compute import resources
from compute.models import Target, Unit
from runs.models import Run
from tests.pages.conftest import end
from tests.pages.test_run_new import fields


@pytest.fixture
def docker(world: Any) -> Target:
    return Target.objects.create(workspace=world.team.workspace, name="box", driver="docker", config={"memory": "8g"})


def submitted(world: Any, **changes: Any) -> Run:
    answer = world.clients["contributor"].post("/w/main/runs/new/", fields(world, target="box", **changes))
    assert answer.status_code == 302, answer.content.decode()
    return Run.objects.latest("pk")


def test_the_form_knows_which_targets_have_containers(world: Any, docker: Target) -> None:
    fields(world)
    Target.objects.create(workspace=world.team.workspace, name="leaving", driver="docker", state="Detaching")
    page = world.clients["contributor"].get("/w/main/runs/new/?target=box").content.decode()
    assert '<option value="box" data-containers selected>box – Docker on this machine</option>' in page
    assert '<option value="local">local – This machine</option>' in page and "leaving" not in page
    assert 'name="shm_size"' in page


def test_what_a_container_may_use_goes_with_the_run_and_comes_back_for_the_next(world: Any, docker: Target) -> None:
    run = submitted(world, cpus="1.5", memory="2g", gpus="")
    assert run.unit is not None and run.unit.spec["resources"] == {"cpus": 1.5, "memory": 2 << 30}
    client = world.clients["contributor"]
    page = client.get(run.get_absolute_url()).content.decode()
    assert "Processors 1.5, Memory 2g" in page
    again = client.get(f"/w/main/runs/{run.run_id}/resubmit/").content.decode()
    assert 'name="memory" value="2g"' in again and 'name="cpus" value="1.5"' in again
    assert '"memory": 2147483648' in client.get(f"/w/main/runs/{run.run_id}/details/json/").content.decode()


def test_wrong_resources_are_named_and_left_out_elsewhere(world: Any, docker: Target) -> None:
    client = world.clients["contributor"]
    wrong = client.post("/w/main/runs/new/", fields(world, target="box", memory="lots", cpus="0"))
    page = wrong.content.decode()
    assert wrong.status_code == 422 and 'id="memory-error"' in page and 'id="cpus-error"' in page
    assert 'value="lots"' in page and "<details" in page.partition("run-resources")[0].rpartition("\n")[2]
    fine = client.post("/w/main/runs/new/", fields(world, memory="lots"))  # the field is not shown for this target
    assert fine.status_code == 302


@pytest.mark.parametrize(("name", "value"), [("memory", 8 << 30), ("memory", 1025), ("cpus", 0.5), ("gpus", "all")])
def test_resources_are_written_as_they_are_read(name: str, value: Any) -> None:
    assert resources.parse({name: resources.words(name, max(value, 8 << 20) if name == "memory" else value)}) == {
        name: max(value, 8 << 20) if name == "memory" else value
    }


def test_a_silent_target_is_no_failure_and_says_since_when(world: Any, docker: Target) -> None:
    run = submitted(world)
    url = f"/w/main/runs/{run.run_id}/"
    client = world.clients["reader"]
    assert "No answer from" not in client.get(url).content.decode()
    since = timezone.now() - dt.timedelta(minutes=12)
    Unit.objects.filter(pk=run.unit_id).update(state="running", unreachable_since=since)
    Run.objects.filter(pk=run.pk).update(status="NotResponding")
    page = client.get(url).content.decode()
    assert "No answer from box for" in page and "Nothing is lost" in page and 'data-level="warning"' in page
    docker.problems = [{"code": "host-key-changed", "message": "Another host key.", "hint": "Look at it."}]
    docker.save()
    loud = client.get(url).content.decode()
    assert "Another host key. Look at it." in loud and "box shows another host key" in loud and "No answer" not in loud
    assert "/w/main/compute/box/" in loud
    end(run)
    assert "No answer from" not in client.get(url).content.decode()


def test_out_of_memory_says_the_limit_and_what_to_do(world: Any, docker: Target) -> None:
    run = submitted(world)
    end(run, "Failed")
    error = {"code": "OutOfMemory", "message": "It needed more than the 8.0 GB of its container."}
    Run.objects.filter(pk=run.pk).update(error=error)
    page = world.clients["reader"].get(f"/w/main/runs/{run.run_id}/").content.decode()
    assert "8.0 GB" in page and "with more memory under Resources" in page


def test_nothing_new_starts_on_a_target_that_is_being_detached(world: Any, docker: Target) -> None:
    docker.state = "Detaching"
    docker.save()
    answer = world.clients["contributor"].post("/w/main/runs/new/", fields(world, target="box"))
    assert answer.status_code == 422 and b"is being detached: nothing new starts there" in answer.content
