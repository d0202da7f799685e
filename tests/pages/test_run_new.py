from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from runs import forms
from runs.models import Run, Snapshot
from studio.lib.errors import Invalid
from tests.pages.conftest import zip_of


def fields(world: Any, **changes: Any) -> dict[str, Any]:
    from compute.services import ensure_local_target

    ensure_local_target(world.team.workspace)
    base = {"source": "paste", "code": "print(1)\n", "code_name": "train.py", "experiment": "iris", "target": "local"}
    return base | {"environment_kind": "system", "time_unit": "60"} | changes


def test_a_pasted_script_becomes_a_run(world: Any) -> None:
    data = fields(
        world,
        arguments="--lr 0.1 --name 'two words'",
        variable_name=["SEED", ""],
        variable_value=["7", ""],
        tag_name=["team", "keep"],
        tag_value=["vision", ""],
        time_limit="2",
        time_unit="3600",
        name="first",
    )
    answer = world.clients["contributor"].post("/w/main/runs/new/", data)
    run = Run.objects.get()
    assert answer.status_code == 302 and answer["Location"] == run.get_absolute_url()
    assert run.arguments == ["--lr", "0.1", "--name", "two words"]
    assert run.environment_variables == {"SEED": "7"}
    assert dict(run.tag_rows.values_list("key", "value")) == {"team": "vision", "keep": None}
    assert run.time_limit_s == 7200 and run.name == "first"
    assert run.snapshot is not None and [file["path"] for file in run.snapshot.files] == ["train.py"]


def test_the_same_form_twice_is_one_run(world: Any) -> None:
    data = fields(world, idempotency_key="a" * 32)
    first = world.clients["contributor"].post("/w/main/runs/new/", data)
    second = world.clients["contributor"].post("/w/main/runs/new/", data)
    assert first["Location"] == second["Location"] and Run.objects.count() == 1


def test_errors_are_beside_their_fields_and_nothing_is_lost(world: Any) -> None:
    data = fields(
        world, code="print('kept')", experiment="not allowed!", arguments="--a 'open", time_limit="0", target="x"
    )
    answer = world.clients["contributor"].post("/w/main/runs/new/", data)
    page = answer.content.decode()
    assert answer.status_code == 422 and Run.objects.count() == 0
    for part in (
        "print(&#x27;kept&#x27;)",
        "not allowed!",
        "--a &#x27;open",
        "No closing quotation",
        "compute target of that name",
    ):
        assert part in page, part
    answer = world.clients["contributor"].post("/w/main/runs/new/", fields(world, experiment="not allowed!"))
    assert 'id="experiment-error"' in answer.content.decode()


def test_a_time_limit_that_is_too_long_or_no_number_above_0_is_refused_in_the_form(world: Any) -> None:
    for limit, said in (("0", "1 or more, and at most 365 days"), ("999999999999", "at most 365 days")):
        answer = world.clients["contributor"].post("/w/main/runs/new/", fields(world, time_limit=limit))
        assert answer.status_code == 422 and said in answer.content.decode()
    assert not Run.objects.exists()


def test_upload_of_a_folder_keeps_paths_and_follows_ignore_rules(world: Any) -> None:
    names = ["proj/train.py", "proj/lib/a.py", "proj/data/big.bin", "proj/.amlignore"]
    contents = [b"print(1)", b"x = 1", b"0" * 1000, b"data/\n"]
    files = [
        SimpleUploadedFile(name.rpartition("/")[2], content) for name, content in zip(names, contents, strict=True)
    ]
    answer = world.clients["contributor"].post("/w/main/runs/new/upload/", {"files": files, "paths": names})
    snapshot = Snapshot.objects.get()
    assert answer.status_code == 200 and snapshot.digest in answer.content.decode()
    paths = {file["path"] for file in snapshot.files}
    assert {"train.py", "lib/a.py"} <= paths and "data/big.bin" not in paths
    run = world.clients["contributor"].post(
        "/w/main/runs/new/", fields(world, source="upload", snapshot=snapshot.digest, script="lib/a.py", code="")
    )
    assert run.status_code == 302 and Run.objects.get().script == "lib/a.py"


def test_a_zip_in_the_form_itself_works_without_scripts(world: Any) -> None:
    data = fields(world, source="upload", code="", script="train.py", files=zip_of({"train.py": "print(1)"}))
    assert world.clients["contributor"].post("/w/main/runs/new/", data).status_code == 302
    assert Run.objects.get().script == "train.py"


def test_an_uploaded_zip_is_kept_when_another_field_is_wrong(world: Any) -> None:
    data = fields(world, source="upload", code="", script="", experiment="", files=zip_of({"a.py": "1", "b.py": "2"}))
    answer = world.clients["contributor"].post("/w/main/runs/new/", data)
    assert answer.status_code == 422 and Snapshot.objects.get().digest in answer.content.decode()


