from __future__ import annotations

from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from runs.models import Run
from tests.pages.conftest import end


def rows(page: str) -> list[str]:
    """Run ids of the list in their order on the page."""
    return [part.split('"')[0] for part in page.split('name="run" value="')[1:]]


def metric(name: str, value: float) -> dict[str, Any]:
    return {"k": "metric", "n": name, "v": value}


def test_sort_by_metric_and_parameter_and_columns(world: Any) -> None:
    runs = [world.run(lr=lr) for lr in (0.3, 0.1, 0.2)]
    for run, value in zip(runs, (5.0, 9.0, 7.0), strict=True):
        world.log(run, metric("loss", value))
    client = world.clients["reader"]
    page = client.get("/w/main/runs/?sort=metric:loss&columns=metric:loss,param:lr").content.decode()
    assert rows(page) == [runs[0].run_id, runs[2].run_id, runs[1].run_id]
    assert 'aria-sort="ascending"' in page and "0.3" in page
    page = client.get("/w/main/runs/?sort=-param:lr").content.decode()
    assert rows(page) == [runs[0].run_id, runs[2].run_id, runs[1].run_id]
    assert client.get("/w/main/runs/?sort=wrong").status_code == 422


def test_filters(world: Any) -> None:
    first = world.run(name="alpha", tags={"team": "vision"})
    second = end(world.run("other", name="beta"))
    client = world.clients["reader"]
    assert f'title="{first.target.name}">{first.target.name}</span>' in client.get("/w/main/runs/").content.decode()
    for query, expected in [
        ("search=alp", [first]),
        ("status=Completed", [second]),
        ("status=active", [first]),
        ("tag=team", [first]),
        ("tag=team=vision", [first]),
        ("tag=team=audio", []),
        ("creator=contributor", [second, first]),
        ("creator=reader", []),
        ("creator=nobody", []),
    ]:
        found = rows(client.get(f"/w/main/runs/?{query}").content.decode())
        assert found == [run.run_id for run in expected], query


def test_paging_by_key_shows_every_run_once(world: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("runs.views.lists.PAGE_SIZE", 2)
    runs = [world.run() for _ in range(5)]
    client, url, seen = world.clients["reader"], "/w/main/runs/", []
    while url:
        page = client.get(url).content.decode()
        seen += rows(page)
        url = ""
        if 'rel="next"' in page:
            url = "/w/main/runs/" + page.split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0].replace(
                "&amp;", "&"
            )
    assert seen == [run.run_id for run in reversed(runs)]
    assert client.get("/w/main/runs/?cursor=nonsense").status_code == 422


def test_rows_that_move_are_asked_for_until_they_end(world: Any) -> None:
    live, done = world.run(), end(world.run())
    client = world.clients["reader"]
    page = client.get("/w/main/runs/").content.decode()
    url = page.split('id="live-rows" hx-get="')[1].split('"')[0].replace("&amp;", "&")
    assert str(done.pk) not in url.split("columns")[0].split("ids=")[1]
    assert 'hx-swap-oob="innerHTML"' in client.get(url).content.decode()
    end(live)
    part = client.get(url).content.decode()
    assert "Completed" in part and "hx-get" not in part


def test_bulk_archive_cancel_and_delete(world: Any) -> None:
    first, second, third = world.run(), world.run(), end(world.run())
    client, url = world.clients["contributor"], "/w/main/runs/bulk/"
    client.post(url, {"run": [first.run_id], "action": "cancel"})
    client.post(url, {"run": [second.run_id, third.run_id], "action": "archive", "next": "/w/main/runs/?status=x"})
    first.refresh_from_db()
    assert first.status in {"Canceled", "CancelRequested"}
    assert Run.objects.exclude(archived_at=None).count() == 2
    answer = client.post(url, {"run": [third.run_id], "action": "delete", "next": "https://evil.test/"})
    assert answer["Location"].startswith("/w/main/runs/delete/?runs=") and "evil" not in answer["Location"]
    assert third.run_id in client.get(answer["Location"]).content.decode()
    assert client.post("/w/main/runs/delete/", {"runs": third.run_id}).status_code == 302
    assert not Run.objects.filter(pk=third.pk).exists()
    assert client.post(url, {"action": "archive"})["Location"] == "/w/main/runs/"


