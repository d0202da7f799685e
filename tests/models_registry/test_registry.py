"""Registering, changing and deleting models through the services."""

from __future__ import annotations

import io
import os
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections

from compute.models import EnvironmentBuild
from compute.services import ensure_local_target
from models_registry import selectors, services
from models_registry.models import Deployment, Endpoint, ModelVersion, RegisteredModel
from models_registry.services import files as model_files
from models_registry.services.deploying import model_file
from runs.models import Run
from runs.services import interactive
from studio.accounts.models import AuditEntry
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid, NotFound

pytestmark = pytest.mark.django_db
Register = Callable[..., ModelVersion]


@pytest.fixture
def run(team: Any) -> Run:
    """A run with outputs/model.joblib and outputs/folder/{a,b}."""
    made = interactive.run_start_interactive(team.workspace, team.contributor, "train")
    outputs = storage.unit_directory(made.key) / "outputs"
    (outputs / "folder" / "deep").mkdir(parents=True)
    (outputs / "model.joblib").write_bytes(b"m" * 3_000_000)
    (outputs / "folder" / "a.txt").write_text("a")
    (outputs / "folder" / "deep" / "b.txt").write_text("bb")
    return made


class TestRegister:
    def test_file_of_a_run(self, team: Any, run: Run) -> None:
        made = services.model_register(
            workspace=team.workspace, user=team.contributor, name="iris", run=run, path="outputs/model.joblib",
            framework="scikit-learn", tags={"area": "flowers"}, resource_configuration={"cpu": 1, "memory_in_gb": 0.5},
        )  # fmt: skip
        assert str(made) == "iris:1"
        assert made.framework == "ScikitLearn"
        assert made.size == 3_000_000
        assert made.run == run
        assert [file["path"] for file in made.files] == ["model.joblib"]
        assert (storage.model_directory(made.key) / "model.joblib").stat().st_size == 3_000_000
        assert AuditEntry.objects.filter(action="model.register", object_label="iris:1").exists()

    def test_folder_of_a_run(self, team: Any, run: Run) -> None:
        made = services.model_register(
            workspace=team.workspace, user=team.owner, name="f", run=run, path="outputs/folder"
        )
        assert [file["path"] for file in made.files] == ["a.txt", "deep/b.txt"]

    def test_a_folder_with_a_name_that_is_no_utf8(self, team: Any, run: Run) -> None:
        (storage.unit_directory(run.key) / "outputs" / "folder" / os.fsdecode(b"caf\xe9")).write_text("c")
        made = services.model_register(
            workspace=team.workspace, user=team.owner, name="f", run=run, path="outputs/folder"
        )
        assert [file["path"] for file in made.files] == ["a.txt", "caf⟦0xE9⟧", "deep/b.txt"]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("description", "a\0b"),
            ("tags", {"\u202ea": 1}),
            ("properties", {"a": "\0"}),
            ("sample_input", {"a": ["\0"]}),
        ],
    )
    def test_control_characters_are_refused(self, register: Register, field: str, value: Any) -> None:
        with pytest.raises(Invalid, match="control character U") as refused:
            register(**{field: value})
        assert list(refused.value.errors) == [field] and not RegisteredModel.objects.exists()

    def test_versions_count_up_and_numbers_do_not_come_back(self, team: Any, register: Register) -> None:
        assert [register().version, register().version] == [1, 2]
        services.version_delete(selectors.version_get(team.workspace, "iris", 2), user=team.owner)
        assert register().version == 3

    def test_a_link_that_leaves_the_run_is_refused(self, team: Any, run: Run, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("s")
        (storage.unit_directory(run.key) / "outputs" / "folder" / "link").symlink_to(tmp_path / "secret")
        with pytest.raises(Invalid, match="leads out"):
            services.model_register(workspace=team.workspace, user=team.owner, name="f", run=run, path="outputs/folder")
        assert not RegisteredModel.objects.exists()

    @pytest.mark.parametrize("path", ["outputs/nothing", "../../../etc/passwd", "outputs/../../x"])
    def test_paths_that_are_not_there(self, team: Any, run: Run, path: str) -> None:
        with pytest.raises((NotFound, Invalid)):
            services.model_register(workspace=team.workspace, user=team.owner, name="f", run=run, path=path)

    @pytest.mark.parametrize(
        ("columns", "field"),
        [
            ({"name": "a/b"}, "name"),
            ({"name": "register"}, "name"),
            ({"framework": "Fortran"}, "framework"),
            ({"resource_configuration": {"cpu": -1}}, "resource_configuration"),
            ({"resource_configuration": {"disk": 1}}, "resource_configuration"),
            ({"tags": [1]}, "tags"),
            ({"files": []}, "files"),
            ({"files": [("../x", io.BytesIO(b"x"))]}, "path"),
            ({"files": [("x", io.BytesIO(b"x")), ("./x", io.BytesIO(b"x"))]}, "files"),
        ],
    )
    def test_refused(self, register: Register, columns: dict[str, Any], field: str) -> None:
        with pytest.raises(Invalid) as error:
            register(**columns)
        assert field in error.value.errors
        assert not ModelVersion.objects.exists()
        assert not list(model_files.folders())

    def test_no_half_version_when_the_row_fails(self, register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_a: Any, **_k: Any) -> None:
            raise RuntimeError("the database is away")

        monkeypatch.setattr(ModelVersion.objects, "create", broken)
        with pytest.raises(RuntimeError):
            register()
        assert not list(model_files.folders())

    def test_framework_version_comes_from_the_environment(self, team: Any, run: Run) -> None:
        from compute.env_services import ensure_curated

        environment = next(one for one in ensure_curated(team.workspace) if one.name == "AzureML-Tutorial")
        EnvironmentBuild.objects.create(
            content_hash=environment.content_hash, target=ensure_local_target(team.workspace), state="ready",
            detail={"packages": ["numpy==2.0.0", "scikit-learn==1.4.2"]},
        )  # fmt: skip
        run.environment = environment
        run.save()
        given = {
            "workspace": team.workspace,
            "user": team.owner,
            "name": "m",
            "run": run,
            "path": "outputs/model.joblib",
        }
        found = services.model_register(**given, framework="ScikitLearn")
        assert found.framework_version == "1.4.2"
        from models_registry.services.deploying import version_warnings

        old = services.model_register(**given, framework="ScikitLearn", framework_version="0.19.1")
        assert version_warnings(found, environment) == []
        assert "0.19.1" in version_warnings(old, environment)[0]
        assert "1.4.2" in version_warnings(old, environment)[0]


@pytest.mark.django_db(transaction=True)
def test_many_at_once_get_numbers_of_their_own(team: Any) -> None:
    numbers: list[int] = []

    def work() -> None:
        given = {"workspace": team.workspace, "user": team.owner, "name": "busy"}
        try:
            while True:
                try:
                    numbers.append(services.model_register(**given, files=[("m.pkl", io.BytesIO(b"x"))]).version)
                    return
                except OperationalError:  # the shared in-memory database of tests does not wait for a lock
                    time.sleep(0.02)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 9))


