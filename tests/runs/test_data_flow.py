"""Datasets into runs and out of them, with the real local driver: what the script sees, and what is left behind."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compute import services as compute_services
from compute.models import Transfer
from compute.reconcile import tick
from runs.models import Run
from runs.selectors import run_get
from runs.services import snapshots, submit
from studio.api.v1.run_json import data_out
from studio.datasets.models import DatasetVersion, Datastore
from studio.datasets.services import datasets as dataset_services
from studio.datasets.services import datastores as datastore_services
from studio.lib import storage
from studio.lib.errors import Invalid

pytestmark = pytest.mark.django_db(transaction=True)

ENDED = ("Completed", "Failed", "Canceled")
SEE = """
import json, os, sys
names = ("animals", "AZUREML_DATAREFERENCE_animals", "WHERE")
found = {"argv": sys.argv[1:], "env": {k: v for k, v in os.environ.items() if k in names}}
path = sys.argv[1].replace("file://", "")
if os.path.isdir(path):
    walk = os.walk(path, followlinks=True)
    found["files"] = sorted(os.path.relpath(os.path.join(d, n), path) for d, _, names in walk for n in names)
elif os.path.exists(path):
    found["text"] = open(path).read()
try:
    open(os.path.join(path, "a.txt") if os.path.isdir(path) else path, "a").write("changed")
    found["wrote"] = True
except OSError as error:
    found["wrote"] = str(error)
found["datasets"] = json.load(open(os.path.join(os.environ["ATELIER_UNIT_DIR"], "datasets.json")))
print(json.dumps(found))
"""


def until(check: Callable[[], Any], seconds: float = 60) -> Any:
    """Drive everything as the worker and the beat would, until ``check`` gives something."""
    from compute.models import Unit
    from compute.services import advance

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for unit in Unit.objects.exclude(state__in=["completed", "failed", "canceled", "lost"]):
            compute_services.unit_advance(unit.pk)
            advance.unit_finish(unit.pk)
        tick()
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError([(u.label, u.state, u.error) for u in Unit.objects.all()])


def finish(run: Run, seconds: float = 60) -> Run:
    def ended() -> Run | None:
        found = run_get(run.workspace, run.run_id)
        return found if found.status in ENDED else None

    return until(ended, seconds)


def log_of(run: Run) -> str:
    path = storage.unit_directory(run.key) / "stdout.log"
    return path.read_text() if path.exists() else ""


def seen(run: Run) -> Any:
    return json.loads(log_of(run).strip().splitlines()[-1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that a local datastore lies in."""
    root = tmp_path / "nfs"
    (root / "animals" / "cats").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "cats/c.txt"):
        (root / "animals" / name).write_text(f"text of {name}")
    return root


@pytest.fixture
def store(team: Any, folder: Path) -> Datastore:
    return datastore_services.datastore_create(
        workspace=team.workspace, user=team.owner, name="nfs", kind="local", config={"path": str(folder)}
    )


@pytest.fixture
def dataset(team: Any, store: Datastore) -> Callable[..., DatasetVersion]:
    def make(*patterns: str, name: str | None = "animals", steps: Any = (), kind: str = "files") -> DatasetVersion:
        definition = {
            "format": 1, "type": "file" if kind == "files" else "tabular", "schema": None, "steps": list(steps),
            "source": {"kind": kind, "paths": [{"datastore": store.name, "path": pattern} for pattern in patterns]},
        }  # fmt: skip
        common = {"workspace": team.workspace, "user": team.contributor, "definition": definition}
        if name is None:
            return dataset_services.definition_save(**common)
        return dataset_services.dataset_register(**common, name=name, create_new_version=True)

    return make


@pytest.fixture
def send(team: Any, settings: Any) -> Callable[..., Run]:
    target = compute_services.ensure_local_target(team.workspace)

    def go(script: str = SEE, **options: Any) -> Run:
        return submit.run_submit(
            workspace=team.workspace, user=team.contributor, experiment="data", script="train.py",
            arguments=options.pop("arguments", ["${{inputs.animals}}"]),
            snapshot=snapshots.snapshot_from_texts(team.workspace, {"train.py": script, "data/x.csv": "1"}),
            target=target, environment=None, **options,
        )  # fmt: skip

    return go


