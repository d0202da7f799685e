"""pandas' own parser, block by block, gives what the reference reader gives: rows, problems, lines."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import pytest
from atelier.data import blocks, chunks, engine, frames, rows, tables
from atelier.data import definition as d
from atelier.data import expressions as e
from atelier.data.errors import DataError, Problems
from atelier.data.sources import LocalSource

pd = pytest.importorskip("pandas")
SOURCE = LocalSource()
NUMBERS = ["1", "-7", " 12 ", "1.0", "1e3", "1_000", "+5", "1.", ".5", "1.5", "nan", "NaN", "NA", "?", "", "  ", "inf"]
NUMBERS += ["-Infinity", "1e400", "9007199254740993", "9007199254740993.0", "-9223372036854775808", "True", "false"]
NUMBERS += [
    "9223372036854775808",
    "18446744073709551615",
    "0x10",
    "1d",
    "1 2",
    "007",
    "-0",
    "4.9e-324",
    "0.1",
    "1e-400",
]
OTHERS = ["2020-01-31", "2020-02-30", "2020-01-31T10:20:30", "2020-01-31 10:20:30", "0000-01-01", "yes", "N", "t", "é"]
OTHERS += ['"a,b"', '"say ""hi"""', '"two\nlines"', '"two\r\nlines"', '""', "x"]


@pytest.fixture(params=[16, 1 << 18])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks that cut the file nearly everywhere, and one that holds it."""
    monkeypatch.setattr(blocks, "FIRST", request.param)
    monkeypatch.setattr(blocks, "LARGEST", request.param)
    return int(request.param)


def made(path: Path, text: Any, **options: Any) -> dict[str, Any]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return d.make("delimited", [{"local": str(path)}], **options)


def same(definition: dict[str, Any]) -> Any:
    """The frame, after its rows and problems were compared with the reference reader's."""
    first, second = Problems(), Problems()
    frame = frames.to_pandas(definition, SOURCE, first)
    settled = tables.settled(definition, SOURCE, Problems())
    expected = list(rows.apply(settled, tables.typed_rows(settled, SOURCE, second)))
    found = [[_plain(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    assert found == [[_plain(value) for value in row] for row in _widened(expected, settled)]
    assert _counted(first) == _counted(second)
    assert frames.count(definition, SOURCE, Problems()) == len(expected)
    return frame


def _plain(value: Any) -> Any:
    if value is None or pd.isna(value):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()[:26]
    return value.item() if hasattr(value, "item") else value


def _widened(expected: list[Any], definition: dict[str, Any]) -> list[list[Any]]:
    """Integers beside missing ones are floats in a frame."""
    out = [list(row) for row in expected]
    for at, column in enumerate(d.columns(definition) or []):
        if column["type"] == "integer" and any(row[at] is None for row in out):
            for row in out:
                row[at] = None if row[at] is None else float(row[at])
    return out


def _counted(problems: Problems) -> list[Any]:
    return sorted((one["kind"], one["line"], one["column"] or "", one["count"], one["text"]) for one in problems.list())


@pytest.mark.parametrize("kind", ["integer", "float", "boolean", "datetime", "string"])
@pytest.mark.parametrize("choice", ["null", "skip"])
def test_values_of_every_form(tmp_path: Path, small: int, kind: str, choice: str) -> None:
    schema = [{"name": "a", "type": kind}, {"name": "b", "type": "integer"}]
    alone = [[one] for one in NUMBERS + OTHERS] if small > 16 and choice == "null" else []
    for texts in [*alone, NUMBERS, OTHERS, NUMBERS + OTHERS]:
        text = "a,b\n" + "".join(f"{one},{at}\n" for at, one in enumerate(texts))
        same(made(tmp_path / "a.csv", text, schema=schema, on_error=choice))
        if len(texts) > 1:
            same(made(tmp_path / "a.csv", text, schema=schema, on_error=choice, empty_as_string=True))
            same(made(tmp_path / "a.csv", text.replace("\n", "\r\n"), schema=schema, on_error=choice))


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3\n4,5,6\n7,8\n",
        "a,b\n1,2\n\n3,4\n   \n5,6\n\n\n",
        'a,b\n1,"x\n2,y\n3,"p"q\n4,"m\nn"\n5,6',
        'a,b\n1,"x""y"\n2,p"q\n3,"\n\n"\n4,z',
        "a,b\r\n1,2\r\n3,4\r5,6\r\n",
        "\ufeffa,b\n1,x\n2,\ufeff\n",
        b"a,b\n1,x\n2,\xe9\n3,y\n4,\x00z\n5,\xf4\x8f\xbf\xbe\n",
        "a,a,a_1\n1,2,3\n4,5,6\n",
        '"a\nb",c\n1,2\n3,4',
        "a,b",
        "a,b\n",
        "a,b\n,\n,\n",
        "a,b\r1,2\r3,4\r",
    ],
)
@pytest.mark.parametrize("choice", ["fill", "skip"])
def test_files_of_every_form(tmp_path: Path, small: int, text: Any, choice: str) -> None:
    same(made(tmp_path / "a.csv", text, on_ragged=choice, on_bytes={"fill": "replace"}.get(choice, "skip")))


@pytest.mark.parametrize("text", ["a\n1\n\n2\n", 'a\n""\n"x"\n \n', "a\n\n", "a\nx\ny", "1\n2\n"])
def test_a_single_column(tmp_path: Path, small: int, text: str) -> None:
    same(made(tmp_path / "a.csv", text))
    same(made(tmp_path / "a.csv", text, header=False, empty_as_string=True))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", b"n,m\n\xc5ngstr\xf6m,1\n"),
        ("cp1252", b"n,m\n\x80,1\n\x81,2\n"),
        ("utf-16", "n,m\né,1\n".encode("utf-16")),
    ],
)
def test_encodings(tmp_path: Path, small: int, encoding: str, text: bytes) -> None:
    same(made(tmp_path / "a.csv", text, encoding=encoding))


