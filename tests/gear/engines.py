"""A Docker engine of a test's own: to be killed, stopped, frozen and filled up, while the machine's own goes on.

It runs in a network namespace of its own, so that neither its bridge nor its rules meet those of the other engine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import DockerException
from requests import RequestException

from tests.gear.docker import SOCKET, missing, test_image
from tests.stack import wait_until

READY_S = 60.0


class OwnEngine:
    """``socket`` is where it listens. ``size_mb``: of a disk of its own for images and containers, 0 for none."""

    def __init__(self, *, live_restore: bool = False, size_mb: int = 0) -> None:
        # Short: the path of a socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="atelier-engine-"))
        self.socket = str(self.folder / "docker.sock")
        self.live_restore = live_restore
        self.size_mb = size_mb
        self.process: subprocess.Popen[bytes] | None = None
        self.network: subprocess.Popen[bytes] | None = None

    # The whole of it.

    def __enter__(self) -> OwnEngine:
        if os.getuid() != 0 or shutil.which("dockerd") is None or shutil.which("nsenter") is None:
            missing("An engine of the test's own needs dockerd, nsenter and root")
        try:
            (self.folder / "data").mkdir()
            if self.size_mb:
                self._own_disk()
            self.network = subprocess.Popen(["unshare", "--net", "sleep", "86400"], stdin=subprocess.DEVNULL)
            wait_until("a network namespace", self._network_there)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        if self.network is not None:
            with contextlib.suppress(AssertionError):
                self.start()
                self.empty()
            self.stop()
            self.network.kill()
            self.network.wait()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{self.folder}/"):  # an engine that was killed leaves its own
                subprocess.run(["umount", "-l", line.split()[1]], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _own_disk(self) -> None:
        disk = self.folder / "disk"
        with disk.open("wb") as handle:
            handle.truncate(self.size_mb << 20)  # no block of it is taken before it is written
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(disk)], check=True)
        subprocess.run(["mount", "-o", "loop", str(disk), str(self.folder / "data")], check=True)

    def fill_disk(self) -> Path:
        """Take all that is free on its disk; the file that is to be removed to set it free again."""
        path = self.folder / "data" / "fill"
        with path.open("wb") as handle:
            step = 64 << 20
            while step >= 1 << 12:
                try:
                    os.posix_fallocate(handle.fileno(), os.fstat(handle.fileno()).st_size, step)
                except OSError:
                    step //= 2
        return path

    def _network_there(self) -> bool:
        assert self.network is not None
        own, other = (Path(f"/proc/{pid}/ns/net").readlink() for pid in ("self", self.network.pid))
        return own != other

    # Its process.

    def _command(self) -> list[str]:
        assert self.network is not None
        where = {
            "--data-root": self.folder / "data",
            "--exec-root": self.folder / "exec",
            "--pidfile": self.folder / "docker.pid",
            "-H": f"unix://{self.socket}",
        }
        words = [str(word) for pair in where.items() for word in pair]
        settings = ["--live-restore"] if self.live_restore else []
        return ["nsenter", f"--net=/proc/{self.network.pid}/ns/net", "dockerd", *words, *settings]

    def start(self) -> None:
        """Start it, and wait until it answers. After a kill it may need a second try: a file of its pid is left."""
        for _attempt in range(3):
            if self.answers():
                return
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            end = time.monotonic() + READY_S
            while time.monotonic() < end and self.process.poll() is None:
                if self.answers():
                    return
                time.sleep(0.1)
            self.kill()
        raise AssertionError(f"the engine does not start:\n{self.log()[-3000:]}")

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def answers(self) -> bool:
        try:
            return bool(self.client(5).ping())
        except (DockerException, RequestException, OSError):
            return False

    def client(self, timeout: int = 60) -> APIClient:
        return APIClient(base_url=f"unix://{self.socket}", version="1.40", timeout=timeout)

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """``kill -9`` of the engine alone. Its containers live on."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def stop(self) -> None:
        """As a machine stops it. Without live-restore it ends its containers first."""
        self.signal(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.kill()

    # What it has.

    def empty(self) -> None:
        """Remove its containers."""
        client = self.client()
        for each in client.containers(all=True):
            with contextlib.suppress(DockerException):
                client.remove_container(each["Id"], force=True, v=True)

    def load(self) -> str:
        """The test image, taken over from the machine's own engine."""
        tag = test_image()
        save = ["docker", "-H", f"unix://{SOCKET}", "save", tag]
        with subprocess.Popen(save, stdout=subprocess.PIPE) as saving:
            load = ["docker", "-H", f"unix://{self.socket}", "load", "-q"]
            subprocess.run(load, stdin=saving.stdout, check=True, capture_output=True, timeout=240)
        return tag


def engine_of_its_own(**settings: Any) -> OwnEngine:
    """Skips, or fails with CI=true, where no engine can be started."""
    if shutil.which("dockerd") is None:
        pytest.importorskip("docker")
        missing("There is no dockerd on this machine")
    return OwnEngine(**settings)
