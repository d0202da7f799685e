"""The figures of a dataset's columns, as a unit of work.

Runs in the unit's ``code`` folder: reads ``plan.json`` ({"definition", "memory"}), the stores with their
secrets from the environment (ATELIER_STORES, ATELIER_SIGNATURES), and writes ``outputs/profile.json`` whole, or
``outputs/problem.json`` and ends with 1. Says how far it is in ``events.jsonl`` and on its standard output.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.datasets.jobs import setting_up
from studio.datasets.jobs.look import cell

EVENT_S = 0.5
PRINT_S = 2.0


class Told:
    """Passes progress on: an event at most twice a second, a line at most every two."""

    def __init__(self, unit: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._events = unit / "events.jsonl"
        self._now = now
        self._told = self._printed = -math.inf
        self._text = ""
        self.value = 0.0

    def __call__(self, value: float, text: str) -> None:
        """``value`` from 0 to 1 never goes back."""
        self.value = max(self.value, min(1.0, float(value)))
        now, new = self._now(), text != self._text
        if now - self._told >= EVENT_S or self.value >= 1:
            self._told = now
            line = json.dumps({"k": "progress", "v": round(self.value, 4), "text": text})
            with self._events.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        if (new and now - self._printed >= EVENT_S) or now - self._printed >= PRINT_S or self.value >= 1:
            self._printed, self._text = now, text
            print(f"{self.value:5.0%}  {text}", flush=True)


def plain(value: Any) -> Any:
    """JSON that every database stores: finite numbers, texts that hide nothing, dates as text."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return cell(value)


def write_whole(path: Path, content: Any) -> None:
    """All of it or nothing: a reader never sees a half."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def compute(unit: Path, plan: dict[str, Any], source: Any) -> dict[str, Any]:
    """The figures. What does not fit into memory goes to a folder in the unit's own directory."""
    from atelier.data.profile import compute as figures

    spill = unit / "tmp"
    spill.mkdir(exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(spill)
    try:
        return figures(plan["definition"], source, Told(unit), memory_limit=plan["memory"])
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def main() -> int:
    unit = Path(os.environ["ATELIER_UNIT_DIR"])
    setting_up.configure()
    # One file, packed small and large when unpacked, must not fill the disk that the studio lives on.
    most, hard = shutil.disk_usage(unit).free * 4 // 5, resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    began = time.monotonic()
    try:
        plan = json.loads(Path("plan.json").read_bytes())
        stores, signatures = (setting_up.secret_json(name) for name in (setting_up.STORES, setting_up.SIGNATURES))
        plan["definition"] = setting_up.sign(plan["definition"], signatures)
        result = plain(compute(unit, plan, setting_up.make_source(stores)))
        write_whole(unit / "outputs" / "profile.json", result)
    except Exception as error:  # noqa: BLE001 - whatever it was, a person reads what to do
        found = setting_up.explain(error)
        write_whole(unit / "outputs" / "problem.json", plain(found))
        print(" ".join(filter(None, [found["message"], found["hint"]])), flush=True)
        print(setting_up.where(error), file=sys.stderr, flush=True)
        return 1
    rows, columns = result.get("rows"), len(result.get("columns") or [])
    print(f"{rows} rows, {columns} columns in {time.monotonic() - began:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