def test_a_bad_row_is_read_apart_and_the_rest_is_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "FIRST", 1000)
    monkeypatch.setattr(blocks, "LARGEST", 1000)
    referred: list[int] = []
    before = chunks.Reader._referred
    monkeypatch.setattr(
        chunks.Reader, "_referred", lambda self, stream, passed: referred.append(passed) or before(self, stream, passed)
    )
    lines = [f"{at},{at / 8},name {at}" for at in range(2000)]
    same(made(tmp_path / "a.csv", "\n".join(["i,f,s", *lines]), quote=""))
    assert not referred
    lines[1000] = "1000"
    lines[1500] = "1500,?,x"
    same(made(tmp_path / "a.csv", "\n".join(["i,f,s", *lines])))
    assert len(referred) == 2 and 900 < referred[0] <= 1001  # read once, and counted once
    with pytest.raises(DataError, match="line 1002"):
        engine.to_pandas(made(tmp_path / "a.csv", "\n".join(["i,f,s", *lines]), on_ragged="fail"), SOURCE)


def test_large_integers_stay_exact_where_some_are_missing(tmp_path: Path, small: int) -> None:
    definition = made(tmp_path / "a.csv", "i,b\n9007199254740993,1\n,2\n9007199254740992,3\n")
    schema = [{"name": "i", "type": "integer"}, {"name": "b", "type": "integer"}]
    definition = d.with_schema(definition, schema)
    column = e.Column("i")
    for value in (9007199254740993, 9007199254740992.0, 1.5, 1e300):
        for one in (column == value, column < value, ~(column >= value), column.isin([value, None])):
            same(d.with_step(definition, d.filtered(one)))
    assert same(d.with_step(definition, d.filtered(column == 9007199254740993)))["i"].tolist() == [9007199254740993]


def test_steps_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "FIRST", 200)
    monkeypatch.setattr(blocks, "LARGEST", 200)
    chance = random.Random(1)
    lines = [f"{at},{chance.choice(['', 'x', 'y'])},{chance.random()}" for at in range(3000)]
    definition = made(tmp_path / "a.csv", "\n".join(["i,s,f", *lines]))
    steps = [
        d.skip(10),
        d.sample(0.5, 3),
        d.filtered(e.Column("s") != "x"),
        d.take(500),
        d.split(0.3, 1, 1),
        d.keep(["f"]),
    ]
    for at in range(len(steps) + 1):
        same(d.with_step(definition, *steps[:at]))
    fixed = made(tmp_path / "a.csv", "\n".join(["i,s,f", *lines]), include_path=True)
    assert same(fixed)["Path"].nunique() == 1


def test_a_few_rows_of_a_large_file_are_read_at_once(tmp_path: Path) -> None:
    line = b"1,some text of a row\n"
    definition = made(tmp_path / "a.csv", b"i,s\n" + line * 200_000)

    with (tmp_path / "a.csv").open("rb") as stream:
        held, _ = blocks.begin(stream, 1, "utf8")
        found = blocks.ahead(blocks.blocks(stream, held, 1, 2, definition["source"]))
        next(found)
        found.close()  # type: ignore[attr-defined]
        assert stream.tell() < 2 << 20
    assert len(same(d.with_step(definition, d.take(3)))) == 3


def test_a_compressed_file_that_is_not_whole(tmp_path: Path) -> None:
    whole = gzip.compress(b"i,s\n" + b"".join(b"%d,%d\n" % (at, at * at) for at in range(200_000)))
    (tmp_path / "a.csv.gz").write_bytes(whole)
    definition = d.make("delimited", [{"local": str(tmp_path / "a.csv.gz")}])
    assert len(same(definition)) == 200_000
    for part in (whole[: len(whole) // 2], whole[:20_000]):
        (tmp_path / "a.csv.gz").write_bytes(part)
        with pytest.raises(DataError, match="not a whole gzip file") as caught:
            frames.to_pandas(definition, SOURCE, Problems())
        assert caught.value.kind == "incomplete"
