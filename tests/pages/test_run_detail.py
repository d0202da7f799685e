from __future__ import annotations

import io
import json
import zipfile
from typing import Any
from urllib.parse import quote

from django.test.utils import CaptureQueriesContext

from runs.models import Run, RunTag
from tests.pages.conftest import end, png


def get(world: Any, run: Run, tab: str = "", who: str = "contributor", **data: str) -> Any:
    return world.clients[who].get(f"/w/main/runs/{run.run_id}/{tab}", data)


def points(name: str, count: int) -> list[dict[str, Any]]:
    return [{"k": "metric", "n": name, "v": float(n), "s": n, "t": 1000.0 + n} for n in range(count)]


def test_overview_shows_what_is_known(world: Any) -> None:
    run = world.run(name="first try", lr=0.25, tags={"team": "vision"})
    world.log(run, *points("loss", 5), {"k": "metric", "n": "f1", "v": 0.5})
    page = get(world, run).content.decode()
    for part in ("first try", run.run_id, "train.py", "0.25", "team: vision", "loss", "data-spark", "Not started"):
        assert part in page, part


def test_output_and_names_are_never_html(world: Any) -> None:
    evil = "<script>alert(1)</script>"
    run = world.run(name=evil, tags={evil: evil})
    world.log(
        run,
        {"k": "metric", "n": evil, "v": 1.0},
        {"k": "row", "n": "row", "v": {evil: evil}},
        {"k": "accuracy_table", "n": "table", "v": {"data": {"class_labels": [evil], "probability_tables": []}}},
    )
    world.write(run, "outputs/a.html", evil.encode())
    world.write(run, "outputs/a.csv", f"{evil}\n{evil}".encode())
    for tab, data in [("", {}), ("metrics/", {}), ("outputs/", {"path": "outputs/a.html"}),
                      ("outputs/", {"path": "outputs/a.csv"}), ("details/", {})]:  # fmt: skip
        assert evil not in get(world, run, tab, **data).content.decode(), tab
    answer = get(world, run, "files/outputs/a.html", inline="1")
    assert answer["Content-Disposition"].startswith("attachment") and "sandbox" in answer["Content-Security-Policy"]


def test_characters_that_turn_what_is_read_are_drawn(world: Any) -> None:
    turned = "\u202egnp.exe"
    run = world.run()
    world.log(
        run,
        *points(turned, 2),
        {"k": "row", "n": turned + " 2", "v": {turned: turned}},
        {"k": "tag", "n": turned, "v": 1},
    )
    world.write(run, f"outputs/{turned}", f"a\tb {turned}".encode())
    for tab, data in [("", {}), ("metrics/", {}), ("outputs/", {}), ("outputs/", {"path": f"outputs/{turned}"})]:
        page = get(world, run, tab, **data).content.decode()
        assert ">⟦U+202E⟧gnp.exe" in page, tab
    assert "a\tb ⟦U+202E⟧gnp.exe" in page
    answer = get(world, run, f"files/outputs/{quote(turned)}")
    assert answer.getvalue() == f"a\tb {turned}".encode()
    assert quote("⟦U+202E⟧gnp.exe") in answer["Content-Disposition"]


def test_a_file_with_a_newline_in_its_name_can_be_opened(world: Any) -> None:
    run = world.run()
    world.write(run, "outputs/two\nlines ?#%.txt", b"inside")
    page = get(world, run, "outputs/", path="outputs/two\nlines ?#%.txt").content.decode()
    assert "two⟦U+000A⟧lines" in page and "inside" in page
    link = page.split('href="')
    link = next(one.split('"')[0] for one in link if "/files/outputs/" in one)
    assert world.clients["contributor"].get(link).getvalue() == b"inside"


def test_the_header_asks_again_only_while_the_run_lives(world: Any) -> None:
    run = world.run()
    page = get(world, run, "live/").content.decode()
    assert "hx-trigger" in page
    version = page.split("?v=")[1].split('"')[0]
    assert get(world, run, "live/", v=version).status_code == 204
    end(run)
    answer = get(world, run, "live/", v=version)
    assert answer.status_code == 200 and "hx-trigger" not in answer.content.decode()
    assert answer["HX-Trigger"] == "run-changed"


def test_overview_parts_change_with_the_metrics(world: Any) -> None:
    run = world.run()
    version = get(world, run, "overview/").content.decode().split("?v=")[1].split('"')[0]
    assert get(world, run, "overview/", v=version).status_code == 204
    world.log(run, *points("loss", 2))
    assert "loss" in get(world, run, "overview/", v=version).content.decode()
    end(run)
    assert "hx-trigger" not in get(world, run, "overview/", v=version).content.decode()


