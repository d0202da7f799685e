"""Parsers, packing and downsampling: nothing of a database."""

from __future__ import annotations

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs import charts, ignore, packing
from runs.parameters import as_number, parse_arguments
from runs.services.events import collect_lines, collect_objects

FLOATS = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--kernel", "linear", "--penalty", "1.0"], {"kernel": "linear", "penalty": "1.0"}),
        (["--lr=0.1", "-v", "--size", "-3"], {"lr": "0.1", "v": "True", "size": "-3"}),
        (["--a", "1", "--a", "2"], {"a": "2"}),
        (["--names", "x", "y", "--end"], {"names": "x y", "end": "True"}),
        (["data.csv", "--", "--not", "one"], {}),
        (["--empty="], {"empty": ""}),
        (["-", "--", "x"], {}),
    ],
)
def test_arguments_become_parameters(words: list[str], expected: dict[str, str]) -> None:
    assert parse_arguments(words) == expected


@given(st.lists(st.text(max_size=20), max_size=20))
def test_any_words_can_be_parsed(words: list[str]) -> None:
    assert all(isinstance(name, str) and isinstance(value, str) for name, value in parse_arguments(words).items())


def test_only_finite_numbers_sort() -> None:
    assert as_number("1e-3") == 0.001
    assert as_number("nan") is None and as_number("inf") is None and as_number("linear") is None


@given(st.lists(st.tuples(FLOATS, FLOATS, FLOATS), max_size=300))
def test_packed_points_come_back(points: list[tuple[float, float, float]]) -> None:
    columns = [array("d", column) for column in zip(*points, strict=True)] or [array("d")] * 3
    data = packing.pack(*columns)
    assert len(data) == 24 * len(points)
    for index, column in enumerate(columns):
        assert packing.unpack(data, len(points), index).tobytes() == column.tobytes()


def test_a_chunk_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="72 bytes, not 24"):
        packing.unpack(bytes(24), 3, packing.STEPS)


@given(st.lists(FLOATS, max_size=400))
def test_extremes_leave_out_what_is_not_finite(values: list[float]) -> None:
    finite = [value for value in values if math.isfinite(value)]
    assert packing.extremes(array("d", values)) == ((min(finite), max(finite)) if finite else (None, None))


@given(st.lists(FLOATS, min_size=1, max_size=3000), st.integers(4, 400))
def test_no_extreme_is_lost(values: list[float], points: int) -> None:
    xs = array("d", range(len(values)))
    drawn_x, drawn_y = charts.downsample(xs, array("d", values), points)
    finite = [value for value in values if math.isfinite(value)]
    shown = [value for value in drawn_y if value is not None]
    assert drawn_x == sorted(drawn_x)
    assert drawn_x[0] == 0 and drawn_x[-1] == len(values) - 1
    if finite:
        assert min(shown) == min(finite) and max(shown) == max(finite)
    assert len(drawn_x) <= max(points * 3 // 2 + 3, 4)
    assert len(finite) == len(values) or None in drawn_y
    for x, y in zip(drawn_x, drawn_y, strict=True):
        assert y == values[int(x)] or y is None


def test_points_out_of_order_are_drawn_in_order() -> None:
    xs, ys = charts.downsample(array("d", [3, 1, 2]), array("d", [30, 10, 20]), 100)
    assert (xs, ys) == ([1, 2, 3], [10, 20, 30])


@pytest.mark.parametrize(
    ("files", "kept"),
    [
        (
            {".amlignore": b"*.csv\n", ".gitignore": b"*.py\n", "a.py": b"", "b.csv": b""},
            {".amlignore", ".gitignore", "a.py"},
        ),
        ({".gitignore": b"data/\n!data/keep\n", "a.py": b"", "data/x": b""}, {".gitignore", "a.py"}),
        ({"a.py": b"", ".git/config": b"", "__pycache__/a.pyc": b"", "p/__pycache__/x.pyc": b""}, {"a.py"}),
        ({".amlignore": b"!.git/\n*\n!a.py\n", "a.py": b"", ".git/config": b""}, {"a.py"}),
    ],
)
def test_ignore_rules(files: dict[str, bytes], kept: set[str]) -> None:
    assert set(ignore.kept(files, files.get)) == kept


@given(st.lists(st.binary(max_size=60), max_size=40))
def test_no_line_stops_the_others(lines: list[bytes]) -> None:
    good = b'{"k":"metric","n":"loss","v":1.5,"t":1.0}'
    found = collect_lines([*lines, good])
    assert found.points["loss"].values[-1] == 1.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("knvstd"), inner, max_size=4),
    max_leaves=10,
)
KINDS = st.sampled_from(["metric", "metrics", "row", "table", "tag", "property", "param", "description", "status", "x"])


@given(
    st.lists(
        JSON | st.fixed_dictionaries({"k": KINDS, "n": JSON, "v": JSON}, optional={"s": JSON, "t": JSON, "d": JSON})
    )
)
def test_any_object_is_taken_or_noted(objects: list[object]) -> None:
    found = collect_objects(objects)
    assert 0 <= found.bad <= len(objects)
    for points in found.points.values():
        assert len(points.steps) == len(points.times) == len(points.values)
