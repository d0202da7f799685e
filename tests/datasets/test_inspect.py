"""Looking into data that is not as it should be: named, counted, answered by a choice; never a trace or endless."""

from __future__ import annotations

import gzip
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.template.loader import render_to_string

from studio.datasets import inspect as inspecting
from studio.datasets import look_process
from studio.datasets.inspect import Unreadable, inspect, preview
from studio.datasets.jobs import look, setting_up
from studio.datasets.models import Datastore
from studio.datasets.services.datasets import dataset_register
from studio.lib.errors import Invalid

Look = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    inspecting.kept.clear()
    yield
    inspecting.kept.clear()


@pytest.fixture
def folder(team: Any, tmp_path: Path) -> Path:
    """A local datastore named "files"."""
    root = tmp_path / "files"
    root.mkdir()
    Datastore.objects.create(
        workspace=team.workspace, name="files", kind="local", config={"path": str(root)}, created_by=team.owner
    )
    return root


@pytest.fixture
def look_at(team: Any, folder: Path) -> Look:
    """Write a file, look into it as the wizard does."""

    def run(content: bytes | str, name: str = "data.csv", rows: int = 100, **options: Any) -> dict[str, Any]:
        inspecting.kept.clear()
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        source = {"kind": "delimited", "paths": [{"datastore": "files", "path": name}], **options}
        found = inspect({"source": source}, rows, workspace=team.workspace)
        json.dumps(found, allow_nan=False)
        return found

    return run


def problem(found: dict[str, Any], kind: str) -> dict[str, Any]:
    """The one problem of this kind."""
    (one,) = [one for one in found["problems"] if one["kind"] == kind]
    return one


@pytest.mark.django_db
def test_the_first_rows_with_their_types(look_at: Look) -> None:
    text = "id,name,share,good,day\n" + "".join(f"{i},n{i},{i / 8},true,2026-01-{i % 28 + 1:02d}\n" for i in range(500))
    found = look_at(text, rows=3)
    assert [(c["name"], c["type"]) for c in found["columns"]] == [
        ("id", "integer"),
        ("name", "string"),
        ("share", "float"),
        ("good", "boolean"),
        ("day", "datetime"),
    ]
    assert [row[:4] for row in found["rows"]] == [[0, "n0", 0.0, True], [1, "n1", 0.125, True], [2, "n2", 0.25, True]]
    assert found["truncated"] == {"rows": True, "columns": False}
    assert (found["problems"], found["files"], found["bytes"]) == ([], 1, len(text))
    assert [c["name"] for c in found["definition"]["schema"]] == ["id", "name", "share", "good", "day"]


@pytest.mark.django_db
def test_rows_with_too_few_and_too_many_fields_are_told_with_their_line_and_the_choice(look_at: Look) -> None:
    found = look_at("a,b,c\n1,2,3\n4,5\n6,7,8,9\n")
    ragged = [one for one in found["problems"] if one["kind"] == "ragged"]
    assert sum(one["count"] for one in ragged) == 2
    assert ragged[0]["line"] == 3 and ragged[0]["file"].endswith("data.csv")
    choice = ragged[0]["choice"]
    assert (choice["field"], choice["value"]) == ("on_ragged", "fill")
    assert [option["value"] for option in choice["options"]] == ["fill", "skip", "fail"]
    assert found["rows"] == [[1, 2, 3], [4, 5, None], [6, 7, 8]]
    assert look_at("a,b,c\n1,2,3\n4,5\n6,7,8,9\n", on_ragged="skip")["rows"] == [[1, 2, 3]]
    with pytest.raises(Unreadable) as refused:
        look_at("a,b,c\n1,2,3\n4,5\n6,7,8,9\n", on_ragged="fail")
    assert refused.value.line == 3 and "data.csv" in refused.value.file


@pytest.mark.django_db
def test_bytes_that_the_encoding_does_not_know(look_at: Look) -> None:
    content = "name,n\nRené,1\nZoë,2\n".encode("latin-1")
    found = look_at(content)
    bad = problem(found, "bytes")
    assert (bad["line"], bad["choice"]["field"], bad["choice"]["value"]) == (2, "on_bytes", "replace")
    assert found["rows"][0] == ["Ren�", 1]
    right = look_at(content, encoding="latin-1")
    assert right["rows"] == [["René", 1], ["Zoë", 2]] and not right["problems"]


