"""Every page of runs for every kind of visitor: one table, and a new URL that is not in it fails."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from runs.urls import urlpatterns

READ, WRITE = "read", "write"
# name -> (method, right, extra url arguments, data)
TABLE: dict[str, tuple[str, str, dict[str, str], dict[str, str]]] = {
    "run-list": ("get", READ, {}, {}),
    "run-list-live": ("get", READ, {}, {"ids": "1"}),
    "run-bulk": ("post", READ, {}, {}),
    "run-bulk-delete": ("get", WRITE, {}, {"runs": "RUN"}),
    "run-new": ("get", WRITE, {}, {}),
    "run-upload": ("post", WRITE, {}, {}),
    "run-arguments": ("get", WRITE, {}, {"arguments": "--a 1"}),
    "run-packages": ("post", WRITE, {}, {"environment_kind": "system"}),
    "run-compare": ("get", READ, {}, {"runs": "RUN"}),
    "experiment-list": ("get", READ, {}, {}),
    "experiment-detail": ("get", READ, {"name": "iris"}, {}),
    "experiment-archive": ("post", WRITE, {"name": "iris"}, {}),
    "run-detail": ("get", READ, {"run_id": "RUN"}, {}),
    "run-live": ("get", READ, {"run_id": "RUN"}, {}),
    "run-overview-live": ("get", READ, {"run_id": "RUN"}, {}),
    "run-metrics": ("get", READ, {"run_id": "RUN"}, {}),
    "run-series": ("get", READ, {"run_id": "RUN"}, {}),
    "run-metrics-others": ("get", READ, {"run_id": "RUN"}, {}),
    "run-outputs": ("get", READ, {"run_id": "RUN"}, {}),
    "run-tree": ("get", READ, {"run_id": "RUN"}, {}),
    "run-zip": ("get", READ, {"run_id": "RUN"}, {}),
    "run-file": ("get", READ, {"run_id": "RUN", "path": "outputs/a.txt"}, {}),
    "run-code": ("get", READ, {"run_id": "RUN"}, {}),
    "run-code-zip": ("get", READ, {"run_id": "RUN"}, {}),
    "run-code-file": ("get", READ, {"run_id": "RUN", "path": "train.py"}, {}),
    "run-environment": ("get", READ, {"run_id": "RUN"}, {}),
    "run-raw": ("get", READ, {"run_id": "RUN"}, {}),
    "run-raw-json": ("get", READ, {"run_id": "RUN"}, {}),
    "run-cancel": ("post", WRITE, {"run_id": "RUN"}, {}),
    "run-resubmit": ("get", WRITE, {"run_id": "RUN"}, {}),
    "run-archive": ("post", WRITE, {"run_id": "RUN"}, {}),
    "run-delete": ("get", WRITE, {"run_id": "RUN"}, {}),
    "run-rename": ("post", WRITE, {"run_id": "RUN"}, {"name": "new"}),
    "run-tags": ("post", WRITE, {"run_id": "RUN"}, {"key": "a"}),
    "run-notes": ("post", WRITE, {"run_id": "RUN"}, {"notes": "n"}),
}
MISSING_IS_FINE = {"run-list-live", "run-compare"}  # the ids are a filter there


def test_every_url_is_in_the_table() -> None:
    assert {pattern.name for pattern in urlpatterns} == set(TABLE)


def address(world: Any, name: str, run_id: str, *, experiment: str = "iris") -> str:
    arguments = {key: run_id if value == "RUN" else value for key, value in TABLE[name][2].items()}
    if "name" in arguments:
        arguments["name"] = experiment
    return reverse(name, kwargs={"workspace": world.team.workspace.name, **arguments})


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("who", ["anonymous", "outsider", "reader", "contributor", "owner"])
def test_who_gets_what(world: Any, name: str, who: str) -> None:
    run = world.run()
    world.write(run, "outputs/a.txt", b"text")
    method, right, _arguments, data = TABLE[name]
    data = {key: run.run_id if value == "RUN" else value for key, value in data.items()}
    answer = getattr(world.clients[who], method)(address(world, name, run.run_id), data)
    if who == "anonymous":
        assert answer.status_code == 302 and "/login" in answer["Location"]
    elif who == "outsider":
        assert answer.status_code == 404
    elif who == "reader" and right == WRITE:
        assert answer.status_code == 403
    else:
        expected = {"run-upload": {422}, "run-list-live": {200}}.get(name, {200, 302, 303})
        assert answer.status_code in expected, answer.content[:500]


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row[2] or "runs" in row[3]])
def test_a_bad_id_is_not_found(world: Any, name: str) -> None:
    if name in MISSING_IS_FINE:
        return
    method, _right, _arguments, data = TABLE[name]
    data = {key: "nobody_1_00000000" if value == "RUN" else value for key, value in data.items()}
    answer = getattr(world.clients["owner"], method)(address(world, name, "nobody_1_00000000", experiment="none"), data)
    assert answer.status_code == 404


def test_a_run_of_another_workspace_is_not_found(world: Any) -> None:
    run = world.run()
    for name, row in TABLE.items():
        if "run_id" in row[2] and row[0] == "get":
            arguments = {key: run.run_id if value == "RUN" else value for key, value in row[2].items()}
            url = reverse(name, kwargs={"workspace": "elsewhere", **arguments})
            assert world.clients["outsider"].get(url).status_code == 404, name


@pytest.mark.parametrize("action", ["archive", "cancel", "delete"])
def test_bulk_writes_need_the_right(world: Any, action: str) -> None:
    run = world.run()
    url = reverse("run-bulk", kwargs={"workspace": "main"})
    data = {"run": [run.run_id], "action": action}
    assert world.clients["reader"].post(url, data).status_code == 403
    assert world.clients["contributor"].post(url, data).status_code == 302


def test_bulk_compare_is_for_readers_too(world: Any) -> None:
    first, second = world.run(), world.run()
    url = reverse("run-bulk", kwargs={"workspace": "main"})
    answer = world.clients["reader"].post(url, {"run": [first.run_id, second.run_id], "action": "compare"})
    assert answer["Location"] == f"/w/main/compare/?runs={first.run_id},{second.run_id}"