def test_a_failed_run_says_whose_fault_it_is_and_shows_its_last_lines(world: Any) -> None:
    run = end(world.run(), "Failed")
    Run.objects.filter(pk=run.pk).update(error={"code": "UserError", "message": "The command ended with exit code 1."})
    world.write(run, "stdout.log", b"one\n\x1b[31mValueError: no data\x1b[0m\n")
    page = get(world, run).content.decode()
    assert "exit code 1" in page and "The script ended with an error" in page and "ValueError: no data</pre>" in page


def test_series_and_catalog(world: Any) -> None:
    run = world.run()
    world.log(run, *points("loss", 5000))
    catalog = get(world, run, "metrics/series/").json()
    assert catalog["live"] is True and catalog["series"][0]["count"] == 5000
    answer = get(world, run, "metrics/series/", name="loss", points="100")
    series = answer.json()
    assert series["downsampled"] and len(series["x"]) <= 110 and max(series["y"]) == 4999.0
    again = world.clients["reader"].get(
        f"/w/main/runs/{run.run_id}/metrics/series/?name=loss&points=100", headers={"If-None-Match": answer["ETag"]}
    )
    assert again.status_code == 304
    assert get(world, run, "metrics/series/", name="nothing").status_code == 404
    assert get(world, run, "metrics/series/", name="loss", axis="sideways").status_code == 422
    assert get(world, run, "metrics/series/", name="loss", points="many").status_code == 422


def test_series_that_are_not_finite_are_still_json(world: Any) -> None:
    run = world.run()
    world.log(run, *[{"k": "metric", "n": "loss", "v": value} for value in (1.0, "NaN", "Infinity")])
    for data in ({}, {"name": "loss"}):
        text = get(world, run, "metrics/series/", **data).content.decode()
        json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(name)))
    assert get(world, run, "metrics/").status_code == 200


def test_other_kinds_of_metrics_are_drawn(world: Any) -> None:
    run = world.run()
    world.write(run, "outputs/a.png", png())
    world.log(
        run,
        {"k": "row", "n": "rows", "v": {"epoch": 1, "f1": 0.5}},
        {"k": "table", "n": "table", "v": {"a": [1, 2, 3], "b": [4, 5, 6]}},
        {"k": "image", "n": "picture", "v": "outputs/a.png"},
        {"k": "confusion_matrix", "n": "cm", "v": {"data": {"class_labels": ["x", "y"], "matrix": [[9, 1], [0, 10]]}}},
        {"k": "residuals", "n": "res", "v": {"data": {"bin_edges": [0, 1, 2], "bin_counts": [3, 4]}}},
        {"k": "metrics", "n": "odd", "v": ["a", "b"]},
    )
    page = get(world, run, "metrics/").content.decode()
    for part in ("heat-9", "heat-10", "outputs/a.png?inline=1", 'data-curve="residuals"', "<th>f1</th>", "odd"):
        assert part in page, part


def test_tags_notes_and_name(world: Any) -> None:
    run, client = world.run(), world.clients["contributor"]
    base = f"/w/main/runs/{run.run_id}/"
    part = client.post(base + "tags/", {"key": "a", "value": "1"}, headers={"HX-Request": "true"}).content.decode()
    assert "a: 1" in part and "<html" not in part
    client.post(base + "tags/", {"key": "flag"})
    assert RunTag.objects.get(run=run, key="flag").value is None
    client.post(base + "tags/", {"remove": "a"})
    assert not RunTag.objects.filter(run=run, key="a").exists()
    assert client.post(base + "tags/", {"key": ""}, headers={"HX-Request": "true"}).status_code == 422
    client.post(base + "notes/", {"notes": "it\r\nworks"}, headers={"HX-Request": "true"})
    client.post(base + "rename/", {"name": "better"})
    run.refresh_from_db()
    assert run.notes == "it\nworks" and run.name == "better"


def test_cancel_archive_and_delete(world: Any) -> None:
    run, client = world.run(), world.clients["contributor"]
    base = f"/w/main/runs/{run.run_id}/"
    assert client.post(base + "cancel/").status_code == 302
    run.refresh_from_db()
    assert run.status in {"Canceled", "CancelRequested"}
    assert client.post(base + "archive/").status_code == 302
    assert run.run_id not in client.get("/w/main/runs/").content.decode()
    assert run.run_id in client.get("/w/main/runs/?archived=1").content.decode()
    other = world.run()
    assert "disabled" in client.get(f"/w/main/runs/{other.run_id}/delete/").content.decode()
    assert client.post(f"/w/main/runs/{other.run_id}/delete/").status_code == 409
    end(other)
    world.write(other, "outputs/big.bin", b"0" * 2048)
    assert "2.0 KB" in client.get(f"/w/main/runs/{other.run_id}/delete/").content.decode()
    assert client.post(f"/w/main/runs/{other.run_id}/delete/").status_code == 302
    assert not Run.objects.filter(pk=other.pk).exists()


