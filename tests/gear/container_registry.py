"""A real registry of images on loopback (Debian's docker-registry), with a user and a password."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import bcrypt

from tests.gear.docker import missing

USER, PASSWORD = "someone", "correct-horse"


class Registry:
    """``address`` is host:port. Everything that is pushed lies below ``folder``."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("docker-registry")
        if program is None:
            missing("docker-registry is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{taken.getsockname()[1]}"
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (folder / "htpasswd").write_text(f"{USER}:{hashed}\n")
        self.log = folder / "registry.log"
        (folder / "config.yml").write_text(
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self.address}', secret: x}}\n"
            f"auth: {{htpasswd: {{realm: atelier, path: {folder / 'htpasswd'}}}}}\n"
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(program), "serve", str(folder / "config.yml")], stdout=log, stderr=subprocess.STDOUT
            )
        self._wait()

    def _wait(self) -> None:
        host, port = self.address.split(":")
        for _try in range(200):
            if self.process.poll() is not None:
                break
            with socket.socket() as client:
                client.settimeout(1)
                if client.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"docker-registry did not start: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
