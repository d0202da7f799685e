"""The wizard without a browser: guesses, drafts and their way into a definition and back, stores that fail."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from studio.data_pages import drafts
from studio.data_pages.guessing import guess
from studio.data_pages.lineage import Edge, Node, draw, layers_of
from studio.datasets.models import DatasetDraft, DatasetVersion, Datastore

KEY = "sig=abc123secret456&se=2030-01-01"


@pytest.mark.parametrize(
    ("name", "head", "kind", "expected"),
    [
        ("a.csv", b"a,b\n1,2\n", "delimited", {"separator": ",", "header": True, "encoding": "utf8"}),
        ("a.csv", b"a;b\n1,5;2\n2,5;3\n", "delimited", {"separator": ";"}),
        ("a.tsv", b"1\t2\n3\t4\n", "delimited", {"separator": "\t", "header": False}),
        ("a.txt", "name|city\nJosé|x\n".encode("latin-1"), "delimited", {"separator": "|", "encoding": "latin-1"}),
        ("a.csv", "\ufeffa,b\n1,2\n".encode("utf-16"), "delimited", {"encoding": "utf-16"}),
        ("a.csv", b'a,b\n1,"x\ny"\n', "delimited", {"multi_line": True}),
        ("a.csv.gz", b"\x1f\x8b\x00", "delimited", {"separator": ","}),
        ("part-0", b"PAR1\x00", "parquet", {}),
        ("x.snappy.parquet", b"", "parquet", {}),
        ("a.json", b'{"a": 1}\n{"a": 2}\n', "json_lines", {}),
        ("a.json", b'{\n "a": 1\n}', "files", {}),
        ("a.png", b"\x89PNG\x00\x01", "files", {}),
        ("a.csv", b"", "delimited", {"separator": ","}),
    ],
)
def test_guesses(name: str, head: bytes, kind: str, expected: dict[str, Any]) -> None:
    found, said = guess(name, head)
    assert found == kind
    assert {key: said.get(key) for key in expected} == expected


def test_a_draft_and_its_definition_and_back() -> None:
    columns = [
        {"source": "a", "name": "A", "type": "integer", "keep": True},
        {"source": "t", "name": "t", "type": "datetime", "keep": True},
        {"source": "x", "name": "x", "type": "string", "keep": False},
    ]
    state = {**drafts.blank("store"), "picks": [drafts.escaped("a[1].csv")], "kind": "delimited", "timestamp": "t"}
    state.update(settings={"separator": ";", "on_ragged": "skip"}, columns=columns)
    definition = drafts.definition_of(state)
    assert definition["source"]["paths"] == [{"datastore": "store", "path": "a[[]1].csv"}]
    assert [step["op"] for step in definition["steps"]] == ["drop", "timestamps"]
    version = DatasetVersion(definition=definition, tags={"a": "b"}, description="said")
    again = drafts.state_of(version)
    assert again["columns"] == columns and again["timestamp"] == "t" and again["tags"] == "a=b"
    assert drafts.definition_of(again) == definition


def test_layers_go_on_and_survive_circles() -> None:
    nodes = [Node(key, "run", key) for key in "abcd"]
    assert layers_of(nodes, [Edge("a", "b"), Edge("b", "c"), Edge("a", "c"), Edge("d", "c")]) == {
        "a": 0, "b": 1, "c": 2, "d": 1,
    }  # fmt: skip
    round_ = draw(nodes, [Edge("a", "b"), Edge("b", "a"), Edge("a", "a")])
    assert len(round_.nodes) == 4 and len({(one.x, one.y) for one in round_.nodes}) == 4


class _Files(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """One table, to whoever has the key."""
        body = b"city;people\nA;1\nB;2\n"
        self.send_response(200 if KEY in self.path else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}/data/cities.csv"
    found.shutdown()
    found.server_close()


@pytest.fixture
def client(team: Any) -> Client:
    client = Client()
    client.force_login(team.contributor)
    return client


def _start(client: Client, **query: str) -> str:
    return str(client.get(reverse("wizard-start", kwargs={"workspace": "main"}), query)["Location"])


@pytest.mark.django_db
@pytest.mark.timeout(120)
def test_a_signed_address_is_kept_and_not_shown(client: Client, team: Any, server: str) -> None:
    url = _start(client)
    client.post(url, {"go": "place:web"})
    response = client.post(url, {"go": "next", "urls": f"{server}?{KEY}"})
    assert response["Location"].endswith("/settings/")
    assert KEY not in DatasetDraft.objects.get().state
    text = client.get(response["Location"]).content.decode()
    assert '<option value=";" selected' in text
    columns = url.replace("/files/", "/columns/")
    assert "people" in client.get(columns).content.decode()
    name = url.replace("/files/", "/name/")
    assert KEY.split("&")[0] not in client.get(name).content.decode()
    response = client.post(name, {"name": "cities", "go": "register"})
    version = DatasetVersion.objects.get()
    assert response["Location"] == version.get_absolute_url()
    assert version.definition["source"]["paths"] == [{"url": server, "signed": True}]
    # The next version knows the key and does not say it.
    url = _start(client, dataset="cities")
    text = client.get(url).content.decode()
    assert server in text and "abc123secret456" not in text
    assert client.post(url, {"go": "next", "urls": server})["Location"].endswith("/settings/")
    assert (
        "people"
        in client.post(
            url.replace("/files/", "/settings/preview/"), {"kind": "delimited", "separator": ";", "header": "on"}
        ).content.decode()
    )
    response = client.post(url.replace("/files/", "/name/"), {"name": "cities", "go": "register"}, follow=True)
    assert "says exactly this already" in response.content.decode()


@pytest.mark.django_db
@pytest.mark.timeout(120)
def test_a_store_that_is_away(client: Client, team: Any) -> None:
    """The page comes at once; the part with the folder says what is wrong and offers to try again."""
    Datastore.objects.create(workspace=team.workspace, name="away", kind="http", config={"url": "http://127.0.0.1:9/"})
    url = _start(client, datastore="away")
    text = client.get(url).content.decode()
    assert "Listing the folder" in text and 'hx-target="#listing"' in text and "Upload here" not in text
    text = client.get(url + "folder/").content.decode()
    assert "Try again" in text and "Traceback" not in text
    response = client.post(url, {"go": "next", "picks": "1", "pick": "a.csv"})
    assert response.status_code == 422 and "Traceback" not in response.content.decode()


@pytest.mark.django_db
def test_drafts_are_their_owners(client: Client, team: Any) -> None:
    url = _start(client)
    other = Client()
    other.force_login(team.owner)
    assert other.get(url).status_code == 404
    assert client.get(url.replace("/files/", "/name/")).status_code == 302
    for _number in range(25):
        _start(client)
    assert DatasetDraft.objects.count() == drafts.KEPT
    assert client.get(url).status_code == 404
    assert client.post(_start(client), {"go": "discard"}).status_code == 302
    assert DatasetDraft.objects.count() == drafts.KEPT - 1


@pytest.mark.django_db
def test_a_name_that_is_taken_is_asked_about(client: Client, team: Any) -> None:
    state = {**drafts.blank("workspaceblobstore"), "picks": ["a/**"], "kind": "files"}
    for path in ("a/**", "b/**"):
        draft = drafts.draft_new(team.workspace, team.contributor, {**state, "picks": [path]})
        url = reverse("wizard-name", kwargs={"workspace": "main", "draft": draft.pk})
        response = client.post(url, {"name": "pictures", "go": "register"})
    assert response.status_code == 422 and "Register as version 2" in response.content.decode()
    response = client.post(url, {"name": "pictures", "go": "register", "confirmed": "pictures"})
    assert response.status_code == 302
    assert DatasetVersion.objects.get(version=2).definition["source"]["paths"][0]["path"] == "b/**"


@pytest.mark.django_db
def test_a_query_and_files_do_not_get_into_each_others_way(client: Client, team: Any) -> None:
    Datastore.objects.create(workspace=team.workspace, name="pg", kind="postgresql", config={"host": "127.0.0.1"})
    url = _start(client)
    assert client.post(url, {"go": "stay", "picks": "1", "pick": "a.csv"}).status_code == 302
    client.post(url, {"go": "place:sql"})
    refused = client.post(url, {"go": "next", "database": "pg", "query": ""})
    assert refused.status_code == 422 and "Type a query" in refused.content.decode()
    client.post(url, {"go": "place:store", "database": "pg", "query": "select 1 as one"})
    _draft, state = drafts.draft_get(team.workspace, team.contributor, DatasetDraft.objects.get().pk)
    assert (state["datastore"], state["picks"], state["database"]) == ("workspaceblobstore", ["a.csv"], "pg")
    client.post(url, {"go": "place:sql"})
    response = client.post(url, {"go": "next", "database": "pg", "query": "select 1 as one"})
    text = client.get(response["Location"]).content.decode()
    assert 'name="on_error"' in text and 'name="kind"' not in text
    response = client.post(response["Location"], {"go": "anyway"})
    response = client.post(response["Location"], {"name": "one", "go": "register"})
    version = DatasetVersion.objects.get()
    assert version.definition["source"]["query"] == {"datastore": "pg", "text": "select 1 as one"}
    assert "select 1 as one" in client.get(version.get_absolute_url()).content.decode()
    again = client.get(_start(client, dataset="one")).content.decode()
    assert "select 1 as one" in again and '<option value="pg" selected>' in again
