"""Data into a unit's directory, or out of it: the program of a unit of kind ``transfer``. No database.

Reads ``plan.json`` in its working directory: {"direction": "in"|"out", "unit": folder, "label", "items": [...]}, the
datastores from ATELIER_STORES ({name: {"kind", "config", "secrets"}}) and the query strings of signed addresses from
ATELIER_SIGNATURES ({item: {"<index of the path>": query}}).
An item that comes in: {"name", "definition", "mode", "private": whether it gets a copy of its own}. One that goes out:
{"name", "store", "path"}.
Says how far it is with events {"k": "progress", "files": [done, total], "bytes": [done, total], "cached", "current",
"note"} and ends with ``outputs/result.json``: {"items": {name: {"files", "bytes", "cached_bytes", "file"}}} or
{"error": {"code", "message", "item", "file", "store"}}.
Safe to run again after a kill at any instant. Exit codes: 0 all is there, 2 it cannot be, 75 again later.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from studio.datasets.jobs import laying, setting_up
from studio.datasets.jobs.patience import Failed, Patience, say, sentence
from studio.datasets.jobs.progress import Course, Progress
from studio.lib import storage

AT_ONCE = 8
PIECE = 1 << 20
UPLOAD_PIECE = 32 << 20
PINS = "cached.txt"
SENT = ".sent.jsonl"
OK, CANNOT, LATER = 0, 2, 75


def each(items: Iterator[Any] | list[Any], do: Callable[[Any], None], patience: Patience) -> None:
    """``do`` for every item, a few at once; the first failure ends the others."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting: set[Any] = set()
        try:
            for item in items:
                waiting.add(pool.submit(do, item))
                if len(waiting) >= AT_ONCE * 4:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for one in done:
                        one.result()
            done, waiting = wait(waiting, return_when=FIRST_EXCEPTION)
            for one in done:
                one.result()
        except BaseException:
            patience.stop.set()
            for one in waiting:
                one.cancel()
            raise


# Into the unit.


class Incoming:
    """One named input."""

    def __init__(self, unit: Path, item: dict[str, Any], source: Any, patience: Patience) -> None:
        self.unit, self.item, self.source, self.patience = unit, item, source, patience
        self.progress = patience.progress
        self.name: str = item["name"]
        self.root = unit / "inputs" / self.name
        self.files: list[Any] = []
        self.lock = threading.Lock()
        self.links: list[tuple[str, str]] = []

    def look(self) -> None:
        self.files = self.patience.call(f"input {self.name}", self._listed)
        if twice := laying.name_twice((file.name, file.path) for file in self.files):
            name, one, other = twice
            raise Failed(f"{one} and {other} would both be {name}.", code="exists", file=other)
        size = sum(file.size or 0 for file in self.files)
        self.progress.more(len(self.files), size)
        say(f"{self.name}: {len(self.files)} files, {size:,} bytes")

    def _listed(self) -> list[Any]:
        from atelier.data import engine

        definition = self.item["definition"]
        found = engine.files(definition, self.source) if definition["steps"] else self.source.files(definition)
        return list(found)

    def bring(self) -> dict[str, Any]:
        start = time.monotonic()
        cached = self.progress.cached
        each(self.files, self._bring, self.patience)
        if self.links:
            laying.link_files(self.unit, self.name, sorted(self.links))
        self._prune()
        size = sum(file.size or 0 for file in self.files)
        had = self.progress.cached - cached
        say(f"{self.name}: all there after {time.monotonic() - start:.1f} s, {had:,} bytes of it from the cache")
        return {"files": len(self.files), "bytes": size, "cached_bytes": had, "file": self._single()}

    def _bring(self, file: Any) -> None:
        place = self.root / storage.clean_relative(file.name)
        if self.item["private"]:
            if not laying.same_file(Path(file.local), place):
                self.patience.call(file.path, lambda: laying.copy(Path(file.local), place))
            self.progress.did(file.size or 0)
            self.progress.file(file.path)
            return
        if file.local:
            path, hit = file.local, True
        else:
            course = Course(self.progress)
            path, hit = self.patience.call(file.path, lambda: self._fetched(file, course), course)
        if hit and not file.local:
            self.progress.had(file.size or 0)
        elif hit:
            self.progress.did(file.size or 0)
        with self.lock:
            self.links.append((file.name, path))
        self.progress.file(file.path)

    def _fetched(self, file: Any, course: Course) -> tuple[str, bool]:
        kept = self.source.keep(file, progress=course.did, resumed=course.resumed, pin=self._pin)
        if kept.hit:  # another program fetched it meanwhile
            course.resumed(0)
        return str(kept.path), kept.hit

    def _pin(self, digest: str) -> None:
        with self.lock, (self.unit / PINS).open("a", encoding="ascii") as handle:
            handle.write(digest + "\n")

    def _single(self) -> str | None:
        """The file's name where the definition names one file, not a folder or a pattern."""
        from atelier.data.globs import has_magic

        paths = self.item["definition"]["source"]["paths"]
        if len(paths) != 1 or len(self.files) != 1 or self.item["definition"]["steps"]:
            return None
        name = str(self.files[0].name)
        if "url" in paths[0]:
            return name
        path = str(paths[0].get("path") or "")
        return name if not has_magic(path) and path.rstrip("/").rpartition("/")[2] == name else None

    def _prune(self) -> None:
        """Leftovers of a try that was ended: nothing may lie there that the dataset does not have."""
        wanted = {file.name for file in self.files}
        for folder, _folders, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                if path.relative_to(self.root).as_posix() not in wanted:
                    path.unlink()


