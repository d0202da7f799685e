"""Datastores, datasets and their files over REST."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from studio.accounts.models import AuditEntry
from studio.datasets.models import Datastore, Upload
from studio.lib import storage
from tests.api.conftest import API, World
from tests.datasets.web_server import WebServer, running

STORE = "/datastores/workspaceblobstore"
Check = Callable[[Any, int], dict[str, Any]]


def body_of(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


def root(world: World) -> Path:
    return storage.data("stores", str(world.team.workspace.pk))


@pytest.fixture
def web() -> Iterator[WebServer]:
    with running() as server:
        yield server


@pytest.fixture
def web_store(world: World, web: WebServer) -> WebServer:
    web.put("deep/b.bin", bytes(range(256)) * 8192)  # 2 MiB
    made = world.send("owner", "POST", "/datastores", {"name": "web", "kind": "http", "config": {"url": web.url}})
    assert made.status_code == 201, made.content
    return web


def definition(*paths: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "file", "source": {"kind": "files", "paths": list(paths)}, **more}


class TestDatastores:
    def test_kinds(self, world: World) -> None:
        kinds = {one["kind"]: one for one in world.get("reader", "/datastores/kinds").json()}
        fields = {one["name"]: one for one in kinds["http"]["fields"]}
        assert fields["url"]["required"] and fields["password"]["secret"] and not fields["url"]["secret"]

    def test_secrets_are_never_shown(self, world: World) -> None:
        asked = {
            "name": "web", "kind": "http", "config": {"url": "http://127.0.0.1:1/", "user": "ann"},
            "secrets": {"password": "hunter2"}, "check": False,
        }  # fmt: skip
        made = world.send("owner", "POST", "/datastores", asked)
        assert made.status_code == 201 and made.json()["secrets"] == ["password"]
        seen = [
            made,
            world.get("owner", "/datastores/web"),
            world.get("owner", "/datastores"),
            world.get("owner", "/audit"),
        ]
        seen.append(world.send("owner", "PATCH", "/datastores/web", {"description": "x"}))
        assert all(response.status_code < 300 and b"hunter2" not in response.content for response in seen)
        row = Datastore.objects.get(name="web")
        assert row.secrets and "hunter2" not in row.secrets

    def test_refused_with_everything_that_is_wrong(self, world: World, check_problem: Check) -> None:
        asked = {"name": "lake", "kind": "local", "config": {"path": "/no/such"}}
        problem = check_problem(world.send("owner", "POST", "/datastores", asked), 422)
        assert problem["type"].endswith(":check-failed") and "/no/such" in problem["errors"]["path"][0]
        problem = check_problem(world.send("owner", "POST", "/datastores", {**asked, "config": {"colour": 1}}), 422)
        assert {"colour", "path"} <= problem["errors"].keys()

    def test_default_and_removal(self, world: World, check_problem: Check) -> None:
        assert world.send("owner", "POST", "/datastores/spare/default").json()["is_default"]
        listed = {one["name"]: one["is_default"] for one in world.get("reader", "/datastores").json()["items"]}
        assert listed == {"spare": True, "workspaceblobstore": False}
        assert world.send("owner", "DELETE", "/datastores/spare").status_code == 204
        assert world.get("reader", STORE).json()["is_default"]
        problem = check_problem(world.send("owner", "DELETE", STORE), 409)
        assert "comes with the workspace" in problem["detail"]

    def test_removal_names_the_datasets(self, world: World, check_problem: Check) -> None:
        asked = {"name": "mine", "definition": definition({"datastore": "spare", "path": "a.csv"})}
        assert world.send("contributor", "POST", "/datasets", asked).status_code == 201
        assert "mine" in check_problem(world.send("owner", "DELETE", "/datastores/spare"), 409)["detail"]
        assert world.send("owner", "DELETE", "/datastores/spare?force=true").status_code == 204

    def test_test(self, world: World) -> None:
        found = world.send("contributor", "POST", f"{STORE}/test").json()
        assert found["problems"] == [] and [one["path"] for one in found["entries"]] == ["iris"]
        found = world.send("contributor", "POST", "/datastores/spare/test").json()
        assert found["problems"][0]["code"] == "no-such-container"
        assert world.get("reader", "/datastores/spare").json()["problems"] == found["problems"]

    def test_entries_in_pages(self, world: World, check_problem: Check) -> None:
        for name in ("b.csv", "c.csv", "sub/d.csv"):
            path = root(world) / "iris" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("x")
        page = world.get("reader", f"{STORE}/entries?path=iris/&limit=3").json()
        assert [(one["name"], one["is_dir"]) for one in page["entries"]] == [
            ("sub", True),
            ("a.csv", False),
            ("b.csv", False),
        ]
        rest = world.get("reader", f"{STORE}/entries", data={"path": "iris", "after": page["next"]}).json()
        assert [one["path"] for one in rest["entries"]] == ["iris/c.csv"] and rest["next"] is None
        check_problem(world.get("reader", f"{STORE}/entries?path=../"), 422)
        check_problem(world.get("reader", f"{STORE}/entries?path=none"), 404)


class TestContent:
    def test_whole_ranges_and_head(self, world: World) -> None:
        data = (root(world) / "iris" / "a.csv").read_bytes()
        whole = world.get("reader", f"{STORE}/content/iris/a.csv")
        assert (
            body_of(whole) == data and whole["Content-Length"] == str(len(data)) and whole["Accept-Ranges"] == "bytes"
        )
        part = world.get("reader", f"{STORE}/content/iris/a.csv", headers={"Range": "bytes=6-12"})
        assert part.status_code == 206 and body_of(part) == data[6:13]
        head = world.clients["reader"].head(f"{API}/workspaces/main{STORE}/content/iris/a.csv")
        assert head.status_code == 200 and head["Content-Length"] == str(len(data)) and not head.content
        again = world.get("reader", f"{STORE}/content/iris/a.csv", headers={"If-None-Match": whole["ETag"]})
        assert again.status_code == 304
        entry = world.get("reader", f"{STORE}/entries?path=iris").json()["entries"][0]
        assert whole["ETag"] == f'"{entry["etag"]}"'

    def test_from_elsewhere(self, world: World, web_store: WebServer) -> None:
        data = bytes(range(256)) * 8192
        path = "/datastores/web/content/deep/b.bin"
        whole = world.get("reader", path)
        assert body_of(whole) == data and whole["Content-Length"] == str(len(data))
        part = world.get("reader", path, headers={"Range": "bytes=1048570-1048585"})
        assert part.status_code == 206 and body_of(part) == data[1048570:1048586]
        assert part["Content-Range"] == f"bytes 1048570-1048585/{len(data)}"
        assert world.get("reader", path, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
        stale = world.get("reader", path, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
        assert stale.status_code == 200 and body_of(stale) == data
        head = world.clients["reader"].head(f"{API}/workspaces/main{path}")
        assert head["Content-Length"] == str(len(data)) and head["ETag"] == whole["ETag"]

    @pytest.mark.parametrize("name", ["page.html", "a.svg", "x.js", "a.xhtml"])
    def test_never_runs_as_a_page(self, world: World, name: str) -> None:
        (root(world) / name).write_text("<script>alert(1)</script>")
        for query in ("", "?download=false"):
            response = world.get("reader", f"{STORE}/content/{name}{query}")
            assert response["X-Content-Type-Options"] == "nosniff" and response["Content-Security-Policy"].startswith(
                "sandbox"
            )
            assert query or response["Content-Disposition"].startswith("attachment")
            assert not query or response["Content-Type"].startswith(("text/plain", "application/octet-stream"))

    def test_what_is_not_there(self, world: World, web_store: WebServer, check_problem: Check) -> None:
        for path in (f"{STORE}/content/none.csv", f"{STORE}/content/iris", "/datastores/web/content/none.csv"):
            problem = check_problem(world.get("reader", path), 404)
            assert problem["detail"]
        check_problem(world.get("reader", f"{STORE}/content/..%2f..%2fsecrets%2ffernet.keys"), 422)
        (root(world) / "out").symlink_to("/etc/passwd")
        assert world.get("reader", f"{STORE}/content/out").status_code in (404, 422)

    def test_away(self, world: World, web_store: WebServer, check_problem: Check) -> None:
        web_store.close()
        problem = check_problem(world.get("reader", "/datastores/web/content/deep/b.bin"), 422)
        assert problem["retry"] is True and "deep/b.bin" in problem["detail"] + problem.get("file", "")

    def test_delete(self, world: World) -> None:
        assert world.send("contributor", "DELETE", f"{STORE}/content/iris/a.csv").status_code == 204
        assert not (root(world) / "iris" / "a.csv").exists()
        assert AuditEntry.objects.get(action="datastore.file.delete").detail == {"path": "iris/a.csv"}


class TestUpload:
    def put(self, world: World, data: bytes, role: str = "contributor", path: str = "in/a.bin", **headers: str) -> Any:
        return world.clients[role].put(
            f"{API}/workspaces/main{STORE}/content/{path}",
            data,
            content_type="application/octet-stream",
            headers=headers,
        )

    def test_whole(self, world: World) -> None:
        answer = self.put(world, b"hello")
        assert answer.status_code == 201
        assert answer.json() == {"path": "in/a.bin", "offset": 5, "complete": True}
        assert self.put(world, b"", path="empty").status_code == 201
        assert (root(world) / "in/a.bin").read_bytes() == b"hello" and (root(world) / "empty").read_bytes() == b""

    def test_pieces(self, world: World, check_problem: Check) -> None:
        first = self.put(world, b"01234", **{"Content-Range": "bytes 0-4/10"})
        assert first.status_code == 200 and first.json()["offset"] == 5 and not first.json()["complete"]
        assert self.put(world, b"", **{"Content-Range": "bytes */10"}).json()["offset"] == 5
        check_problem(self.put(world, b"9", **{"Content-Range": "bytes 9-9/10"}), 409)
        last = self.put(world, b"3456789", **{"Content-Range": "bytes 3-9/10"})
        assert last.status_code == 201 and (root(world) / "in/a.bin").read_bytes() == b"0123456789"
        assert self.put(world, b"", **{"Content-Range": "bytes */10"}).json()["complete"]

    def test_do_not_replace(self, world: World, check_problem: Check) -> None:
        assert self.put(world, b"hello", **{"If-None-Match": "*"}).status_code == 201
        problem = check_problem(self.put(world, b"other", **{"If-None-Match": "*"}), 412)
        assert problem["type"].endswith(":exists") and (root(world) / "in/a.bin").read_bytes() == b"hello"
        check_problem(self.put(world, b"other", **{"If-None-Match": '"tag"'}), 422)

    @pytest.mark.parametrize("header", ["bytes 0-4", "bytes 0-9/10", "bytes 4-0/10", "bytes 0-4/*", "bytes 0-4/3", "x"])
    def test_headers(self, world: World, check_problem: Check, header: str) -> None:
        problem = check_problem(self.put(world, b"01234", **{"Content-Range": header}), 422)
        assert list(problem["errors"]) == ["Content-Range"] and not Upload.objects.exists()

    def test_by_a_run(self, world: World) -> None:
        assert self.put(world, b"made", "unit").status_code == 201
        assert not AuditEntry.objects.filter(action="datastore.upload").exists()
        assert self.put(world, b"made").status_code == 201
        assert AuditEntry.objects.filter(action="datastore.upload").count() == 1

    def test_a_run_is_told_what_it_may_not_do(self, world: World, check_problem: Check) -> None:
        """It reads, uploads and registers: "good for its own run alone" would be wrong."""
        refused = check_problem(world.clients["unit"].delete(f"{API}/workspaces/main{STORE}/content/a"), 403)
        assert "may not register, change, test or remove datastores, nor delete their files" in refused["detail"]
        refused = check_problem(world.clients["unit"].delete(f"{API}/workspaces/main/datasets/a"), 403)
        assert "may not change, archive or delete" in refused["detail"]

    def test_to_what_only_reads(self, world: World, web_store: WebServer, check_problem: Check) -> None:
        response = world.clients["owner"].put(
            f"{API}/workspaces/main/datastores/web/content/a", b"x", content_type="application/octet-stream"
        )
        assert check_problem(response, 422)["type"].endswith(":read-only")


class TestDatasets:
    def test_register_and_versions(self, world: World, check_problem: Check) -> None:
        asked = {"name": "mine", "definition": definition({"datastore": "workspaceblobstore", "path": "iris/a.csv"})}
        made = world.send("contributor", "POST", "/datasets", {**asked, "tags": {"a": "1", "b": None}})
        assert made.status_code == 201
        first = made.json()
        assert (first["name"], first["version"], first["type"], first["latest"]) == ("mine", 1, "file", True)
        assert first["registered"] and first["schema"] is None and first["tags"] == {"a": "1", "b": None}
        assert world.send("contributor", "POST", "/datasets", asked).status_code == 200
        asked["definition"] = definition({"datastore": "workspaceblobstore", "path": "iris"})
        assert (
            "create_new_version" in check_problem(world.send("contributor", "POST", "/datasets", asked), 409)["detail"]
        )
        second = world.send("contributor", "POST", "/datasets", {**asked, "create_new_version": True}).json()
        assert second["version"] == 2
        versions = world.get("reader", "/datasets/mine/versions").json()["items"]
        assert [(one["version"], one["latest"]) for one in versions] == [(2, True), (1, False)]
        assert world.get("reader", "/datasets/mine/versions/1").json()["id"] == first["id"]
        assert world.get("reader", "/datasets/mine/versions/latest").json()["id"] == second["id"]
        assert world.get("reader", f"/data/{first['id']}").json()["definition"] == first["definition"]
        dataset = world.get("reader", "/datasets/mine").json()
        assert dataset["versions"] == 2 and dataset["latest"]["id"] == second["id"]

    def test_columns_are_called_schema(self, world: World) -> None:
        source = {"kind": "delimited", "paths": [{"datastore": "workspaceblobstore", "path": "iris/*.csv"}]}
        schema = [{"name": "w", "type": "float", "source": "width"}]
        asked = {"name": "typed", "definition": {"type": "tabular", "source": source, "schema": schema}}
        found = world.send("contributor", "POST", "/datasets", asked).json()
        assert found["schema"] == found["definition"]["schema"] and found["schema"][0]["source"] == "width"
        assert "columns" not in found
        assert world.get("reader", "/datasets").json()["items"][0]["latest"]["schema"] == found["schema"]

    def test_saved_definitions(self, world: World) -> None:
        body = {"definition": definition({"datastore": "workspaceblobstore", "path": "iris"})}
        one = world.send("unit", "POST", "/data/definitions", body).json()
        assert one["name"] is None and not one["registered"]
        assert world.send("contributor", "POST", "/data/definitions", body).json()["id"] == one["id"]

    def test_changes(self, world: World) -> None:
        assert (
            world.send("contributor", "PATCH", "/datasets/iris", {"description": "Flowers"}).json()["description"]
            == "Flowers"
        )
        changed = world.send("contributor", "PATCH", "/datasets/iris/versions/latest", {"tags": {"x": "y"}}).json()
        assert changed["tags"] == {"x": "y"}
        assert world.send("contributor", "PATCH", "/datasets/iris", {"archived": True}).json()["archived"]
        assert world.get("reader", "/datasets").json()["items"] == []
        assert world.get("reader", "/datasets/iris/delete-preview").status_code == 403
        assert world.get("contributor", "/datasets/iris/delete-preview").json()["versions"] == 1
        assert world.send("contributor", "DELETE", "/datasets/iris").status_code == 204
        assert world.get("reader", "/datasets/iris").status_code == 404

    def test_keys_are_never_shown(self, world: World) -> None:
        url = "https://acc.blob.core.test/c/a.csv"
        asked = {"name": "signed", "definition": definition({"url": f"{url}?sv=1&sig=c2VjcmV0"})}
        made = world.send("contributor", "POST", "/datasets", asked)
        assert made.json()["definition"]["source"]["paths"] == [{"url": url, "signed": True}]
        for path in ("/datasets", "/datasets/signed", "/datasets/signed/versions", f"/data/{made.json()['id']}"):
            assert b"c2VjcmV0" not in world.get("reader", path).content

    def test_unit_stays_in_its_workspace(self, world: World) -> None:
        for path in ("datasets", "datastores", f"data/{world.extra['id']}"):
            assert world.clients["unit"].get(f"{API}/workspaces/elsewhere/{path}").status_code == 403


class TestFiles:
    def fill(self, world: World, count: int) -> dict[str, Any]:
        folder = root(world) / "many"
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:05d}.csv").write_bytes(b"x" * (number % 7))
        return definition({"datastore": "workspaceblobstore", "path": "many/*.csv"}, steps=[{"op": "take", "count": 1}])

    def test_in_pages(self, world: World) -> None:
        body = {"definition": self.fill(world, 1100)}
        page = world.send("reader", "POST", "/data/files", body).json()
        assert len(page["files"]) == 1000 and page["next"] == "1000"
        rest = world.send("reader", "POST", f"/data/files?after={page['next']}", body).json()
        assert len(rest["files"]) == 100 and rest["next"] is None
        assert rest["files"][-1]["name"] == "01099.csv" and rest["files"][-1]["size"] == 0
        few = world.send("reader", "POST", "/data/files?limit=3", body).json()
        assert len(few["files"]) == 3 and few["next"] == "3"
        assert len(world.send("reader", "POST", "/data/files?limit=5000", body).json()["files"]) == 1000
        one = page["files"][3]
        assert one["href"] == "datastores/workspaceblobstore/content/many/00003.csv" and one["url"] is None
        assert body_of(world.get("reader", "/" + one["href"])) == b"xxx"

    def test_local_paths_are_for_this_machine(self, world: World) -> None:
        body = json.dumps({"definition": self.fill(world, 1)})

        def local(**meta: str) -> Any:
            answer = world.clients["reader"].post(
                f"{API}/workspaces/main/data/files", body, content_type="application/json", **meta
            )
            return answer.json()["files"][0]["local"]

        assert local() == str(root(world) / "many" / "00000.csv")
        assert local(REMOTE_ADDR="::1") and local(REMOTE_ADDR="::ffff:127.0.0.1")
        assert local(REMOTE_ADDR="10.0.0.7") is None and local(REMOTE_ADDR="") is None
        assert local(HTTP_X_FORWARDED_FOR="127.0.0.1") is None  # through a proxy: who knows from where
        assert local(REMOTE_ADDR="10.0.0.7", HTTP_X_FORWARDED_FOR="127.0.0.1") is None

    def test_of_the_web(self, world: World, web: WebServer) -> None:
        web.put("a.csv", b"a,b\n1,2\n")
        plain, signed = f"{web.url}a.csv?year=2020", f"{web.url}a.csv?sig=c2VjcmV0"
        asked = {"name": "web", "definition": definition({"url": plain}, {"url": signed})}
        key = world.send("contributor", "POST", "/datasets", asked).json()["id"]
        page = world.get("reader", f"/data/{key}/files")
        assert b"c2VjcmV0" not in page.content
        public, hidden = page.json()["files"]
        assert urlsplit(public["url"]).query == "year=2020" and public["href"] is None
        assert hidden["href"] == f"data/{key}/content/1" and hidden["url"] is None and hidden["size"] == 8
        response = world.get("reader", "/" + hidden["href"])
        assert body_of(response) == b"a,b\n1,2\n" and b"c2VjcmV0" not in str(response.headers).encode()
        part = world.get("reader", "/" + hidden["href"], headers={"Range": "bytes=4-6"})
        assert part.status_code == 206 and body_of(part) == b"1,2"
        assert world.get("reader", f"/data/{key}/content/2").status_code == 404

    def test_one_of_many_is_not_there(self, world: World, web: WebServer, check_problem: Check) -> None:
        for number in range(20):
            web.put(f"{number}.csv", b"a\n1\n")
        paths = [{"url": f"{web.url}{number}.csv"} for number in range(20)]
        paths[13]["url"] = f"{web.url}none.csv"
        answer = world.send("contributor", "POST", "/data/files", {"definition": definition(*paths)})
        assert "none.csv" in check_problem(answer, 404)["detail"]

    def test_readers_send_the_studio_nowhere(self, world: World, web: WebServer, check_problem: Check) -> None:
        web.put("a.csv", b"a\n1\n")
        body = {"definition": definition({"url": f"{web.url}a.csv"})}
        for path in ("/data/files", "/data/inspect"):
            check_problem(world.send("reader", "POST", path, body), 403)
        assert not web.requests
        assert world.send("contributor", "POST", "/data/files", body).status_code == 200

    def test_nothing_matches(self, world: World, check_problem: Check) -> None:
        body = {"definition": definition({"datastore": "workspaceblobstore", "path": "none/*.csv"})}
        problem = check_problem(world.send("reader", "POST", "/data/files", body), 404)
        assert "none/*.csv" in problem["detail"]
        assert world.send("reader", "POST", "/data/files?after=x", body).status_code == 422


class TestLooks:
    def test_inspect_and_preview(self, world: World) -> None:
        source = {"kind": "delimited", "paths": [{"datastore": "workspaceblobstore", "path": "iris/*.csv"}]}
        body = {"definition": {"type": "tabular", "source": source}, "rows": 1}
        found = world.send("reader", "POST", "/data/inspect", body).json()
        assert found["columns"] == [{"name": "width", "type": "float"}, {"name": "species", "type": "string"}]
        assert found["rows"] == [[1.5, "setosa"]] and found["definition"]["schema"][0]["name"] == "width"
        found = world.get("reader", f"/data/{world.extra['id']}/preview?rows=2").json()
        assert found["rows"] == [[1.5, "setosa"], [2.5, "virginica"]]

    def test_profile(self, world: World) -> None:
        path = f"/data/{world.extra['id']}/profile"
        assert world.get("reader", path).status_code == 404
        started = world.send("contributor", "POST", path)
        assert started.status_code == 202 and started.json()["state"] == "running"
        assert world.get("reader", path).json()["progress"] == 0

    def test_lineage(self, world: World) -> None:
        found = world.get("reader", f"/data/{world.extra['id']}/lineage").json()
        assert [one["current"] for one in found["nodes"]] == [True] and found["edges"] == []
