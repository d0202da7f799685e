"""The format: what is accepted, how it is normal, what errors name."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from atelier.data import definition as d
from atelier.data import expressions as e
from atelier.data.errors import DataError
from atelier.exceptions import DatasetTimestampMissingError
from hypothesis import given
from hypothesis import strategies as st

PATHS = [{"datastore": "store", "path": "a/*.csv"}]
SCHEMA = [{"name": "a", "type": "integer"}, {"name": "b"}, {"name": "t", "type": "datetime"}]


def made(**options: Any) -> dict[str, Any]:
    return d.make("delimited", PATHS, schema=SCHEMA, **options)


def test_normal_form_has_all_keys_and_is_stable() -> None:
    one = made()
    assert one["source"]["separator"] == "," and one["source"]["on_ragged"] == "fill"
    assert one["schema"][1] == {"name": "b", "type": "string", "source": "b"}
    assert d.check(json.loads(json.dumps(one))) == one
    assert d.digest(d.check(one)) == d.digest(one)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"separator": ";;"}, "source.separator"),
        ({"encoding": "klingon"}, "source.encoding"),
        ({"encoding": "base64"}, "source.encoding"),
        ({"on_error": "shrug"}, "source.on_error"),
        ({"skip_rows": -1}, "source.skip_rows"),
        ({"header": "yes"}, "source.header"),
        ({"colour": 1}, "colour"),
        ({"quote": ","}, "source.quote"),
        ({"partition_format": "plain"}, "source.partition_format"),
    ],
)
def test_errors_name_the_key(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        made(**change)


@pytest.mark.parametrize("path", [{"datastore": "s", "path": "../x"}, {"url": "ftp://x/y"}, {"path": "x"}, "x", {}])
def test_paths_that_lead_nowhere(path: Any) -> None:
    with pytest.raises(DataError):
        d.make("delimited", [path])


def test_steps_are_checked_against_the_columns() -> None:
    with pytest.raises(DataError, match="no column 'z'; there are a, b, t"):
        d.with_step(made(), d.keep(["z"]))
    with pytest.raises(DataError, match="no column 'a'"):
        d.with_step(made(), d.keep(["b"]), d.filtered(e.Column("a") > 1))
    with pytest.raises(DatasetTimestampMissingError):
        d.with_step(made(), d.between("2020-01-01"))
    timed = d.with_step(made(), d.timestamp_columns("t"))
    assert d.timestamps(timed) == ("t", None)
    assert d.timestamps(d.with_step(timed, d.drop(["t"]))) == (None, None)


def test_columns_follow_the_steps() -> None:
    one = d.with_step(made(), d.drop("a"), d.keep(["t", "b"]))
    assert [column["name"] for column in d.columns(one) or []] == ["t", "b"]


def test_file_datasets_know_no_columns() -> None:
    one = d.make("files", PATHS)
    assert d.with_step(one, d.take(3))["steps"] == [{"op": "take", "count": 3}]
    with pytest.raises(DataError, match="file dataset has none"):
        d.with_step(one, d.keep(["a"]))


def test_a_definition_is_not_changed_by_what_is_made_of_it() -> None:
    one = made()
    before = d.digest(one)
    d.with_step(one, d.take(1))
    assert d.digest(one) == before


@given(st.lists(st.text(max_size=4), max_size=12))
def test_unique_names(names: list[str]) -> None:
    found, _ = d.unique_names(names)
    assert len(found) == len(names) == len({name.casefold() for name in found})
    assert all(found)


def test_duplicates_get_a_number_that_collides_with_none() -> None:
    assert d.unique_names(["a", "a", "a_1", "a"]) == (["a", "a_2", "a_1", "a_3"], ["a", "a"])


def test_describe_shows_no_signature() -> None:
    one = d.make("delimited", [{"url": "https://host/a.csv?sig=secret"}])
    assert "secret" not in d.describe(one)


def test_expressions_as_json() -> None:
    found = (e.Column("a") > 3) & ~(e.Column("b").contains("x") | e.Column("b").is_null())
    node = e.check(found.to_json())
    assert e.check(node) == node
    assert e.names(node) == {"a", "b"}
    with pytest.raises(DataError, match="& | ~"):
        bool(found)
    assert (e.Column("a") == None).to_json()["op"] == "is_null"  # noqa: E711


@pytest.mark.parametrize("node", [{}, {"op": "eval", "args": []}, {"op": ">", "args": [{"col": "a"}]}, {"col": 1}, 3])
def test_expressions_that_are_none(node: Any) -> None:
    with pytest.raises(DataError):
        e.check(node)


def test_checking_takes_the_time_that_the_length_of_a_definition_takes() -> None:
    columns = [{"name": f"c{at}", "type": "string"} for at in range(10_000)]
    steps = [{"op": "drop", "columns": [f"c{at}"]} for at in range(199)] + [d.keep(["c9999"])]
    source = {"kind": "delimited", "paths": [{"datastore": "s", "path": "a.csv"}]}
    begun = time.monotonic()
    found = d.check({"source": source, "schema": columns, "steps": steps})
    assert time.monotonic() - begun < 15  # by the square of it, it would be a minute
    assert [one["name"] for one in d.columns(found) or []] == ["c9999"]
    with pytest.raises(DataError, match="There is no column 'c7'"):
        d.check({"source": source, "schema": columns, "steps": [d.drop(["c7"]), d.drop(["c7"])]})
    with pytest.raises(DataError, match="200 steps|most 200"):
        d.check({"source": source, "steps": [d.take(1)] * 45_000})


@pytest.mark.parametrize(
    "options",
    [
        {"partition_format": "{a}/{a}/x.csv"},
        {"partition_format": "{1a}/x.csv"},
        {"partition_format": "{a}" * 1000},
        {"skip_rows": 10**30},
    ],
)
def test_options_that_no_engine_can_take(options: dict[str, object]) -> None:
    with pytest.raises(DataError, match=next(iter(options))):
        d.make("delimited", [{"datastore": "s", "path": "a.csv"}], **options)


def test_counts_that_no_engine_can_take() -> None:
    with pytest.raises(DataError, match="count"):
        d.make("files", [{"datastore": "s", "path": "a.csv"}], steps=[d.take(10**30)])


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("Titanic.csv", "Titanic.csv"), ("raw/Titanic.csv", "Titanic.csv"), ("raw/**/*.csv", "raw/**/*.csv"),
        ("a/raw/*.csv", "raw/*.csv"), ("*.csv", "*.csv"), ("**", "lake/"), ("dataset/run_1/made/**", "made/"),
    ],
)  # fmt: skip
def test_a_dataset_without_a_name_is_called_by_what_it_reads(path: str, shown: str) -> None:
    definition = {"source": {"kind": "files", "paths": [{"datastore": "lake", "path": path}]}, "steps": []}
    assert (d.label(definition), d.place(definition)) == (shown, "lake")


def test_its_short_name_holds_no_secret_and_says_what_is_more() -> None:
    paths = [{"url": "https://who:secret@blob.example:81/c/a.csv?sig=secret"}, {"datastore": "lake", "path": "b.csv"}]
    definition = {"source": {"kind": "delimited", "paths": paths}, "steps": [{"op": "take"}, {"op": "keep"}]}
    assert (d.label(definition), d.place(definition)) == ("a.csv + 1 | take | keep", "blob.example:81")
    definition = {"source": {"kind": "sql", "query": {"datastore": "pg", "text": "select *\n from  t"}}, "steps": []}
    assert (d.label(definition), d.place(definition)) == ("select * from t", "pg")
