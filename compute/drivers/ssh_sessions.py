"""Sessions on a connection: scripts, a shell that is kept open, and SFTP.

A server takes ten at once by default, so there is one for SFTP, one for the shell, and a few for scripts; whoever comes
late waits. What is run reaches ``sh`` through its input: the command line alone is read by the login's own shell,
which may be any, and which may print what it likes before (a banner in .bashrc too): only what follows a marker counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.sftp import start_sftp_client
from django.utils.translation import gettext as _

from compute.drivers.ssh_login import SYSTEM, SshProblem

if TYPE_CHECKING:
    from compute.drivers.ssh import Link

# One line without quotes, backslashes and exclamation marks inside: bash, zsh, fish and csh read it alike. ``dd`` takes
# not one byte more than it should, so what follows is the script's own input.
COMMAND = """exec sh -c 'IFS= read -r n && eval "$(dd bs=1 count=$n 2>/dev/null)"'"""
AT_ONCE = 6  # scripts
OUTPUT_LIMIT = 32 << 20
ERROR_LIMIT = 1 << 16
SFTP_SERVERS = """
for f in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server \
 /usr/libexec/sftp-server /usr/lib/sftp-server /usr/libexec/ssh/sftp-server /usr/local/libexec/sftp-server \
 "$(command -v sftp-server)"; do
  [ -x "$f" ] && echo found && exec "$f"
done
echo none
"""
SHELL = """
while IFS= read -r t; do IFS= read -r c; eval "$c" 2>/dev/null </dev/null; printf '\\n%s\\n' "$t"; done
"""


@dataclass(frozen=True)
class Done:
    """How a script ended. ``code``: None where it was killed."""

    code: int | None
    out: bytes
    err: str


class NoShell(SshProblem):
    """The login gives no shell of the kind that Linux machines have. ``output``: what it said instead."""

    def __init__(self, output: str) -> None:
        text = " ".join(output.split())[:300]
        super().__init__(
            SYSTEM,
            _("No shell answers there: %(output)s") % {"output": text or _("the session was closed at once.")},
            _("A Linux machine is needed, and a login that may run commands."),
        )
        self.output = output


class Sessions:
    """The sessions of one connection. Everything here runs in the connection's loop."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(AT_ONCE)
        self.shell: asyncssh.SSHClientProcess[bytes] | None = None
        self.shell_turn = asyncio.Lock()
        self.sftp_turn = asyncio.Lock()
        self.client: asyncssh.SFTPClient | None = None
        self.handles: dict[bytes, Any] = {}  # open files of the SFTP session, by path

    def forget(self) -> None:
        """The connection is gone, and all of this with it."""
        self.__init__()  # type: ignore[misc]

    async def start(self, connection: asyncssh.SSHClientConnection, script: str) -> Any:
        """A process that runs the script, its output read up to the marker."""
        mark = secrets.token_hex(8)
        text = f"printf '\\n%s\\n' {mark}\nprintf '\\n%s\\n' {mark} >&2\n{script}".encode()
        process = await self._open(connection)
        try:
            with contextlib.suppress(OSError):  # it has ended already, and says why
                process.stdin.write(b"%d\n" % len(text) + text)
            try:
                await process.stdout.readuntil(f"\n{mark}\n".encode())
            except asyncio.IncompleteReadError as error:
                said = error.partial + await _limited(process.stderr, ERROR_LIMIT)
                raise NoShell(said.decode("utf-8", "replace")) from None
        except BaseException:
            process.close()
            raise
        process.atelier_mark = mark
        return process

    async def _open(self, connection: asyncssh.SSHClientConnection) -> Any:
        for pause in (0.1, 0.3, 1.0, 3.0, None):
            try:
                return await connection.create_process(COMMAND, encoding=None)
            except asyncssh.ChannelOpenError:
                # As many sessions are open as the server takes; of ours, some will be over soon.
                if pause is None or connection.is_closed():
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def run(self, connection: asyncssh.SSHClientConnection, script: str, input: bytes = b"") -> Done:
        async with self.slots:
            process = await self.start(connection, script)
            try:
                with contextlib.suppress(OSError):  # it may have ended already
                    process.stdin.write(input)
                    process.stdin.write_eof()
                return await self.finish(process)
            finally:
                process.close()

    async def finish(self, process: Any) -> Done:
        """What a started process says until its end."""
        out, err = await asyncio.gather(
            _limited(process.stdout, OUTPUT_LIMIT), _limited(process.stderr, ERROR_LIMIT), return_exceptions=False
        )
        process.close()
        await process.wait_closed()
        if process.exit_status is None and process.exit_signal is None:
            raise asyncssh.ConnectionLost("Connection lost")
        said = err.split(f"\n{process.atelier_mark}\n".encode(), 1)[-1].decode("utf-8", "replace").strip()
        return Done(process.exit_status if process.exit_signal is None else None, out, said)

    async def open_pipe(self, connection: asyncssh.SSHClientConnection, script: str) -> tuple[Any, asyncio.Semaphore]:
        """A started process, and what to release once it is over."""
        slots = self.slots
        await slots.acquire()
        try:
            return await self.start(connection, script), slots
        except BaseException:
            slots.release()
            raise

    async def ask(self, connection: asyncssh.SSHClientConnection, line: str) -> bytes:
        async with self.shell_turn:
            try:
                if self.shell is None or self.shell.is_closing():
                    self.shell = await self.start(connection, SHELL)
                mark = secrets.token_hex(8)
                self.shell.stdin.write(f"{mark}\n{line}\n".encode())
                end = f"\n{mark}\n".encode()
                answer = await self.shell.stdout.readuntil(end)
                return bytes(answer[: -len(end)])
            except BaseException as error:
                # Whatever is still under way there would be taken for the next one's answer.
                if self.shell is not None:
                    self.shell.close()
                self.shell = None
                if isinstance(error, (asyncio.IncompleteReadError, BrokenPipeError)):
                    raise asyncssh.ConnectionLost("Connection lost") from None
                raise

    async def sftp(self, connection: asyncssh.SSHClientConnection) -> asyncssh.SFTPClient:
        async with self.sftp_turn:
            if self.client is None:
                self.client = await self._start_sftp(connection)
            return self.client

    async def _start_sftp(self, connection: asyncssh.SSHClientConnection) -> asyncssh.SFTPClient:
        """As a command of ours behind a marker: what a login shell prints would be read as SFTP in its subsystem."""
        process = await self.start(connection, SFTP_SERVERS)
        if (await process.stdout.readline()).strip() == b"found":
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(10):
                return await start_sftp_client(
                    connection, loop, "strict", process.stdout, process.stdin, None, "strict", 3
                )
        process.close()
        async with asyncio.timeout(10):
            return await connection.start_sftp_client(path_encoding=None, sftp_version=3)

    def drop_sftp(self) -> None:
        client, self.client = self.client, None
        self.handles.clear()
        if client is not None:
            client.exit()


