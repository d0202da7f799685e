"""Recipes: what conda files and requirements mean, and when two are the same."""

from __future__ import annotations

import importlib
import sys

import pytest
from django.apps import apps
from hypothesis import given
from hypothesis import strategies as st

from compute import conda, pythons
from compute.environments import (
    Recipe,
    check_packages,
    choose_python,
    content_hash,
    local_pythons,
    recipe_from_conda,
    recipe_from_dict,
    recipe_from_requirements,
)
from studio.lib.errors import Invalid

SEED = """
dependencies:
  - python=3.6.2
  - scikit-learn
  - numpy
  - pip:
    - azureml-defaults
"""


def test_the_conda_file_of_the_azure_ml_tutorial() -> None:
    recipe = recipe_from_conda(SEED)
    assert (recipe.kind, recipe.python, recipe.packages) == ("conda", "3.6.2", ["numpy", "scikit-learn"])
    assert "azureml-defaults is left out" in recipe.notes[0]


@pytest.mark.parametrize(
    "line",
    ["azureml-dataprep[pandas,fuse]==2.3", "azureml_dataset_runtime", "azureml-sdk[automl]", "azureml-train-automl"],
)
def test_what_read_datasets_has_a_successor(line: str) -> None:
    recipe = recipe_from_requirements(f"scikit-learn\n{line}\nazureml-core\nazureml-defaults")
    assert recipe.packages == ["duckdb", "pandas", "pyarrow", "scikit-learn"]
    replaced = [note for note in recipe.notes if "duckdb, pandas and pyarrow are there" in note]
    assert len(recipe.notes) == 3 and len(replaced) == 1
    assert recipe_from_dict(recipe.to_dict()) == recipe


def test_what_reads_datasets_keeps_the_versions_asked_for() -> None:
    wanted = "azureml-train-automl-client; python_version < '3.9'\npandas==1.1.5\npyarrow @ https://example.test/p.whl"
    recipe = recipe_from_requirements(wanted)
    duckdb, pandas, pyarrow = recipe.packages
    assert (duckdb, pandas) == ('duckdb; python_version < "3.9"', "pandas==1.1.5")
    assert pyarrow.startswith("pyarrow") and pyarrow.endswith("@ https://example.test/p.whl")
    assert recipe_from_requirements("azureml-core\nazureml-datadrift").packages == []


@pytest.mark.parametrize(
    ("spec", "name", "specifier"),
    [
        ("numpy", "numpy", ""),
        ("numpy=1.2", "numpy", "==1.2.*"),
        ("numpy==1.2", "numpy", "==1.2"),
        ("numpy=1.19.2=py36_0", "numpy", "==1.19.2"),
        ("numpy 1.19.2 py36_0", "numpy", "==1.19.2"),
        ("numpy 1.8.*", "numpy", "==1.8.*"),
        ("numpy >=1.8,<2", "numpy", ">=1.8,<2"),
        ("numpy>=1.8", "numpy", ">=1.8"),
        ("numpy!=1.8.*", "numpy", "!=1.8.*"),
        ("numpy[version='>=1.8']", "numpy", ">=1.8"),
        ("conda-forge::pytorch=1.4", "pytorch", "==1.4.*"),
        ("NumPy  # the arrays", "numpy", ""),
    ],
)
def test_conda_specifications(spec: str, name: str, specifier: str) -> None:
    assert conda.split_spec(spec) == (name, specifier)


def test_conda_names_that_differ_are_left_out_or_cannot_be_had() -> None:
    recipe = recipe_from_conda(
        "channels: [conda-forge]\n"
        "dependencies: [python>=3.9, pytorch=1.4, cudatoolkit=10.1, r-base, openjdk, pip, opencv]"
    )
    assert recipe.packages == ["opencv-python-headless", "torch==1.4.*"]
    assert recipe.unavailable == ["openjdk", "r-base"]
    assert recipe.python == ">=3.9"
    assert any(note.startswith("cudatoolkit") for note in recipe.notes)
    assert [problem.code for problem in check_packages(Recipe(unavailable=["openjdk"]))] == ["conda-only"]


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "- a",
        "dependencies: numpy",
        "dependencies: [{npm: [x]}]",
        "dependencies: ['numpy>=1|2']",
        "dependencies: ['?']",
    ],
)
def test_unusable_conda_files_say_what_is_wrong(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        recipe_from_conda(text)
    assert "conda" in caught.value.errors


def test_requirements_with_comments_continuations_hashes_and_markers() -> None:
    recipe = recipe_from_requirements(
        "# what we use\nSciKit_Learn >= 1.0  # models\n\nnumpy==1.26.4 \\\n  --hash=sha256:abc\n"
        "tomli ; python_version < '3.11'\nrequests[socks]\nname @ https://example.test/name.zip\nrequests<3\nazureml-core\n"
    )
    assert [package.replace(" @", "@") for package in recipe.packages] == [
        "name@ https://example.test/name.zip",
        "numpy==1.26.4",
        "requests[socks]<3",
        "scikit-learn>=1.0",
        'tomli; python_version < "3.11"',
    ]
    assert len(recipe.notes) == 2


def test_every_unusable_line_is_named_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        recipe_from_requirements("-e .\n-r other.txt\n--index-url https://x\n./here\ngit+https://x/y\nnumpy==\nsix\n")
    assert len(caught.value.errors["requirements"]) == 6


names = st.sampled_from(["numpy", "Scikit_Learn", "pandas>=1,<3", "six==1.16", "torch~=2.0", "requests[socks]"])


@given(st.lists(names, unique=True), st.sampled_from([None, "3.8", "3.11.2", ">=3.9"]), st.randoms())
def test_equal_content_has_an_equal_hash_and_survives_its_json(packages: list[str], python: str | None, order) -> None:  # type: ignore[no-untyped-def]
    recipe = recipe_from_dict({"kind": "pip", "packages": packages, "python": python})
    shuffled = list(packages)
    order.shuffle(shuffled)
    again = recipe_from_dict({"kind": "pip", "requirements": "\n".join(shuffled), "python": python, "strict": True})
    assert content_hash(recipe) == content_hash(again)
    assert recipe_from_dict(recipe.to_dict()) == recipe
    assert content_hash(recipe) != content_hash(recipe_from_dict({"packages": [*packages, "attrs"], "python": python}))


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"kind": "docker"},
        {"packages": "numpy"},
        {"packages": [1]},
        {"python": "three"},
        {"kind": "system", "interpreter": "python"},
        {"variables": {"A B": "1"}},
        {"kind": "conda", "conda": 1},
    ],
)
def test_unusable_objects_are_refused(data: object) -> None:
    with pytest.raises(Invalid):
        recipe_from_dict(data)


