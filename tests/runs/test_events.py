"""Events into the database: every point once, extremes right, bad lines noted."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from runs import charts, packing
from runs.models import MetricChunk, MetricSeries, Run
from runs.selectors import run_metrics
from runs.services.events import ingest_lines, ingest_objects

pytestmark = pytest.mark.django_db


def lines(*events: dict[str, Any]) -> list[bytes]:
    return [orjson.dumps(event) for event in events]


def test_points_fill_chunks_and_every_one_is_there_once(run: Run) -> None:
    sent: list[float] = []
    for size in (1, 4094, 3, 5000, 1, 4096):
        batch = [float(len(sent) + index) for index in range(size)]
        ingest_lines(run, lines(*({"k": "metric", "n": "loss", "v": v, "s": int(v), "t": v + 0.5} for v in batch)))
        sent += batch
    series = MetricSeries.objects.get(run=run, name="loss")
    counts = list(MetricChunk.objects.filter(series=series).order_by("first").values_list("first", "count"))
    assert counts[:-1] == [(index * 4096, 4096) for index in range(len(counts) - 1)]
    xs, ys = charts.load(series.pk, packing.STEPS)
    assert ys.tolist() == sent and xs.tolist() == sent
    assert charts.load(series.pk, packing.TIMES, since=4100)[0].tolist() == [v + 0.5 for v in sent[4100:]]
    assert (series.count, series.minimum, series.maximum, series.last) == (len(sent), 0, len(sent) - 1, len(sent) - 1)


def test_what_is_not_finite_stays_in_the_points_alone(run: Run) -> None:
    ingest_lines(run, lines(*({"k": "metric", "n": "loss", "v": v} for v in (2.0, "NaN", "Infinity", -1, "NaN"))))
    series = MetricSeries.objects.get(run=run)
    assert (series.minimum, series.maximum, series.last, series.count) == (-1, 2, None, 5)
    values = charts.load(series.pk, packing.VALUES)[1].tolist()
    assert values[0] == 2 and math.isnan(values[1]) and math.isinf(values[2]) and math.isnan(values[4])
    assert run_metrics(run) == {"loss": [2.0, "NaN", "Infinity", -1.0, "NaN"]}
    assert charts.series(run, "loss")["y"] == [2.0, None, None, -1.0, None]


def test_a_point_without_a_step_has_its_index(run: Run) -> None:
    ingest_lines(run, lines({"k": "metric", "n": "a", "v": 1.0}, {"k": "metric", "n": "a", "v": 2.0, "s": 10}))
    ingest_lines(run, lines({"k": "metric", "n": "a", "v": 3.0}))
    assert charts.series(run, "a")["x"] == [0, 2, 10]  # by step: the third was logged with none


def test_bad_lines_are_noted_once_and_stop_nothing(run: Run) -> None:
    for _again in range(2):
        ingest_lines(run, [b"{nonsense", b"[]", b'{"k":"metric","n":"a","v":1}', b'{"k":"metric","n":"","v":1}', b""])
    run.refresh_from_db()
    assert MetricSeries.objects.get(run=run).count == 2
    assert run.warnings == ["6 events could not be used; the first: not JSON: {nonsense"]


def test_a_transaction_that_fails_leaves_nothing(run: Run) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        ingest_lines(run, lines({"k": "metric", "n": "a", "v": 1.0}))
        raise RuntimeError
    assert not MetricSeries.objects.exists() and not MetricChunk.objects.exists()


def test_records_tags_properties_parameters(run: Run) -> None:
    ingest_lines(
        run,
        lines(
            {"k": "row", "n": "r", "v": {"x": 1, "y": "a\u0000b"}},
            {"k": "row", "n": "r", "v": {"x": 2, "y": "c"}},
            {"k": "table", "n": "t", "v": {"x": [1, 2]}},
            {"k": "image", "n": "i", "v": "outputs/i.png"},
            {"k": "metrics", "n": "l", "v": [1, 2.5, "NaN"], "d": "a list"},
            {"k": "metrics", "n": "words", "v": ["a", "b"]},
            {"k": "metric", "n": "text", "v": "hello"},
            {"k": "metric", "n": "once", "v": 4},
            {"k": "tag", "n": "stage", "v": None},
            {"k": "tag", "n": "stage", "v": "done"},
            {"k": "property", "n": "p", "v": 1},
            {"k": "param", "n": "lr", "v": 0.1},
        ),
    )
    assert run_metrics(run) == {
        "r": {"x": [1, 2], "y": ["ab", "c"]}, "t": {"x": [1, 2]}, "i": "outputs/i.png", "l": [1.0, 2.5, "NaN"],
        "words": ["a", "b"], "text": "hello", "once": 4.0,
    }  # fmt: skip
    assert run.metrics.get(name="l").description == "a list"
    assert dict(run.tag_rows.values_list("key", "value")) == {"stage": "done"}
    assert run.parameters.get().number == 0.1
    ingest_lines(run, lines({"k": "property", "n": "p", "v": 2}, {"k": "param", "n": "lr", "v": "auto"}))
    run.refresh_from_db()
    assert run.property_rows.get().value == "1" and run.parameters.get().number is None
    assert "'p' is set already" in run.warnings[0]


def test_names_have_no_space_around_them_and_are_not_empty(run: Run) -> None:
    named = (" ", "tab\t", " tab", "tab", "\u0000", "tab")
    ingest_lines(run, lines(*({"k": "metric", "n": name, "v": 1.0, "t": 1.0} for name in named)))
    run.refresh_from_db()
    series = MetricSeries.objects.get(run=run)
    assert (series.name, series.count) == ("tab", 4)
    assert run.warnings[0].startswith("2 events could not be used; the first: a name has 1 to 255 characters")


def test_a_name_holds_one_kind(run: Run) -> None:
    ingest_objects(run, [{"k": "metric", "n": "a", "v": 1}, {"k": "row", "n": "a", "v": {"x": 1}}])
    run.refresh_from_db()
    assert MetricSeries.objects.get(run=run).kind == "scalar"
    assert "'a' is a scalar" in run.warnings[0]


def test_thousands_of_series_cost_few_statements(run: Run) -> None:
    batch = lines(*({"k": "metric", "n": f"m{index}", "v": float(index), "t": 1.0} for index in range(3000)))
    ingest_lines(run, batch)
    with CaptureQueriesContext(connection) as queries:
        ingest_lines(run, batch)
    assert MetricSeries.objects.filter(run=run, count=2).count() == 3000
    assert len(queries) < 150


def test_one_batch_costs_a_fixed_number_of_statements(run: Run, django_assert_max_num_queries: Any) -> None:
    for _again in range(2):
        with django_assert_max_num_queries(8):
            ingest_lines(run, lines(*({"k": "metric", "n": f"m{i % 5}", "v": float(i), "t": 1.0} for i in range(1000))))
    assert MetricSeries.objects.get(run=run, name="m3").count == 400


def test_status_of_an_interactive_run(run: Run) -> None:
    ingest_objects(run, [{"k": "status", "v": "failed", "error": {"message": "no data"}}])
    run.refresh_from_db()
    assert run.status == "Failed" and run.error == {"message": "no data"} and run.ended_at is not None


def test_increments_of_a_chart(run: Run) -> None:
    ingest_objects(run, [{"k": "metric", "n": "a", "v": v, "s": v, "t": 1.0} for v in range(5000)])
    first = charts.series(run, "a", points=100)
    assert first["downsampled"] and first["next"] == first["count"] == 5000
    ingest_objects(run, [{"k": "metric", "n": "a", "v": 7.0, "s": 5000, "t": 1.0}])
    more = charts.series(run, "a", since=first["next"])
    assert (more["x"], more["y"], more["next"]) == ([5000], [7.0], 5001)
