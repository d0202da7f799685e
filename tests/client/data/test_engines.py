"""Every engine gives the same frame for the same definition; the reference evaluator is the measure."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
from atelier.data import blocks, duck_frames, engine, frames, rows, tables
from atelier.data import definition as d
from atelier.data import expressions as e
from atelier.data.errors import Problems
from atelier.data.sources import LocalSource
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pd = pytest.importorskip("pandas")
pytest.importorskip("duckdb")
SOURCE = LocalSource()
TYPES = ("string", "integer", "float", "boolean", "datetime")
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
ODD = ["", "x", "NA", "1", "-7", "1.5", "1.0", "1e3", "nan", "inf", "true", "No", "2020-01-31", "2020-02-30", "1_000"]
ODD += ["2020-01-31T10:20:30+02:00", "2020/1/3 4:05", "0x10", " 12 ", "9007199254740993", "99999999999999999999", "é"]
ODD += [
    "a,b",
    'say "hi"',
    "two\nlines",
    "'; DROP TABLE t; --",
    "007",
    "1d",
    "infinit",
    "2020-01-01 24:00",
    "0000-01-01",
]
NAMES = ["a", "b", "c", 'odd "name"', "select", "a'b", "x;--"]


def plain(frame: Any) -> list[list[Any]]:
    """Values to compare: missing ones are None, moments without their unit, numbers rounded to what is printed."""
    out = []
    for row in frame.itertuples(index=False, name=None):
        out.append([None if pd.isna(value) else _one(value) for value in row])
    return out


def _one(value: Any) -> Any:
    if isinstance(value, (pd.Timestamp, datetime.datetime)):
        return value.isoformat()[:26]
    return value.item() if hasattr(value, "item") else value


def both(definition: dict[str, Any]) -> tuple[Any, Any, list[Any], list[Any]]:
    first, second = Problems(), Problems()
    left = duck_frames.to_pandas(definition, SOURCE, first)
    right = frames.to_pandas(definition, SOURCE, second)
    return left, right, first.list(), second.list()


def reference(definition: dict[str, Any]) -> list[list[Any]]:
    """What the reference evaluator gives; integers beside missing ones are floats in a frame."""
    settled = tables.settled(definition, SOURCE, Problems())
    found = rows.apply(settled, tables.typed_rows(settled, SOURCE, Problems()))
    out = [[None if value is None else _one(value) for value in row] for row in found]
    for at, column in enumerate(d.columns(settled) or []):
        if column["type"] == "integer" and any(row[at] is None for row in out):
            for row in out:
                row[at] = None if row[at] is None else float(row[at])
    return out


def same(definition: dict[str, Any]) -> Any:
    left, right, first, second = both(definition)
    assert list(left.columns) == list(right.columns)
    assert plain(left) == plain(right) == reference(definition), definition
    for one, other, column in zip(left.dtypes, right.dtypes, d.columns(definition) or [], strict=False):
        if column["type"] != "string":
            assert one == other, column
    assert engine.count(definition, SOURCE) == len(left)
    return left


values = st.one_of(st.sampled_from(ODD), st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=6))


@st.composite
def cases(draw: Any) -> tuple[str, dict[str, Any]]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    table = draw(st.lists(st.lists(values, min_size=len(names), max_size=len(names)), max_size=12))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(table)
    text = out.getvalue()
    if draw(st.booleans()):
        text += draw(st.sampled_from(["1\n", "1,2,3,4,5,6\n", '"open,1\n', '"a"b,2\n', "\n\n", "   \n", ",,,,\n"]))
    schema = [{"name": name, "type": draw(st.sampled_from(TYPES))} for name in names]
    steps = draw(st.lists(step(schema), max_size=3))
    options = {
        "on_error": draw(st.sampled_from(["null", "skip"])),
        "on_ragged": draw(st.sampled_from(["fill", "skip"])),
    }
    return text, {"schema": schema, "steps": steps, "empty_as_string": draw(st.booleans()), **options}


@st.composite
def step(draw: Any, schema: list[dict[str, Any]]) -> dict[str, Any]:
    kind = draw(st.sampled_from(["take", "skip", "sample", "split", "filter", "filter"]))
    if kind in ("take", "skip"):
        return {"op": kind, "count": draw(st.integers(0, 8))}
    if kind == "sample":
        return d.sample(draw(st.floats(0, 1)), draw(st.integers()))
    if kind == "split":
        return d.split(draw(st.floats(0, 1)), draw(st.integers()), draw(st.integers(0, 1)))
    return d.filtered(draw(condition(schema)))


@st.composite
def condition(draw: Any, schema: list[dict[str, Any]], depth: int = 0) -> e.Expression:
    if depth < 2 and draw(st.booleans()):
        left, right = draw(condition(schema, depth + 1)), draw(condition(schema, depth + 1))
        return draw(st.sampled_from([left & right, left | right, ~left]))
    one = draw(st.sampled_from(schema))
    column = e.Column(one["name"])
    if draw(st.integers(0, 4)) == 0:
        return column.is_null()
    sign = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
    value = {
        "string": st.one_of(st.sampled_from(ODD), st.text(st.characters(codec="utf-8"), max_size=3)),
        "integer": st.one_of(st.integers(-10, 2000), st.floats(-10, 2000)),
        "float": st.floats(-10, 2000),
        "boolean": st.booleans(),
        "datetime": st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2030, 1, 1)),
    }[one["type"]]
    constant = draw(value)
    if one["type"] in ("integer", "float") and draw(st.booleans()):
        work = draw(st.sampled_from(["+", "-", "*", "/", "%"]))
        column = e.Expression({"op": work, "args": [column.to_json(), e.to_json(draw(st.integers(-3, 3)))]})
    if one["type"] == "string" and draw(st.booleans()):
        return draw(st.sampled_from([column.contains, column.starts_with, column.ends_with]))(constant)
    if draw(st.integers(0, 3)) == 0:
        return e.Column(one["name"]).isin([constant, draw(value)])
    return e.Expression({"op": sign, "args": [column.to_json(), e.to_json(constant)]})


@QUICK
@given(cases(), st.sampled_from([32, 1 << 18]))
def test_every_engine_gives_the_same_frame(case: tuple[str, dict[str, Any]], size: int) -> None:
    text, options = case
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "FIRST", size)
        patch.setattr(blocks, "LARGEST", size)
        path = Path(folder) / "it's [a] *.csv"
        path.write_bytes(text.encode())
        # The wildcard's own characters must be found as they stand.
        same(d.make("delimited", [{"local": str(Path(folder) / "it*")}], **options))


@QUICK
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=12),
        min_size=1,
        max_size=3,
    ),
    st.text(st.characters(codec="utf-8"), max_size=12),
)
def test_names_and_values_are_never_sql(names: list[str], value: str) -> None:
    names, _ = d.unique_names([*names, "'\" OR 1=1; --"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        with path.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([names, ["x"] * len(names), ["y"] * len(names)])
        schema = [{"name": name, "type": "string"} for name in names]
        made = d.make("delimited", [{"local": str(path)}], schema=schema)
        for name in names:
            kept = d.with_step(made, d.filtered(e.Column(name) == value), d.keep([name]))
            assert len(same(kept)) == {"x": 1, "y": 1}.get(value, 0)


@pytest.mark.parametrize("percentage", [0.0, 0.2, 0.5, 1.0])
def test_the_parts_of_a_split_are_whole_and_apart(tmp_path: Path, percentage: float) -> None:
    (tmp_path / "a.csv").write_text("n\n" + "\n".join(map(str, range(5000))))
    made = d.make("delimited", [{"local": str(tmp_path / "a.csv")}])
    made = d.with_schema(made, [{"name": "n", "type": "integer"}])
    parts = [same(d.with_step(made, d.split(percentage, 7, part)))["n"].tolist() for part in (0, 1)]
    assert sorted(parts[0] + parts[1]) == list(range(5000))
    assert abs(len(parts[0]) - 5000 * percentage) < 200
    again = duck_frames.to_pandas(d.with_step(made, d.split(percentage, 7, 0)), SOURCE, Problems())["n"].tolist()
    assert again == parts[0]
    other = same(d.with_step(made, d.split(percentage, 8, 0)))["n"].tolist()
    assert percentage in (0, 1) or other != parts[0]


def test_a_seeds_rows_are_spread_evenly() -> None:
    chosen = list(rows.chosen(range(100_000), 0.1, 3))
    assert 9_500 < sum(chosen) < 10_500
    pairs = sum(1 for one, other in zip(chosen, chosen[1:], strict=False) if one and other)
    assert 800 < pairs < 1_200


def test_several_files_with_other_columns(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,x\n2,y\n")
    (tmp_path / "2.csv").write_text("b,c\nz,3.5\n")
    (tmp_path / "3.csv").write_text("")
    made = d.make("delimited", [{"local": str(tmp_path / "*.csv")}])
    made, _ = engine.infer(made, SOURCE)
    assert [(one["name"], one["type"]) for one in made["schema"]] == [("a", "integer"), ("b", "string"), ("c", "float")]
    assert plain(same(made)) == [[1.0, "x", None], [2.0, "y", None], [None, "z", 3.5]]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes("name,n\nÅngström,1\nnaïve,2\n".encode(encoding))
    made = d.make("delimited", [{"local": str(tmp_path / "a.csv")}], encoding=encoding)
    made, problems = engine.infer(made, SOURCE)
    assert not problems and plain(same(made)) == [["Ångström", 1], ["naïve", 2]]


@pytest.mark.parametrize(("encoding", "word"), [("cp949", "한국어"), ("euc-kr", "자료"), ("shift_jis", "日本")])
def test_encodings_of_the_east(tmp_path: Path, encoding: str, word: str) -> None:
    (tmp_path / "a.csv").write_bytes(
        f"이름 ,n\n{word},1\n".encode(encoding) if encoding != "shift_jis" else f"名前,n\n{word},1\n".encode(encoding)
    )
    made, _ = engine.infer(d.make("delimited", [{"local": str(tmp_path / "a.csv")}], encoding=encoding), SOURCE)
    assert plain(same(made)) == [[word, 1]]


def test_paths_and_partitions_become_columns(tmp_path: Path) -> None:
    for name, day in (("x", "2020/01/31"), ("y", "2021/12/01")):
        folder = tmp_path / f"folder={name}" / day
        folder.mkdir(parents=True)
        (folder / "data.csv").write_text("n\n1\n2\n")
    form = "folder={name}/{PartitionDate:yyyy/MM/dd}/data.csv"
    made = d.make("delimited", [{"local": str(tmp_path / "**/*.csv")}], include_path=True, partition_format=form)
    made, _ = engine.infer(made, SOURCE)
    assert [one["name"] for one in made["schema"]] == ["Path", "name", "PartitionDate", "n"]
    found = plain(same(made))
    assert [row[1:] for row in found][1:3] == [["x", "2020-01-31T00:00:00", 2], ["y", "2021-12-01T00:00:00", 1]]
    assert found[0][0].endswith("folder=x/2020/01/31/data.csv")
    timed = d.with_step(made, d.timestamp_columns(None, "PartitionDate"), d.between("2021-01-01", None))
    assert len(same(timed)) == 2


def test_a_column_that_was_renamed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    schema = [{"name": "B", "type": "float", "source": "b"}, {"name": "gone", "type": "integer"}]
    made = d.make("delimited", [{"local": str(tmp_path / "a.csv")}], schema=schema)
    assert plain(same(made)) == [[2.0, None]]


def test_no_header_skipped_rows_and_other_separators(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("a comment\n\nx|1\r\ny|2\r\n".replace("\n", "\r\n").encode())
    (tmp_path / "b.txt").write_bytes(b"about\nx|1\ny|2\n")
    for name, skip in (("a.txt", 2), ("b.txt", 1)):
        made = d.make("delimited", [{"local": str(tmp_path / name)}], separator="|", header=False, skip_rows=skip)
        made, _ = engine.infer(made, SOURCE)
        assert [one["name"] for one in made["schema"]] == ["Column1", "Column2"]
        assert plain(same(made)) == [["x", 1], ["y", 2]]


def test_compressed(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n1,x\n"))
    made, _ = engine.infer(d.make("delimited", [{"local": str(tmp_path / "a.csv.gz")}]), SOURCE)
    assert plain(same(made)) == [[1, "x"]]


def test_json_lines(tmp_path: Path) -> None:
    lines = ['{"a": 1, "b": "x"}', "", '{"a": 2.5, "c": {"k": [1, "é"]}}', "no json", '{"b": ""}', "[1]"]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    made, problems = engine.infer(d.make("json_lines", [{"local": str(tmp_path / "a.jsonl")}]), SOURCE)
    assert [(one["name"], one["type"]) for one in made["schema"]] == [("a", "float"), ("b", "string"), ("c", "string")]
    assert [(one["line"], one["count"], one["kind"]) for one in problems] == [(4, 2, "ragged")]
    expected = [[1.0, "x", None], [2.5, None, '{"k":[1,"é"]}'], [None, "", None]]
    assert plain(same(made)) == expected


def test_parquet_files_that_differ(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1, 2], "n": [{"k": [1]}, None], "f": [1.5, float("nan")]}), tmp_path / "1.parquet")
    moment = pa.array([datetime.datetime(2020, 1, 2, 3)], pa.timestamp("ns", tz="Asia/Seoul"))
    pq.write_table(
        pa.table({"a": [2.5], "t": moment, "d": pa.array([decimal.Decimal(1)], pa.decimal128(9, 2))}),
        tmp_path / "2.parquet",
    )
    made, _ = engine.infer(d.make("parquet", [{"local": str(tmp_path / "*.parquet")}]), SOURCE)
    assert {one["name"]: one["type"] for one in made["schema"]} == {
        "a": "float", "n": "string", "f": "float", "t": "datetime", "d": "float",
    }  # fmt: skip
    found = plain(same(made))
    assert found[0] == [1.0, '{"k":[1]}', 1.5, None, None]
    assert found[2] == [2.5, None, None, "2020-01-02T03:00:00", 1.0]
    kept = d.with_step(made, d.filtered((e.Column("f") > 1) | e.Column("f").is_null()), d.keep(["a"]))
    assert plain(same(kept)) == [[1.0], [2.0], [2.5]]
    shown = engine.preview(made, SOURCE)
    assert shown.rows[1] == [2.0, None, None, None, None] and shown.complete


def test_moments_are_filtered(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,n\n2020-01-01,1\n2020-01-02 00:00:00,2\n2020-01-03,3\n,4\n")
    made, _ = engine.infer(d.make("delimited", [{"local": str(tmp_path / "a.csv")}]), SOURCE)
    timed = d.with_step(made, d.timestamp_columns("t"))
    day = datetime.datetime(2020, 1, 2)
    assert same(d.with_step(timed, d.between(None, day)))["n"].tolist() == [1, 2]
    assert same(d.with_step(timed, d.between(day, None, include_start=False)))["n"].tolist() == [3]
    assert same(d.with_step(timed, d.between("2020-01-01", "2020-01-03", True, False)))["n"].tolist() == [1, 2]
    assert len(same(d.with_step(timed, d.recent(3600)))) == 0


def test_the_reference_is_what_the_engines_give(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,s\n1,a\n2,b\n3,c\n")
    made, _ = engine.infer(d.make("delimited", [{"local": str(tmp_path / "a.csv")}]), SOURCE)
    made = d.with_step(made, d.skip(1), d.filtered(e.Column("n") * 2 > 4))
    found = list(rows.apply(made, tables.typed_rows(made, SOURCE, Problems())))
    assert [list(row) for row in found] == plain(same(made)) == [[3, "c"]]