def test_empty_lists_say_what_to_do(world: Any) -> None:
    for url in ("/w/main/runs/", "/w/main/experiments/"):
        assert "/w/main/runs/new/" in world.clients["contributor"].get(url).content.decode()
        assert 'btn btn-primary" href' not in world.clients["reader"].get(url).content.decode()
    world.run()
    assert "Clear the filters" in world.clients["reader"].get("/w/main/runs/?search=zzz").content.decode()


def test_experiments(world: Any) -> None:
    run = world.run("iris")
    world.log(run, metric("loss", 1.5))
    world.run("mnist")
    client = world.clients["contributor"]
    page = client.get("/w/main/experiments/").content.decode()
    assert page.index("mnist") < page.index(">iris<")
    assert "mnist" not in client.get("/w/main/experiments/?search=iri").content.decode()
    page = client.get("/w/main/experiments/iris/").content.decode()
    assert "over-data" in page and '"y": [1.5]' in page and rows(page) == [run.run_id]
    client.post("/w/main/experiments/iris/archive/")
    assert ">iris<" not in client.get("/w/main/experiments/").content.decode()
    assert ">iris<" in client.get("/w/main/experiments/?archived=1").content.decode()
    client.post("/w/main/experiments/iris/archive/", {"restore": "1"})
    assert ">iris<" in client.get("/w/main/experiments/").content.decode()


def test_lists_take_a_constant_number_of_queries(world: Any) -> None:
    client, counts = world.clients["reader"], {}
    world.log(world.run(tags={"a": "1"}), metric("m0", 1.0))
    for url in ("/w/main/runs/", "/w/main/runs/?sort=-metric:m0", "/w/main/experiments/", "/w/main/experiments/iris/"):
        client.get(url)
        with CaptureQueriesContext(connection) as queries:
            client.get(url)
        counts[url] = len(queries)
    for n in range(12):
        world.log(
            world.run(f"iris{n % 3}" if n % 3 else "iris", tags={"a": "1", "b": "2"}),
            metric("m0", 1.0),
            metric(f"m{n}", n),
        )
    for url, before in counts.items():
        with CaptureQueriesContext(connection) as queries:
            client.get(url)
        assert len(queries) <= before <= 22, (url, before, len(queries))


def test_compare(world: Any) -> None:
    first = world.run(lr=0.1, script="a = 1\nb = 2\n", environment_variables={"SEED": "1"})
    second = world.run("other", lr=0.2, script="a = 1\nb = 3\n", environment_variables={"SEED": "2"})
    for run, value in ((first, 0.5), (second, 0.7)):
        world.log(run, *[{"k": "metric", "n": "loss", "v": value, "s": n} for n in range(3)], metric("same", 1.0))
    client, query = world.clients["reader"], f"?runs={first.run_id},{second.run_id}"
    page = client.get(f"/w/main/compare/{query}").content.decode()
    assert "run-differs" in page and "loss" in page and ">same<" in page
    assert ">same<" not in client.get(f"/w/main/compare/{query}&differences=1").content.decode()
    page = client.get(f"/w/main/compare/{query}&view=charts").content.decode()
    assert "compare-sources" in page and second.run_id in page
    page = client.get(f"/w/main/compare/{query}&view=code").content.decode()
    assert "run-diff-add" in page and "b = 3" in page and "1 other file is the same" in page
    page = client.get(f"/w/main/compare/{query}&view=environment").content.decode()
    assert "SEED" in page
    assert client.get(f"/w/main/compare/?runs={first.run_id}&add={second.run_id}")["Location"].endswith(query)
    assert "nobody_1_1" in client.get("/w/main/compare/?runs=nobody_1_1").content.decode()
    assert client.get("/w/main/compare/").status_code == 200
