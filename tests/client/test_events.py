"""Logging inside a run: what lands in events.jsonl, and what must never happen there."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from atelier.exceptions import UserErrorException
from atelier.run import Run

from tests.client.conftest import SOURCE, Script


class Array:
    """What numpy's arrays and scalars offer, without numpy: test_studio.py logs the real ones, inside a run."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def tolist(self) -> Any:
        return self.content

    def item(self) -> Any:
        content = self.content
        if isinstance(content, list):
            if len(content) != 1:
                raise ValueError("can only convert an array of size 1 to a Python scalar")
            content = content[0]
        return content

    def __iter__(self) -> Any:
        return iter(self.content)


class Figure:
    """A figure saves itself."""

    def savefig(self, path: str, **_: Any) -> None:
        Path(path).write_bytes(b"\x89PNG")


def events(unit: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (unit / "events.jsonl").read_text().splitlines()]


def values(unit: Path) -> list[Any]:
    return [event["v"] for event in events(unit)]


def test_a_number_is_one_line(unit: Path) -> None:
    run = Run.get_context()
    run.log("loss", 0.5, step=3)
    run.log("loss", 0.25)
    run.log('odd "näme"', 1e300, description="what it is")
    first, second, third = events(unit)
    assert (first["k"], first["n"], first["v"], first["s"]) == ("metric", "loss", 0.5, 3)
    assert "s" not in second and isinstance(second["t"], float)
    assert third["n"] == 'odd "näme"' and third["d"] == "what it is"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (Array(math.nan), "NaN"),
        (True, 1),
        (7, 7),
        (10**30, 10**30),
        (Array(3), 3),
        (Array(0.5), 0.5),
        (Array([2.5]), 2.5),
        ("text", "text"),
        (Array(True), 1),
        (Array("linear"), "linear"),
        (Decimal("0.25"), 0.25),
        (Fraction(1, 2), 0.5),
        (None, "None"),
    ],
)
def test_numbers_of_all_kinds(unit: Path, given: Any, kept: Any) -> None:
    Run.get_context().log("x", given, step=Array(2))
    assert events(unit)[0]["v"] == kept and events(unit)[0]["s"] == 2


def test_lists_and_generators(unit: Path) -> None:
    run = Run.get_context()
    run.log_list("a", [1, 2.5, math.nan])
    run.log_list("b", (n * n for n in range(4)))
    run.log_list("c", Array([0, 1, 2]))
    run.log_list("long", range(12_000))
    assert values(unit)[:3] == [[1, 2.5, "NaN"], [0, 1, 4, 9], [0, 1, 2]]
    assert [number for part in values(unit)[3:] for number in part] == list(range(12_000))


def test_rows_tables_and_documents(unit: Path) -> None:
    run = Run.get_context()
    run.log_row("r", x=1, y=Array(0.5), z="t")
    run.log_table("t", {"x": Array([1, 2]), "y": [math.inf, 1]})
    run.log_confusion_matrix("m", '{"schema_type": "confusion_matrix", "data": {"matrix": [[1, 0], [0, 2]]}}')
    run.log_residuals("s", {"data": {"bin_edges": [0, 1]}})
    assert [event["k"] for event in events(unit)] == ["row", "table", "confusion_matrix", "residuals"]
    assert values(unit)[:2] == [{"x": 1, "y": 0.5, "z": "t"}, {"x": [1, 2], "y": ["Infinity", 1]}]
    assert values(unit)[2]["data"]["matrix"] == [[1, 0], [0, 2]]


def test_images_are_kept(unit: Path, tmp_path: Path) -> None:
    run = Run.get_context()
    run.log_image("curve/1", plot=Figure())
    (tmp_path / "a.jpg").write_bytes(b"jpeg")
    run.log_image("photo", path=str(tmp_path / "a.jpg"))
    (unit / "outputs" / "b.png").write_bytes(b"png")
    run.log_image("own", path=str(unit / "outputs" / "b.png"))
    curve, photo, own = values(unit)
    assert (unit / "artifacts" / curve).read_bytes().startswith(b"\x89PNG")
    assert (unit / "artifacts" / photo).read_bytes() == b"jpeg" and photo.endswith(".jpg")
    assert own == "outputs/b.png"