def test_files_tree_previews_and_downloads(world: Any) -> None:
    run = world.run()
    world.write(run, "outputs/deep/er/a.txt", b"line one\nline two\n")
    world.write(run, "outputs/m.bin", b"\0\1\2")
    world.write(run, "outputs/p.png", png())
    world.write(run, "outputs/n.ipynb", json.dumps({"cells": [{"cell_type": "code", "source": ["1+1"]}]}).encode())
    page = get(world, run, "outputs/").content.decode()
    assert "user_logs" in page and "log-view" in page and "er" in page
    assert "line two" in get(world, run, "outputs/", path="outputs/deep/er/a.txt").content.decode()
    assert "binary file" in get(world, run, "outputs/", path="outputs/m.bin").content.decode()
    assert "1+1" in get(world, run, "outputs/", path="outputs/n.ipynb").content.decode()
    assert get(world, run, "outputs/", path="outputs/none").status_code == 404
    assert get(world, run, "outputs/", path="../../secrets").status_code == 404
    image = get(world, run, "files/outputs/p.png", inline="1")
    assert image["Content-Type"] == "image/png" and image["Content-Disposition"].startswith("inline")
    part = world.clients["reader"].get(
        f"/w/main/runs/{run.run_id}/files/outputs/deep/er/a.txt", headers={"Range": "bytes=5-7"}
    )
    assert part.status_code == 206 and b"".join(part.streaming_content) == b"one"
    archive = zipfile.ZipFile(io.BytesIO(b"".join(get(world, run, "outputs/zip/").streaming_content)))
    assert archive.read("outputs/m.bin") == b"\0\1\2"
    version = get(world, run, "outputs/tree/").content.decode().split("?v=")[1].split("&")[0]
    assert get(world, run, "outputs/tree/", v=version).status_code == 204
    world.write(run, "outputs/new.txt", b"x")
    assert "new.txt" in get(world, run, "outputs/tree/", v=version).content.decode()


def test_code_is_shown_and_downloaded(world: Any) -> None:
    run = world.run(script="print('the very script')\n")
    assert "the very script" in get(world, run, "code/").content.decode()
    assert "x = 1" in get(world, run, "code/", path="lib/a.py").content.decode()
    assert get(world, run, "code/", path="nope.py").status_code == 404
    archive = zipfile.ZipFile(io.BytesIO(b"".join(get(world, run, "code/zip/").streaming_content)))
    assert sorted(archive.namelist()) == ["lib/a.py", "train.py"]


def test_details_are_json(world: Any) -> None:
    run = world.run()
    answer = get(world, run, "details/json/")
    assert answer.json()["runId"] == run.run_id and "attachment" in answer["Content-Disposition"]


def test_pages_take_a_constant_number_of_queries(world: Any) -> None:
    from django.db import connection

    few, many = world.run(tags={"a": "1"}), world.run(tags={f"t{n}": "1" for n in range(20)})
    world.log(few, *points("loss", 2))
    for n in range(30):
        world.log(many, *points(f"metric{n}", 2))
    for tab in ("", "live/", "overview/", "metrics/", "metrics/series/", "outputs/", "code/", "environment/"):
        get(world, few, tab)
        counts = []
        for run in (few, many):
            with CaptureQueriesContext(
                connection,
            ) as queries:
                get(world, run, tab)
            counts.append(len(queries))
        assert counts[0] == counts[1] <= 22, (tab, counts)


def test_an_interactive_run_has_every_tab(world: Any) -> None:
    from runs.services.interactive import run_start_interactive

    run = run_start_interactive(workspace=world.team.workspace, user=world.team.contributor, experiment="notebook")
    world.log(run, *points("loss", 3))
    for tab in ("", "live/", "overview/", "metrics/", "outputs/", "outputs/tree/", "code/", "environment/", "details/"):
        answer = get(world, run, tab)
        assert answer.status_code == 200, tab
        assert "Resubmit" not in answer.content.decode(), tab
    child = run_start_interactive(
        workspace=world.team.workspace, user=world.team.contributor, experiment="notebook", name="kid", parent=run
    )
    assert child.run_id in get(world, run).content.decode()
