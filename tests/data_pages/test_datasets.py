"""Every page of datasets: works, anonymous, reader, outsider, bad id; empty, hostile, long and wide ones."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from atelier.data import definition as definitions
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from runs.models import RunData
from runs.services import interactive
from studio.datasets import inspect, selectors
from studio.datasets.models import Dataset, DatasetDraft, DatasetVersion
from studio.datasets.services import datasets as services
from studio.datasets.services.datastores import store_open

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(120)]
STORE = "workspaceblobstore"
HOSTILE = "<script>alert(1)<b>\"'& x" + "very-long-" * 20
TABS = ("overview", "preview", "profile", "lineage", "consume")
Make = Callable[..., DatasetVersion]


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def at(page: str, **arguments: Any) -> str:
    return reverse(page, kwargs={"workspace": "main", **arguments})


@pytest.fixture
def root(team: Any) -> Path:
    """The folder of the workspace's own store, with two small tables in it."""
    folder = store_open(selectors.default_datastore(team.workspace)).local_path("")
    assert folder is not None
    (folder / "t").mkdir(parents=True, exist_ok=True)
    (folder / "t" / "a.csv").write_text("age,name\n1,x\n2\n", encoding="utf8")
    (folder / "t" / "b.csv").write_text("age,name\n3,z\n", encoding="utf8")
    return folder


@pytest.fixture
def make(team: Any, root: Path) -> Make:
    def register(name: str = "iris", path: str = "t/a.csv", *, settled: bool = False, **more: Any) -> DatasetVersion:
        options = more.pop("options", {})
        kind = more.pop("kind", "delimited")
        definition = definitions.make(kind, [{"datastore": STORE, "path": path}], **options)
        if settled:
            definition = inspect.inspect(definition, workspace=team.workspace)["definition"]
        return services.dataset_register(
            workspace=team.workspace, user=team.contributor, name=name, definition=definition, **more
        )

    return register


def clean(text: str) -> None:
    assert "<script>" not in text.replace("<script src=", "")
    assert " style=" not in text and "onclick" not in text


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_by_role(team: Any, make: Make, tab: str) -> None:
    version = make()
    urls = [at(f"dataset-{tab}", name="iris"), at(f"data-{tab}", key=version.pk)]
    for url in urls:
        for person in (team.owner, team.contributor, team.reader):
            response = client_of(person).get(url)
            assert response.status_code == 200, response.content[:500]
            clean(response.content.decode())
        assert client_of(team.outsider).get(url).status_code == 404
        assert Client().get(url).status_code == 302
    assert client_of(team.owner).get(at(f"dataset-{tab}", name="nothing-here")).status_code == 404
    assert client_of(team.owner).get(at(f"data-{tab}", key=uuid.uuid4())).status_code == 404
    assert client_of(team.owner).get(urls[0] + "?version=7").status_code == 404
    assert client_of(team.owner).get(urls[0] + "?version=x").status_code == 422


def test_empty(team: Any) -> None:
    text = client_of(team.contributor).get(at("dataset-list")).content.decode()
    assert "No datasets yet" in text and "New dataset" in text and "from_delimited_files" in text
    text = client_of(team.reader).get(at("dataset-list")).content.decode()
    assert "No datasets yet" in text and "New dataset" not in text and "from_delimited_files" not in text
    assert "No dataset matches" in client_of(team.reader).get(at("dataset-list") + "?search=x").content.decode()


def test_a_reader_sees_no_buttons(team: Any, make: Make) -> None:
    make()
    client = client_of(team.reader)
    for tab in (*TABS, "versions"):
        text = client.get(at(f"dataset-{tab}", name="iris")).content.decode()
        for button in ("New version", "Archive", "Delete", "Edit", "Compute the profile"):
            assert f">{button}<" not in text and button not in text.split("<main")[1], (tab, button)
    assert client.get(at("wizard-start")).status_code == 403
    assert client.get(at("dataset-delete", name="iris")).status_code == 403
    for action in ("dataset-archive", "dataset-delete", "dataset-overview", "dataset-profile"):
        assert client.post(at(action, name="iris")).status_code == 403


