"""Pages of datastores, with folders that are really there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from studio.datasets.models import Datastore
from studio.datasets.services.datastores import datastore_create, store_open

pytestmark = pytest.mark.django_db


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "nfs"
    (root / "raw" / "2024").mkdir(parents=True)
    (root / "raw" / "a.csv").write_text("x\n1\n")
    return root


@pytest.fixture
def store(team: Any, folder: Path) -> Datastore:
    return datastore_create(
        workspace=team.workspace, user=team.owner, name="nfs", kind="local", config={"path": str(folder)}
    )


def text(response: Any) -> str:
    return response.content.decode()


def test_the_list_has_the_workspaces_own_store_first(team: Any, store: Datastore) -> None:
    page = text(signed_in(team.reader).get("/w/main/datastores/"))
    assert page.index("workspaceblobstore") < page.index(">nfs<")
    assert "default" in page
    assert "Register datastore" not in page  # a reader cannot


def test_registering_is_drawn_from_what_the_kind_declares(team: Any, folder: Path) -> None:
    owner = signed_in(team.owner)
    page = text(owner.get("/w/main/datastores/new/?kind=s3"))
    for one in ("Local or NFS folder", "Azure Blob", "HDFS", 'name="bucket"', 'type="password"'):
        assert one in page
    answer = owner.post(
        "/w/main/datastores/new/", {"kind": "local", "name": "nfs", "path": str(folder), "description": "Team share"}
    )
    assert answer.status_code == 302
    made = Datastore.objects.get(name="nfs")
    assert (made.description, made.config["path"]) == ("Team share", str(folder))


@pytest.mark.parametrize("ticked", [True, False])
def test_a_box_that_is_not_ticked_is_off_whatever_its_default(team: Any, ticked: bool) -> None:
    typed = {"kind": "s3", "name": "bucket", "bucket": "b", "endpoint": "http://127.0.0.1:1", "force": "1"}
    answer = signed_in(team.owner).post(
        "/w/main/datastores/new/", {**typed, **({"path_style": "on"} if ticked else {})}
    )
    assert answer.status_code == 302
    assert Datastore.objects.get(name="bucket").config["path_style"] is ticked


def test_a_test_that_fails_registers_nothing_and_keeps_what_was_typed(team: Any, tmp_path: Path) -> None:
    owner = signed_in(team.owner)
    gone = str(tmp_path / "gone")
    typed = {"kind": "local", "name": "nfs", "path": gone}
    refused = owner.post("/w/main/datastores/new/", typed)
    assert refused.status_code == 422
    assert gone in text(refused) and "Register without a test" in text(refused)
    assert not Datastore.objects.filter(name="nfs").exists()
    assert owner.post("/w/main/datastores/new/", {**typed, "force": "1"}).status_code == 302
    assert Datastore.objects.filter(name="nfs").exists()


def test_the_test_button_of_the_form_saves_nothing(team: Any, folder: Path) -> None:
    owner = signed_in(team.owner)
    answer = owner.post(
        "/w/main/datastores/new/", {"kind": "local", "path": str(folder), "try": "1"}, headers={"HX-Request": "true"}
    )
    assert "It answers." in text(answer) and "raw" in text(answer)
    assert not Datastore.objects.filter(kind="local").exists()


def test_folders_are_pages(team: Any, store: Datastore) -> None:
    reader = signed_in(team.reader)
    page = text(reader.get("/w/main/datastores/nfs/?path=raw"))
    assert "2024" in page and "a.csv" in page
    assert "data-upload-files" not in page and "Delete" not in page
    assert "data-upload-files" in text(signed_in(team.contributor).get("/w/main/datastores/nfs/"))


@pytest.mark.parametrize("path", ["../..", "raw/../../etc", "/etc/../.."])
def test_a_path_cannot_leave_the_store(team: Any, store: Datastore, path: str) -> None:
    answer = signed_in(team.reader).get("/w/main/datastores/nfs/", {"path": path})
    assert answer.status_code == 422
    assert "passwd" not in text(answer)


def test_a_folder_that_is_not_there_says_so(team: Any, store: Datastore) -> None:
    page = text(signed_in(team.reader).get("/w/main/datastores/nfs/?path=nothing"))
    assert "nothing" in page and "Try again" in page


def test_names_that_deceive_are_drawn_as_they_are(team: Any, store: Datastore, folder: Path) -> None:
    (folder / "<b>bold<b>\u202egpj.exe").write_text("x")
    page = text(signed_in(team.reader).get("/w/main/datastores/nfs/"))
    assert "<b>bold" not in page and "⟦U+202E⟧" in page


def test_deleting_a_file_shows_its_folder(team: Any, store: Datastore, folder: Path) -> None:
    contributor = signed_in(team.contributor)
    answer = contributor.post("/w/main/datastores/nfs/delete/", {"entry": "raw/a.csv"}, follow=True)
    assert not (folder / "raw" / "a.csv").exists()
    assert "raw/a.csv is deleted" in text(answer)


def test_the_default_moves_and_comes_back_when_it_is_removed(team: Any, store: Datastore) -> None:
    owner = signed_in(team.owner)
    owner.post("/w/main/datastores/nfs/default/")
    assert Datastore.objects.get(workspace=team.workspace, is_default=True).name == "nfs"
    assert "No dataset reads from it" in text(owner.get("/w/main/datastores/nfs/remove/"))
    owner.post("/w/main/datastores/nfs/remove/")
    assert Datastore.objects.get(workspace=team.workspace, is_default=True).name == "workspaceblobstore"
    assert owner.get("/w/main/datastores/nfs/").status_code == 404


def test_the_workspaces_own_store_has_no_settings(team: Any) -> None:
    owner = signed_in(team.owner)
    page = text(owner.get("/w/main/datastores/workspaceblobstore/"))
    assert "/edit/" not in page and "/remove/" not in page
    assert owner.get("/w/main/datastores/workspaceblobstore/edit/").status_code == 404


def test_a_secret_is_never_shown_again(team: Any, folder: Path) -> None:
    owner = signed_in(team.owner)
    made = datastore_create(
        workspace=team.workspace, user=team.owner, name="bucket", kind="s3", check=False,
        config={"bucket": "b", "endpoint": "http://127.0.0.1:9"},
        secrets={"access_key": "AKIA-visible-nowhere", "secret_key": "wJal-visible-nowhere"},
    )  # fmt: skip
    assert store_open(made).kind == "s3"
    for address in ("/w/main/datastores/", "/w/main/datastores/bucket/", "/w/main/datastores/bucket/edit/"):
        assert "visible-nowhere" not in text(owner.get(address))