def given(version: DatasetVersion, mode: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "animals", "mode": mode, "version": version, **more}]


def test_a_folder_mounted_is_one_link_that_cannot_be_written_through(send: Any, dataset: Any, folder: Path) -> None:
    version = dataset("animals/**")
    run = finish(send(inputs=given(version, "mount"), environment_variables={"WHERE": "at ${{inputs.animals}}/cats"}))
    assert run.status == "Completed", (run.error, log_of(run))
    unit = storage.unit_directory(run.key).resolve()
    found = seen(run)
    assert found["argv"] == [f"{unit}/inputs/animals"]
    assert found["env"] == {
        "animals": f"{unit}/inputs/animals", "AZUREML_DATAREFERENCE_animals": f"{unit}/inputs/animals",
        "WHERE": f"at {unit}/inputs/animals/cats",
    }  # fmt: skip
    assert found["files"] == ["a.txt", "b.txt", "cats/c.txt"]
    assert (unit / "inputs" / "animals").is_symlink()
    assert (unit / "inputs" / "animals").resolve() == folder / "animals"
    if os.geteuid() == 0:
        assert "Read-only" in found["wrote"]
        assert (folder / "animals" / "a.txt").read_text() == "text of a.txt"
        assert json.loads((unit / "mounts.json").read_text()) == {"read_only": True}
    entry = found["datasets"]["inputs"]["animals"]
    assert entry["id"] == str(version.pk) and entry["name"] == "animals" and entry["version"] == 1
    assert entry["path"] == f"{unit}/inputs/animals" and entry["definition"] == version.definition
    assert found["datasets"]["stores"] == {"nfs": {"root": str(folder)}}
    assert run.data.get().value == "{unit}/inputs/animals"
    assert data_out([run.pk])[run.pk]["in"][0]["value"] == f"{unit}/inputs/animals"
    run.data.update(value="")
    assert data_out([run.pk])[run.pk]["in"][0]["value"] is None  # as before it is settled
    assert dict(run.parameters.values_list("name", "value")) == {}


@pytest.mark.parametrize(
    ("patterns", "files"),
    [
        (["animals/*.txt"], ["a.txt", "b.txt"]),
        (["animals/a.txt", "animals/cats/*.txt"], ["a.txt", "c.txt"]),
        (["**/c.txt"], ["animals/cats/c.txt"]),
    ],
)
def test_a_part_of_a_folder_is_a_tree_of_links(
    send: Any, dataset: Any, folder: Path, patterns: list[str], files: list[str]
) -> None:
    run = finish(send(inputs=given(dataset(*patterns), "mount")))
    assert run.status == "Completed", (run.error, log_of(run))
    assert seen(run)["files"] == files
    assert (folder / "animals" / "a.txt").read_text() == "text of a.txt"


@pytest.mark.parametrize("mode", ["mount", "download", "hdfs"])
def test_a_dataset_of_one_file_is_the_path_of_that_file(send: Any, dataset: Any, folder: Path, mode: str) -> None:
    run = finish(send(inputs=given(dataset("animals/a.txt"), mode)))
    assert run.status == "Completed", (run.error, log_of(run))
    unit = storage.unit_directory(run.key).resolve()
    before = "file://" if mode == "hdfs" else ""
    assert seen(run)["argv"] == [f"{before}{unit}/inputs/animals/a.txt"]
    assert seen(run)["text"] == "text of a.txt"
    assert run.data.get().value == f"{before}{{unit}}/inputs/animals/a.txt"
    assert (folder / "animals" / "a.txt").read_text() == "text of a.txt"


def test_a_download_of_a_local_folder_is_a_copy_of_ones_own(send: Any, dataset: Any, folder: Path) -> None:
    run = finish(send(inputs=given(dataset("animals/**"), "download")))
    assert run.status == "Completed", (run.error, log_of(run))
    assert seen(run)["files"] == ["a.txt", "b.txt", "cats/c.txt"] and seen(run)["wrote"] is True
    assert (folder / "animals" / "a.txt").read_text() == "text of a.txt"
    transfer = Transfer.objects.get(unit=run.unit)
    assert (transfer.state, transfer.files_done, transfer.attempts) == ("done", 3, 1)
    assert transfer.result["animals"]["files"] == 3 and transfer.carrier.kind == "transfer"
    assert "3 files" in (storage.unit_directory(transfer.carrier.key) / "stdout.log").read_text()