def bring_in(plan: dict[str, Any], stores: dict[str, Any], patience: Patience) -> dict[str, Any]:
    unit = Path(plan["unit"])
    (unit / "inputs").mkdir(parents=True, exist_ok=True)
    signatures = setting_up.secret_json(setting_up.SIGNATURES)
    incoming = []
    for raw in plan["items"]:
        definition = setting_up.sign(raw["definition"], signatures.get(raw["name"]) or {})
        incoming.append(Incoming(unit, {**raw, "definition": definition}, setting_up.make_source(stores), patience))
    result: dict[str, Any] = {}
    current = ""
    try:
        for one in incoming:
            current = one.name
            one.look()
        for one in incoming:
            current = one.name
            result[one.name] = one.bring()
    except Failed as error:
        raise Named(error, current) from error
    except Exception as error:
        told = setting_up.explain(error)
        raise Named(Failed(sentence(told), code=told["kind"], file=told["file"]), current) from error
    return result


class Named(Exception):
    """A failure with the input or output that it belongs to."""

    def __init__(self, failed: Failed, item: str, store: str = "") -> None:
        super().__init__(str(failed))
        self.failed, self.item, self.store = failed, item, store


# Out of the unit.


class Outgoing:
    """One named output."""

    def __init__(self, unit: Path, item: dict[str, Any], stores: dict[str, Any], patience: Patience) -> None:
        from studio.datasets.backends import registry

        store = stores[item["store"]]
        self.unit, self.name, self.item, self.patience = unit, item["name"], item, patience
        self.progress = patience.progress
        self.backend = registry.make(store["kind"], store["config"], store["secrets"])
        self.found = laying.produced(unit, self.name)
        self.sent = _journal(unit)
        self.lock = threading.Lock()
        self.progress.more(len(self.found.files), self.found.bytes)
        say(f"{self.name}: {len(self.found.files)} files, {self.found.bytes:,} bytes to {self.backend.address()}")
        for link in self.found.links:
            say(f"{self.name}/{link} is a link that leads out of the run's folder and stays there")

    def send(self) -> dict[str, Any]:
        each(self.found.files, self._send, self.patience)
        return {
            "files": len(self.found.files), "bytes": self.found.bytes, "single": self.found.single,
            "links": self.found.links[:20], "file": None,
        }  # fmt: skip

    def _send(self, file: tuple[str, Path]) -> None:
        relative, path = file
        place = "/".join(part for part in (self.item["path"], relative) if part)
        status = path.stat()
        mark = [self.name, relative, status.st_size, status.st_mtime_ns]
        if mark in self.sent and self._there(place, status.st_size):
            self.progress.did(status.st_size)
        else:
            self._upload(path, place, status.st_size)
            with self.lock, (self.unit / SENT).open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(mark) + "\n")
        self.progress.file(place)

    def _there(self, place: str, size: int) -> bool:
        try:
            return bool(self.backend.stat(place).size == size)
        except Exception:  # noqa: BLE001 - then it is sent again, and that says what is wrong
            return False

    def _upload(self, path: Path, place: str, size: int) -> None:
        """One file, whole. After an interruption it goes on at the last offset that the store had confirmed."""
        state: dict[str, Any] = {}
        offset = 0
        course = Course(self.progress)

        def go_on() -> None:
            nonlocal state, offset
            if not state:
                state, offset = self.backend.upload_begin(place, size), 0
            with path.open("rb") as reader:
                while offset < size:
                    reader.seek(offset)
                    pieces = self._pieces(reader, min(UPLOAD_PIECE, size - offset))
                    state, after = self.backend.upload_piece(state, offset, pieces)
                    if after <= offset and size - offset > UPLOAD_PIECE:
                        raise Failed(f"{place}: its store takes no more bytes.", file=place)
                    course.did(after - offset)
                    offset = after
            entry = self.backend.upload_commit(state)
            if entry.size is not None and entry.size != size:
                raise Failed(f"{place} has {entry.size:,} bytes in its store instead of {size:,}.", file=place)

        def afresh() -> None:
            nonlocal state, offset
            try:
                go_on()
            except Exception as error:
                if getattr(error, "code", "") in ("incomplete", "changed", "no-such-file"):
                    course.resumed(0)
                    state, offset = {}, 0
                raise

        self.patience.call(place, afresh, course)

    @staticmethod
    def _pieces(reader: Any, left: int) -> Iterator[bytes]:
        while left > 0:
            piece = reader.read(min(PIECE, left))
            if not piece:
                return
            left -= len(piece)
            yield piece


