"""The names: one object through every path, words for what is not there, and Python 3.8."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.conftest import ROOT, SOURCE

FILES = sorted(SOURCE.rglob("*.py"))

PATHS = {
    "Run": ["core", "core.run"],
    "Workspace": ["core", "core.workspace"],
    "Experiment": ["core", "core.experiment"],
    "Environment": ["core", "core.environment", "core.runconfig"],
    "Model": ["core", "core.model"],
    "ScriptRunConfig": ["core", "core.script_run_config"],
    "RunConfiguration": ["core", "core.runconfig"],
    "CondaDependencies": ["core", "core.conda_dependencies", "core.runconfig", "core.environment"],
    "ComputeTarget": ["core", "core.compute", "core.compute_target"],
    "RemoteCompute": ["core", "core.compute", "core.compute_target"],
    "LocalTarget": ["core.compute", "core.compute_target"],
    "DockerConfiguration": ["core.runconfig"],
    "Webservice": ["core", "core.webservice"],
    "LocalWebservice": ["core.webservice"],
    "AciWebservice": ["core.webservice"],
    "ServicePrincipalAuthentication": ["core.authentication"],
    "InteractiveLoginAuthentication": ["core.authentication"],
    "TokenAuthentication": ["core.authentication"],
    "UserPassCredentials": ["core.authentication"],
    "ResourceConfiguration": ["core", "core.resource_configuration"],
    "InferenceConfig": ["core.model"],
    "ComputeTargetException": ["exceptions", "core.compute_target"],
    "WebserviceException": ["exceptions", "core.webservice"],
    "UserErrorException": ["exceptions"],
    "ActivityFailedException": ["exceptions"],
    "DatasetTimestampMissingError": ["exceptions"],
    "RunDetails": ["widgets"],
    "set_diagnostics_collection": ["telemetry"],
    "get_azureml_logger": ["logging"],
    "_OfflineRun": ["core.run"],
    "Dataset": ["core", "core.dataset", "core.model"],
    "Datastore": ["core", "core.datastore"],
    "TabularDataset": ["data", "data.tabular_dataset", "core.dataset"],
    "FileDataset": ["data", "data.file_dataset", "core.dataset"],
    "DataType": ["data", "data.dataset_factory"],
    "OutputFileDatasetConfig": ["data", "data.output_dataset_config"],
    "HDFSOutputDatasetConfig": ["data", "data.output_dataset_config"],
    "DataPath": ["data.datapath"],
    "DataReference": ["data.data_reference"],
    "DataReferenceConfiguration": ["core.runconfig"],
    "DatasetConsumptionConfig": ["data.dataset_consumption_config"],
    "TabularDatasetFactory": ["data.dataset_factory"],
    "AzureBlobDatastore": ["data", "data.azure_storage_datastore"],
    "PipelineData": ["pipeline.core"],
}


@pytest.mark.parametrize("name", PATHS)
def test_a_name_is_the_same_object_through_every_path(name: str) -> None:
    found = {id(getattr(importlib.import_module(f"azureml.{path}"), name)) for path in PATHS[name]}
    assert len(found) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from azureml.pipeline.core import Pipeline",
        "import azureml.pipeline.steps",
        "from azureml.train.hyperdrive import choice",
        "from azureml.core.runconfig import MpiConfiguration",
    ],
)
def test_what_is_not_there_yet_says_so(line: str) -> None:
    with pytest.raises(ImportError, match="cannot be used with this version of the Atelier client"):
        exec(line, {})


def test_a_typing_error_is_an_attribute_error() -> None:
    import azureml.core

    assert not hasattr(azureml.core, "Wrokspace")
    with pytest.raises(ImportError, match="cannot import name"):
        exec("from azureml.core import Wrokspace", {})


def test_inference_config_says_what_works() -> None:
    from azureml.core.model import InferenceConfig
    from azureml.exceptions import UserErrorException

    with pytest.raises(UserErrorException, match="without inference_config"):
        InferenceConfig(entry_script="score.py")


def evaluated(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run, leaving out annotations (which are texts in these files)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.arg):
            continue
        if isinstance(node, ast.AnnAssign):
            if node.value is not None:
                yield node.value
                yield from evaluated(node.value)
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        yield node
        yield from evaluated(node)


# What a user's environment may have; imported where it is needed, never when a module is.
OPTIONAL = {"duckdb", "numpy", "pandas", "pyarrow", "pyspark"}

NEWER = {
    "removeprefix",
    "removesuffix",
    "is_relative_to",
    "with_stem",
    "hardlink_to",
    "bit_count",
    "pairwise",
    "walk_up",
}


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(SOURCE)) for path in FILES])
def test_every_file_is_python_3_8_of_the_standard_library(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text, feature_version=(3, 8))
    first = [node for node in tree.body if not isinstance(node, ast.Expr)]
    future = isinstance(first[0], ast.ImportFrom) and first[0].module == "__future__" if first else True
    annotated = any(isinstance(node, (ast.AnnAssign, ast.arg)) and node.annotation for node in ast.walk(tree))
    assert future or not annotated
    for node in evaluated(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            assert node.value.id not in {"dict", "list", "tuple", "set", "frozenset", "type"}, f"line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in NEWER, f"line {node.lineno}"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            assert not any(isinstance(side, ast.Constant) and side.value is None for side in (node.left, node.right))
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if not node.level else ["atelier"]
        else:
            continue
        for name in names:
            top = name.split(".")[0]
            if top in OPTIONAL:
                assert node not in tree.body, f"line {node.lineno}: {name} is imported with the module"
                continue
            assert top in sys.stdlib_module_names or top in {"atelier", "azureml"}, name
        assert not {"tomllib", "zoneinfo", "graphlib"} & set(names)


def test_ruff_finds_nothing_for_python_3_8() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "client"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
