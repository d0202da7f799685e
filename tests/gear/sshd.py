"""A real OpenSSH server on a loopback port, with host keys, a configuration and users of its own.

    with Sshd() as server:
        user = server.user(groups=["docker"], banner=True)
        Login("127.0.0.1", server.port, user.name, private_key=user.key)

Users are users of this machine, made for the test and taken away after it, so it needs root; where it is not given,
tests skip, and with CI=true they fail.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from compute.drivers.ssh_login import Login
from tests.gear.docker import missing
from tests.stack import free_port, wait_until

PASSWORD = "correct-horse-9"


@functools.cache
def sshd_binary() -> str:
    binary = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if binary is None or os.getuid() != 0 or shutil.which("useradd") is None:
        missing("An OpenSSH server cannot be started: that needs sshd and root")
    return str(binary)


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "", *more: str) -> str:
    """A new private key, in OpenSSH's format; its public half lies beside it as <path>.pub."""
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-f", str(path), *more]
    subprocess.run(command, check=True, capture_output=True)
    return path.read_text()


@dataclass
class User:
    name: str
    home: Path
    key: str  # a private key that it may sign in with
    uid: int


class Sshd:
    """The server. ``options`` are further lines of its configuration."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.binary = sshd_binary()
        # Folders of tests are for their owner alone; the users of this server are others.
        self.folder = Path(tempfile.mkdtemp(prefix="atelier-sshd-"))
        self.folder.chmod(0o755)
        self.port = port or free_port()
        self.options = options
        self.users: list[User] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.host_keys = ["ed25519", "ecdsa", "rsa"]
        for kind in self.host_keys:
            keygen(self.folder / f"host_{kind}", kind)

    # The process.

    def start(self) -> None:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        lines = [
            f"Port {self.port}", "ListenAddress 127.0.0.1", "PidFile none", "UsePAM no", "StrictModes no",
            "PrintMotd no", "LogLevel VERBOSE", "PermitRootLogin yes", "MaxStartups 100",
            f"AuthorizedKeysFile {self.folder}/keys_%u",
            "Subsystem sftp /usr/lib/openssh/sftp-server",
            *(f"HostKey {self.folder}/host_{kind}" for kind in self.host_keys),
        ]  # fmt: skip
        # The first value of a setting counts.
        (self.folder / "sshd_config").write_text("\n".join([*self.options, *lines]) + "\n")
        before = len(self.log())
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until("sshd listens", lambda: f"on 127.0.0.1 port {self.port}" in self.log()[before:] or self._ended(), 30)

    def _ended(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(self.log())
        return False

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def logins(self) -> int:
        """How many times somebody has signed in."""
        return len(re.findall(r"^Accepted (?:publickey|password|keyboard)\S* for", self.log(), re.MULTILINE))

    def children(self) -> list[int]:
        """Every process below the server, its sessions' commands too."""
        assert self.process is not None
        found, level = [], [self.process.pid]
        while level:
            below = []
            for pid in level:
                with contextlib.suppress(OSError):
                    for task in Path(f"/proc/{pid}/task").iterdir():
                        below += [int(word) for word in (task / "children").read_text().split()]
            found += below
            level = below
        return found

    def connections(self) -> list[int]:
        """The processes of the server that serve connections, monitors before the rest."""
        names = ((pid, Path(f"/proc/{pid}/comm")) for pid in self.children())
        found = []
        for pid, path in names:
            with contextlib.suppress(OSError):
                if path.read_text().strip().startswith("sshd"):
                    found.append(pid)
        return found

    def cut(self) -> None:
        """Every connection ends at once; the server takes new ones."""
        for pid in self.connections():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def freeze(self) -> None:
        """The machine says nothing more and takes nothing: the server and all that serves connections stand still."""
        assert self.process is not None
        for pid in [self.process.pid, *self.children()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        for pid in [self.process.pid, *self.children()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """The server and its connections end. It may be started again on the same port."""
        if self.process is not None:
            self.thaw()
            self.cut()
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def __enter__(self) -> Sshd:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.stop()
        for user in self.users:
            subprocess.run(["pkill", "-KILL", "-u", str(user.uid)], check=False)
            subprocess.run(["userdel", "-f", user.name], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    # Who may sign in.

    def user(self, *, groups: list[str] | None = None, shell: str = "/bin/bash", banner: bool = False) -> User:
        """A new user of this machine with a key and PASSWORD. ``banner``: its shell prints at every start."""
        name = f"atl{os.urandom(4).hex()}"
        home = self.folder / name
        command = ["useradd", "--no-log-init", "-d", str(home), "-M", "-s", shell, "-p", _crypted()]
        subprocess.run([*command, *(["-G", ",".join(groups)] if groups else []), name], check=True, capture_output=True)
        home.mkdir(mode=0o755)
        if banner:
            (home / ".bashrc").write_text("echo 'Welcome to the machine!'; echo 'And on stderr' >&2\n")
        account = subprocess.run(["id", "-u", name], check=True, capture_output=True, text=True)
        user = User(name, home, keygen(self.folder / f"key_{name}"), int(account.stdout))
        self.users.append(user)
        self.allow(user, (self.folder / f"key_{name}.pub").read_text())
        for path in [home, *home.iterdir()]:
            os.chown(path, user.uid, user.uid)
        return user

    def allow(self, user: User, line: str) -> None:
        """One more public key of this user."""
        with (self.folder / f"keys_{user.name}").open("a") as keys:
            keys.write(line.strip() + "\n")
        (self.folder / f"keys_{user.name}").chmod(0o644)

    def host_key(self, kind: str = "ed25519") -> str:
        return " ".join((self.folder / f"host_{kind}.pub").read_text().split()[:2])

    def login(self, user: User, **changed: Any) -> Login:
        """How this user signs in with its key, the host key confirmed."""
        values: dict[str, Any] = {"private_key": user.key, "host_key": self.host_key(), **changed}
        return Login("127.0.0.1", self.port, user.name, **values)


@functools.cache
def _crypted() -> str:
    done = subprocess.run(["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Gate:
    """A port in front of a server that can be shut and opened: a network that fails without a word."""

    def __init__(self, port: int) -> None:
        import socket

        self.to = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.open = threading.Event()
        self.open.set()
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        import socket

        with contextlib.suppress(OSError):
            while True:
                near, _address = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
                self.sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: Any, target: Any) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.open.wait()
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(2)

    def close(self) -> None:
        self.open.set()
        self.listener.close()
        for end in self.sockets:
            end.close()
