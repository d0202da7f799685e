"""A Docker engine for the tests of a machine that has the program and nobody who started it: a build server's."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from studio.bootstrap.console import say

SOCKET = Path("/var/run/docker.sock")
PID_FILE = Path("/var/run/docker.pid")
START_SECONDS = 60


def answers(path: Path = SOCKET) -> bool:
    """Whether an engine says OK to a ping."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(str(path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return b"200 OK" in connection.recv(256)
    except OSError:
        return False


class Engine:
    """Started only where none answers; ``stop`` ends only what was started here, and says nothing."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.log = Path(tempfile.gettempdir()) / f"atelier-dockerd-{os.getpid()}.log"

    def start(self) -> bool:
        """Whether an engine answers afterwards."""
        if answers():
            return True
        if os.geteuid() != 0 or shutil.which("dockerd") is None:
            return False
        if self._try() or ("pid file found" in self._words() and self._try_without_pid_file()):
            say("The Docker engine was started for the tests.")
            return True
        say(f"The Docker engine does not start: {self._words()[-1500:]}")
        return False

    def _words(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _try(self) -> bool:
        with self.log.open("wb") as words:
            self.process = subprocess.Popen(
                ["dockerd"], stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT, start_new_session=True
            )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            if answers():
                return True
            time.sleep(0.1)
        self.stop()
        return False

    def _try_without_pid_file(self) -> bool:
        """An engine that was killed leaves its number behind, which another process may have by now."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(PID_FILE.read_text())
            if Path(f"/proc/{pid}/comm").read_text().strip() != "dockerd":
                PID_FILE.unlink()
        return self._try()

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None