async def _limited(reader: Any, limit: int) -> bytes:
    """Everything up to its end; what is beyond the limit is dropped."""
    parts: list[bytes] = []
    size = 0
    while chunk := await reader.read(1 << 16):
        if size < limit:
            parts.append(chunk)
            size += len(chunk)
    return b"".join(parts)[:limit]


class Pipe:
    """A script that is under way, for a caller in another thread. It is ended with ``finish`` or ``close``."""

    def __init__(self, link: Link, started: tuple[Any, asyncio.Semaphore]) -> None:
        self.link, (self.process, self.slots) = link, started
        self.open = True

    def read_line(self) -> bytes:
        async def go(_connection: Any) -> bytes:
            return bytes(await self.process.stdout.readline())

        return self.link.call(go)

    def write(self, data: bytes) -> bool:
        """Whether the script still reads."""

        async def go(_connection: Any) -> bool:
            try:
                self.process.stdin.write(data)
                await self.process.stdin.drain()
            except OSError:
                return False
            return not self.process.is_closing()

        return self.link.call(go)

    def finish(self, timeout: float = 120.0) -> Done:
        async def go(_connection: Any) -> Done:
            with contextlib.suppress(OSError):
                self.process.stdin.write_eof()
            return await self.link.sessions.finish(self.process)

        try:
            return self.link.call(go, timeout)
        finally:
            self.close()

    def close(self) -> None:
        if self.open:
            self.open = False
            self.link.in_loop(self._release)

    def _release(self) -> None:
        self.process.close()
        self.slots.release()

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