@pytest.mark.parametrize("path", ["../evil.py", "/etc/passwd", "a\\b.py"])
def test_paths_that_leave_the_folder_are_refused(world: Any, path: str) -> None:
    files = [SimpleUploadedFile("x.py", b"1"), SimpleUploadedFile("y.py", b"1")]
    answer = world.clients["contributor"].post("/w/main/runs/new/upload/", {"files": files, "paths": [path, "y.py"]})
    assert answer.status_code == 422 and Snapshot.objects.count() == 0


def test_many_files_in_one_request(world: Any) -> None:
    files = [SimpleUploadedFile(f"f{n}.py", b"%d" % n) for n in range(1500)]
    answer = world.clients["contributor"].post("/w/main/runs/new/upload/", {"files": files})
    assert answer.status_code == 200 and Snapshot.objects.get().count == 1500


def test_uploads_need_the_csrf_token(world: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.team.contributor)
    files = {"files": SimpleUploadedFile("x.py", b"1")}
    assert client.post("/w/main/runs/new/upload/", files).status_code == 403
    assert client.post("/w/main/runs/new/", fields(world)).status_code == 403


def test_arguments_preview(world: Any) -> None:
    page = world.clients["owner"].get("/w/main/runs/new/arguments/", {"arguments": "--lr 0.1 'a b'"}).content.decode()
    assert "<code>a b</code>" in page and "lr = 0.1 a b" in page
    page = world.clients["owner"].get("/w/main/runs/new/arguments/", {"arguments": "'"}).content.decode()
    assert "No closing quotation" in page


def test_packages_that_cannot_be_read_are_named(world: Any) -> None:
    data = {"environment_kind": "pip", "packages": "numpy ==== 1"}
    page = world.clients["owner"].post("/w/main/runs/new/packages/", data).content.decode()
    assert "numpy ==== 1" in page
    answer = world.clients["owner"].post("/w/main/runs/new/", fields(world, **data))
    assert answer.status_code == 422 and "numpy ==== 1" in answer.content.decode()


def test_a_pip_list_becomes_an_environment_of_its_own(world: Any) -> None:
    for _again in range(2):
        data = fields(world, environment_kind="pip", packages="numpy\npandas>=2")
        assert world.clients["contributor"].post("/w/main/runs/new/", data).status_code == 302
    first, second = Run.objects.order_by("id")
    assert first.environment is not None and first.environment == second.environment
    assert first.environment.anonymous and "numpy" in str(first.environment.recipe)


def test_conda_file_upload(world: Any) -> None:
    text = b"dependencies:\n  - python=3.11\n  - pip:\n      - numpy\n"
    data = fields(world, environment_kind="conda", conda="", conda_file=BytesIO(text))
    data["conda_file"].name = "conda_dependencies.yml"
    assert world.clients["contributor"].post("/w/main/runs/new/", data).status_code == 302
    environment = Run.objects.get().environment
    assert environment is not None and environment.recipe["kind"] == "conda"


def test_resubmit_is_prefilled_and_makes_a_new_run(world: Any) -> None:
    run = world.run(name="old", tags={"a": "b"}, environment_variables={"X": "1"}, time_limit_s=7200)
    url = f"/w/main/runs/{run.run_id}/resubmit/"
    page = world.clients["contributor"].get(url).content.decode()
    for part in (run.snapshot.digest, 'value="--lr 0.1"', 'value="old"', 'value="X"', 'value="b"', 'value="2"'):
        assert part in page, part
    data = fields(
        world, source="upload", snapshot=run.snapshot.digest, script="train.py", code="", arguments="--lr 0.9"
    )
    assert world.clients["contributor"].post(url, data).status_code == 302
    assert Run.objects.order_by("-id").first().arguments == ["--lr", "0.9"]


def test_arguments_split() -> None:
    assert forms.arguments_split("a 'b c' --x=1\n--y 2") == ["a", "b c", "--x=1", "--y", "2"]
    with pytest.raises(Invalid):
        forms.arguments_split('"')


def test_a_command_is_submitted_again_as_it_was(world: Any) -> None:
    from compute.services import ensure_local_target
    from runs.services import snapshots, submit

    workspace = world.team.workspace
    run = submit.run_submit(
        workspace=workspace,
        user=world.team.contributor,
        experiment="iris",
        script="",
        arguments=[],
        command=["python", "-c", "print(1)"],
        snapshot=snapshots.snapshot_from_texts(workspace, {"a.py": "1"}),
        target=ensure_local_target(workspace),
        environment=None,
    )
    url = f"/w/main/runs/{run.run_id}/resubmit/"
    assert "print(1)" in world.clients["contributor"].get(url).content.decode()
    data = fields(world, source="upload", snapshot=run.snapshot.digest, script="", code="")
    assert world.clients["contributor"].post(url, data).status_code == 302
    assert Run.objects.order_by("-id").first().command == ["python", "-c", "print(1)"]
