"""Registering, changing, testing and removing datastores."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from studio.accounts.models import AuditEntry, Workspace
from studio.accounts.services import workspace_create
from studio.datasets import selectors
from studio.datasets.backends.base import StoreError
from studio.datasets.models import Datastore
from studio.datasets.services import datasets, datastores
from studio.datasets.services.datastores import CheckFailed
from studio.lib import secrets as locks
from studio.lib.errors import Conflict, Invalid, NotFound

pytestmark = pytest.mark.django_db


class _Guarded(BaseHTTPRequestHandler):
    """Serves files to who tells a password, and writes down what it was told."""

    seen: list[str]

    def do_GET(self) -> None:
        told = self.headers.get("Authorization", "")
        type(self).seen.append(told)
        self.send_response(200 if base64.b64decode(told[6:]).partition(b":")[2] else 401)
        self.send_header("Content-Length", "4")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"a,b\n")

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def guarded() -> Iterator[list[tuple[str, list[str]]]]:
    """Two servers that want a password: (address, what they were told)."""
    servers = []
    for _number in range(2):
        handler = type("Handler", (_Guarded,), {"seen": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append((server, handler))
    yield [(f"http://127.0.0.1:{server.server_address[1]}/", handler.seen) for server, handler in servers]  # type: ignore[attr-defined]
    for server, _handler in servers:
        server.shutdown()
        server.server_close()


def local(team: Any, path: Path, name: str = "lake", **more: Any) -> Datastore:
    path.mkdir(parents=True, exist_ok=True)
    return datastores.datastore_create(
        workspace=team.workspace, user=team.owner, name=name, kind="local", config={"path": str(path)}, **more
    )


def web(team: Any, url: str, **more: Any) -> Datastore:
    given = {
        "workspace": team.workspace, "user": team.owner, "name": "web", "kind": "http", "check": False,
        "config": {"url": url, "user": "ann"}, "secrets": {"password": "hunter2"}, **more,
    }  # fmt: skip
    return datastores.datastore_create(**given)


def definition(store: str, path: str = "*.csv") -> dict[str, Any]:
    return {"type": "tabular", "source": {"kind": "delimited", "paths": [{"datastore": store, "path": path}]}}


class TestWorkspaceStore:
    def test_every_workspace_has_one(self, team: Any) -> None:
        store = selectors.default_datastore(team.workspace)
        assert (store.name, store.builtin, store.kind) == ("workspaceblobstore", True, "workspace")
        assert datastores.ensure_workspace_store(team.workspace).pk == store.pk
        assert str(team.workspace.pk) in datastores.store_open(store).address()

    def test_workspaces_from_before_get_one(self, team: Any) -> None:
        from importlib import import_module

        from django.apps import apps

        Datastore.everything.filter(workspace=team.workspace).delete()
        migration = import_module("studio.datasets.migrations.0002_workspace_stores")
        for _again in range(2):
            migration.make_stores(apps, None)
        store = Datastore.objects.get(workspace=team.workspace)
        assert store.builtin and store.is_default and datastores.store_open(store).list().entries == []

    def test_stays_as_it_is(self, team: Any) -> None:
        store = selectors.default_datastore(team.workspace)
        with pytest.raises(Conflict):
            datastores.datastore_update(store, user=team.owner, description="mine")
        with pytest.raises(Conflict):
            datastores.datastore_remove(store, user=team.owner, force=True)


class TestCreate:
    def test_is_tried_first(self, team: Any, tmp_path: Path) -> None:
        with pytest.raises(CheckFailed) as caught:
            datastores.datastore_create(
                workspace=team.workspace, user=team.owner, name="lake", kind="local", config={"path": "/no/such"}
            )
        assert "/no/such" in caught.value.detail and caught.value.problems[0].code == "no-such-container"
        assert list(caught.value.errors) == ["path"]
        assert not Datastore.objects.filter(name="lake").exists()
        made = local(team, tmp_path / "lake", description="Raw")
        assert made.checked_at is not None and made.config == {"path": str(tmp_path / "lake")}
        assert AuditEntry.objects.filter(action="datastore.create", actor=team.owner).exists()

    @pytest.mark.parametrize(("given", "kept"), [({}, True), ({"path_style": False}, False)])
    def test_a_box_that_is_not_named_has_its_default(self, team: Any, given: dict[str, Any], kept: bool) -> None:
        made = datastores.datastore_create(
            workspace=team.workspace, user=team.owner, name="bucket", kind="s3", check=False,
            config={"bucket": "b", "endpoint": "http://127.0.0.1:1", **given},
        )  # fmt: skip
        assert made.config["path_style"] is kept and made.config["anonymous"] is False

    def test_unless_told_otherwise(self, team: Any) -> None:
        made = datastores.datastore_create(
            workspace=team.workspace,
            user=team.owner,
            name="later",
            kind="local",
            config={"path": "/no/such"},
            check=False,
        )
        problems, entries = datastores.datastore_check(made)
        assert problems and not entries
        made.refresh_from_db()
        assert made.problems[0]["code"] == "no-such-container"

    def test_every_wrong_field_at_once(self, team: Any) -> None:
        with pytest.raises(Invalid) as caught:
            web(team, "", config={"color": "red"})
        assert {"color", "url"} <= caught.value.errors.keys()

    @pytest.mark.parametrize(
        ("kind", "config", "field"),
        [
            ("http", {"url": "https://ann:hunter2@h.test/data/"}, "url"),
            ("http", {"url": "https://h.test/data/?sig=hunter2"}, "url"),
            ("s3", {"bucket": "b", "endpoint": "https://ann:hunter2@h.test"}, "endpoint"),
            ("hdfs", {"url": "ann:hunter2@h.test:9870"}, "url"),
            ("azure_blob", {"container": "c", "endpoint": "https://h.test/a?sv=1&sig=hunter2"}, "endpoint"),
            ("postgresql", {"host": "ann:hunter2@h.test", "database": "d", "user": "u"}, "host"),
        ],
    )
    def test_no_sign_in_is_kept_where_readers_see_it(
        self, team: Any, kind: str, config: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(Invalid) as caught:
            web(team, "", kind=kind, config=config, secrets={})
        assert list(caught.value.errors) == [field] and "hunter2" not in str(caught.value.errors)
        assert not Datastore.objects.filter(kind=kind).exists()

    def test_an_address_may_hold_an_at_sign_in_its_path(self, team: Any) -> None:
        assert web(team, "https://h.test/@ann/data/", config={"url": "https://h.test/@ann/", "user": "a@b.test"})

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 65, "kinds", "new", "a\n"])
    def test_name(self, team: Any, tmp_path: Path, name: str) -> None:
        with pytest.raises(Invalid) as caught:
            local(team, tmp_path, name)
        assert list(caught.value.errors) == ["name"]

    def test_kind(self, team: Any) -> None:
        for kind in ("workspace", "tape"):
            with pytest.raises(Invalid):
                datastores.datastore_create(workspace=team.workspace, user=team.owner, name="a", kind=kind)

    def test_name_once_in_a_workspace(self, team: Any, tmp_path: Path) -> None:
        local(team, tmp_path / "a")
        with pytest.raises(Conflict):
            local(team, tmp_path / "b")
        other = Workspace.objects.get(name="elsewhere")
        datastores.datastore_create(
            workspace=other, user=team.outsider, name="lake", kind="local", config={"path": str(tmp_path / "a")}
        )
        with pytest.raises(NotFound):
            selectors.datastore_get(other, "lakes")


class TestSecrets:
    def test_are_encrypted(self, team: Any) -> None:
        made = web(team, "http://127.0.0.1:1/")
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM datasets_datastore WHERE id = %s", [made.pk])
            assert "hunter2" not in str(cursor.fetchall())
        assert datastores.opened_secrets(made) == {"password": "hunter2"}
        assert "hunter2" not in str(list(AuditEntry.objects.values_list("detail", flat=True)))

    def test_stay_when_not_named_and_go_when_empty(self, team: Any) -> None:
        made = web(team, "http://127.0.0.1:1/")
        datastores.datastore_update(made, user=team.owner, config=made.config, check=False)
        assert datastores.opened_secrets(made) == {"password": "hunter2"}
        datastores.datastore_update(made, user=team.owner, secrets={"password": "new"}, check=False)
        assert datastores.opened_secrets(made) == {"password": "new"}
        datastores.datastore_update(made, user=team.owner, secrets={"password": ""}, check=False)
        made.refresh_from_db()
        assert datastores.opened_secrets(made) == {} and made.secrets == ""

    def test_are_never_sent_to_another_address(self, team: Any, guarded: list[tuple[str, list[str]]]) -> None:
        """Who changes the address does not know the password, and must not learn it from a server of their own."""
        (home, _told), (elsewhere, heard) = guarded
        made = web(team, home, config={"url": home + "a.csv", "user": "ann"}, check=True)
        moved = {"url": elsewhere + "a.csv", "user": "ann"}
        datastores.datastore_try(kind="http", config=moved, secrets={}, datastore=made)
        with pytest.raises(CheckFailed) as caught:
            datastores.datastore_update(made, user=team.owner, config=moved)
        assert caught.value.problems[-1].code == "secrets-dropped"
        assert heard and not any(b"hunter2" in base64.b64decode(told[6:]) for told in heard)
        made.refresh_from_db()
        assert made.config["url"].startswith(home) and datastores.opened_secrets(made) == {"password": "hunter2"}
        datastores.datastore_update(made, user=team.owner, config=moved, check=False)
        assert datastores.opened_secrets(made) == {}
        datastores.datastore_update(made, user=team.owner, config=moved, secrets={"password": "other"})
        assert datastores.opened_secrets(made) == {"password": "other"}

    def test_an_address_that_is_a_secret_leads_elsewhere_too(self, team: Any) -> None:
        """A whole blob address with its signature: another one must not be sent the key of the first."""
        made = datastores.datastore_create(
            workspace=team.workspace, user=team.owner, name="blobs", kind="azure_blob", check=False,
            config={"account_name": "acc", "container": "c"}, secrets={"sas_token": "sv=1&sig=abc"},
        )  # fmt: skip
        folder = {**made.config, "prefix": "2024"}
        datastores.datastore_update(made, user=team.owner, config=folder, check=False)
        assert datastores.opened_secrets(made) == {"sas_token": "sv=1&sig=abc"}
        url = "https://elsewhere.test/c"
        datastores.datastore_update(made, user=team.owner, secrets={"url": url}, check=False)
        assert datastores.opened_secrets(made) == {"url": url}

    def test_rotation(self, team: Any) -> None:
        made = web(team, "http://127.0.0.1:1/")
        version = datasets.dataset_register(
            workspace=team.workspace, user=team.owner, name="signed",
            definition={"source": {"kind": "files", "paths": [{"url": "https://h.test/c/a.csv?sv=1&sig=abc"}]}},
        )  # fmt: skip
        before = made.secrets, version.secrets
        call_command("rotate_secrets", verbosity=0)
        # The old key goes: what was not encrypted again could not be read any more.
        path = locks._keys_path()
        path.write_text(path.read_text().split()[0] + "\n")
        made.refresh_from_db()
        version.refresh_from_db()
        assert made.secrets != before[0] and version.secrets != before[1]
        assert datastores.opened_secrets(made) == {"password": "hunter2"}
        assert datasets.opened_definition(version)["source"]["paths"][0]["url"].endswith("?sv=1&sig=abc")

    def test_unreadable_is_said(self, team: Any) -> None:
        made = web(team, "http://127.0.0.1:1/")
        locks._keys_path().unlink()
        locks.encrypt("a new key file")
        with pytest.raises(StoreError) as caught:
            datastores.store_open(made)
        assert "old key" in caught.value.detail and datastores.datastore_check(made)[0]


class TestDefault:
    def test_exactly_one(self, team: Any, tmp_path: Path) -> None:
        made = local(team, tmp_path / "a")
        datastores.datastore_set_default(made, user=team.owner)
        assert [one.name for one in Datastore.objects.filter(workspace=team.workspace, is_default=True)] == ["lake"]
        assert selectors.default_datastore(team.workspace).pk == made.pk

    def test_goes_back_when_it_is_removed(self, team: Any, tmp_path: Path) -> None:
        made = local(team, tmp_path / "a")
        datastores.datastore_set_default(made, user=team.owner)
        datastores.datastore_remove(made, user=team.owner)
        assert selectors.default_datastore(team.workspace).builtin
        with pytest.raises(Conflict):
            datastores.datastore_set_default(made, user=team.owner)
        assert selectors.default_datastore(team.workspace).builtin


class TestRemove:
    def test_is_refused_while_datasets_read_from_it(self, team: Any, tmp_path: Path) -> None:
        made, other = local(team, tmp_path / "a"), local(team, tmp_path / "b", "lake2")
        common: dict[str, Any] = {"workspace": team.workspace, "user": team.owner}
        for number in range(7):
            datasets.dataset_register(**common, name=f"d{number}", definition=definition("lake", f"{number}.csv"))
        datasets.dataset_register(**common, name="tricky", definition=definition("lake2", '"datastore": "lake"'))
        datasets.definition_save(**common, definition=definition("lake", "unnamed.csv"))
        uses = datastores.datastore_uses(made)
        assert (len(uses.datasets), uses.versions, uses.unnamed) == (7, 7, 1)
        with pytest.raises(Conflict) as caught:
            datastores.datastore_remove(made, user=team.owner)
        assert "d0, d1, d2, d3, d4 and 2 more" in caught.value.detail
        assert datastores.datastore_uses(other).datasets == ["tricky"]
        datastores.datastore_remove(made, user=team.owner, force=True)
        assert [one.name for one in selectors.datastores_of(team.workspace)] == ["workspaceblobstore", "lake2"]

    def test_the_name_is_free_again_and_the_bytes_stay(self, team: Any, tmp_path: Path) -> None:
        made = local(team, tmp_path / "a")
        (tmp_path / "a" / "x.csv").write_text("a\n")
        datastores.datastore_remove(made, user=team.owner)
        with pytest.raises(StoreError):
            datastores.store_open(Datastore.everything.get(pk=made.pk))
        assert (tmp_path / "a" / "x.csv").exists()
        local(team, tmp_path / "a")

    def test_workspaces_do_not_mix(self, team: Any, tmp_path: Path) -> None:
        made = local(team, tmp_path / "a")
        other = workspace_create(name="third", user=team.owner)
        datastores.datastore_create(
            workspace=other, user=team.owner, name="lake", kind="local", config={"path": str(tmp_path / "a")}
        )
        datasets.dataset_register(workspace=other, user=team.owner, name="d", definition=definition("lake"))
        assert not datastores.datastore_uses(made)


def test_kinds_describe_themselves() -> None:
    found = {one.kind: one for one in datastores.kinds()}
    assert "workspace" not in found and {"local", "http", "s3"} <= found.keys()
    assert all(str(one.label) and str(one.summary) and one.icon for one in found.values())