def test_tags_properties_and_failure(unit: Path) -> None:
    run = Run.get_context()
    run.tag("stage")
    run.tag("n", 3)  # type: ignore[arg-type]
    run.add_properties({"author": "ann"})
    with pytest.raises(UserErrorException, match="author"):
        run.add_properties({"author": "bob"})
    run.complete()
    run.fail("bad data", "E1")
    found = [(event["k"], event.get("n"), event["v"]) for event in events(unit)]
    assert found == [
        ("tag", "stage", None),
        ("tag", "n", "3"),
        ("property", "author", "ann"),
        ("status", None, "failed"),
    ]


def test_uploads_go_into_the_unit(unit: Path, tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "f.txt").write_text("1")
    run = Run.get_context()
    run.upload_file("./outputs/model.pkl", str(tmp_path / "folder" / "deep" / "f.txt"))
    run.upload_file("plots/f.txt", str(tmp_path / "folder" / "deep" / "f.txt"))
    run.upload_folder("logs/x", str(tmp_path / "folder"))
    run.upload_file("outputs/model.pkl", str(unit / "outputs" / "model.pkl"))
    for path in ("outputs/model.pkl", "artifacts/plots/f.txt", "logs/x/deep/f.txt"):
        assert (unit / path).read_text() == "1"
    for bad in ("../x", "/etc/x", "", "a/../../x"):
        with pytest.raises(UserErrorException):
            run.upload_file(bad, str(tmp_path / "folder" / "deep" / "f.txt"))


def test_logging_never_raises(unit: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = Run.get_context()
    run._file.path = str(unit / "gone" / "events.jsonl")
    for _ in range(3):
        run.log("x", 1.0)
    assert capfd.readouterr().err.count("cannot be written") == 1


def test_a_torn_line_spoils_no_other(unit: Path) -> None:
    run = Run.get_context()
    run.log("x", 1.0)
    run._file._torn = True  # what a full disk leaves: half a line without its end
    with (unit / "events.jsonl").open("ab") as file:
        file.write(b'{"k":"metr')
    run.log("x", 2.0)
    lines = (unit / "events.jsonl").read_bytes().splitlines()
    assert lines[1] == b'{"k":"metr' and json.loads(lines[2])["v"] == 2.0


def test_threads_and_forked_children_mix_no_lines(unit: Path) -> None:
    run = Run.get_context()
    run.log("start", 0.0)

    def work(name: str) -> None:
        for step in range(500):
            run.log(name, step + 0.5, step=step)

    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            os.closerange(3, 64)  # what daemons do; the parent's descriptor is gone, or another file's
            work(f"child{number}")
            os._exit(0)
        children.append(child)
    threads = [threading.Thread(target=work, args=(f"thread{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    found = events(unit)
    assert len(found) == 1 + 6 * 500
    for name in ("child0", "child2", "thread1"):
        assert [event["s"] for event in found if event["n"] == name] == list(range(500))


def test_the_context_is_one_object_and_needs_no_studio(unit: Path) -> None:
    run = Run.get_context()
    assert run is Run.get_context() and run.id == "iris_1_0a" and run.experiment.name == "iris"


def test_importing_is_quick_inside_a_run(unit: Path) -> None:
    """No module of networking comes with it, so that it stays quick; the time is the CPU's, the least of five."""
    code = (
        "import time, sys; t = time.process_time(); from azureml.core import Run; run = Run.get_context(); "
        "run.log('a', 1.0); print(time.process_time() - t); "
        "print(sorted({'http.client','ssl','socket','pathlib','uuid','email'} & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-S", "-c", code]
    found = [
        subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split("\n")
        for _ in range(5)
    ]
    assert found[0][1] == "[]"
    assert min(float(lines[0]) for lines in found) < 0.06


def test_outside_a_run_it_prints(script: Script) -> None:
    done = script(
        "-c",
        "from azureml.core import Run\nfrom azureml.core.run import _OfflineRun\n"
        "run = Run.get_context()\nassert type(run) is _OfflineRun and not isinstance(run, Run)\n"
        "assert run.id.startswith('OfflineRun_')\nrun.log('loss', 0.5)\nrun.log_list('l', (i for i in range(2)))\n"
        "run.log_row('r', a=1)\nrun.tag('x')\nrun.upload_file('outputs/a', 'a')\nrun.complete()\n"
        "with run.child_run('c') as child: child.log('x', 1)\nprint(run.get_metrics())",
    )
    assert "Attempted to log scalar metric loss:\n0.5" in done.stdout
    assert "{'loss': 0.5, 'l': [0, 1], 'r': {'a': 1}}" in done.stdout


def test_outside_a_run_it_may_be_refused() -> None:
    from atelier.exceptions import RunEnvironmentException

    with pytest.raises(RunEnvironmentException):
        Run.get_context(allow_offline=False)
