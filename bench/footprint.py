"""Memory of all services after the sample run, and the time of a cold start to the sign-in page."""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from studio.bootstrap import processes
from studio.bootstrap.packages import ROOT


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - loopback only
            return bool(answer.status == 200)
    except OSError:
        return False


def _wait(url: str, seconds: float = 120) -> float:
    """Seconds until the page answers 200."""
    started = time.monotonic()
    while not _answers(url):
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"{url} did not answer in {seconds} s")
        time.sleep(0.02)
    return time.monotonic() - started


def _bare(data: Path, environment: dict[str, str]) -> tuple[float, float]:
    """The same pages by one bare web server, without worker, beat and broker: (seconds, MB)."""
    port = _free_port()
    command = [sys.executable, "-m", "daphne", "-v", "0", "-p", str(port), "studio.asgi:application"]
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        seconds = _wait(f"http://127.0.0.1:{port}/healthz")
        return seconds, (processes.proportional_memory(child.pid) or 0) / 2**20
    finally:
        child.terminate()
        child.wait(20)


def run(options: dict[str, Any]) -> dict[str, Any]:
    """Figures in MB of PSS and seconds; three cold starts, the median counts."""
    data = Path(tempfile.mkdtemp(prefix="atelier-bench-"))
    port = _free_port()
    sign_in = f"http://127.0.0.1:{port}/account/login/"
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ATELIER_", "REDIS_", "DATABASE_"))
        },
        "ATELIER_DATA": str(data),
        "ATELIER_PORT": str(port),
        "ATELIER_OWNER_PASSWORD": "only-for-this-bench-7",
        "ATELIER_HOME": str(data / "home"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def manage(*words: str) -> str:
        command = [sys.executable, "manage.py", *words]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout

    try:
        manage("up", "--detach", "--no-sample")
        if not options.get("quick"):
            manage("sample")
        time.sleep(3)
        found, _ = processes.load(data / "run" / "services.json")
        each = {p.name: (processes.proportional_memory(p.pid) or 0) / 2**20 for p in found}
        manage("down")
        starts = []
        for _ in range(3):
            child = subprocess.Popen(
                [sys.executable, "manage.py", "up"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
            )
            starts.append(_wait(sign_in))
            child.terminate()
            child.wait(60)
        bare_seconds, bare_memory = _bare(data, environment)
    finally:
        manage("down")
        shutil.rmtree(data, ignore_errors=True)
    total, start = sum(each.values()), statistics.median(starts)
    return {
        "bench": "footprint",
        "unit": "MB of PSS; seconds",
        "figures": {
            "memory": round(total, 1),
            "cold_start": round(start, 2),
            **{k: round(v, 1) for k, v in each.items()},
        },
        "reach": {"memory": 600, "cold_start": 6},
        "compared_with": {"bare_daphne_memory": round(bare_memory, 1), "bare_daphne_start": round(bare_seconds, 2)},
        "met": total <= 600 and start <= 6,
    }
