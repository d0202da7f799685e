"""Run configuration and compute files as people edited them by hand, of 2017 and of v1."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from atelier import tinyyaml
from atelier.runconfig import RunConfiguration
from azureml.exceptions import UserErrorException

DOCKER_2017 = """\
ArgumentVector:
  - "$file"
  - "--epochs"
  - 3
Target: docker
EnvironmentVariables:
  EXAMPLE_ENV_VAR: "EXAMPLE_VALUE"
  EMPTY:
Framework: Python
CondaDependenciesFile: aml_config/conda_dependencies.yml
SparkDependenciesFile: aml_config/spark_dependencies.yml
PrepareEnvironment: yes
TrackedRun: true
UseSampling: false
"""
# As the documentation of 2017 showed it: the variables are not indented.
UNINDENTED = """\
Target: local
EnvironmentVariables:
"EXAMPLE_ENV_VAR1": "Example Value1"
"EXAMPLE_ENV_VAR2": "Example Value2"
Framework: Python
"""
V1 = """\
# The script to run.
script: train.py
arguments: [--lr, 0.5]
target: cpu
nodeCount: '1'
maxRunDurationSeconds:
environment:
  environmentVariables:
    EXAMPLE: x
  python:
    userManagedDependencies: false
    interpreterPath: python
    condaDependenciesFile: aml_config/conda_dependencies.yml
    baseCondaEnvironment:
  docker:
    enabled: true
    baseImage: mcr.microsoft.com/azureml/base:0.2.4
    sharedVolumes: true
    gpuSupport: false
    shmSize: 1g
    arguments: []
    baseImageRegistry:
      address:
      username:
history:
  outputCollection: true
  snapshotProject: true
  directoriesToWatch:
  - logs
hdi:
  yarnDeployMode: cluster
tensorflow:
  workerCount: 1
  parameterServerCount: 1
sourceDirectoryDataStore:
amlcompute:
  vmSize: STANDARD_D2_V2
  clusterMaxNodeCount: 1
"""


def written(folder: Path, name: str, text: str) -> Path:
    place = folder / "aml_config"
    place.mkdir(exist_ok=True)
    (place / "conda_dependencies.yml").write_text("dependencies:\n- numpy\n")
    (place / f"{name}.runconfig").write_text(text)
    return folder


def test_of_2017(tmp_path: Path) -> None:
    found = RunConfiguration.load(written(tmp_path, "docker", DOCKER_2017), "docker")
    assert found.target == "docker" and found.script is None and found.arguments == ["--epochs", "3"]
    assert found.environment_variables == {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE", "EMPTY": ""}
    assert list(found.environment.python.conda_dependencies.conda_packages) == ["numpy"]
    assert found.auto_prepare_environment is True and found.spark_dependencies_file.endswith("spark_dependencies.yml")


@pytest.mark.parametrize("text", [DOCKER_2017, UNINDENTED, V1], ids=["2017", "unindented", "v1"])
def test_what_is_not_used_is_kept(tmp_path: Path, text: str) -> None:
    first = RunConfiguration.load(written(tmp_path, "a", text), "a")
    first.save(tmp_path / "again.runconfig")
    second = RunConfiguration.load(tmp_path / "again.runconfig")
    assert second.to_dict() == first.to_dict()
    kept = tinyyaml.load((tmp_path / "again.runconfig").read_text())
    for key, value in tinyyaml.load(text).items():
        if key in ("TrackedRun", "UseSampling", "SparkDependenciesFile", "ArgumentVector", "tensorflow", "amlcompute"):
            assert kept[key] == value


def test_variables_that_are_not_indented(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "atelier"):
        found = RunConfiguration.load(written(tmp_path, "local", UNINDENTED), "local")
    assert found.environment_variables == {
        "EXAMPLE_ENV_VAR1": "Example Value1", "EXAMPLE_ENV_VAR2": "Example Value2"
    }  # fmt: skip
    assert found.framework == "Python" and "local.runconfig, line 3" in caplog.text and "indent it" in caplog.text


def test_both_ways_of_writing_in_one_file(tmp_path: Path) -> None:
    text = "Target: docker\nenvironment:\n  EnvironmentVariables:\n    A: 1\nPrepareEnvironment: False\n"
    found = RunConfiguration.load(written(tmp_path, "mixed", text), "mixed")
    assert found.target == "docker" and found.environment_variables == {"A": "1"}
    assert found.auto_prepare_environment is False


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("Target: local\nFramwork: Python\n", 2, "there is no key Framwork. Did you mean Framework?"),
        ("target: local\nenviroment: {}\n", 2, "there is no key enviroment. Did you mean environment?"),
        ("environment:\n  python:\n    userManaged: true\n", 3, "there is no key userManaged in python"),
        (
            "EnvironmentVariables:\n\nSOME_VALUE: x\nTarget: a\nOTHER_VALUE: y\n",
            5,
            "below EnvironmentVariables:, indented",
        ),
        ("# one\nPrepareEnvironment: maybe\n", 2, "PrepareEnvironment is true or false, and not 'maybe'"),
        ("ArgumentVector: $file\n", 1, "ArgumentVector is a list, and not '$file': write each word on a line"),
        ("EnvironmentVariables:\n- A=1\n", 1, "EnvironmentVariables is keys with values"),
        ("target: local\nnodeCount: two\n", 2, "nodeCount is a whole number, and not 'two'"),
        ("environment: conda.yml\n", 1, "environment is a section with keys of its own"),
        ("Target: true\n", 1, "Target is a text, and not true: put it in quotes"),
        ("Target: a\nTarget: b\n", 2, "Target is there already, on line 1"),
        ("Target: a\ntarget: b\n", 2, "target says again what Target says"),
        ("Target: a\n\tFramework: b\n", 2, "tabs cannot indent"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(UserErrorException) as caught:
        RunConfiguration.load(written(tmp_path, "x", text), "x")
    message = str(caught.value)
    assert str(Path("aml_config") / "x.runconfig") in message
    assert f"ine {line}:" in message and said in message, message


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserErrorException) as caught:
        RunConfiguration.load(written(tmp_path, "x", "Targt: a\nFramwork: b\nTrackedRun: 5\n"), "x")
    assert len(str(caught.value).splitlines()) == 3


def test_argument_vector(tmp_path: Path) -> None:
    named = RunConfiguration.load(written(tmp_path, "x", "ArgumentVector:\n- train.py\n- --lr\n- 0.5\n"), "x")
    assert named.script == "train.py" and named.arguments == ["--lr", "0.5"]
    with pytest.raises(UserErrorException, match=r"-m stands before \$file"):
        RunConfiguration.load(written(tmp_path, "x", "ArgumentVector:\n- -m\n- $file\n"), "x")


def test_the_number_of_the_line_is_known_of_every_key() -> None:
    found = tinyyaml.load_marked("a: 1\n\nb:\n  c:\n    - d: 2\n      'e': 3\n")
    assert found == {"a": 1, "b": {"c": [{"d": 2, "e": 3}]}} == tinyyaml.load("a: 1\nb: {c: [{d: 2, e: 3}]}")
    assert found.lines == {"a": 1, "b": 3} and found["b"].lines == {"c": 4}
    assert found["b"]["c"][0].lines == {"d": 5, "e": 6} and found["b"]["c"][0].quoted == {"e"}
