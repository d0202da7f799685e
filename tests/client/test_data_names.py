"""Inputs, outputs and references in what is submitted, and what is said when they cannot be: no studio needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from atelier.data.bindings import Bindings
from azureml.core import Dataset, ScriptRunConfig
from azureml.core.runconfig import DataReferenceConfiguration, RunConfiguration
from azureml.data import HDFSOutputDatasetConfig, OutputFileDatasetConfig
from azureml.data.data_reference import DataReference
from azureml.data.datapath import DataPath
from azureml.data.dataset_consumption_config import DatasetConsumptionConfig
from azureml.exceptions import DatasetTimestampMissingError, UserErrorException
from azureml.pipeline.core import PipelineData

from tests.client.conftest import SOURCE

URL = "https://example.test/data/a.csv"


@pytest.fixture
def store() -> Any:
    """A datastore of a workspace that nobody answers for."""
    from atelier.datastore import Datastore
    from atelier.workspace import Workspace

    workspace = Workspace(workspace_name="main", endpoint="http://127.0.0.1:9", _disable_service_check=True)
    return Datastore(workspace, _data={"name": "blobs", "kind": "workspace"})


def submitted(**options: Any) -> dict[str, Any]:
    config = ScriptRunConfig("code", "train.py", **options)
    return config._request(None)  # type: ignore[arg-type]


def test_arguments_command_and_variables_carry_tokens(store: Any) -> None:
    tabular = Dataset.Tabular.from_delimited_files((store, "a/*.csv"))
    files = Dataset.File.from_files([(store, "b/**"), URL])
    output = OutputFileDatasetConfig("result", destination=(store, "out/{run-id}")).register_on_complete("made")
    config = ScriptRunConfig(
        "code",
        "train.py",
        arguments=["--in", tabular.as_named_input("table"), "--out", output, 0.5, Path("x")],
    )
    config.run_config.environment_variables = {
        "FILES": files.as_named_input("files").as_download("data"),
        "table": tabular.as_named_input("table"),
        "N": 3,
    }
    body = config._request(None)  # type: ignore[arg-type]
    assert body["arguments"] == ["--in", "${{inputs.table}}", "--out", "${{outputs.result}}", "0.5", "x"]
    assert body["environment_variables"] == {"FILES": "${{inputs.files}}", "N": "3"}
    table, files_in = body["inputs"]
    assert (table["name"], table["mode"], table["definition"]["source"]["paths"]) == (
        "table",
        "direct",
        [{"datastore": "blobs", "path": "a/*.csv"}],
    )
    assert (files_in["mode"], files_in["path_on_compute"]) == ("download", "data")
    assert files_in["definition"]["source"]["paths"] == [{"datastore": "blobs", "path": "b/**"}, {"url": URL}]
    assert body["outputs"] == [
        {
            "name": "result",
            "mode": "mount",
            "datastore": "blobs",
            "path": "out/{run-id}",
            "leaf": "folder",
            "register": {"name": "made", "description": "", "tags": {}},
            "type": "file",
            "options": {},
        }
    ]
    config = ScriptRunConfig("code", command=["python", "x.py", tabular.as_named_input("one")])
    assert config._request(None)["command"] == ["python", "x.py", "${{inputs.one}}"]


def test_one_name_has_one_meaning(store: Any) -> None:
    first = Dataset.File.from_files((store, "a.csv")).as_named_input("data").as_mount()
    other = Dataset.File.from_files((store, "b.csv")).as_named_input("data").as_mount()
    assert len(submitted(arguments=[first, first])["inputs"]) == 1
    with pytest.raises(UserErrorException, match=r"name 'data': .*blobs:a\.csv.* and .*blobs:b\.csv") as caught:
        submitted(arguments=[first, other])
    assert "another name" in str(caught.value)


@pytest.mark.parametrize("name", ["1st", "a-b", "", "a b", None])
def test_a_name_is_an_environment_variable_too(store: Any, name: Any) -> None:
    with pytest.raises(UserErrorException, match="cannot be the name of an input"):
        Dataset.File.from_files((store, "a.csv")).as_named_input(name)


def test_data_without_a_name_gets_one_of_its_content(store: Any) -> None:
    tabular, files = Dataset.Tabular.from_parquet_files((store, "p")), Dataset.File.from_files((store, "p"))
    body = submitted(arguments=[tabular, files.as_mount(), files.as_hdfs().dataset])
    modes = [item["mode"] for item in body["inputs"][:2]]
    assert modes == ["direct", "mount"]
    assert all(item["name"].startswith("input_") for item in body["inputs"])


def test_a_tabular_dataset_is_no_files(store: Any) -> None:
    tabular = Dataset.Tabular.from_delimited_files((store, "a.csv")).as_named_input("t")
    for call in (tabular.as_mount, tabular.as_download, tabular.as_hdfs):
        with pytest.raises(UserErrorException, match=r"Dataset\.File\.from_files"):
            call()
    with pytest.raises(UserErrorException, match="'t' is a tabular dataset"):
        submitted(arguments=[DatasetConsumptionConfig("t", tabular.dataset, "mount")])


def test_references(store: Any) -> None:
    place = store.path("some/folder")
    assert isinstance(place, DataReference) and isinstance(place, DataPath)
    upload = store.path("to", data_reference_name="up").as_upload()
    config = ScriptRunConfig("code", "train.py", arguments=[place.as_download(), upload])
    config.run_config.data_references = {
        "old": DataReferenceConfiguration("blobs", "mount", "x"),
        "older": {"dataStoreName": "blobs", "pathOnDataStore": "y", "mode": "download"},
    }
    body = config._request(None)  # type: ignore[arg-type]
    assert [(item["name"], item["mode"]) for item in body["inputs"]] == [
        ("old", "mount"),
        ("older", "download"),
        (place.data_reference_name, "download"),
    ]
    assert body["outputs"][0]["path"] == "to" and body["outputs"][0]["leaf"] == "parent"
    assert body["arguments"] == [f"${{{{inputs.{place.name}}}}}", "${{outputs.up}}"]
    with pytest.raises(UserErrorException, match="leaves the datastore"):
        store.path("../x").path_on_datastore  # noqa: B018


def test_references_live_in_a_run_configuration_s_file(store: Any, tmp_path: Path) -> None:
    config = RunConfiguration()
    config.data_references = {"data": store.path("x", data_reference_name="data").as_download()}
    config.save(tmp_path / "one.runconfig")
    back = RunConfiguration.load(tmp_path / "one.runconfig").data_references["data"]
    assert (back.datastore_name, back.path_on_datastore, back.mode) == ("blobs", "x", "download")


def test_outputs_are_copies(store: Any) -> None:
    output = OutputFileDatasetConfig("out")
    named = output.register_on_complete("made", tags={"n": 1})
    table = named.read_delimited_files(separator=";", header=False).as_upload()
    assert output._body()["register"] is None and named._body()["register"]["tags"] == {"n": "1"}
    assert (table._body()["type"], table._body()["mode"], named._body()["type"]) == ("tabular", "upload", "file")
    assert table._body()["options"]["separator"] == ";"
    spark = HDFSOutputDatasetConfig(destination=(store, "test")).register_on_complete(name="r")
    assert (spark._body()["mode"], spark._body()["leaf"], spark._body()["path"]) == ("hdfs", "parent", "test")
    data = PipelineData("data", datastore=store)
    assert (data._body()["leaf"], PipelineData("d", is_directory=True)._body()["leaf"]) == ("parent", "folder")
    assert OutputFileDatasetConfig().name != OutputFileDatasetConfig().name


def test_an_output_is_an_input_once_its_run_is_there() -> None:
    later = OutputFileDatasetConfig("out").as_input("later")
    with pytest.raises(UserErrorException, match="output 'out' of a run that was not submitted"):
        Bindings().take(later)


def test_what_paths_may_be(store: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n")
    for local in ("./a.csv", str(tmp_path / "a.csv"), tmp_path / "a.csv", "file:///a.csv"):
        with pytest.raises(UserErrorException, match=r"upload_files.*upload_directory.*register_local.*read_csv"):
            Dataset.Tabular.from_delimited_files(local)
    with pytest.raises(UserErrorException, match="register_s3"):
        Dataset.File.from_files("s3://bucket/x")
    made = Dataset.File.from_files([URL, (store, ["a", "b"]), store.path("c"), DataPath(store, "d/*"), store])
    shown = [path.get("path") or path["url"] for path in made._definition["source"]["paths"]]
    assert shown == [URL, "a", "b", "c", "d/*", "**"]


def test_steps_never_change_what_they_are_called_on(store: Any) -> None:
    tabular = Dataset.Tabular.from_delimited_files((store, "a.csv"))
    before = repr(tabular)
    made = tabular.filter(tabular["age"] > 30).keep_columns(["age"]).take(5).skip(1).take_sample(0.5, seed=1)
    first, second = made.random_split(0.8)
    assert repr(tabular) == before
    assert first._definition["steps"][-1]["seed"] == second._definition["steps"][-1]["seed"]
    assert [step["op"] for step in made._definition["steps"]] == ["filter", "keep", "take", "skip", "sample"]
    assert tabular == Dataset.Tabular.from_delimited_files((store, "a.csv")) and tabular != made
    with pytest.raises(DatasetTimestampMissingError):
        tabular.time_recent(__import__("datetime").timedelta(days=1))
    with pytest.raises(UserErrorException, match="register"):
        tabular.get_profile()


def test_what_is_not_here_says_so(store: Any) -> None:
    from azureml.core import Datastore

    with pytest.raises(UserErrorException, match=r"register_local"):
        Datastore.register_azure_file_share(None, "n", "share", "account")
    with pytest.raises(UserErrorException, match="filtered"):
        Dataset.Tabular.from_delimited_files((store, "a")).partition_by(["a"])
    with pytest.raises(UserErrorException, match="no rows"):
        Dataset.File.from_files((store, "a")).to_pandas_dataframe()


def test_the_other_azure_package_wins_where_it_is_installed(tmp_path: Path) -> None:
    line = (
        "import azureml.core\nfrom azure.common.credentials import UserPassCredentials as U\nprint(U.__module__)\n"
        "try:\n    import azure.nothing\nexcept ModuleNotFoundError as e:\n    print(e)"
    )
    own = tmp_path / "site" / "azure" / "common"
    own.mkdir(parents=True)
    (own / "__init__.py").write_text("")
    (own / "credentials.py").write_text("class UserPassCredentials: pass")
    for path, module in ((str(SOURCE), "atelier.auth"), (f"{SOURCE}:{own.parents[1]}", "azure.common.credentials")):
        env = {"PYTHONPATH": path}
        done = subprocess.run([sys.executable, "-S", "-c", line], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [module, "No module named 'azure.nothing'"]


def test_inputs_of_a_run_print_as_datasets_and_paths() -> None:
    from atelier.data.definition import make
    from atelier.data.unit_source import InputDatasets

    made = make("files", [{"datastore": "nfs", "path": "animals/**"}])
    common = {"id": "0", "definition": made, "type": "file", "mode": "mount"}
    named = {**common, "name": "animals", "version": 2, "path": "/unit/inputs/cats"}
    found = InputDatasets(lambda: None, {"cats": named, "all": {**common, "name": None, "version": None, "path": None}})
    assert str(found) == "{'cats': animals:2 at /unit/inputs/cats, 'all': animals/}"
    assert found.values()[0] is found["cats"] and [name for name, _dataset in found.items()] == ["cats", "all"]
