"""Runs, events, metrics, experiments and snapshots over REST."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runs.models import MetricSeries, Run
from tests.api.conftest import WS, World, make_run

pytestmark = pytest.mark.django_db

SUBMIT = {
    "experiment": "iris",
    "script": "train.py",
    "arguments": ["--lr", 0.5, "--epochs", 3],
    "files": {"train.py": "print(1)"},
    "environment": {"recipe": {"kind": "system"}},
    "environment_variables": {"MODE": "fast"},
    "tags": {"stage": "try", "flag": None},
    "properties": {"author": "me"},
    "name": "first",
}


class TestSubmit:
    def test_works(self, world: World) -> None:
        response = world.send("contributor", "POST", "/runs", SUBMIT)
        run = response.json()
        assert response.status_code == 201, run
        assert run["experiment"] == "iris" and run["status"] == "NotStarted" and run["type"] == "script"
        assert run["parameters"] == {"lr": "0.5", "epochs": "3"} and run["tags"] == {"stage": "try", "flag": None}
        assert run["properties"] == {"author": "me"} and run["target"] == "local" and run["log_stream"]
        assert run["url"].endswith(f"/w/main/runs/{run['id']}/")
        assert world.get("reader", f"/runs/{run['id']}").json() == run

    def test_idempotency_key(self, world: World, check_problem: Any) -> None:
        first = world.send("contributor", "POST", "/runs", SUBMIT, **{"Idempotency-Key": "k1"})
        again = world.send("contributor", "POST", "/runs", SUBMIT, **{"Idempotency-Key": "k1"})
        assert again.json()["id"] == first.json()["id"]
        other = world.send("contributor", "POST", "/runs", {**SUBMIT, "name": "x"}, **{"Idempotency-Key": "k1"})
        check_problem(other, 409)

    def test_everything_wrong_is_named_at_once(self, world: World, check_problem: Any) -> None:
        wrong = {**SUBMIT, "target": "moon", "environment": {"name": "none"}, "parent": "none"}
        body = check_problem(world.send("contributor", "POST", "/runs", wrong), 422)
        assert set(body["errors"]) == {"target", "environment", "parent"}
        body = check_problem(world.send("contributor", "POST", "/runs", {**SUBMIT, "scrpt": "a"}), 422)
        assert set(body["errors"]) == {"scrpt"}

    @pytest.mark.parametrize("field", ["name", "script", "target"])
    def test_text_that_is_no_text(self, world: World, field: str, check_problem: Any) -> None:
        check_problem(world.send("contributor", "POST", "/runs", {**SUBMIT, field: "a\ud800b"}), 400)

    def test_another_workspace_lends_nothing(self, world: World) -> None:
        assert world.run.snapshot is not None
        digest = world.run.snapshot.digest
        path = f"/api/v1/workspaces/elsewhere/snapshots/{digest}"
        assert world.clients["outsider"].get(path).status_code == 404

    def test_interactive(self, world: World) -> None:
        made = world.send(
            "contributor", "POST", "/runs", {"experiment": "notebook", "interactive": True, "properties": {"a": "1"}}
        )
        run = made.json()
        assert run["type"] == "interactive" and run["status"] == "Running" and run["properties"] == {"a": "1"}
        children = world.send("contributor", "POST", f"/runs/{run['id']}/children", {"count": 3}).json()
        listed = world.get("reader", f"/runs/{run['id']}/children").json()["items"]
        assert {one["id"] for one in listed} == {one["id"] for one in children} and listed[0]["parent"] == run["id"]
        assert (
            world.send("contributor", "POST", f"/runs/{run['id']}/fail", {"error": "broke"}).json()["status"]
            == "Failed"
        )
        assert world.send("contributor", "POST", f"/runs/{run['id']}/complete").status_code == 409

    def test_resubmit_with_changes(self, world: World) -> None:
        path = f"/runs/{world.ended.run_id}/resubmit"
        again = world.send("contributor", "POST", path, {"arguments": ["--lr", "0.9"]}).json()
        assert again["parameters"] == {"lr": "0.9"} and again["script"] == "train.py"
        assert world.send("contributor", "POST", path, {"target": "moon"}).status_code == 422
        assert world.send("contributor", "POST", path).status_code == 201


class TestList:
    def test_pages_filters_and_sorts(self, world: World) -> None:
        for value in (0.3, 0.1, 0.2):
            run = make_run(world.team, world.target, experiment="sweep", arguments=["--lr", str(value)])
            body = {"events": [{"k": "metric", "n": "loss", "v": value}]}
            world.send("contributor", "POST", f"/runs/{run.run_id}/events", body)
        seen, cursor = [], ""
        while cursor is not None:
            page = world.get("reader", f"/runs?experiment=sweep&sort=metric:loss&limit=2&cursor={cursor}").json()
            seen += [one["metrics"]["loss"] for one in page["items"]]
            cursor = page["next"]
        assert seen == [0.1, 0.2, 0.3]
        largest = world.get("reader", "/runs?sort=-param:lr&limit=1").json()["items"][0]
        assert largest["parameters"]["lr"] == "0.3"
        assert world.get("reader", "/runs?experiment=none").json() == {"items": [], "next": None}
        assert len(world.get("reader", "/runs?status=Completed,Running").json()["items"]) == 3
        assert len(world.get("reader", "/runs?tag=stage=try&created_by=contributor").json()["items"]) == 5
        assert world.get("reader", "/runs?created_by=nobody").json()["items"] == []
        assert world.get("reader", "/runs?sort=colour").status_code == 422

    def test_queries_do_not_grow_with_the_page(self, world: World) -> None:
        def count() -> int:
            with CaptureQueriesContext(
                connection,
            ) as queries:
                assert world.get("reader", "/runs").status_code == 200
            return len(queries)

        count()  # the token is marked as used once in a while
        before = count()
        for _number in range(5):
            make_run(world.team, world.target)
        assert count() == before


class TestChange:
    def test_patch(self, world: World) -> None:
        path = f"/runs/{world.run.run_id}"
        change = {
            "name": "best",
            "notes": "**good**",
            "tags": {"a": None},
            "tags_remove": ["stage"],
            "properties": {"p": "1"},
        }
        changed = world.send("contributor", "PATCH", path, change).json()
        assert changed["name"] == "best" and changed["notes"] == "**good**"
        assert changed["tags"] == {"a": None} and changed["properties"] == {"p": "1"}
        assert world.send("contributor", "PATCH", path, {"properties": {"p": "2"}}).status_code == 409
        assert world.send("contributor", "PATCH", path, {"archived": True}).json()["archived"]
        assert world.send("contributor", "PATCH", path, {"archived": False}).json()["archived"] is False

    def test_cancel(self, world: World) -> None:
        waiting = make_run(world.team, world.target)
        canceled = world.send("contributor", "POST", f"/runs/{waiting.run_id}/cancel", {"force": True})
        assert canceled.status_code == 202 and canceled.json()["status"] == "Canceled"
        assert world.send("contributor", "POST", f"/runs/{waiting.run_id}/cancel").status_code == 409

    def test_delete_with_preview(self, world: World) -> None:
        preview = world.get("contributor", f"/runs/delete-preview?ids={world.ended.run_id},{world.run.run_id}").json()
        assert preview["bytes"] > 100 and len(preview["blockers"]) == 1
        assert world.send("contributor", "DELETE", f"/runs/{world.run.run_id}").status_code == 409
        assert world.send("contributor", "DELETE", f"/runs/{world.ended.run_id}").status_code == 204
        assert world.get("contributor", f"/runs/{world.ended.run_id}").status_code == 404

    def test_details_have_the_keys_of_v1(self, world: World) -> None:
        details = world.get("reader", f"/runs/{world.run.run_id}/details").json()
        assert {
            "runId",
            "target",
            "status",
            "startTimeUtc",
            "properties",
            "runDefinition",
            "logFiles",
        } <= details.keys()


class TestEvents:
    def test_lines_and_objects(self, world: World) -> None:
        path = f"{WS}/runs/{world.run.run_id}/events"
        lines = b'{"k":"metric","n":"loss","v":0.5,"s":1,"t":1.0}\nnot json\n{"k":"tag","n":"a","v":"b"}\n\n'
        answer = world.clients["unit"].post(path, lines, content_type="application/x-ndjson")
        assert answer.json() == {"accepted": 2, "refused": 1}
        many = {"events": [{"k": "metric", "n": "loss", "v": "NaN"}, {"k": "metric", "n": "acc", "v": 1}, 5]}
        assert world.send("unit", "POST", f"/runs/{world.run.run_id}/events", many).json() == {
            "accepted": 2,
            "refused": 1,
        }
        run = world.get("reader", f"/runs/{world.run.run_id}").json()
        assert run["metrics"]["acc"] == 1.0 and run["tags"]["a"] == "b"
        metrics = world.get("reader", f"/runs/{world.run.run_id}/metrics").json()
        assert metrics["acc"] == 1.0 and len(metrics["loss"]) == 2
        series = world.get("reader", f"/runs/{world.run.run_id}/metrics/loss?points=100&axis=step").json()
        assert series["count"] == 2 and len(series["x"]) == 2
        assert world.get("reader", f"/runs/{world.run.run_id}/metrics/none").status_code == 404

    @pytest.mark.parametrize("body", [b"[", b'{"events": 1}', b"5"])
    def test_unusable_bodies(self, world: World, body: bytes, check_problem: Any) -> None:
        path = f"{WS}/runs/{world.run.run_id}/events"
        check_problem(world.clients["unit"].post(path, body, content_type="application/json"), 422)

    def test_many_batches_keep_every_point(self, world: World) -> None:
        path = f"{WS}/runs/{world.run.run_id}/events"
        batches = [
            b"".join(
                b'{"k":"metric","n":"m%d","v":%d.5,"s":%d,"t":1760000000.0}\n'
                % (row % 10, row, batch * 100 + row // 10)
                for row in range(1000)
            )
            for batch in range(20)
        ]
        for batch in batches:
            assert world.clients["unit"].post(path, batch, content_type="application/x-ndjson").status_code == 200
        assert sum(MetricSeries.objects.filter(run=world.run).values_list("count", flat=True)) == 20_000


class TestSnapshots:
    def test_only_what_is_missing_is_sent(self, world: World) -> None:
        contents = {"a.py": b"print(1)", "b.py": b"print(2)"}
        files = [
            {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "mode": 0o644}
            for path, content in contents.items()
        ]
        missing = world.send("contributor", "POST", "/snapshots/missing", {"files": files}).json()["missing"]
        assert sorted(missing) == sorted(file["sha256"] for file in files)
        assert world.send("contributor", "POST", "/snapshots", {"files": files}).status_code == 422
        for file in files:
            put = world.clients["contributor"].put(
                f"{WS}/blobs/{file['sha256']}", contents[str(file["path"])], content_type="application/octet-stream"
            )
            assert put.status_code == 201 and put.json()["size"] == file["size"]
        made = world.send("contributor", "POST", "/snapshots", {"files": files}).json()
        assert world.send("contributor", "POST", "/snapshots/missing", {"files": files}).json() == {"missing": []}
        listed = world.get("reader", f"/snapshots/{made['id']}").json()
        assert [file["path"] for file in listed["files"]] == ["a.py", "b.py"] and made["count"] == 2
        content = world.get("reader", f"/snapshots/{made['id']}/files/b.py")
        assert content.getvalue() == b"print(2)" and content["X-Content-Type-Options"] == "nosniff"
        archive = zipfile.ZipFile(io.BytesIO(world.get("reader", f"/snapshots/{made['id']}/zip").getvalue()))
        assert archive.read("a.py") == b"print(1)"

    def test_wrong_hash(self, world: World, check_problem: Any) -> None:
        path = f"{WS}/blobs/{'0' * 64}"
        check_problem(world.clients["contributor"].put(path, b"x", content_type="application/octet-stream"), 422)

    def test_upload_of_files_and_of_a_zip(self, world: World) -> None:
        files = [SimpleUploadedFile("train.py", b"print(1)"), SimpleUploadedFile("util.py", b"X = 1")]
        form = {"files": files, "paths": ["proj/train.py", "proj/lib/util.py"]}
        made = world.clients["contributor"].post(f"{WS}/snapshots/upload", form)
        assert made.status_code == 201, made.content
        digest = made.json()["id"]
        names = [file["path"] for file in world.get("reader", f"/snapshots/{digest}").json()["files"]]
        assert names == ["lib/util.py", "train.py"]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("proj/train.py", "print(1)")
            archive.writestr("proj/lib/util.py", "X = 1")
        form = {"zip": SimpleUploadedFile("code.zip", packed.getvalue())}
        assert world.clients["contributor"].post(f"{WS}/snapshots/upload", form).json()["id"] == digest


class TestExperiments:
    def test_list_archive_and_compare(self, world: World) -> None:
        listed = world.get("reader", "/experiments").json()["items"]
        assert [one["name"] for one in listed] == ["iris"] and listed[0]["run_count"] == 3
        assert world.send("contributor", "PATCH", "/experiments/iris", {"archived": True}).json()["archived"]
        assert world.get("reader", "/experiments").json()["items"] == []
        changed = world.send(
            "contributor", "PATCH", "/experiments/iris", {"description": "x", "tags": {"a": "b"}}
        ).json()
        assert changed["description"] == "x" and changed["tags"] == {"a": "b"} and changed["archived"]
        other = make_run(world.team, world.target, experiment="other", arguments=["--lr", "2"])
        answer = world.get("reader", f"/compare?runs={world.run.run_id},{other.run_id}").json()
        assert [run["id"] for run in answer["runs"]] == [world.run.run_id, other.run_id]
        assert answer["comparison"]["parameters"]["lr"] == ["0.1", "2"]
        json.dumps(answer)
        assert world.get("reader", "/compare?runs=none").status_code == 404
        assert Run.objects.count() == 4
