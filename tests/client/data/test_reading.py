"""What is wrong with files is told with line numbers and counts; previews stop early; downloads are whole."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from atelier.data import definition as d
from atelier.data import engine, profile
from atelier.data import expressions as e
from atelier.data.errors import DataError, DataWarning
from atelier.data.sources import DataFile, LocalSource, find

pytest.importorskip("pandas")
SOURCE = LocalSource()


@pytest.fixture(params=["duckdb", "pandas"])
def engine_used(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ATELIER_DATA_ENGINE", request.param)
    return str(request.param)


def made(path: Path, text: str | bytes, **options: Any) -> dict[str, Any]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return d.make("delimited", [{"local": str(path)}], **options)


def told(definition: dict[str, Any]) -> tuple[Any, dict[str, tuple[int | None, int]]]:
    problems: list[dict[str, Any]] = []
    frame = engine.to_pandas(definition, SOURCE, problems)
    assert all(one["text"] and "Traceback" not in one["text"] for one in problems)
    return frame, {one["kind"]: (one["line"], one["count"]) for one in problems}


BAD = [
    ("ragged", "a,b\n1,2\n3\n4,5,6\n", "on_ragged", (3, 2), 3),
    ("bytes", b"a,b\n1,x\n2,\xe9\n", "on_bytes", (3, 1), 2),
    ("type", "a,b\n1,x\nq,y\n2,z\nr,\n", "on_error", (3, 2), 4),
]


@pytest.mark.parametrize(("kind", "text", "option", "where", "rows"), BAD)
def test_problems_have_lines_and_counts_and_a_choice(
    tmp_path: Path, engine_used: str, kind: str, text: str, option: str, where: tuple[int, int], rows: int
) -> None:
    schema = [{"name": "a", "type": "integer"}, {"name": "b", "type": "string"}]
    frame, problems = told(made(tmp_path / "a.csv", text, schema=schema))
    assert problems[kind] == where and len(frame) == rows
    frame, problems = told(made(tmp_path / "a.csv", text, schema=schema, **{option: "skip"}))
    assert problems[kind] == where and len(frame) == rows - where[1]
    with pytest.raises(DataError, match=f"line {where[0]}") as caught:
        told(made(tmp_path / "a.csv", text, schema=schema, **{option: "fail"}))
    assert (caught.value.kind, caught.value.line) == (kind, where[0])


def test_quotes_that_do_not_match(tmp_path: Path, engine_used: str) -> None:
    frame, problems = told(made(tmp_path / "a.csv", 'a,b\n1,"x\n2,y\n3,"p"q\n4,"m\nn"\n'))
    assert frame["b"].tolist() == ["x", "y", "pq", "m\nn"]
    assert problems["quote"] == (2, 2)


def test_a_warning_says_where(tmp_path: Path, engine_used: str) -> None:
    with pytest.warns(DataWarning, match=r"a.csv, line 3: A row has 1 field where there are 2 columns[^()]*$"):
        engine.to_pandas(made(tmp_path / "a.csv", "a,b\n1,2\n3\n"), SOURCE)


def test_duplicate_columns_load(tmp_path: Path, engine_used: str) -> None:
    definition = made(tmp_path / "a.csv", "id,id,x,id_1\n1,2,3,4\n")
    _, problems = engine.infer(definition, SOURCE)
    assert [(one["kind"], one["line"], one["column"]) for one in problems] == [("duplicate", 1, "id")]
    assert list(engine.to_pandas(definition, SOURCE).columns) == ["id", "id_2", "x", "id_1"]


def test_types_are_those_of_v1(tmp_path: Path, engine_used: str) -> None:
    text = "i,n,f,b,m,t,z\n1,1,1.5,true,,2020-01-01,01\n2,,nan,false,true,,02\n"
    frame = engine.to_pandas(made(tmp_path / "a.csv", text), SOURCE)
    kinds = {name: str(kind) for name, kind in frame.dtypes.items()}
    assert (kinds["i"], kinds["n"], kinds["f"], kinds["b"]) == ("int64", "float64", "float64", "bool")
    assert (kinds["m"], kinds["t"]) == ("object", "datetime64[ns]")
    assert frame["z"].tolist() == ["01", "02"] and frame["m"].tolist() == [None, True]


@pytest.mark.parametrize("text", ["", "\n\n", "a,b\n", "a,b"])
def test_files_without_rows(tmp_path: Path, engine_used: str, text: str) -> None:
    definition = made(tmp_path / "a.csv", text)
    if "a" not in text:
        with pytest.raises(DataError, match="no columns"):
            engine.to_pandas(definition, SOURCE)
    else:
        assert len(engine.to_pandas(definition, SOURCE)) == 0


def test_nothing_matches(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No file matches .*nothing\*") as caught:
        engine.preview(d.make("delimited", [{"local": str(tmp_path / "nothing*")}]), SOURCE)
    assert caught.value.kind == "no-such-file"


def test_not_parquet(tmp_path: Path, engine_used: str) -> None:
    (tmp_path / "a.parquet").write_text("hello")
    with pytest.raises(DataError, match="a.parquet"):
        engine.to_pandas(d.make("parquet", [{"local": str(tmp_path / "a.parquet")}]), SOURCE)


def test_comparisons_that_make_no_sense(tmp_path: Path, engine_used: str) -> None:
    definition = made(tmp_path / "a.csv", "a,b\n1,x\n")
    with pytest.raises(DataError, match="compares number with string"):
        engine.to_pandas(d.with_step(definition, d.filtered(e.Column("a") > "x")), SOURCE)
    with pytest.raises(DataError, match="no column 'z'"):
        engine.to_pandas(d.with_step(definition, d.filtered(e.Column("z") > 1)), SOURCE)


class Counting(LocalSource):
    """A source of remote files that counts what is read of them."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.count, self.size, self.read, self.listed = count, size, 0, 0

    def files(self, definition: dict[str, Any], limit: int | None = None) -> Iterator[DataFile]:
        for at in range(self.count):
            self.listed += 1
            yield DataFile(f"store/{at}.csv", f"{at}.csv", self.size)

    def open(self, file: DataFile) -> BinaryIO:
        outer = self

        class Endless(io.RawIOBase):
            def readable(self) -> bool:
                return True

            def readinto(self, into: Any) -> int:
                outer.read += len(into)
                data = (b"1,x\n" * (len(into) // 4 + 1))[: len(into)]
                into[: len(data)] = data
                return len(data)

        return io.BufferedReader(Endless())  # type: ignore[return-value]

    def fetch(self, file: DataFile) -> str:
        raise AssertionError("a preview fetches no whole file")


def test_a_preview_reads_the_first_bytes_only() -> None:
    source = Counting(10_000, 1 << 40)
    definition = d.make("delimited", [{"datastore": "s", "path": "*.csv"}], header=False)
    tracemalloc.start()
    found = engine.preview(definition, source, rows=50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.rows) == 50 and not found.complete
    assert source.read < 1 << 20 and source.listed < 60 and peak < 20 << 20


def test_preview_of_files(tmp_path: Path) -> None:
    for name in ("b/1.txt", "a.txt", "b/2.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    definition = d.make("files", [{"local": str(tmp_path / "**")}])
    assert engine.to_path(definition, SOURCE) == ["/a.txt", "/b/1.txt", "/b/2.txt"]
    assert engine.count(d.with_step(definition, d.skip(1)), SOURCE) == 2
    shown = engine.preview(d.with_step(definition, d.take(2)), SOURCE, rows=5)
    assert [row[1] for row in shown.rows] == [5, 7] and shown.complete


def test_download_re_creates_paths_and_resumes(tmp_path: Path) -> None:
    for at in range(20):
        (tmp_path / "in" / str(at % 3)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / str(at % 3) / f"{at}.bin").write_bytes(bytes([at]) * 1000)
    definition = d.make("files", [{"local": str(tmp_path / "in/**")}])
    told: list[tuple[int, int]] = []
    paths = engine.download(definition, SOURCE, str(tmp_path / "out"), progress=lambda *done: told.append(done))
    assert told[-1] == (20_000, 20_000) and len(paths) == 20
    assert (tmp_path / "out/1/4.bin").read_bytes() == bytes([4]) * 1000
    (tmp_path / "out/1/4.bin").write_bytes(b"other")
    with pytest.raises(DataError, match="overwrite=True"):
        engine.download(definition, SOURCE, str(tmp_path / "out"))
    engine.download(definition, SOURCE, str(tmp_path / "out"), overwrite=True)
    assert (tmp_path / "out/1/4.bin").read_bytes() == bytes([4]) * 1000


def test_a_download_that_breaks_leaves_no_half_file(tmp_path: Path) -> None:
    class Short(Counting):
        def open(self, file: DataFile) -> BinaryIO:
            return io.BytesIO(b"x" * 10)

    definition = d.make("files", [{"datastore": "s", "path": "*"}])
    with pytest.raises(DataError, match="ended after 10 of 100 bytes"):
        engine.download(definition, Short(3, 100), str(tmp_path / "out"))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_globs_are_sorted_and_stay_inside(tmp_path: Path) -> None:
    for name in ("a.csv", "a/b.csv", "a/c/d.csv", "ab/e.csv", "x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = str(tmp_path)
    assert list(find(root, "**/*.csv")) == sorted(["a.csv", "a/b.csv", "a/c/d.csv", "ab/e.csv"])
    assert list(find(root, "*/*.csv")) == ["a/b.csv", "ab/e.csv"]
    assert list(find(root, "a")) == ["a/b.csv", "a/c/d.csv"]
    assert list(find(root, "[ab].csv")) == ["a.csv"]
    with pytest.raises(DataError):
        list(find(root, "../*"))


def test_a_profile(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    lines = [
        f"{at},{at % 4 / 2},{'xyz'[at % 3]},2020-01-{at % 28 + 1:02d},{'true' if at % 2 else ''}" for at in range(100)
    ]
    definition = made(tmp_path / "a.csv", "n,f,s,t,b\n" + "\n".join(lines) + "\nq,inf,,,\n",
                      schema=[{"name": "n", "type": "integer"}, {"name": "f", "type": "float"}, {"name": "s"},
                              {"name": "t", "type": "datetime"}, {"name": "b", "type": "boolean"}])  # fmt: skip
    told: list[float] = []
    found = profile.compute(definition, SOURCE, lambda done, what: told.append(done))
    assert (found["rows"], found["files"], told[-1]) == (101, 1, 1.0)
    n, f, s, t, b = found["columns"]
    assert (n["count"], n["missing"], n["distinct"], n["min"], n["max"], n["mean"]) == (100, 1, 100, 0, 99, 49.5)
    assert sum(n["histogram"]["counts"]) == 100 and len(n["histogram"]["edges"]) == 21
    assert abs(n["quantiles"]["p50"] - 49.5) < 2
    assert f["max"] == "inf" and f["mean"] == 0.75 and f["top"][0][1] == 25
    assert s["top"] == [["x", 34], ["y", 33], ["z", 33]] and s["lengths"] == {"min": 1, "max": 1, "mean": 1.0}
    assert t["min"] == "2020-01-01T00:00:00" and t["histogram"]["edges"][0] == "2020-01-01T00:00:00"
    assert (b["missing"], b["top"]) == (51, [[True, 50]])
    assert [one["line"] for one in found["problems"]] == [102]


def test_a_profile_can_be_stopped(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")

    def stop(done: float, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile.compute(made(tmp_path / "a.csv", "a\n1\n"), SOURCE, stop)


def test_no_engine_is_said_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DataError, match="pandas is not installed"):
        engine.to_pandas(made(tmp_path / "a.csv", "a\n1\n"), SOURCE)
    assert engine.preview(made(tmp_path / "a.csv", "a\n1\n"), SOURCE).rows == [[1]]


def test_a_glob_means_the_same_here_and_in_every_datastore(tmp_path: Path) -> None:
    for name in ("a/one.csv", "a/b/two.csv", "a/b/c/three.csv", "a/.hidden.csv", "top.csv", "a/b1.txt"):
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("x\n")
    wanted = {
        "**/*.csv": ["a/.hidden.csv", "a/b/c/three.csv", "a/b/two.csv", "a/one.csv", "top.csv"],
        "a/*.csv": ["a/.hidden.csv", "a/one.csv"],
        "a/**": ["a/.hidden.csv", "a/b/c/three.csv", "a/b/two.csv", "a/b1.txt", "a/one.csv"],
        "a/**/c/*": ["a/b/c/three.csv"],
        "a/[!o]*": ["a/.hidden.csv", "a/b1.txt"],
        "a**": [],
        "a//b": ["a/b/c/three.csv", "a/b/two.csv"],
        "*": ["top.csv"],
        "nothing/*": [],
    }
    found = {pattern: list(find(str(tmp_path), pattern)) for pattern in wanted}
    assert found == wanted


def test_a_file_without_lines_is_named_and_not_the_one_before_it(tmp_path: Path) -> None:
    made(tmp_path / "a.csv", "a,b\n1,2\n")
    made(tmp_path / "b.bin", b"x" * (5 << 20))
    source = {"kind": "delimited", "paths": [{"local": str(tmp_path / "*")}]}
    with pytest.raises(DataError, match=r"b\.bin, line 1: a value is longer than 2 MiB") as caught:
        engine.preview(d.check({"format": 1, "type": "tabular", "source": source}), LocalSource())
    assert (caught.value.file or "").endswith("b.bin")