def test_direct_gives_the_id_and_stages_nothing(send: Any, dataset: Any) -> None:
    version = dataset("animals/*.txt", kind="delimited")
    run = finish(
        send(inputs=given(version, "direct"), arguments=["${{inputs.animals}}", "--in", "${{inputs.animals}}"])
    )
    assert run.status == "Completed", (run.error, log_of(run))
    assert seen(run)["argv"] == [str(version.pk), "--in", str(version.pk)]
    assert seen(run)["datasets"]["inputs"]["animals"]["path"] is None
    assert dict(run.parameters.values_list("name", "value")) == {"in": "animals:1"}
    assert run.data.get().value == str(version.pk)
    again = submit.run_resubmit(run, user=run.created_by)
    assert again.data.get().version == version and finish(again).status == "Completed"


@pytest.mark.parametrize("wanted", ["input/here", "/{tmp}/shared/here"])
def test_a_path_on_the_compute_is_a_link_there(send: Any, dataset: Any, tmp_path: Path, wanted: str) -> None:
    wanted = wanted.replace("/{tmp}", str(tmp_path))
    run = finish(send(inputs=given(dataset("animals/**"), "mount", path_on_compute=wanted)))
    assert run.status == "Completed", (run.error, log_of(run))
    unit = storage.unit_directory(run.key).resolve()
    assert seen(run)["argv"] == [wanted if wanted.startswith("/") else f"{unit}/code/{wanted}"]
    assert seen(run)["files"] == ["a.txt", "b.txt", "cats/c.txt"]
    assert not os.path.lexists(tmp_path / "shared" / "here")


@pytest.mark.parametrize("wanted", ["data", "data/x.csv", "/{tmp}/nfs"])
def test_a_path_that_is_taken_is_refused(send: Any, dataset: Any, tmp_path: Path, wanted: str) -> None:
    wanted = wanted.replace("/{tmp}", str(tmp_path))
    run = finish(send(inputs=given(dataset("animals/**"), "mount", path_on_compute=wanted)))
    assert run.status == "Failed" and run.error is not None
    assert run.error["code"] == "InputFailed" and "is there already" in run.error["message"], run.error


@pytest.mark.parametrize("kept", ["stores/1/x", "secrets/fernet.keys.new", "../etc"])
def test_a_path_among_the_studios_own_is_refused(send: Any, dataset: Any, data_folder: Path, kept: str) -> None:
    wanted = "/etc/cron.d/atelier-test" if kept == "../etc" else str(data_folder / kept)
    run = finish(send(inputs=given(dataset("animals/**"), "mount", path_on_compute=wanted)))
    assert run.status == "Failed" and run.error is not None
    assert run.error["code"] == "InputFailed" and "no input is put" in run.error["message"], run.error
    assert not os.path.lexists(wanted)


def test_a_dataset_without_files_fails_the_run_by_name(send: Any, dataset: Any) -> None:
    for pattern in ("birds/**", "animals/*.png", "animals/d.txt"):
        run = finish(send(inputs=given(dataset(pattern), "mount")))
        assert run.status == "Failed" and run.error is not None
        assert run.error["code"] == "InputFailed" and "animals (animals:" in run.error["message"], run.error


WRITE = """
import os, sys
place = sys.argv[1].replace("file://", "")
os.makedirs(os.path.join(place, "deep"), exist_ok=True)
for name in ("one.txt", "deep/two.txt"):
    with open(os.path.join(place, name), "w") as out:
        out.write("made " + name)
sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
"""