HAVE = [("3.12.1", "/a"), ("3.11.7", "/b"), ("3.11.2", "/c"), ("3.8.18", "/d")]


@pytest.mark.parametrize(
    ("requested", "version", "warned"),
    [
        ("3.11", "3.11.7", False),
        ("3.11.2", "3.11.2", False),
        ("3.11.9", "3.11.7", True),
        ("3.6.2", "3.8.18", True),
        ("3.9", "3.8.18", True),
        ("3.10", "3.11.7", True),
        ("2.7", "3.8.18", True),
        ("3.14", "3.12.1", True),
        ("3", "3.12.1", False),
        (">=3.9,<3.12", "3.11.7", False),
        (">=3.13", "3.12.1", True),
    ],
)
def test_the_python_that_fits_or_the_nearest(
    monkeypatch: pytest.MonkeyPatch, requested: str, version: str, warned: bool
) -> None:
    monkeypatch.setattr(pythons, "local_pythons", lambda: HAVE)
    found, _path, warning = choose_python(requested, False)
    assert (found, bool(warning)) == (version, warned)
    if warned:
        with pytest.raises(Invalid, match=r"3\.12\.1, 3\.11\.7"):
            choose_python(requested, True)
    else:
        assert choose_python(requested, True)[0] == version


def test_this_machine_has_the_python_that_runs_the_studio() -> None:
    found = local_pythons(refresh=True)
    assert ".".join(str(part) for part in sys.version_info[:3]) in [version for version, _path in found]
    assert choose_python(None, True)[0].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")


def test_every_package_that_cannot_be_had_is_named_with_its_reason() -> None:
    recipe = recipe_from_requirements("nosuch-package-of-atelier-xyz\npackaging==0.0.1\npackaging-is-fine-not\nsix\n")
    problems = check_packages(recipe)
    assert [problem.message.split(":")[0] for problem in problems] == [
        "nosuch-package-of-atelier-xyz",
        "packaging-is-fine-not",
        "packaging==0.0.1",
    ]
    assert "no package of this name" in problems[0].message
    assert "no such version" in problems[2].message
    assert "packaging==" in problems[2].hint
    assert check_packages(recipe_from_requirements("six")) == []


@pytest.mark.django_db
def test_the_same_content_is_the_same_version(team) -> None:  # type: ignore[no-untyped-def]
    from compute.env_services import CURATED, ensure_curated, environment_register
    from compute.models import Environment
    from studio.lib.errors import Conflict

    def register(recipe: Recipe, name: str = "mine") -> Environment:
        return environment_register(workspace=team.workspace, name=name, recipe=recipe, user=team.owner)

    first = register(recipe_from_requirements("numpy\npandas"))
    assert register(recipe_from_requirements("pandas\nnumpy")) == first
    second = register(recipe_from_requirements("numpy"))
    assert (first.version, second.version) == (1, 2)
    assert register(recipe_from_requirements("pandas\nnumpy")) == first
    strict = register(recipe_from_requirements("numpy", strict=True))
    assert (strict.version, strict.content_hash) == (3, second.content_hash)
    ensure_curated(team.workspace)
    assert {env.name for env in ensure_curated(team.workspace)} == set(CURATED)
    assert Environment.objects.filter(workspace=team.workspace, curated=True).count() == len(CURATED)
    with pytest.raises(Conflict):
        register(recipe_from_requirements("numpy"), "AzureML-Tutorial")
    for name in ("", "a b", "../x", "-x"):
        with pytest.raises(Invalid):
            register(Recipe(), name)


@pytest.mark.django_db
def test_older_workspaces_get_the_tutorial_environment_that_reads_datasets(team) -> None:  # type: ignore[no-untyped-def]
    from compute.env_services import ensure_curated
    from compute.models import Environment

    named = Environment.objects.filter(workspace=team.workspace, name="AzureML-Tutorial")
    named.delete()
    old = Recipe(kind="pip", packages=["joblib", "matplotlib", "numpy", "pandas", "scikit-learn"])
    kept = Environment.objects.create(
        workspace=team.workspace,
        name="AzureML-Tutorial",
        version=1,
        recipe=old.to_dict(),
        content_hash=content_hash(old),
        curated=True,
    )
    migration = importlib.import_module("compute.migrations.0003_tutorial_reads_datasets")
    migration.add_versions(apps, None)
    assert named.get(version=1).recipe == kept.recipe
    newest = named.order_by("-version").first()
    assert newest and newest.version == 2 and "duckdb" in newest.recipe["packages"]
    assert newest.content_hash == content_hash(recipe_from_dict(newest.recipe))
    ensure_curated(team.workspace)  # what it would make is there
    migration.add_versions(apps, None)
    assert named.count() == 2
