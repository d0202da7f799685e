"""Starting a server as a process of its own, and a wire between that breaks on demand."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

GEAR = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def start(
    command: list[str], port: int, log: Path, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server and wait until its port answers. Raises RuntimeError with its last words."""
    with log.open("wb") as words:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, **(environment or {})},
        )
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process
        except OSError:
            time.sleep(0.05)
    stop(process)
    raise RuntimeError(f"{command[0]} did not start: {log.read_text(errors='replace')[-2000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def missing(what: str, way_out: str) -> None:
    """A part that this machine lacks: the tests skip, but fail where nothing may be left out."""
    text = f"{what} is not installed. {way_out}"
    if os.environ.get("CI"):
        pytest.fail(text + " With CI=true nothing may be left out.")
    pytest.skip(text)


class Wire:
    """A TCP relay to a server. ``cut_after``: bytes that still come back before every connection is cut, and no new
    one is taken while it is 0; None: whole. ``cuts``: how many times it cuts before it is whole again, None: for ever.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.cut_after: int | None = None
        self.cuts: int | None = None
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                inner, _address = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            if self.cut_after == 0 and self._one_cut():
                inner.close()
                continue
            outer = socket.create_connection(("127.0.0.1", self.target))
            self._open |= {inner, outer}
            threading.Thread(target=self._relay, args=(inner, outer, False), daemon=True).start()
            threading.Thread(target=self._relay, args=(outer, inner, True), daemon=True).start()

    def _one_cut(self) -> bool:
        if self.cuts is not None:
            if self.cuts == 0:
                self.cut_after = None
                return False
            self.cuts -= 1
        return True

    def _relay(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        came = 0
        try:
            while data := source.recv(65536):
                came += len(data)
                if counted and self.cut_after is not None and came > self.cut_after and self._one_cut():
                    target.sendall(data[: max(0, self.cut_after - (came - len(data)))])
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            self._open.discard(end)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        for end in (self._listening, *list(self._open)):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits on it; closing alone would not
            end.close()