@pytest.mark.django_db
def test_a_wrong_encoding_is_no_trace(look_at: Look) -> None:
    utf16 = "a,b\n1,x\n2,y\n".encode("utf-16")
    assert "utf-16" in problem(look_at(utf16), "bytes")["text"]
    assert "NUL" in problem(look_at("a,b\n1,x\n".encode("utf-16-le")), "bytes")["text"]
    assert look_at(utf16, encoding="utf-16")["rows"] == [[1, "x"], [2, "y"]]


@pytest.mark.django_db
def test_values_of_several_kinds_in_one_column(team: Any, folder: Path, look_at: Look) -> None:
    text = "n,m\n" + "".join(f"{i},{i}\n" for i in range(50)) + "many,51\n"
    assert look_at(text)["columns"][0]["type"] == "string"
    source = {"kind": "delimited", "paths": [{"datastore": "files", "path": "data.csv"}]}
    schema = [{"name": "n", "type": "integer"}, {"name": "m", "type": "integer"}]
    found = inspect({"source": source, "schema": schema}, workspace=team.workspace)
    wrong = problem(found, "type")
    assert (wrong["column"], wrong["line"], wrong["count"]) == ("n", 52, 1)
    assert wrong["choice"]["field"] == "on_error" and "many" in wrong["text"]
    assert found["rows"][50] == [None, 51]


@pytest.mark.django_db
def test_columns_of_the_same_name_get_names_of_their_own(look_at: Look) -> None:
    found = look_at("x,x,x_1,x\n1,2,3,4\n")
    names = [column["name"] for column in found["columns"]]
    assert names[0] == "x" and names[2] == "x_1" and len(set(names)) == 4
    assert found["rows"] == [[1, 2, 3, 4]]
    twice = [one for one in found["problems"] if one["kind"] == "duplicate"]
    assert twice and twice[0]["choice"] is None and twice[0]["hint"]


@pytest.mark.django_db
@pytest.mark.parametrize("content", [b"", b"\n", b"a,b,c\n", b"a,b,c"], ids=["empty", "newline", "header", "no end"])
def test_nothing_or_only_a_header(look_at: Look, content: bytes) -> None:
    try:
        found = look_at(content)
    except Unreadable as error:
        assert "data.csv" in str(error) and b"a" not in content
        return
    assert found["rows"] == []
    if b"a" in content:
        assert [column["name"] for column in found["columns"]] == ["a", "b", "c"]
    page = render_to_string("data/parts/preview.html", {"preview": found})
    assert "No rows" in page


@pytest.mark.django_db
def test_five_thousand_columns(look_at: Look) -> None:
    header = ",".join(f"c{i}" for i in range(5000))
    rows = "\n".join(",".join(str(i + j) for i in range(5000)) for j in range(20))
    found = look_at(f"{header}\n{rows}\n", rows=20)
    assert (found["column_count"], len(found["columns"]), len(found["rows"])) == (5000, 5000, 20)
    assert len(found["rows"][0]) == inspecting.COLUMNS and found["truncated"]["columns"]
    assert found["rows"][1][:3] == [1, 2, 3]
    assert len(found["definition"]["schema"]) == 5000


@pytest.mark.django_db
def test_one_line_of_a_hundred_megabytes_is_said_and_not_swallowed(look_at: Look) -> None:
    began = time.monotonic()
    try:
        found = look_at(b"a,b\n1," + b"x" * (100 << 20) + b"\n")
    except Unreadable as error:
        assert "data.csv" in str(error) and "Traceback" not in str(error)
    else:
        assert found["problems"] or len(found["rows"][0][1]) <= look.LONGEST_TEXT + 1
    assert time.monotonic() - began < look_process.SECONDS + 5


@pytest.mark.django_db
def test_a_program_that_is_named_csv(look_at: Look) -> None:
    content = b"\x7fELF\x02\x01\x01\x00" + os.urandom(200_000)
    try:
        found = look_at(content)
    except Unreadable as error:
        assert "data.csv" in str(error) and "Traceback" not in str(error)
    else:
        assert found["problems"]
        text = json.dumps(found["rows"], ensure_ascii=False)
        assert "\x00" not in text and "\x1b" not in text


