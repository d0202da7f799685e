"""Tables of many columns, and columns of names that engines use themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from atelier.data import definition as d
from atelier.data import engine, profile
from atelier.data.sources import LocalSource

pytest.importorskip("pandas")
SOURCE = LocalSource()


def test_a_profile_of_many_columns_needs_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("duckdb")
    monkeypatch.setattr(profile, "WIDE", 50)
    names = [f"c{at}" for at in range(60)]
    rows = "".join(",".join(str(at + row) for at in range(60)) + "\n" for row in range(30))
    (tmp_path / "a.csv").write_text(",".join(names) + "\n" + rows)
    definition = d.make("delimited", [{"local": str(tmp_path / "a.csv")}])
    found = profile.compute(definition, SOURCE, memory_limit="120MB")
    assert [one["name"] for one in found["columns"]] == names and found["rows"] == 30
    assert all((one["min"], one["max"]) == (at, at + 29) for at, one in enumerate(found["columns"]))
    assert all(one["distinct"] == 30 for one in found["columns"][:50])
    assert [bool(one["exact"] and one["histogram"]) for one in found["columns"]] == [True] * 50 + [False] * 10


@pytest.mark.parametrize("kind", ["delimited", "parquet"])
def test_a_column_may_be_called_as_the_engine_calls_its_own(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("duckdb")
    paths = [tmp_path / f"{name}.{kind}" for name in "ab"]
    for path in paths:
        if kind == "parquet":
            arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
            parquet.write_table(arrow.table({"Filename": [path.stem]}), path)
        else:
            path.write_text(f"Filename\n{path.stem}\n")
    definition = d.make(kind, [{"local": str(path)} for path in paths], include_path=True)
    frame = engine.to_pandas(definition, SOURCE)
    assert frame["Filename"].tolist() == ["a", "b"] and frame["Path"].tolist() == [str(path) for path in paths]
