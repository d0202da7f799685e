"""Datasets: names, versions, definitions with keys in them, lists."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from runs.models import Experiment, Run, RunData
from studio.accounts.models import AuditEntry
from studio.datasets import selectors
from studio.datasets.models import Dataset, DatasetVersion
from studio.datasets.services import datasets
from studio.lib.errors import Conflict, Invalid, NotFound

pytestmark = pytest.mark.django_db
BLOB = "https://acc.blob.core.test/c/a.csv"
SAS = "sv=2024-01-01&se=2030-01-01&sig=c2VjcmV0%3D"


def csv(path: str = "a.csv", **more: Any) -> dict[str, Any]:
    paths = [{"datastore": "workspaceblobstore", "path": path}]
    return {"type": "tabular", "source": {"kind": "delimited", "paths": paths}, **more}


def urls(*found: str | dict[str, Any]) -> dict[str, Any]:
    paths = [one if isinstance(one, dict) else {"url": one} for one in found]
    return {"type": "file", "source": {"kind": "files", "paths": paths}}


def register(team: Any, name: str = "titanic", definition: dict[str, Any] | None = None, **more: Any) -> DatasetVersion:
    given = {"workspace": team.workspace, "user": team.contributor, "name": name, "definition": definition or csv()}
    return datasets.dataset_register(**{**given, **more})


class TestRegister:
    def test_versions(self, team: Any) -> None:
        first = register(team, description="Passengers", tags={"stage": "raw"})
        assert (str(first), first.type, first.created_by) == ("titanic:1", "tabular", team.contributor)
        assert first.definition["format"] == 1 and first.definition["source"]["separator"] == ","
        with pytest.raises(Conflict) as caught:
            register(team, definition=csv("b.csv"))
        assert "create_new_version=True" in caught.value.detail
        second = register(team, definition=csv("b.csv"), create_new_version=True)
        assert second.version == 2 and second.dataset is not None and second.dataset.latest_version == 2
        assert selectors.version_get(team.workspace, "titanic").pk == second.pk
        assert selectors.version_get(team.workspace, "titanic", "1").pk == first.pk
        assert AuditEntry.objects.filter(action="dataset.register").count() == 2

    def test_the_newest_again_is_the_newest(self, team: Any) -> None:
        first = register(team)
        again = register(team, definition=csv(steps=[]), tags={"a": "1"}, description="New")
        assert again.pk == first.pk and again.tags == {"a": "1"} and again.description == "New"
        assert register(team, create_new_version=True).pk == first.pk
        second = register(team, definition=csv("b.csv"), create_new_version=True)
        assert register(team, create_new_version=True).version == 3  # back to the first: a new version
        assert second.version == 2 and AuditEntry.objects.filter(action="dataset.register").count() == 3

    def test_archived_ones_come_back(self, team: Any) -> None:
        version = register(team)
        assert version.dataset is not None
        datasets.dataset_archive(version.dataset, user=team.owner)
        assert not selectors.datasets_page(team.workspace).items
        assert len(selectors.datasets_page(team.workspace, archived=True).items) == 1
        register(team)
        assert len(selectors.datasets_page(team.workspace).items) == 1

    @pytest.mark.parametrize("name", ["", " ", "a/b", "a\\b", "a:1", "x" * 256, "a\u202eb", "a\x00", ".", "..", "new"])
    def test_name(self, team: Any, name: str) -> None:
        with pytest.raises(Invalid) as caught:
            register(team, name)
        assert list(caught.value.errors) == ["name"]

    def test_names_of_v1(self, team: Any) -> None:
        for name in ("mnist dataset", "sample-diabetes_data", "Données 2017", "a.b"):
            assert str(register(team, name)) == f"{name}:1"

    @pytest.mark.parametrize(
        "tags", [{"": "1"}, {"a": "\x00"}, ["a"], {str(n): "" for n in range(101)}, {"a" * 300: ""}]
    )
    def test_tags(self, team: Any, tags: Any) -> None:
        with pytest.raises(Invalid) as caught:
            register(team, tags=tags)
        assert list(caught.value.errors) == ["tags"]

    def test_tag_that_is_a_text(self, team: Any) -> None:
        assert register(team, tags="golden").tags == {"golden": None}

    def test_run_without_a_person(self, team: Any) -> None:
        register(team, by_person=False, user=None)
        assert not AuditEntry.objects.filter(action="dataset.register").exists()


class TestDefinitions:
    @pytest.mark.parametrize(
        "definition",
        [
            {},
            [],
            {"source": {"kind": "tape", "paths": []}},
            csv(steps=[{"op": "jump"}]),
            {"source": {"kind": "files", "paths": [{"local": "/home/ann/a.csv"}]}},
            {"source": {"kind": "files", "paths": [{"datastore": "nowhere", "path": "a"}]}},
            {"source": {"kind": "files", "paths": [{"datastore": "workspaceblobstore", "path": "../a"}]}},
            {"source": {"kind": "files", "paths": [{"url": "https://ann:secret@h.test/a.csv"}]}},
            {"source": {"kind": "files", "paths": [{"url": "file:///etc/passwd"}]}},
            csv("a\x00b"),
            csv("x" * (1 << 20)),
        ],
    )
    def test_refused(self, team: Any, definition: Any) -> None:
        with pytest.raises(Invalid) as caught:
            register(team, definition=definition) if definition else datasets.definition_save(
                workspace=team.workspace, user=team.owner, definition=definition
            )
        assert list(caught.value.errors) == ["definition"] and "secret" not in caught.value.detail

    def test_datastores_of_others_are_not_there(self, team: Any, tmp_path: Any) -> None:
        from studio.accounts.models import Workspace
        from studio.datasets.services.datastores import datastore_create

        datastore_create(
            workspace=Workspace.objects.get(name="elsewhere"), user=team.outsider, name="theirs", kind="local",
            config={"path": str(tmp_path)}, check=False,
        )  # fmt: skip
        with pytest.raises(Invalid):
            register(team, definition={"source": {"kind": "files", "paths": [{"datastore": "theirs", "path": "a"}]}})

    def test_saved_once(self, team: Any) -> None:
        common = {"workspace": team.workspace, "user": team.contributor}
        first = datasets.definition_save(**common, definition=csv())
        assert first.dataset is None and datasets.definition_save(**common, definition=csv()).pk == first.pk
        assert selectors.version_by_id(team.workspace, str(first.pk)).pk == first.pk
        named = register(team)
        assert named.pk != first.pk and datasets.definition_save(**common, definition=csv()).pk == named.pk

    def test_ids(self, team: Any) -> None:
        version = register(team)
        from studio.accounts.models import Workspace

        elsewhere = Workspace.objects.get(name="elsewhere")
        for place, key in ((elsewhere, version.pk), (team.workspace, "no-id"), (team.workspace, "0" * 32)):
            with pytest.raises(NotFound):
                selectors.version_by_id(place, key)
        for number in ("2", "99999999999999", "latest"):
            with pytest.raises(NotFound):
                selectors.version_get(team.workspace, "titanic" if number != "latest" else "none", number)
        with pytest.raises(Invalid):
            selectors.version_get(team.workspace, "titanic", "first")


class TestKeysInAddresses:
    def test_are_split_off_and_put_back(self, team: Any) -> None:
        version = register(team, definition=urls(f"{BLOB}?{SAS}", "https://h.test/b.csv?raw=true"))
        assert version.definition["source"]["paths"] == [
            {"url": BLOB, "signed": True},
            {"url": "https://h.test/b.csv?raw=true"},
        ]
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM datasets_datasetversion")
            assert "c2VjcmV0" not in str(cursor.fetchall())
        paths = datasets.opened_definition(version)["source"]["paths"]
        assert paths == [{"url": f"{BLOB}?{SAS}"}, {"url": "https://h.test/b.csv?raw=true"}]
        assert "c2VjcmV0" not in str(list(AuditEntry.objects.values_list("detail", "object_label")))

    def test_another_signature_is_another_version(self, team: Any) -> None:
        first = register(team, definition=urls(f"{BLOB}?{SAS}"))
        assert register(team, definition=urls(f"{BLOB}?{SAS}")).pk == first.pk
        second = register(team, definition=urls(f"{BLOB}?sig=other"), create_new_version=True)
        assert second.version == 2 and second.definition == first.definition and second.digest != first.digest

    def test_who_never_saw_the_key_can_go_on_from_it(self, team: Any) -> None:
        """A colleague takes the first rows of a dataset: the key stays with the studio."""
        first = register(team, definition={"source": {"kind": "delimited", "paths": [{"url": f"{BLOB}?{SAS}"}]}})
        derived = {**first.definition, "steps": [{"op": "take", "count": 5}]}
        second = datasets.definition_save(workspace=team.workspace, user=team.reader, definition=derived)
        assert second.definition["source"]["paths"] == [{"url": BLOB, "signed": True}]
        assert datasets.opened_definition(second)["source"]["paths"] == [{"url": f"{BLOB}?{SAS}"}]
        with pytest.raises(Invalid) as caught:
            register(team, "other", urls({"url": BLOB.replace("a.csv", "b.csv"), "signed": True}))
        assert "whole address" in caught.value.detail

    @pytest.mark.parametrize(
        ("query", "hidden"),
        [
            ("sig=a", True), ("X-Amz-Signature=1", True), ("token=1", True), ("access_token=1", True), ("key=1", True),
            ("k=0123456789abcdef", True), ("raw=true", False), ("format=csv&year=2020", False), ("", False),
        ],
    )  # fmt: skip
    def test_what_is_a_key(self, query: str, hidden: bool) -> None:
        assert datasets.has_key(f"https://h.test/a?{query}") is hidden


class TestLists:
    def test_what_is_found(self, team: Any) -> None:
        register(team, "titanic", description="Passengers", tags={"stage": "raw", "2024": "x"})
        register(team, "digits", urls("https://h.test/a.png"), tags={"owner": "Ann"})
        find = lambda **given: [row.dataset.name for row in selectors.datasets_page(team.workspace, **given).items]  # noqa: E731
        assert find() == ["digits", "titanic"]
        assert find(search="TITAN") == find(search="passeng") == find(search="raw") == ["titanic"]
        assert find(tag="stage") == find(tag="stage=raw") == find(tag="2024") == find(tag="2024=x") == ["titanic"]
        assert find(tag="stage=done") == find(tag="stag") == find(search="%") == []
        assert find(type="file") == ["digits"] and find(type="tabular") == ["titanic"]
        register(team, "titanic", csv("b.csv"), create_new_version=True, tags={"stage": "done"})
        assert find(tag="stage=raw") == [] and find(tag="stage=done") == ["titanic"]
        row = selectors.datasets_page(team.workspace).items[0]
        assert (row.dataset.name, row.latest.version, row.versions) == ("titanic", 2, 2)

    def test_pages(self, team: Any) -> None:
        for number in range(7):
            register(team, f"d{number}")
        seen, cursor = [], None
        while True:
            page = selectors.datasets_page(team.workspace, cursor=cursor, limit=3)
            seen += [row.dataset.name for row in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert seen == [f"d{number}" for number in reversed(range(7))]
        for bad in ("x", "WzFd", "WyJhIiwgImIiXQ"):
            with pytest.raises(Invalid):
                selectors.datasets_page(team.workspace, cursor=bad)

    def test_versions_in_pages(self, team: Any) -> None:
        for number in range(5):
            version = register(team, definition=csv(f"{number}.csv"), create_new_version=True)
        assert version.dataset is not None
        page = selectors.versions_page(version.dataset, limit=3)
        assert [one.version for one in page.items] == [5, 4, 3]
        assert [one.version for one in selectors.versions_page(version.dataset, cursor=page.next).items] == [2, 1]

    def test_ten_thousand(self, team: Any) -> None:
        """The same three queries."""
        made = Dataset.objects.bulk_create(
            [
                Dataset(workspace=team.workspace, name=f"set-{number:05d}", latest_version=2, created_by=team.owner)
                for number in range(10_000)
            ],
            batch_size=500,
        )
        DatasetVersion.objects.bulk_create(
            [
                DatasetVersion(
                    workspace=team.workspace, dataset=one, version=version, type="tabular", definition=csv(),
                    digest=f"{at}-{version}", tags={"stage": f"s{at % 100}"}, created_by=team.owner,
                )
                for at, one in enumerate(made)
                for version in (1, 2)
            ],
            batch_size=300,
        )  # fmt: skip
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")  # a database that lives does so by itself
        for given in ({}, {"search": "set-00017"}, {"tag": "stage=s7"}, {"type": "tabular"}):
            with CaptureQueriesContext(connection) as queries:
                page = selectors.datasets_page(team.workspace, **given)  # type: ignore[arg-type]
                assert page.items and all(row.versions == 2 and row.latest.version == 2 for row in page.items)
                [row.latest.created_by.label for row in page.items]  # type: ignore[union-attr]
            assert len(queries) == 3


class TestChanges:
    def test_what_is_said_changes_and_what_it_is_does_not(self, team: Any) -> None:
        version = register(team)
        before = version.definition, version.digest
        datasets.version_update(version, user=team.owner, description="About", tags={"a": None})
        version.refresh_from_db()
        assert (version.description, version.tags) == ("About", {"a": None})
        assert (version.definition, version.digest) == before
        assert AuditEntry.objects.filter(action="dataset.version.update", actor=team.owner).exists()

    def test_delete(self, team: Any) -> None:
        version = register(team)
        assert version.dataset is not None
        experiment = Experiment.objects.create(workspace=team.workspace, name="e")
        for number in range(2):
            run = Run.objects.create(
                workspace=team.workspace, experiment=experiment, run_id=f"e_{number}", key=f"{number:032d}",
                number=number, status="Completed",
            )  # fmt: skip
            RunData.objects.create(run=run, direction="in", name="x", mode="direct", version=version, label="titanic:1")
        uses = selectors.dataset_uses(version.dataset)
        assert (uses.versions, uses.runs, uses.names) == (1, 2, ["e_1", "e_0"])
        datasets.dataset_delete(version.dataset, user=team.contributor)
        assert not DatasetVersion.objects.exists()
        assert [row.label for row in RunData.objects.all()] == ["titanic:1"] * 2
        assert AuditEntry.objects.get(action="dataset.delete").detail == {"versions": 1, "runs": 2}
        assert register(team).version == 1

    def test_archive_again(self, team: Any) -> None:
        version = register(team)
        assert version.dataset is not None
        for _again in range(2):
            datasets.dataset_archive(version.dataset, user=team.owner)
        assert AuditEntry.objects.filter(action="dataset.archive").count() == 1


@pytest.mark.django_db(transaction=True)
def test_many_register_at_once(team: Any) -> None:
    """Each gets a number of its own; nothing is lost."""
    wrong: list[Exception] = []

    def one(number: int) -> None:
        from django.db import connections

        try:
            while True:
                try:
                    register(team, definition=csv(f"{number}.csv"), create_new_version=True)
                    return
                except OperationalError:  # the shared in-memory database of tests does not wait for a lock
                    time.sleep(0.02)
        except Exception as error:  # noqa: BLE001 - shown below
            wrong.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    versions = DatasetVersion.objects.order_by("version").values_list("version", flat=True)
    assert list(versions) == list(range(1, 9)) and Dataset.objects.get().latest_version == 8