@pytest.mark.django_db
def test_broken_parquet_names_the_file(team: Any, folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": list(range(10_000)), "b": ["x" * 20] * 10_000}), folder / "good.parquet")
    whole = (folder / "good.parquet").read_bytes()
    broken = {
        "short": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"a,b\n1,2\n" * 100,
        "footer": whole[:-9] + b"\xff" + whole[-8:],
        "body": whole[:4] + b"\xa5" * (len(whole) // 3) + whole[4 + len(whole) // 3 :],
    }
    for name, content in broken.items():
        (folder / f"{name}.parquet").write_bytes(content)
        source = {"kind": "parquet", "paths": [{"datastore": "files", "path": f"{name}.parquet"}]}
        with pytest.raises(Unreadable, match=rf"{name}\.parquet") as refused:
            inspect({"source": source}, workspace=team.workspace)
        assert "Traceback" not in str(refused.value) and len(str(refused.value)) < 1000, name
    source = {"kind": "parquet", "paths": [{"datastore": "files", "path": "good.parquet"}]}
    found = inspect({"source": source}, 5, workspace=team.workspace)
    assert found["rows"] == [[i, "x" * 20] for i in range(5)]


@pytest.mark.django_db
def test_gzip(look_at: Look) -> None:
    packed = gzip.compress(b"a,b\n" + b"1,x\n" * 1000)
    found = look_at(packed, name="data.csv.gz", rows=2)
    assert found["rows"] == [[1, "x"], [1, "x"]] and found["truncated"]["rows"]
    with pytest.raises(Unreadable, match=r"data\.csv\.gz"):
        look_at(gzip.compress(os.urandom(50_000))[:3000], name="data.csv.gz", rows=50)


@pytest.mark.django_db
def test_lines_of_json(team: Any, folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"a": 1, "b": "x"}\n{"a": 2}\nnot json\n')
    source = {"kind": "json_lines", "paths": [{"datastore": "files", "path": "a.jsonl"}]}
    found = inspect({"source": source}, workspace=team.workspace)
    assert found["rows"][:2] == [[1, "x"], [2, None]]
    assert any(one["line"] == 3 for one in found["problems"])


@pytest.mark.django_db
def test_what_is_not_there_is_named(team: Any, folder: Path) -> None:
    source = {"kind": "delimited", "paths": [{"datastore": "files", "path": "no/such-*.csv"}]}
    with pytest.raises(Unreadable, match=r"no/such-\*\.csv"):
        inspect({"source": source}, workspace=team.workspace)
    source["paths"] = [{"datastore": "nobody", "path": "a.csv"}]
    with pytest.raises(Invalid, match="nobody"):
        inspect({"source": source}, workspace=team.workspace)
    with pytest.raises(Invalid, match="separator"):
        inspect({"source": {**source, "separator": "ab"}}, workspace=team.workspace)


@pytest.mark.django_db
def test_a_dataset_of_files_shows_its_files(team: Any, folder: Path) -> None:
    (folder / "images").mkdir()
    for index in range(5):
        (folder / "images" / f"{index}.png").write_bytes(b"x" * index)
    definition = {"source": {"kind": "files", "paths": [{"datastore": "files", "path": "images/*.png"}]}}
    version = dataset_register(workspace=team.workspace, user=team.owner, name="images", definition=definition)
    found = preview(version, 3)
    assert found["rows"] == [["0.png", 0], ["1.png", 1], ["2.png", 2]]
    assert (found["files"], found["truncated"]["rows"]) == (5, True)


@pytest.mark.django_db
def test_going_back_is_instant_and_a_changed_file_is_seen(
    team: Any, folder: Path, look_at: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = look_at("a\n1\n")
    source = {"kind": "delimited", "paths": [{"datastore": "files", "path": "data.csv"}]}
    with monkeypatch.context() as patched:
        patched.setattr(inspecting, "TRUST_S", 3600.0)
        patched.setattr(look_process, "SECONDS", 0.0)  # whoever looked again now would be out of time
        assert inspect({"source": source}, workspace=team.workspace)["rows"] == first["rows"]
    monkeypatch.setattr(inspecting, "TRUST_S", 0.0)
    assert inspect({"source": source}, workspace=team.workspace)["rows"] == [[1]]
    (folder / "data.csv").write_text("a\n1\n22\n")
    assert inspect({"source": source}, workspace=team.workspace)["rows"] == [[1], [22]]


def test_kept_answers_have_a_limit() -> None:
    kept = inspecting._Kept(1000)
    for index in range(20):
        kept.put(str(index), {"x": "y" * 80})
    assert kept.get("0") is None and kept.get("19") is not None
    kept.put("large", {"x": "y" * 300})
    assert kept.get("large") is None


class _Stalling(BaseHTTPRequestHandler):
    """Says how long the file is, gives a little, and then nothing."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"a,b\n1,2\n")
        self.wfile.flush()
        self.server.stop.wait(30)  # type: ignore[attr-defined]

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def stalling() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Stalling)
    server.stop = threading.Event()  # type: ignore[attr-defined]
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.stop.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.mark.django_db
def test_a_server_that_stalls_is_named_when_the_time_is_over(
    team: Any, stalling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look_process, "SECONDS", 2.0)
    source = {"kind": "delimited", "paths": [{"url": f"{stalling}/slow.csv"}]}
    began = time.monotonic()
    with pytest.raises(Unreadable, match=r"slow\.csv") as refused:
        inspect({"source": source}, workspace=team.workspace)
    assert refused.value.kind == "slow" and time.monotonic() - began < 20


@pytest.mark.django_db
def test_too_much_memory_ends_the_look_and_not_the_studio(look_at: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_process, "MEMORY_BYTES", 1 << 20)
    with pytest.raises(Unreadable, match="memory") as refused:
        look_at("a\n1\n")
    assert refused.value.kind == "memory"


@pytest.mark.django_db
def test_no_secret_is_in_an_answer(team: Any, stalling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_process, "SECONDS", 2.0)
    url = f"{stalling}/slow.csv?sv=1&sig=topsecretsignature"
    with pytest.raises(Unreadable) as refused:
        inspect({"source": {"kind": "delimited", "paths": [{"url": url}]}}, workspace=team.workspace)
    assert "topsecret" not in json.dumps([str(refused.value), refused.value.file, refused.value.hint])


def test_cells_are_short_and_hide_nothing() -> None:
    assert look.cell("a\x00b\x1b[31m\u202e") == "a⟦U+0000⟧b⟦U+001B⟧[31m⟦U+202E⟧"
    assert look.cell("x" * 10_000) == "x" * look.LONGEST_TEXT + "…"
    assert look.cell(b"\x00\xff") == "0x00ff"
    assert look.cell(b"a" * 1000).endswith("…") and len(look.cell(b"a" * 1000)) < 200
    assert (look.cell(float("nan")), look.cell(float("-inf")), look.cell(1.5), look.cell(None)) == (
        "NaN",
        "-inf",
        1.5,
        None,
    )
    assert look.cell({"a": [1, b"x"]}) == '{"a": [1, "eA=="]}'


def test_errors_of_libraries_become_a_sentence() -> None:
    found = setting_up.explain(RuntimeError("first line\nsecond line"), "store:a.csv")
    assert found["message"] == "store:a.csv could not be read: first line"
    assert setting_up.explain(MemoryError(), "a.csv")["kind"] == "memory"
    assert setting_up.explain(PermissionError(13, "Permission denied", "/x/a.csv"))["message"] == (
        "/x/a.csv could not be read: Permission denied."
    )
    try:
        raise ValueError("https://host/x?sig=secret")
    except ValueError as error:
        assert "secret" not in setting_up.where(error) and "test_inspect.py" in setting_up.where(error)


@pytest.mark.django_db
def test_the_page_draws_what_was_found(look_at: Look) -> None:
    found = look_at("id,text\n1,<script>alert(1)</script>\n2,\n3,a,b\n")
    page = render_to_string("data/parts/preview.html", {"preview": found, "choose": True})
    assert "&lt;script&gt;" in page and "<script" not in page
    assert 'class="at-null"' in page and 'href="#id_on_ragged"' in page and "style=" not in page
    failed = render_to_string("data/parts/preview.html", {"preview_error": Unreadable("no", file="a.csv", line=7)})
    assert "a.csv" in failed and "line 7" in failed
