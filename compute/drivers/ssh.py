"""One multiplexed SSH connection per machine, login and process, shared by all who use it.

It lives in the event loop of a thread of its own; everybody else calls from their threads and waits, never without an
end. A dead peer is noticed by keep-alives in seconds, whoever waits for it is told so, and the next use connects anew;
those who come meanwhile wait for that same attempt, and after a failure the next one has to wait a little.

Keys and passwords stay in memory. Nothing is read of the files of the user that the studio runs as (~/.ssh), nor is an
agent asked. Until the machine has shown the confirmed host key nothing is said to it, not even the user's name.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
from django.utils.translation import gettext as _

from compute.drivers.ssh_login import (
    CONNECT,
    Login,
    SshProblem,
    public_line,
    reach,
    read_key,
    refusal,
    said,
    unknown_host_key,
)
from compute.drivers.ssh_sessions import Done, Pipe, Sessions

KEEPALIVE_S = 2
KEEPALIVE_COUNT = 3
CONNECT_S = 10.0
BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
CALL_S = 60.0
IDLE_S = 600.0  # after which a connection that nobody uses is closed
FAST_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"

T = TypeVar("T")
logging.getLogger("asyncssh").setLevel(logging.WARNING)

_guard = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process: a fork has none of its parent's threads
_links: dict[tuple[Any, ...], Link] = {}
_folders: dict[int, Path] = {}


def _loop() -> asyncio.AbstractEventLoop:
    with _guard:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="ssh", daemon=True).start()
            _loops.clear()
            _loops[os.getpid()] = loop
        return loop


def _sockets() -> Path:
    """A folder for this user alone; the paths of sockets must be short."""
    with _guard:
        folder = _folders.get(os.getpid())
        if folder is None:
            root = tempfile.gettempdir()
            _sweep(Path(root))
            root = root if len(root) < 40 else "/tmp"  # noqa: S108 - mkdtemp makes it for this user alone
            folder = _folders[os.getpid()] = Path(tempfile.mkdtemp(prefix=f"atelier-ssh-{os.getpid()}-", dir=root))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder


def _sweep(root: Path) -> None:
    """Take away what processes left that were killed."""
    for old in root.glob("atelier-ssh-*-*"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(old.name.split("-")[2])
            if old.stat().st_uid == os.getuid() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(old, ignore_errors=True)


def link(login: Login) -> Link:
    """The one connection of this process to that machine with that login; it connects at its first use."""
    identity = (os.getpid(), *login.identity)
    with _guard:
        found = _links.get(identity)
        if found is None:
            found = _links[identity] = Link(login)
        return found


class _Client(asyncssh.SSHClient):
    """Compares the host key, and tells when the connection is over."""

    def __init__(self, pinned: asyncssh.SSHKey | None) -> None:
        self.pinned = pinned
        self.offered = ""
        self.name = b""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.offered = public_line(key)
        return self.pinned is not None and key.public_data == self.pinned.public_data


class Link:
    """What may be done over the connection. Every method may be called from any thread and raises SshProblem,
    HostKeyUnknown or HostKeyChanged (all of them Unreachable) within bounded time."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self.memo: dict[str, Any] = {}  # what was learnt of the machine over this connection
        self.connects = 0
        self.sessions = Sessions()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._attempt: asyncio.Future[asyncssh.SSHClientConnection] | None = None
        self._failure: BaseException | None = None
        self._failures = 0
        self._not_before = 0.0
        self._used = time.monotonic()
        self._sockets: dict[str, str] = {}

    # For callers in their own threads.

    def call(self, make: Callable[[asyncssh.SSHClientConnection], Awaitable[T]], timeout: float = CALL_S) -> T:
        """The result of ``make(connection)``, run in the connection's loop."""
        future = asyncio.run_coroutine_threadsafe(self._bounded(make, timeout), _loop())
        try:
            return future.result(timeout + 3 * CONNECT_S)
        except BaseException as error:
            future.cancel()
            if isinstance(error, (Exception, asyncio.CancelledError)):
                raise said(self.login, error) from error
            raise

    def connect(self, *, fresh: bool = False) -> None:
        """Be connected. ``fresh``: try now, however short ago the last attempt failed."""
        if fresh:
            self._not_before = 0.0
        self.call(_nothing, CONNECT_S)

    def close(self) -> None:
        """End the connection; the next use makes another one."""

        async def end() -> None:
            if self._connection is not None:
                self._connection.close()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._connection.wait_closed(), 2)
                self._forget()

        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(end(), _loop()).result(5)

    @property
    def connected(self) -> bool:
        connection = self._connection
        return connection is not None and not connection.is_closed()

    @property
    def server_version(self) -> str:
        return str(self._connection.get_extra_info("server_version", "")) if self._connection is not None else ""

    def run(self, script: str, *, input: bytes = b"", timeout: float = CALL_S) -> Done:
        """Run a shell script there, whatever the login's shell is and prints by itself."""
        return self.call(lambda connection: self.sessions.run(connection, script, input), timeout)

    def pipe(self, script: str) -> Pipe:
        """A script there whose input and output the caller goes on with."""
        return Pipe(self, self.call(lambda connection: self.sessions.open_pipe(connection, script)))

    def ask(self, line: str, timeout: float = 20.0) -> bytes:
        """The output of a short command in the one shell that is kept open: no login, no new session."""
        return self.call(lambda connection: self.sessions.ask(connection, line), timeout)

    def sftp(self, make: Callable[[asyncssh.SFTPClient], Awaitable[T]], timeout: float = CALL_S) -> T:
        """The result of ``make(client)`` with the one SFTP session."""

        async def go(connection: asyncssh.SSHClientConnection) -> T:
            client = await self.sessions.sftp(connection)
            try:
                return await make(client)
            except asyncio.CancelledError:
                # Its one thread may hang in a file that never answers; another session goes on without it.
                self.sessions.drop_sftp()
                raise

        return self.call(go, timeout)

    def forward(self, socket: str) -> str:
        """The path of a socket here that leads to ``socket`` there: a path, or "host:port" as seen from there."""
        found = self._sockets.get(socket)
        if found is not None and self.connected:
            self._used = time.monotonic()
            return found
        return self.call(lambda connection: self._forward(connection, socket), 20.0)

    def in_loop(self, action: Callable[[], None]) -> None:
        _loop().call_soon_threadsafe(action)

    # In the loop.

    async def _bounded(self, make: Callable[[asyncssh.SSHClientConnection], Awaitable[T]], timeout: float) -> T:
        self._used = time.monotonic()
        connection = await self._connected()
        async with asyncio.timeout(timeout):
            return await make(connection)

    async def _connected(self) -> asyncssh.SSHClientConnection:
        if self._connection is not None:
            if not self._connection.is_closed():
                return self._connection
            self._forget()
        if self._attempt is None:
            if self._failure is not None and time.monotonic() < self._not_before:
                raise self._failure.with_traceback(None)
            self._attempt = asyncio.ensure_future(self._try())
        return await asyncio.shield(self._attempt)

    async def _try(self) -> asyncssh.SSHClientConnection:
        try:
            self._connection = await self._login()
        except Exception as error:
            self._not_before = time.monotonic() + BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
            self._failures += 1
            self._failure = error
            raise
        else:
            self._failure, self._failures = None, 0
            self.connects += 1
            asyncio.get_running_loop().call_later(IDLE_S, self._close_idle)
            return self._connection
        finally:
            self._attempt = None

    def _forget(self) -> None:
        self._connection = None
        self.sessions.forget()
        self.memo.clear()
        self._sockets.clear()

    def _close_idle(self) -> None:
        left = self._used + IDLE_S - time.monotonic()
        if self._connection is None or self._connection.is_closed():
            return
        if left > 0:
            asyncio.get_running_loop().call_later(left, self._close_idle)
        else:
            self._connection.close()

    async def _login(self) -> asyncssh.SSHClientConnection:
        login = self.login
        key = await asyncio.to_thread(read_key, login.private_key, login.passphrase) if login.private_key else None
        pinned = asyncssh.import_public_key(login.host_key) if login.host_key else None
        client = _Client(pinned)
        options: dict[str, Any] = {
            "port": login.port, "username": login.username, "config": None, "known_hosts": ([], [], []),
            "agent_path": None, "client_keys": [key] if key else None, "client_host_keysign": False,
            "client_host_keys": None, "gss_host": None, "x509_trusted_certs": None, "password": login.password or None,
            "keepalive_interval": KEEPALIVE_S, "keepalive_count_max": KEEPALIVE_COUNT, "connect_timeout": CONNECT_S,
            "login_timeout": CONNECT_S, "encryption_algs": FAST_CIPHERS, "client_factory": lambda: client,
            "server_host_key_algs": _host_key_algorithms(pinned),
        }  # fmt: skip
        try:
            async with asyncio.timeout(2 * CONNECT_S):
                return await asyncssh.connect(login.address, sock=await reach(login, CONNECT_S), **options)
        except asyncssh.HostKeyNotVerifiable:
            raise unknown_host_key(login, client.offered) from None
        except (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionResetError) as error:
            if pinned is None or client.offered or not await self._lacks_key(options, error):
                raise
            raise unknown_host_key(login, await self._shown(options, None)) from None
        except asyncssh.PermissionDenied:
            raise refusal(login, key, await self._methods(options)) from None

    async def _lacks_key(self, options: dict[str, Any], error: Exception) -> bool:
        """Whether the machine has no host key of the confirmed one's kind any more. Some servers say so by ending the
        connection at once, which may have other reasons: then it has to happen again, and another kind has to work."""
        if isinstance(error, asyncssh.KeyExchangeFailed):
            return True
        wanted = options["server_host_key_algs"]
        return bool(await self._shown(options, None)) and not await self._shown(options, wanted)

    async def _shown(self, options: dict[str, Any], algorithms: list[str] | None) -> str:
        """The host key that the machine shows when asked for one of these kinds; nothing else is said to it."""
        client = _Client(None)
        chosen = {
            **options,
            "server_host_key_algs": algorithms or _host_key_algorithms(None),
            "client_factory": lambda: client,
        }
        with contextlib.suppress(asyncssh.Error, OSError):
            async with asyncio.timeout(CONNECT_S):
                sock = await reach(self.login, CONNECT_S)
                (await asyncssh.connect(self.login.address, sock=sock, **chosen)).close()
        return client.offered

    async def _methods(self, options: dict[str, Any]) -> list[str]:
        """What the server would take of this user, to say so."""
        names = ("port", "username", "config", "server_host_key_algs")
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CONNECT_S):
                chosen = {name: options[name] for name in names}
                sock = await reach(self.login, CONNECT_S)
                return list(await asyncssh.get_server_auth_methods(self.login.address, sock=sock, **chosen))
        return []

    async def _forward(self, connection: asyncssh.SSHClientConnection, socket: str) -> str:
        if socket in self._sockets:
            return self._sockets[socket]
        host, colon, port = ("", "", "") if socket.startswith("/") else socket.rpartition(":")
        try:
            # Try it: a forwarder alone cannot say why its connections are refused.
            opened = connection.open_connection(host, int(port)) if colon else connection.open_unix_connection(socket)
            _reader, writer = await opened
            writer.close()
        except asyncssh.ChannelOpenError as error:
            raise SshProblem(
                CONNECT,
                _("%(host)s did not lead to %(socket)s: %(error)s.")
                % {"host": self.login, "socket": socket, "error": error},
                _("The engine has to run there, %(user)s needs the right to use its socket, and the SSH server must "
                  "allow forwarding: AllowStreamLocalForwarding and AllowTcpForwarding in sshd_config.")
                % {"user": self.login.username},
            ) from None  # fmt: skip
        if socket not in self._sockets:  # another one may have come first
            # The same after a reconnection, so that the clients of what listens there stay good.
            name = hashlib.sha256(repr((self.login.identity, socket)).encode()).hexdigest()[:16]
            path = str(_sockets() / name)
            if colon:
                await connection.forward_local_path_to_port(path, host, int(port))
            else:
                await connection.forward_local_path(path, socket)
            self._sockets[socket] = path
        return self._sockets[socket]


def _host_key_algorithms(pinned: asyncssh.SSHKey | None) -> list[str]:
    """Plain keys only; of a machine with several keys, the kind of the confirmed one."""
    if pinned is not None:
        return [name.decode() for name in pinned.sig_algorithms if not name.decode().endswith((".com", "@ssh.com"))]
    return [
        "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512",
        "rsa-sha2-256", "ssh-ed448",
    ]  # fmt: skip


async def _nothing(connection: asyncssh.SSHClientConnection) -> None:
    pass


__all__ = ["Done", "Link", "Login", "Pipe", "SshProblem", "link"]