def _journal(unit: Path) -> list[Any]:
    """What an earlier try has sent: [item, path, size, modified]. A torn last line counts for nothing."""
    found = []
    try:
        lines = (unit / SENT).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def send_out(plan: dict[str, Any], stores: dict[str, Any], patience: Patience) -> dict[str, Any]:
    unit, result = Path(plan["unit"]), {}
    for item in plan["items"]:
        try:
            result[item["name"]] = Outgoing(unit, item, stores, patience).send()
        except Failed as error:
            raise Named(error, item["name"], item["store"]) from error
        except Exception as error:
            told = setting_up.explain(error)
            raise Named(
                Failed(sentence(told), code=told["kind"], file=told["file"]), item["name"], item["store"]
            ) from error
    return result


def main() -> int:
    setting_up.configure()
    stores = setting_up.secret_json(setting_up.STORES)
    plan = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    say(plan.get("label") or "")
    progress = Progress(Path(os.environ["ATELIER_UNIT_DIR"]) / "events.jsonl")
    patience = Patience(progress)
    try:
        items = (bring_in if plan["direction"] == "in" else send_out)(plan, stores, patience)
    except Named as error:
        failed = error.failed
        say(f"ERROR  {failed}")
        _result({"error": {
            "code": failed.code, "message": str(failed), "item": error.item, "file": failed.file, "store": error.store,
        }})  # fmt: skip
        return LATER if failed.later else CANNOT
    finally:
        progress.say(now=True)
    _result({"items": items})
    say("Done.")
    return OK


def _result(value: dict[str, Any]) -> None:
    folder = Path(os.environ["ATELIER_UNIT_DIR"], "outputs")
    folder.mkdir(exist_ok=True)
    partial = folder / "result.json.part"
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(folder / "result.json")


if __name__ == "__main__":
    sys.exit(main())