class TestLater:
    def test_zip(self, team: Any, run: Run) -> None:
        made = services.model_register(
            workspace=team.workspace, user=team.owner, name="f", run=run, path="outputs/folder"
        )
        with zipfile.ZipFile(io.BytesIO(b"".join(services.version_zip(made)))) as archive:
            assert sorted(archive.namelist()) == ["a.txt", "deep/b.txt"]
            assert archive.read("deep/b.txt") == b"bb"

    def test_a_version_that_serves_is_not_deleted(self, team: Any, register: Register) -> None:
        version = register()
        endpoint = Endpoint.objects.create(workspace=team.workspace, name="live")
        Deployment.objects.create(endpoint=endpoint, version=version)
        assert "live" in services.version_delete_preview(version).blockers[0]
        with pytest.raises(Conflict, match="live"):
            services.version_delete(version, user=team.owner)

    def test_delete_frees_the_files(
        self, team: Any, register: Register, django_capture_on_commit_callbacks: Any
    ) -> None:
        version = register()
        folder = storage.model_directory(version.key)
        assert services.version_delete_preview(version).bytes == 11
        with django_capture_on_commit_callbacks(execute=True):
            assert services.version_delete(version, user=team.owner) == 11
        assert not folder.exists()
        assert selectors.models_page(team.workspace).items == []

    def test_archive_and_back(self, team: Any, register: Register) -> None:
        model = register().model
        services.model_archive(model, user=team.owner)
        assert selectors.models_page(team.workspace).items == []
        assert len(selectors.models_page(team.workspace, archived=True).items) == 1
        services.model_archive(model, user=team.owner, archived=False)
        assert len(selectors.models_page(team.workspace).items) == 1

    def test_orphans(self, register: Register) -> None:
        import os

        kept = register()
        half = storage.model_directory("f" * 32).with_name("." + "f" * 32 + ".partial")
        half.mkdir(parents=True)
        assert services.remove_orphans() == 0
        os.utime(half, (1, 1))
        os.utime(storage.model_directory(kept.key), (1, 1))
        assert services.remove_orphans() == 1
        assert storage.model_directory(kept.key).exists()

    @pytest.mark.parametrize(
        ("names", "found"),
        [
            (["iris.pkl"], "iris.pkl"),
            (["model.joblib", "scaler.joblib"], "model.joblib"),
            (["a.txt", "deep/x.joblib"], "deep/x.joblib"),
            (["model"], "model"),
        ],
    )
    def test_which_file_is_the_model(self, register: Register, names: list[str], found: str) -> None:
        assert model_file(register(files=[(name, io.BytesIO(b"x")) for name in names])) == found

    @pytest.mark.parametrize(
        ("columns", "says"),
        [
            ({"framework": "TensorFlow"}, "TensorFlow"),
            ({"framework": ""}, "without a framework"),
            ({"files": [("a.pkl", io.BytesIO(b"x")), ("b.pkl", io.BytesIO(b"x"))]}, "several model files"),
            ({"files": [("a.txt", io.BytesIO(b"x")), ("b.txt", io.BytesIO(b"x"))]}, "nothing to open"),
        ],
    )
    def test_what_cannot_be_served(self, register: Register, columns: dict[str, Any], says: str) -> None:
        with pytest.raises(Invalid, match=says):
            model_file(register(**columns))

    def test_paging(self, team: Any, register: Register, django_assert_num_queries: Any) -> None:
        for number in range(7):
            register(name=f"m{number}")
        seen, cursor = [], None
        while True:
            with django_assert_num_queries(2):
                page = selectors.models_page(team.workspace, cursor=cursor, limit=3)
            seen += [row.model.name for row in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert seen == [f"m{number}" for number in reversed(range(7))]
        with pytest.raises(Invalid):
            selectors.models_page(team.workspace, cursor="nonsense")
