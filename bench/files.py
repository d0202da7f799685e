"""A 1 GiB artifact up to the studio and down again, and how much memory the web process takes for it."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench._client import Client, prepare
from studio.bootstrap import processes
from tests.stack import Stack

REACH = {"up_mb_per_s": 300.0, "down_mb_per_s": 300.0, "memory_growth_mb": 100.0}
PIECE = 1 << 20
MEGA = 1e6


class _Memory(threading.Thread):
    """The most memory of a process while it is watched, in bytes of PSS."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.most, self.over = pid, 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(0.2):
            self.most = max(self.most, processes.proportional_memory(self.pid) or 0)


def _up(stack: Stack, access: dict[str, str], path: str, source: Path) -> float:
    """Seconds of one PUT."""
    client = Client(stack, {"Authorization": f"Bearer {access['token']}"})
    began = time.perf_counter()
    with source.open("rb") as body:
        client.connection.blocksize = PIECE
        client.call("PUT", path, body, **{"Content-Length": str(source.stat().st_size)})
    return time.perf_counter() - began


def _down(stack: Stack, access: dict[str, str], path: str) -> tuple[float, int]:
    """(seconds, bytes) of one GET, thrown away piece by piece."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=600)
    began, size, buffer = time.perf_counter(), 0, bytearray(PIECE)
    connection.request("GET", path, headers={"Authorization": f"Bearer {access['token']}"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"GET {path}: {answer.status}")
    while count := answer.readinto(buffer):
        size += count
    return time.perf_counter() - began, size


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _copy(source: Path, target: Path) -> float:
    """Seconds of a plain copy through this process, in the same pieces."""
    began = time.perf_counter()
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, PIECE)
    return time.perf_counter() - began


def run(options: dict[str, Any]) -> dict[str, Any]:
    """Figures in MB/s; the memory that the web process grew by in MB."""
    size = (64 << 20) if options.get("quick") else (1 << 30)
    with (
        tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder,
        Stack(Path(folder), services=("valkey", "daphne")) as stack,
    ):
        access = prepare(stack)
        source = Path(folder, "big.bin")
        block = os.urandom(PIECE)
        with source.open("wb") as handle:
            for _piece in range(size // PIECE):
                handle.write(block)
        path = f"/api/v1/workspaces/bench/runs/{access['run']}/files/content/outputs/big.bin"
        Client(stack, {"Authorization": f"Bearer {access['token']}"}).call("PUT", path, b"first")
        pid = stack.processes["daphne"].pid
        before = processes.proportional_memory(pid) or 0
        memory = _Memory(pid)
        ups = [_up(stack, access, path, source) for _turn in range(2)]
        downs = [_down(stack, access, path) for _turn in range(2)]
        memory.over.set()
        key = stack.query("SELECT key FROM runs_run WHERE run_id = ?", access["run"])[0][0]
        same = _digest(stack.unit_directory(key) / "outputs" / "big.bin") == _digest(source)
        copied = _copy(source, Path(folder, "copy.bin"))
    figures = {
        "up_mb_per_s": round(size / MEGA / min(ups)),
        "down_mb_per_s": round(size / MEGA / min(seconds for seconds, _size in downs)),
        "memory_growth_mb": round(max(0, memory.most - before) / MEGA, 1),
        "same_bytes": int(same and all(count == size for _seconds, count in downs)),
    }
    return {
        "bench": "files",
        "unit": "MB/s; MB",
        "figures": figures,
        "reach": REACH,
        "compared_with": {"plain_copy_mb_per_s": round(size / MEGA / copied)},
        "met": figures["up_mb_per_s"] >= 300
        and figures["down_mb_per_s"] >= 300
        and figures["memory_growth_mb"] <= 100
        and bool(figures["same_bytes"]),
    }
