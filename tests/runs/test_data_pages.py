"""Inputs and outputs on the pages of runs: the form, the run's page, compare, the API's JSON, lineage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from runs import selectors_data
from runs.details import run_details
from runs.models import Run, RunData
from runs.services import submit
from studio.datasets.models import DatasetVersion
from studio.datasets.services import datasets as dataset_services
from studio.lib.errors import Invalid

pytestmark = pytest.mark.django_db


@pytest.fixture
def version(team: Any) -> Callable[..., DatasetVersion]:
    def make(name: str | None = "iris", path: str = "iris/**", kind: str = "file") -> DatasetVersion:
        definition = {
            "format": 1, "type": kind, "schema": None, "steps": [],
            "source": {
                "kind": "files" if kind == "file" else "delimited",
                "paths": [{"datastore": "workspaceblobstore", "path": path}],
            },
        }  # fmt: skip
        common = {"workspace": team.workspace, "user": team.contributor, "definition": definition}
        if name is None:
            return dataset_services.definition_save(**common)
        return dataset_services.dataset_register(**common, name=name, create_new_version=True)

    return make


@pytest.fixture
def send(team: Any, snapshot: Any, target: Any) -> Callable[..., Run]:
    def go(**options: Any) -> Run:
        given = {"arguments": [], **options}
        return submit.run_submit(
            workspace=team.workspace, user=team.contributor, experiment="pages", script="train.py", snapshot=snapshot,
            target=target, environment=None, **given,
        )  # fmt: skip

    return go


@pytest.fixture
def browser(team: Any) -> Client:
    client = Client()
    client.force_login(team.contributor)
    return client


def errors(send: Any, **options: Any) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as caught:
        send(**options)
    found: dict[str, list[str]] = caught.value.errors
    return found


def test_what_cannot_be_is_refused_by_its_name(send: Any, version: Any) -> None:
    one = version()
    given = [{"name": "data", "mode": "mount", "version": one}]
    assert "${{inputs.other}}" in errors(send, inputs=given, arguments=["--x", "${{inputs.other}}"])["arguments"][0]
    assert "${{outputs.x}}" in errors(send, environment_variables={"A": "${{outputs.x}}"})["environment_variables"][0]
    for name in ("1st", "a-b", "", "PATH", "AZUREML_RUN_ID", "x y"):
        assert repr(name) in errors(send, inputs=[{**given[0], "name": name}])["inputs"][0]
    assert "twice" in errors(send, inputs=given, outputs=[{"name": "data"}])["outputs"][0]
    assert "twice" in errors(send, inputs=given, environment_variables={"data": "1"})["inputs"][0]
    assert "no mode" in errors(send, inputs=[{**given[0], "mode": "copy"}])["inputs"][0]
    table = version("table", "t.csv", "tabular")
    assert "tabular" in errors(send, inputs=[{"name": "t", "mode": "mount", "version": table}])["inputs"][0]
    assert "no datastore 'nowhere'" in errors(send, outputs=[{"name": "o", "datastore": "nowhere"}])["outputs"][0]
    for path in ("../up", "/etc/../x/../..", "a\\b"):
        assert errors(send, outputs=[{"name": "o", "path": path}])["outputs"]
    assert not RunData.objects.exists()


def test_the_same_key_with_other_data_is_another_request(send: Any, version: Any) -> None:
    given = [{"name": "data", "mode": "mount", "version": version()}]
    first = send(inputs=given, idempotency_key="k")
    assert send(inputs=given, idempotency_key="k") == first
    other = [{"name": "data", "mode": "mount", "version": version("iris", "other/**")}]
    with pytest.raises(Exception, match="another request"):
        send(inputs=other, idempotency_key="k")


def test_the_command_is_rendered_and_parameters_stay_readable(send: Any, version: Any) -> None:
    one, table = version(), version(None, "t.csv", "tabular")
    run = send(
        arguments=["--data", "${{inputs.data}}", "--out=${{ outputs.made }}/x", "--table", "${{inputs.table}}"],
        inputs=[
            {"name": "data", "mode": "mount", "version": one},
            {"name": "table", "mode": "direct", "version": table},
        ],
        outputs=[{"name": "made", "mode": "hdfs", "path": "p/{run-id}"}],
    )
    spec = run.unit.spec
    assert spec["argv"][3:] == [
        "--data", "{input:data}", "--out=file://{unit}/produced/made/x", "--table", str(table.pk),
    ]  # fmt: skip
    assert spec["env"]["made"] == spec["env"]["AZUREML_DATAREFERENCE_made"] == "file://{unit}/produced/made"
    assert spec["outputs"][0]["path"] == f"p/{run.run_id}"
    assert dict(run.parameters.values_list("name", "value")) == {
        "data": "iris:1", "out": "made/x", "table": table.label,
    }  # fmt: skip


def test_the_form_carries_inputs_and_outputs_and_a_resubmit_has_them(
    browser: Client, version: Any, snapshot: Any, target: Any
) -> None:
    version()
    page = browser.get("/w/main/runs/new/").content.decode()
    assert '<option value="iris:1">' in page and "${{inputs.name}}" in page
    form = {
        "source": "upload", "snapshot": snapshot.digest, "script": "train.py", "experiment": "pages", "target": "local",
        "arguments": "--data ${{inputs.data}}", "environment_kind": "system", "time_unit": "60",
        "input_name": ["data", ""], "input_dataset": ["iris", ""], "input_mode": ["mount", "direct"],
        "output_name": ["made"], "output_store": [""], "output_register": ["result"],
    }  # fmt: skip
    answer = browser.post("/w/main/runs/new/", form)
    assert answer.status_code == 302, answer.content.decode()[:3000]
    run = Run.objects.get()
    assert [(row.name, row.mode, row.label) for row in run.data.order_by("pk")] == [
        ("data", "mount", "iris:1"), ("made", "upload", ""),
    ]  # fmt: skip
    again = browser.get(f"/w/main/runs/{run.run_id}/resubmit/").content.decode()
    assert 'value="iris:1"' in again and 'value="result"' in again
    refused = browser.post("/w/main/runs/new/", {**form, "input_dataset": ["nothing", ""]})
    assert refused.status_code == 422 and "There is no dataset nothing" in refused.content.decode()


def test_the_page_the_json_and_compare_name_the_dataset(browser: Client, send: Any, version: Any) -> None:
    run = send(
        arguments=["${{inputs.data}}"], inputs=[{"name": "data", "mode": "mount", "version": version()}],
        outputs=[{"name": "made", "register": {"name": "result"}}],
    )  # fmt: skip
    page = browser.get(f"/w/main/runs/{run.run_id}/").content.decode()
    assert "/w/main/datasets/iris/?version=1" in page and "workspaceblobstore" in page and "${{" not in page
    assert "iris:1" in browser.get(f"/w/main/compare/?runs={run.run_id}").content.decode()
    found = browser.get(f"/api/v1/workspaces/main/runs/{run.run_id}").json()
    assert found["inputs"][0]["dataset"]["name"] == "iris" and found["inputs"][0]["state"] == "waiting"
    assert found["outputs"][0]["path"] == f"dataset/{run.run_id}/made"
    details = run_details(run)
    assert details["inputDatasets"][0]["consumptionDetails"]["inputName"] == "data"
    assert details["outputDatasets"][0]["outputDetails"]["destination"]["datastore"] == "workspaceblobstore"


def test_the_api_takes_names_ids_and_definitions(browser: Client, version: Any, target: Any) -> None:
    one = version()
    body = {
        "experiment": "api", "script": "a.py", "files": {"a.py": "pass"}, "arguments": ["${{inputs.a}}"],
        "inputs": [
            {"name": "a", "dataset": "iris:1", "mode": "mount"},
            {"name": "b", "dataset_id": str(one.pk)},
            {"name": "c", "definition": one.definition},
        ],
        "outputs": [{"name": "o", "register": {"name": "r"}}],
    }  # fmt: skip
    post = "/api/v1/workspaces/main/runs"
    made = browser.post(post, body, content_type="application/json")
    assert made.status_code == 201, made.content
    assert [item["name"] for item in made.json()["inputs"]] == ["a", "b", "c"]
    again = browser.post(f"{post}/{made.json()['id']}/resubmit", {}, content_type="application/json")
    assert again.status_code == 201 and len(again.json()["inputs"]) == 3, again.content
    wrong = {**body, "inputs": [{"name": "a", "dataset": "none"}, {"name": "b"}]}
    answer = browser.post(post, wrong, content_type="application/json")
    assert answer.status_code == 422 and len(answer.json()["errors"]["inputs"]) == 2


def test_lineage_goes_both_ways_with_constant_queries(
    send: Any, version: Any, django_assert_max_num_queries: Any
) -> None:
    raw, made, end = version("raw", "raw/**"), version("made", "made/**"), version("end", "end/**")
    for source, target in ((raw, made), (made, end)):
        for _number in range(3):
            run = send(inputs=[{"name": "data", "mode": "mount", "version": source}], outputs=[{"name": "out"}])
            run.data.filter(direction="out").update(version=target)
    with django_assert_max_num_queries(16):
        found = selectors_data.lineage(made)
    labels = {node["id"]: node["label"] for node in found["nodes"]}
    assert sorted(label for label in labels.values() if "#" not in label) == ["end:1", "made:1", "raw:1"]
    assert len(found["nodes"]) == 9 and len(found["edges"]) == 12
    assert [node["label"] for node in found["nodes"] if node["current"]] == ["made:1"]
