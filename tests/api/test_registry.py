"""Compute, models and endpoints over REST, and the client to install from the studio."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tests.api.conftest import WS, World


class TestCompute:
    def test_targets(self, world: World, check_problem: Any) -> None:
        assert [one["name"] for one in world.get("reader", "/targets").json()["items"]] == ["local"]
        target = world.get("reader", "/targets/local").json()
        assert target["driver"] == "local" and target["capacity"]["total"] >= 1
        checked = world.send("contributor", "POST", "/targets/local/check")
        assert checked.status_code == 200 and checked.json()["checked_at"]
        check_problem(world.get("reader", "/targets/none"), 404)

    def test_environments(self, world: World, check_problem: Any) -> None:
        recipe = {"kind": "pip", "packages": ["pandas", "scikit-learn>=1.3"], "variables": {"A": "1"}}
        made = world.send(
            "contributor", "POST", "/environments", {"name": "mine", "recipe": recipe, "tags": {"a": "b"}}
        )
        assert made.status_code == 201 and made.json()["version"] == 1 and made.json()["tags"] == {"a": "b"}
        again = world.send("contributor", "POST", "/environments", {"name": "mine", "recipe": recipe})
        assert again.json()["version"] == 1
        conda = {"kind": "conda", "conda": "dependencies:\n- python=3.11\n- numpy\n"}
        second = world.send("contributor", "POST", "/environments", {"name": "mine", "recipe": conda})
        assert second.json()["version"] == 2
        found = world.get("reader", "/environments/mine").json()
        assert found["version"] == 2 and found["versions"] == [2, 1] and found["builds"] == []
        assert world.get("reader", "/environments/mine?version=1").json()["recipe"]["packages"]
        names = [one["name"] for one in world.get("reader", "/environments").json()["items"]]
        assert names[:2] == ["mine", "mine"] and "AzureML-Tutorial" in names
        taken = world.send("contributor", "POST", "/environments", {"name": "system", "recipe": recipe})
        check_problem(taken, 409)
        wrong = world.send(
            "contributor", "POST", "/environments", {"name": "x", "recipe": {"kind": "conda", "conda": "["}}
        )
        check_problem(wrong, 422)

    def test_prepare(self, world: World, check_problem: Any) -> None:
        build = world.send("contributor", "POST", "/environments/system/prepare").json()
        assert build["state"] == "ready" and build["target"] == "local"
        started = world.send("contributor", "POST", "/environments/AzureML-Minimal/prepare", {}).json()
        assert started["state"] == "building" and started["log_stream"]
        check_problem(world.send("contributor", "POST", "/environments/none/prepare", {}), 404)

    def test_check_names_the_python(self, world: World) -> None:
        checked = world.send("contributor", "POST", "/environments/check", {"recipe": {"kind": "system"}}).json()
        assert checked["problems"] == [] and re.match(r"3\.\d+", checked["python"])
        strict = {"kind": "pip", "python": "3.5", "packages": [], "strict": True}
        refused = world.send("contributor", "POST", "/environments/check", {"recipe": strict}).json()
        assert refused["problems"] and "3.5" in refused["problems"][0]["message"]


class TestModels:
    def test_register_from_a_run(self, world: World, check_problem: Any) -> None:
        body = {"name": "net", "run_id": world.ended.run_id, "path": "outputs/model.txt", "framework": "Custom"}
        body["tags"] = {"stage": "prod"}  # type: ignore[assignment]
        made = world.send("contributor", "POST", "/models", body)
        assert made.status_code == 201, made.content
        version = made.json()
        assert version["id"] == "net:1" and version["run_id"] == world.ended.run_id and version["size"] == 100
        assert world.send("contributor", "POST", "/models", body).json()["version"] == 2
        content = world.get("reader", "/models/net/versions/2/files/model.txt")
        assert content.getvalue() == b"0123456789" * 10
        archive = zipfile.ZipFile(io.BytesIO(world.get("reader", "/models/net/versions/1/zip").getvalue()))
        assert archive.namelist() == ["model.txt"]
        model = world.get("reader", "/models/net").json()
        assert model["latest"] == 2 and [one["version"] for one in model["versions"]] == [2, 1]
        changed = world.send(
            "contributor", "PATCH", "/models/net/versions/2", {"description": "Good", "tags": {"a": None}}
        )
        assert changed.json()["description"] == "Good" and changed.json()["tags"] == {"a": None}
        assert world.send("contributor", "DELETE", "/models/net/versions/1").status_code == 204
        assert world.get("reader", "/models/net/versions/1").status_code == 404
        check_problem(world.send("contributor", "POST", "/models", {**body, "path": "outputs/none"}), 404)
        check_problem(world.send("contributor", "POST", "/models", {**body, "run_id": "none"}), 404)

    def test_upload(self, world: World, check_problem: Any) -> None:
        form = {
            "name": "uploaded",
            "files": [SimpleUploadedFile("m.onnx", b"onnx"), SimpleUploadedFile("labels.txt", b"a")],
            "paths": ["m/m.onnx", "m/labels.txt"],
            "tags": '{"a": "b"}',
            "framework": "Onnx",
        }
        made = world.clients["contributor"].post(f"{WS}/models/upload", form)
        assert made.status_code == 201, made.content
        assert made.json()["tags"] == {"a": "b"} and len(made.json()["files"]) == 2
        form = {"name": "x", "files": [SimpleUploadedFile("m", b"1")], "tags": "{"}
        check_problem(world.clients["contributor"].post(f"{WS}/models/upload", form), 422)

    def test_list_and_archive(self, world: World) -> None:
        assert [one["name"] for one in world.get("reader", "/models").json()["items"]] == ["iris"]
        assert world.send("contributor", "PATCH", "/models/iris", {"archived": True}).json()["archived"]
        assert world.get("reader", "/models").json()["items"] == []
        assert world.send("contributor", "DELETE", "/models/iris/versions/1").status_code == 409


class TestEndpoints:
    def test_read(self, world: World) -> None:
        endpoint = world.get("reader", "/endpoints").json()["items"][0]
        assert endpoint["name"] == "iris-service" and endpoint["state"] == "Stopped" and endpoint["model"] == "iris:1"
        assert world.get("reader", "/endpoints/iris-service").json() == endpoint
        assert world.get("reader", "/endpoints/iris-service/logs").content == b""

    def test_keys_are_for_those_who_may_write_and_on_record(self, world: World, check_problem: Any) -> None:
        keys = world.get("contributor", "/endpoints/iris-service/keys").json()
        assert keys == {"primary": "k1", "secondary": "k2"}
        rotated = world.send(
            "contributor", "POST", "/endpoints/iris-service/keys/rotate", {"which": "secondary"}
        ).json()
        assert rotated["primary"] == "k1" and rotated["secondary"] != "k2"
        actions = [one["action"] for one in world.get("owner", "/audit").json()["items"][:2]]
        assert "endpoint.keys" in actions
        check_problem(world.send("contributor", "POST", "/endpoints/iris-service/keys/rotate", {"which": "third"}), 422)

    def test_wrong_deployments(self, world: World, check_problem: Any) -> None:
        for body, status in (
            ({"name": "other", "model": "none"}, 404),
            ({"name": "other", "model": "iris:x"}, 422),
            ({"name": "other", "model": "iris:1", "target": "moon"}, 422),
        ):
            check_problem(world.send("contributor", "POST", "/endpoints", body), status)

    def test_a_stopped_service_says_so(self, world: World, check_problem: Any) -> None:
        check_problem(world.send("reader", "POST", "/endpoints/iris-service/score", {"data": [[1]]}), 409)
        check_problem(world.get("reader", "/endpoints/iris-service/swagger.json"), 409)
        assert world.send("contributor", "DELETE", "/endpoints/iris-service").status_code == 204


class TestClient:
    def wheel(self) -> tuple[str, bytes]:
        """What the simple index leads to: (file name, content)."""
        found = re.search(
            r'href="\.\./\.\./(files/[^"#]+)#', Client().get("/client/simple/atelier-client/").content.decode()
        )
        assert found is not None
        return found[1].removeprefix("files/"), Client().get(f"/client/{found[1]}").content

    def test_the_wheel_is_sound(self, db: None) -> None:
        name, content = self.wheel()
        assert re.fullmatch(r"atelier_client-[\d.]+-py3-none-any\.whl", name)
        archive = zipfile.ZipFile(io.BytesIO(content))
        assert archive.testzip() is None and "atelier/__init__.py" in archive.namelist()
        record = next(one for one in archive.namelist() if one.endswith("/RECORD"))
        for path, digest, size in csv.reader(archive.read(record).decode().splitlines()):
            if path != record:
                data = archive.read(path)
                wanted = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert digest == f"sha256={wanted}" and int(size) == len(data)
        entries = archive.read(record.replace("RECORD", "entry_points.txt")).decode()
        assert "atelier = " in entries and self.wheel()[1] == content

    def test_the_index(self, db: None) -> None:
        page = Client().get("/client/simple/").content.decode()
        assert 'href="atelier-client/"' in page
        project = Client().get("/client/simple/Atelier_Client/").content.decode()
        name, content = self.wheel()
        assert f"{name}#sha256={hashlib.sha256(content).hexdigest()}" in project
        assert Client().get("/client/simple/numpy/").status_code == 404
        assert Client().get("/client/files/other.whl").status_code == 404
        assert Client().get("/client/atelier_client.whl").status_code == 404
        said = Client().get("/client/").content.decode()
        assert "--index-url" in said and ".whl" not in said

    def test_it_installs(self, db: None, tmp_path: Path) -> None:
        from compute.resolving import uv_binary

        name, content = self.wheel()
        (tmp_path / name).write_bytes(content)
        subprocess.run([uv_binary(), "venv", "-q", "--python", sys.executable, tmp_path / "venv"], check=True)
        python = tmp_path / "venv" / "bin" / "python"
        install = [uv_binary(), "pip", "install", "-q", "--offline", "--python", python, tmp_path / name]
        subprocess.run(install, check=True)
        done = subprocess.run(
            [python, "-c", "import atelier; print(atelier.__name__)"], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "atelier" and (tmp_path / "venv" / "bin" / "atelier").exists()
