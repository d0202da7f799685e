"""Processes that outlive the command that started them: who they are, whether they live, how they end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """``born``, field 22 of /proc/PID/stat, tells a process from a later one with the same number (0 elsewhere)."""

    name: str
    pid: int
    born: int

    @property
    def alive(self) -> bool:
        if born(self.pid) != self.born:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return state(self.pid) != "Z"

    def signal(self, number: int) -> None:
        """Send a signal, if it still is the same process."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()


def born(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""


def proportional_memory(pid: int) -> int | None:
    """Bytes of memory with shared pages counted by share (PSS), None where the system does not say."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def save(path: Path, found: Sequence[Process], **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"processes": [[p.name, p.pid, p.born] for p in found], **more}))
    fresh.replace(path)


def load(path: Path) -> tuple[list[Process], dict[str, object]]:
    """What was saved; empty when nothing was."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return [], {}
    return [Process(*row) for row in data.pop("processes", [])], data


def stop(found: Sequence[Process], *, wait_s: float = 15) -> list[str]:
    """SIGTERM one after the other in the order given, SIGKILL for what is left after ``wait_s``. The killed ones."""
    killed = []
    for process in found:
        process.signal(signal.SIGTERM)
        deadline = time.monotonic() + wait_s
        while process.alive and time.monotonic() < deadline:
            _reap(process.pid)
            time.sleep(0.05)
        if process.alive:
            process.signal(signal.SIGKILL)
            killed.append(process.name)
            _reap(process.pid)
    return killed


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