def test_an_output_is_moved_and_registered_when_the_run_has_completed(
    send: Any, team: Any, store: Datastore, folder: Path
) -> None:
    outputs = [
        {"name": "made", "datastore": "nfs", "path": "out", "register": {"name": "result", "tags": {"by": "test"}}}
    ]
    run = finish(send(WRITE, outputs=outputs, arguments=["${{outputs.made}}"]))
    assert run.status == "Completed", (run.error, log_of(run))
    assert (folder / "out" / "one.txt").read_text() == "made one.txt"
    assert (folder / "out" / "deep" / "two.txt").read_text() == "made deep/two.txt"
    unit = storage.unit_directory(run.key)
    assert (unit / "produced" / "made" / "one.txt").resolve() == folder / "out" / "one.txt"
    row = run.data.get()
    assert str(row.version) == "result:1" and row.version.tags == {"by": "test"}
    assert row.version.definition["source"]["paths"] == [{"datastore": "nfs", "path": "out/**"}]
    assert Transfer.objects.get(unit=run.unit).carrier is None
    assert sorted(path.name for path in (folder / "out").rglob("*")) == ["deep", "one.txt", "two.txt"]
    second = finish(send(WRITE, outputs=outputs, arguments=["${{outputs.made}}"]))
    assert str(second.data.get().version) == "result:1", "the same place is the same definition"


def test_the_default_place_is_the_runs_own_and_saved_without_a_name(send: Any, team: Any, data_folder: Path) -> None:
    run = finish(send(WRITE, outputs=[{"name": "made"}], arguments=["${{outputs.made}}"]))
    assert run.status == "Completed", (run.error, log_of(run))
    row = run.data.get()
    assert row.settings["to"] == f"dataset/{run.run_id}/made" and row.version.dataset is None
    files = sorted(path.name for path in data_folder.glob(f"stores/*/dataset/{run.run_id}/made/**/*") if path.is_file())
    assert files == ["one.txt", "two.txt"]


def test_a_run_that_failed_saves_nothing(send: Any, store: Datastore, folder: Path) -> None:
    run = finish(send(WRITE, outputs=[{"name": "made", "datastore": "nfs", "path": "out", "register": {"name": "r"}}],
                      arguments=["${{outputs.made}}", "3"]))  # fmt: skip
    assert run.status == "Failed" and run.data.get().version is None
    assert not (folder / "out").exists()
    assert (storage.unit_directory(run.key) / "produced" / "made" / "one.txt").read_text() == "made one.txt"


@pytest.mark.parametrize("name", ["a/b", "new", "made:1", "x" * 256])
def test_a_dataset_name_that_cannot_be_is_refused_before_the_run(send: Any, store: Datastore, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        send(outputs=[{"name": "made", "mode": "upload", "register": {"name": name}}])
    assert "Output made: " in caught.value.errors["outputs"][0]
    assert not Run.objects.exists()


def test_an_output_that_is_one_file(send: Any, store: Datastore, folder: Path) -> None:
    script = "import sys\nopen(sys.argv[1], 'w').write('whole')\n"
    outputs = [{"name": "made", "datastore": "nfs", "path": "out/model", "leaf": "parent", "mode": "mount"}]
    run = finish(send(script, outputs=outputs, arguments=["${{outputs.made}}"]))
    assert run.status == "Completed", (run.error, log_of(run))
    assert (folder / "out" / "model").read_text() == "whole"
    version = run.data.get().version
    assert version.definition["source"]["paths"] == [{"datastore": "nfs", "path": "out/model"}]
    read = "import sys\nprint(open(sys.argv[1]).read())\n"
    follower = finish(send(read, inputs=given(version, "mount")))
    assert log_of(follower).strip() == "whole"


def test_an_output_that_cannot_be_saved_fails_the_run_and_stays(send: Any, store: Datastore, folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "deep").write_text("a file is in the way")
    run = finish(send(WRITE, outputs=[{"name": "made", "datastore": "nfs", "path": "out"}],
                      arguments=["${{outputs.made}}"]))  # fmt: skip
    assert run.status == "Failed" and run.error is not None
    assert run.error["code"] == "OutputUploadFailed"
    assert "out/deep/two.txt" in run.error["message"] and "nfs" in run.error["message"]
    assert "produced/made" in run.error["message"]
    assert (
        storage.unit_directory(run.key) / "produced" / "made" / "deep" / "two.txt"
    ).read_text() == "made deep/two.txt"
    assert run.data.get().version is None