def test_hostile_and_long_names(team: Any, make: Make) -> None:
    name = HOSTILE[:255]
    make(name, tags={"<b>": "<i>" * 50}, description="<img src=x>" * 20)
    client = client_of(team.contributor)
    pages = [at("dataset-list"), at("dataset-versions", name=name), at("dataset-delete", name=name)]
    pages += [at(f"dataset-{tab}", name=name) for tab in TABS]
    for url in pages:
        text = client.get(url).content.decode()
        clean(text)
        assert "<img src=x>" not in text and "<b>" not in text.split("<main")[1]
    started = client.get(at("wizard-start"), {"dataset": name})
    assert name not in client.get(started["Location"]).content.decode()  # escaped wherever it stands


def test_names_turned_around_are_marked(team: Any, make: Make, root: Path) -> None:
    version = make()
    Dataset.objects.filter(pk=version.dataset_id).update(description="\u202egnp.exe")
    (root / "t" / "\u202egnp.csv").write_text("a\n1\n", encoding="utf8")
    client = client_of(team.contributor)
    assert "⟦U+202E⟧" in client.get(at("dataset-list")).content.decode()
    start = client.get(at("wizard-start"), {"datastore": STORE, "path": "t", "folder": "1"})
    draft = DatasetDraft.objects.get()
    text = client.post(start["Location"], {"go": "open:t"}, follow=True).content.decode()
    assert "⟦U+202E⟧gnp.csv" in text
    assert str(draft.pk) in start["Location"]


def test_five_hundred_columns(team: Any, make: Make, root: Path) -> None:
    header = ",".join(f"column_{n}" for n in range(500))
    (root / "t" / "wide.csv").write_text(header + "\n" + ",".join("1" * 500) + "\n", encoding="utf8")
    make("wide", "t/wide.csv", settled=True)
    client = client_of(team.contributor)
    assert "column_499" in client.get(at("dataset-overview", name="wide")).content.decode()
    assert "column_499" in client.get(at("dataset-rows", name="wide")).content.decode()
    start = client.get(at("wizard-start"), {"dataset": "wide"})["Location"]
    columns = start.replace("/files/", "/columns/")
    text = client.get(columns).content.decode()
    assert 'name="name-499"' in text
    posted = {
        f"{what}-{n}": value
        for n in range(500)
        for what, value in (("name", f"c{n}"), ("type", "float"), ("keep", "on"))
    }
    response = client.post(columns, {**posted, "go": "next"})
    assert response.status_code == 302 and response["Location"].endswith("/name/")
    response = client.post(response["Location"], {"name": "wide", "go": "register"})
    made = DatasetVersion.objects.get(dataset__name="wide", version=2)
    assert response["Location"] == made.get_absolute_url()
    assert made.definition["schema"][499] == {"name": "c499", "type": "float", "source": "column_499"}


def test_the_rows_and_a_store_that_fails(team: Any, make: Make) -> None:
    make()
    make("gone", "nowhere/*.csv")
    client = client_of(team.reader)
    text = client.get(at("dataset-rows", name="iris")).content.decode()
    assert "line 3" in text and "t/a.csv" in text and "<html" not in text
    text = client.get(at("dataset-rows", name="gone")).content.decode()
    assert "nowhere/*.csv" in text and "Try again" in text and "Traceback" not in text
    assert client.get(at("dataset-preview", name="gone")).status_code == 200


def test_list_filters_and_queries(team: Any, make: Make) -> None:
    make("plain", tags={"stage": "raw"})
    make("pictures", "t/**", kind="files")
    client = client_of(team.reader)

    def names(query: str) -> set[str]:
        response = client.get(at("dataset-list") + query)
        return {row.dataset.name for row, _used in response.context["rows"]}

    assert names("") == {"plain", "pictures"}
    assert names("?type=file") == {"pictures"}
    assert names("?tag=stage=raw") == {"plain"}
    assert names("?search=PIC") == {"pictures"}
    assert names("?archived=1") == set()
    with CaptureQueriesContext(
        connection,
    ) as few:
        client.get(at("dataset-list"))
    for number in range(20):
        make(f"more-{number}")
    with CaptureQueriesContext(connection) as many:
        client.get(at("dataset-list"))
    assert len(many) == len(few)


