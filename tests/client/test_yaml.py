"""The YAML of run configurations and conda files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from atelier import tinyyaml
from atelier.conda_dependencies import CondaDependencies
from atelier.runconfig import RunConfiguration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CONDA = """
# what the script needs
name: project_environment
channels: [conda-forge, 'defaults']
dependencies:
  - python=3.6.2
  - scikit-learn
  - numpy>=1.19,<2   # not the newest
  - pip:
    - azureml-defaults
    - "torch==1.8; python_version < '3.9'"
"""

texts = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(texts, values, max_size=5) | st.lists(values, max_size=5))
def test_what_is_written_is_read_again(value: Any) -> None:
    assert tinyyaml.load(tinyyaml.dump(value)) == value


def test_a_conda_file() -> None:
    found = tinyyaml.load(CONDA)
    assert found == {
        "name": "project_environment",
        "channels": ["conda-forge", "defaults"],
        "dependencies": [
            "python=3.6.2",
            "scikit-learn",
            "numpy>=1.19,<2",
            {"pip": ["azureml-defaults", "torch==1.8; python_version < '3.9'"]},
        ],
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            "a: 1\nb: 2.5\nc: true\nd: null\ne: ~\nf: 'it''s'\ng: \"a\\tb\"",
            {"a": 1, "b": 2.5, "c": True, "d": None, "e": None, "f": "it's", "g": "a\tb"},
        ),
        ("a:\n- 1\n- 2\nb: x", {"a": [1, 2], "b": "x"}),
        ("- a: 1\n  b: 2\n- c", [{"a": 1, "b": 2}, "c"]),
        ("- - 1\n  - 2\n- 3", [[1, 2], 3]),
        ("a: {b: [1, 2], c: x y}\nd: [\n  1,\n  2\n]", {"a": {"b": [1, 2], "c": "x y"}, "d": [1, 2]}),
        ("a: |\n  one\n   two\n\n  three\nb: >\n  x\n  y\n", {"a": "one\n two\n\nthree\n", "b": "x y\n"}),
        ("url: http://host:80/x#y\n", {"url": "http://host:80/x#y"}),
        ("a: one\n  two\n", {"a": "one two"}),
        ("---\na:\n  b:\n    c: 1\n", {"a": {"b": {"c": 1}}}),
        ("a:\nb: 1", {"a": None, "b": 1}),
        ("", None),
    ],
)
def test_forms(text: str, value: Any) -> None:
    assert tinyyaml.load(text) == value


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: &x 1", 1), ("a: 1\nb: *x", 2), ("a: [1, 2", 1), ("a: 1\n\tb: 2", 2), ("a:\n    b: 1\n  c: 2", 3)],
)
def test_what_it_cannot_read_is_named_with_its_line(text: str, line: int) -> None:
    with pytest.raises(tinyyaml.YamlError, match=f"^Line {line}:"):
        tinyyaml.load(text)


def test_conda_dependencies() -> None:
    recipe = CondaDependencies.create(pip_packages=["a==1"], conda_packages=["scikit-learn"], python_version="3.8")
    recipe.add_pip_package("A>=2")
    recipe.add_conda_package("scikit_learn=1.0")
    recipe.add_channel("conda-forge")
    again = CondaDependencies(_underlying_structure=tinyyaml.load(recipe.serialize_to_string()))
    assert list(again.conda_packages) == ["python=3.8", "scikit_learn=1.0"]
    assert list(again.pip_packages) == ["A>=2"]
    assert again.python_version == "3.8"


def test_a_run_configuration_keeps_its_camel_case_keys(tmp_path: Path) -> None:
    config = RunConfiguration("train.py", ["--lr", 0.1])
    config.target = "local"
    config.environment.python.user_managed_dependencies = True
    config.environment.environment_variables = {"A": "1"}
    config.max_run_duration_seconds = 60
    config.spark.configuration = {"spark.app.name": "x"}
    config.save(tmp_path, "local")
    text = (tmp_path / ".azureml" / "local.runconfig").read_text()
    for key in (
        "maxRunDurationSeconds: 60",
        "autoPrepareEnvironment: true",
        "userManagedDependencies: true",
        "nodeCount: 1",
    ):
        assert key in text
    found = RunConfiguration.load(tmp_path, "local")
    assert found.to_dict() == config.to_dict()


def test_a_run_configuration_finds_its_conda_file(tmp_path: Path) -> None:
    (tmp_path / "aml_config").mkdir()
    (tmp_path / "aml_config" / "conda_dependencies.yml").write_text(CONDA)
    (tmp_path / "aml_config" / "docker.runconfig").write_text(
        "script: train.py\ntarget: local\nframework: Python\n"
        "environment:\n  python:\n    userManagedDependencies: false\n"
        "    condaDependenciesFile: aml_config/conda_dependencies.yml\n"
    )
    found = RunConfiguration.load(tmp_path, "docker")
    assert found.script == "train.py"
    assert list(found.environment.python.conda_dependencies.conda_packages)[0] == "python=3.6.2"