def test_runs_and_lineage(team: Any, make: Make) -> None:
    source, result = make("source"), make("result", "t/b.csv")
    run = interactive.run_start_interactive(team.workspace, team.contributor, "train")
    RunData.objects.create(run=run, direction="in", name="raw", mode="direct", version=source)
    RunData.objects.create(run=run, direction="out", name="clean", mode="upload", version=result)
    client = client_of(team.reader)
    assert client.get(at("dataset-list")).content.decode().count("1 run") == 1
    text = client.get(at("dataset-overview", name="source")).content.decode()
    assert run.get_absolute_url() in text and "raw" in text
    text = client.get(at("dataset-overview", name="result")).content.decode()
    assert run.get_absolute_url() in text and "clean" in text
    text = client.get(at("dataset-lineage", name="source")).content.decode()
    assert text.count('class="data-node"') == 3 and result.get_absolute_url() in text and "wrote" in text
    text = client_of(team.contributor).get(at("dataset-delete", name="source")).content.decode()
    assert run.run_id in text


def test_from_one_thing_to_the_next(team: Any, make: Make) -> None:
    """A datastore names its readers, a file begins a dataset, a dataset a run; an unnamed one can be given a name."""
    make(options={"on_ragged": "skip"})
    client = client_of(team.contributor)
    text = client.get(at("datastore-detail", name=STORE) + "?path=t").content.decode()
    assert at("dataset-overview", name="iris") in text and "path=t%2Fa.csv" in text
    text = client.get(at("dataset-overview", name="iris")).content.decode()
    assert "the row is left out" in text and at("run-new") + "?dataset=iris%3A1" in text
    text = client.get(at("run-new"), {"dataset": "iris:1"}).content.decode()
    assert 'value="iris:1"' in text and 'value="--data ${{inputs.data}}"' in text
    assert client.get(at("run-new"), {"dataset": "nobody:7"}).status_code == 200
    definition = definitions.make("files", [{"datastore": STORE, "path": "t/**"}])
    version = services.definition_save(workspace=team.workspace, user=team.contributor, definition=definition)
    text = client.get(version.get_absolute_url()).content.decode()
    assert "t/" in text and f"?id={version.pk}" in text
    draft = client.get(at("wizard-start"), {"id": str(version.pk)})["Location"]
    assert client.post(draft, {"go": "next", "picks": "1", "pick": "t/**"}).status_code == 302
    assert 'value="t"' in client.get(draft.replace("/files/", "/name/")).content.decode()
    assert client.get(at("wizard-start"), {"id": "zz"}).status_code == 404


def test_about_archive_delete(team: Any, make: Make) -> None:
    version = make()
    client = client_of(team.contributor)
    url = at("dataset-overview", name="iris")
    assert client.post(url, {"description": "Flowers", "tags": "stage=raw\nnew"}).status_code == 302
    version.refresh_from_db()
    assert version.description == "Flowers" and set(version.tags) == {"stage", "new"}
    bad = client.post(url, {"description": "a\u202eb", "tags": ""})
    assert bad.status_code == 422 and "control character" in bad.content.decode()
    client.post(at("dataset-archive", name="iris"))
    assert "Archived" in client.get(url).content.decode()
    client.post(at("dataset-archive", name="iris"))
    assert client.post(at("dataset-delete", name="iris")).status_code == 302
    assert not Dataset.objects.exists()


def test_versions_beside_each_other(team: Any, make: Make) -> None:
    make()
    make("iris", "t/b.csv", create_new_version=True)
    client = client_of(team.reader)
    text = client.get(at("dataset-versions", name="iris"), {"a": "1", "b": "2"}).content.decode()
    assert "data-changed" in text and "t/b.csv" in text
    assert client.get(at("dataset-version", name="iris", version=1))["Location"].endswith("?version=1")
    text = client.get(at("dataset-overview", name="iris") + "?version=1").content.decode()
    assert "Version 1; the newest is 2" in text
    assert "version=1" in client.get(at("dataset-consume", name="iris") + "?version=1").content.decode()
    assert client.get(at("dataset-versions", name="iris"), {"a": "1", "b": "9"}).status_code == 404
