"""The one connection: who may open it, what its errors say, how many share it, and what a break does to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from compute.drivers import remote_host, ssh
from compute.drivers.base import HostKeyChanged, HostKeyUnknown, NotFound, Unreachable
from compute.drivers.remote_tree import read_stream, walk
from compute.drivers.ssh import Link, Login, link
from compute.drivers.ssh_login import SshProblem, public_line, read_key
from compute.drivers.ssh_sessions import NoShell
from tests.gear.sshd import PASSWORD, Gate, Sshd, User, keygen
from tests.stack import free_port, wait_until

pytestmark = pytest.mark.services

SHELLS = [
    path
    for name in ("bash", "dash", "zsh", "fish", "csh", "tcsh")
    if (path := shutil.which(name))
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture(scope="module")
def user(server: Sshd) -> User:
    return server.user()


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    yield
    for each in list(ssh._links.values()):
        each.close()
    ssh._links.clear()


def problem(login: Login) -> SshProblem:
    with pytest.raises(SshProblem) as caught:
        link(login).connect(fresh=True)
    return caught.value


# Signing in.


class TestSigningIn:
    def test_key(self, server: Sshd, user: User) -> None:
        assert link(server.login(user)).run("id -un").out.decode().strip() == user.name

    @pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
    def test_kinds_of_keys_and_formats(self, server: Sshd, user: User, tmp_path: Path, kind: str) -> None:
        formats = [()] if kind == "ed25519" else [(), ("-m", "PEM"), ("-m", "PKCS8")]
        for number, more in enumerate(formats):
            for passphrase in ("", "open sesame"):
                name = f"{kind}-{number}-{bool(passphrase)}"
                text = keygen(tmp_path / name, kind, passphrase, *more)
                server.allow(user, (tmp_path / f"{name}.pub").read_text())
                assert link(server.login(user, private_key=text, passphrase=passphrase)).run("true").code == 0

    def test_password(self, server: Sshd, user: User) -> None:
        assert link(server.login(user, private_key="", password=PASSWORD)).run("true").code == 0

    def test_windows_line_ends_and_indents(self, server: Sshd, user: User) -> None:
        pasted = "\r\n" + user.key.replace("\n", "\r\n").strip()
        assert link(server.login(user, private_key=pasted)).run("true").code == 0

    def test_nobody_reads_the_files_of_the_studios_own_user(
        self, server: Sshd, user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "config").write_text("Host *\n Port 1\n ProxyCommand false\n")
        (tmp_path / ".ssh" / "id_ed25519").write_text(user.key)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert link(server.login(user)).run("true").code == 0
        assert problem(server.login(user, private_key="", password="wrong")).code == "login"

    def test_secrets_are_in_no_text(self, server: Sshd, user: User, caplog: pytest.LogCaptureFixture) -> None:
        login = server.login(user, password="not-the-one-9", private_key="")
        with caplog.at_level(logging.DEBUG):
            text = repr(login) + str(login) + repr(login.identity) + str(problem(login)) + repr(server.login(user))
        assert "not-the-one-9" not in text + caplog.text
        assert user.key[100:200] not in text


class TestRefusedLogins:
    def test_wrong_password(self, server: Sshd, user: User) -> None:
        error = problem(server.login(user, private_key="", password="wrong"))
        assert (error.code, error.field) == ("login", "password")
        assert f"does not take this password of {user.name}" in str(error)

    def test_unknown_key(self, server: Sshd, user: User, tmp_path: Path) -> None:
        text = keygen(tmp_path / "other")
        error = problem(server.login(user, private_key=text))
        assert (error.code, error.field) == ("login", "private_key")
        assert public_line(read_key(text, "")) in error.hint, "the line that has to be added there"

    def test_neither(self, server: Sshd, user: User, tmp_path: Path) -> None:
        error = problem(server.login(user, private_key=keygen(tmp_path / "other"), password="wrong"))
        assert "neither" in str(error)

    def test_nothing_given(self, server: Sshd, user: User) -> None:
        error = problem(server.login(user, private_key=""))
        assert "Give a password or a private key" in error.hint

    def test_password_where_only_keys_are_taken(self, tmp_path: Path) -> None:
        with Sshd("PasswordAuthentication no", "KbdInteractiveAuthentication no") as strict:
            user = strict.user()
            error = problem(strict.login(user, private_key="", password=PASSWORD))
            assert "takes no passwords; it takes: publickey" in str(error)
            assert error.field == "private_key"

    @pytest.mark.parametrize(
        ("text", "passphrase", "words", "field"),
        [
            ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "", "PuTTY", "private_key"),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9 me@here", "", "public key", "private_key"),
            ("-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", "", "public key", "private_key"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n", "", "cannot be read", "private_key"),
            ("hello", "", "cannot be read", "private_key"),
            ("LOCKED", "", "locked with a passphrase", "passphrase"),
            ("LOCKED", "wrong", "does not open", "passphrase"),
            ("LOCKED-PEM", "", "locked with a passphrase", "passphrase"),
            ("LOCKED-PEM", "wrong", "does not open", "passphrase"),
        ],
    )
    def test_keys_that_cannot_be_used(self, tmp_path: Path, text: str, passphrase: str, words: str, field: str) -> None:
        if text.startswith("LOCKED"):
            more = ("-m", "PEM") if text.endswith("PEM") else ()
            text = keygen(tmp_path / "locked", "rsa" if more else "ed25519", "the right one", *more)
        with pytest.raises(SshProblem, match=words) as caught:
            read_key(text, passphrase)
        assert (caught.value.code, caught.value.field) == ("login", field)
        assert caught.value.hint

    def test_keyboard_interactive(self, user: User) -> None:
        """Many machines ask for the password in a dialog of their own."""

        class Asking(asyncssh.SSHServer):
            def password_auth_supported(self) -> bool:
                return False

            def kbdint_auth_supported(self) -> bool:
                return True

            def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
                return "", "", "", [("Password: ", False)]

            def validate_kbdint_response(self, username: str, responses: Any) -> bool:
                return list(responses) == [PASSWORD]

        with Fake(server_factory=Asking) as fake:
            link(fake.login(password=PASSWORD)).connect()
            assert "this password" in str(problem(fake.login(password="wrong")))


class TestNobodyThere:
    def test_no_such_machine(self) -> None:
        error = problem(Login("no-such-machine.invalid", 22, "ann", "x"))
        assert (error.code, error.field) == ("connect", "address")
        assert "no machine named no-such-machine.invalid" in str(error)

    @pytest.mark.parametrize("address", ["169.254.169.254", "2852039166", "::ffff:169.254.169.254", "0.0.0.0"])
    def test_where_the_studio_does_not_go(self, address: str) -> None:
        """What clouds answer with the machine's own credentials; loopback and private networks are for whoever set up
        the studio to close."""
        error = problem(Login(address, 80, "anyone", "secret"))
        assert (error.code, error.field) == ("connect", "address")
        assert "makes no connections to" in str(error) and "169.254" in str(error) or address == "0.0.0.0"

    def test_what_the_administrator_closed(self, settings: Any, server: Sshd, user: User) -> None:
        settings.ATELIER_DATA_DENY = ["127.0.0.0/8"]
        assert "makes no connections to 127.0.0.1" in str(problem(Login("127.0.0.1", server.port, user.name, "x")))
        settings.ATELIER_DATA_ALLOW = ["127.0.0.1"]
        link(server.login(user)).connect()

    def test_refused(self) -> None:
        error = problem(Login("127.0.0.1", free_port(), "ann", "x"))
        assert (error.code, error.field) == ("connect", "port")
        assert "refused the connection" in str(error)

    def test_silent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ssh, "CONNECT_S", 0.3)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            error = problem(Login("127.0.0.1", listener.getsockname()[1], "ann", "x"))
        assert "did not answer in time" in str(error)

    def test_something_else(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer() -> None:
                for _time in range(2):
                    peer, _address = listener.accept()
                    peer.sendall(b"SSH-1.5-old\r\n")
                    peer.close()

            threading.Thread(target=answer, daemon=True).start()
            assert problem(Login("127.0.0.1", listener.getsockname()[1], "ann", "x")).code == "connect"


# The host key.


class TestHostKey:
    def test_unknown_and_nothing_is_said_to_it(self, server: Sshd, user: User) -> None:
        before = server.log()
        with pytest.raises(HostKeyUnknown) as caught:
            link(server.login(user, host_key="", password=PASSWORD)).connect()
        assert not isinstance(caught.value, HostKeyChanged)
        assert caught.value.key == server.host_key("ed25519")
        wait_until("the server has seen the end", lambda: "Connection" in server.log()[len(before) :])
        assert user.name not in server.log()[len(before) :], "not even the user's name"

    @pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
    def test_every_key_of_the_machine_may_be_the_confirmed_one(self, server: Sshd, user: User, kind: str) -> None:
        assert link(server.login(user, host_key=server.host_key(kind))).run("true").code == 0

    @pytest.mark.parametrize("kind", ["ed25519", "rsa"])
    def test_changed(self, server: Sshd, user: User, tmp_path: Path, kind: str) -> None:
        keygen(tmp_path / "old", kind)
        before = server.logins
        with pytest.raises(HostKeyChanged) as caught:
            link(server.login(user, host_key=(tmp_path / "old.pub").read_text())).connect()
        assert caught.value.key == server.host_key(kind)
        assert str(caught.value).count("SHA256:") == 2
        assert "somebody stands between" in str(caught.value)
        assert server.logins == before

    def test_changed_to_another_kind(self, tmp_path: Path) -> None:
        with Sshd() as server:
            user = server.user()
            pinned = server.host_key("rsa")
            server.stop()
            server.host_keys = ["ed25519"]
            server.start()
            with pytest.raises(HostKeyChanged) as caught:
                link(server.login(user, host_key=pinned)).connect()
            assert caught.value.key == server.host_key("ed25519")
            assert server.logins == 0

    def test_changed_while_units_run(self, tmp_path: Path) -> None:
        """A connection that is cut and made again looks at the key again."""
        with Sshd() as server:
            login = server.login(server.user())
            assert link(login).run("true").code == 0
            server.stop()
            (server.folder / "host_ed25519").unlink()
            keygen(server.folder / "host_ed25519")
            server.start()
            with pytest.raises(HostKeyChanged):
                wait_until("it has noticed", lambda: link(login).connect(fresh=True))


# What runs there.


class TestRunning:
    @pytest.mark.parametrize("shell", SHELLS, ids=os.path.basename)
    @pytest.mark.parametrize("banner", [False, True], ids=["quiet", "banner"])
    def test_any_shell_and_whatever_it_prints(self, server: Sshd, shell: str, banner: bool) -> None:
        user = server.user(shell=shell, banner=banner)
        if banner:
            words = "echo Welcome; echo 'and more' >&2\n" if "csh" not in shell else "echo Welcome\n"
            for name in (".zshenv", ".cshrc", ".tcshrc"):
                (user.home / name).write_text(words)
            (user.home / ".config" / "fish").mkdir(parents=True)
            (user.home / ".config" / "fish" / "config.fish").write_text(words)
        there = link(server.login(user))
        script = "cat; printf '%s' \"a'b\\\"c!d\\\\e\"\nprintf 'x\\ny' >&2\nexit 3"
        done = there.run(script, input=b"\x00in!put'\n")
        assert (done.code, done.out, done.err) == (3, b"\x00in!put'\na'b\"c!d\\e", "x\ny")
        assert there.ask("echo $((6 * 7))").strip() == b"42"
        assert there.ask("false; cat /nothing; exit_of=$?; echo $exit_of").strip() == b"1"
        assert [bytes(name) for name in there.sftp(lambda client: client.listdir(b"/"))].count(b"etc") == 1

    def test_no_shell(self, server: Sshd) -> None:
        user = server.user(shell=shutil.which("nologin") or "/usr/sbin/nologin")
        with pytest.raises(NoShell, match="not available") as caught:
            link(server.login(user)).run("true")
        assert caught.value.code == "system"

    def test_large_input_and_output(self, server: Sshd, user: User) -> None:
        data = os.urandom(3 << 20)
        assert link(server.login(user)).run("cat", input=data).out == data

    def test_pipes(self, server: Sshd, user: User) -> None:
        there = link(server.login(user))
        for _time in range(12):  # more than may be open at once, so each gives its place back
            with there.pipe("read a; echo got $a; cat | wc -c") as pipe:
                assert pipe.write(b"hello\n")
                assert pipe.read_line() == b"got hello\n"
                assert pipe.write(b"x" * 100_000)
                assert pipe.finish().out.strip() == b"100000"
        there.pipe("cat").close()

    def test_a_shell_that_hangs_is_left(self, server: Sshd, user: User) -> None:
        there = link(server.login(user))
        with pytest.raises(Unreachable, match="in time"):
            there.ask("sleep 100", timeout=0.5)
        assert there.ask("echo well").strip() == b"well"

    def test_sftp_that_hangs_is_left(self, server: Sshd, user: User) -> None:
        there = link(server.login(user))
        os.mkfifo(user.home / "pipe")
        with pytest.raises(Unreachable):
            there.sftp(lambda client: client.open(str(user.home / "pipe").encode(), "rb"), timeout=0.5)
        assert there.sftp(lambda client: client.exists(str(user.home / "pipe").encode()))

    def test_links_and_pipes_are_not_read(self, server: Sshd, user: User) -> None:
        there = link(server.login(user))
        (user.home / "secret").write_text("secret")
        (user.home / "leads").symlink_to(user.home / "secret")
        for name in ("leads", "pipe-2"):
            if name == "pipe-2":
                os.mkfifo(user.home / name)
            with pytest.raises(NotFound):
                read_stream(there, str(user.home / name).encode(), 0, 10)
        assert [entry.path for entry in walk(there, str(user.home).encode(), [b"pipe-2", b"secret"])] == [b"secret"]


# Many at once.


class TestSharing:
    def test_thirty_at_once_share_one_connection(self, server: Sshd, user: User) -> None:
        login = server.login(user)
        before = server.logins

        def use(number: int) -> bytes:
            there = link(replace(login))  # another object that says the same
            if number % 3 == 0:
                return there.run(f"sleep 0.1; echo {number}").out.strip()
            if number % 3 == 1:
                return there.ask(f"echo {number}").strip()
            there.sftp(lambda client: client.listdir(b"/"))
            return str(number).encode()

        with ThreadPoolExecutor(30) as pool:
            assert list(pool.map(use, range(90))) == [str(number).encode() for number in range(90)]
        assert server.logins == before + 1
        assert len(ssh._links) == 1

    def test_few_sessions_are_enough(self, tmp_path: Path) -> None:
        with Sshd("MaxSessions 4") as server:
            there = link(server.login(server.user()))
            there.ask("true")
            there.sftp(lambda client: client.listdir(b"/"))
            with ThreadPoolExecutor(12) as pool:
                codes = list(pool.map(lambda _number: there.run("sleep 0.05").code, range(12)))
            assert codes == [0] * 12

    def test_another_login_is_another_connection(self, server: Sshd, user: User) -> None:
        login = server.login(user)
        assert link(login) is link(replace(login))
        for changed in ({"password": "x"}, {"host_key": server.host_key("rsa")}, {"port": 1}, {"username": "x"}):
            assert link(replace(login, **changed)) is not link(login)

    def test_forwarded_sockets(self, server: Sshd, user: User, tmp_path: Path) -> None:
        path = user.home / "echo.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen(64)

        def serve() -> None:
            while True:
                peer, _address = listener.accept()
                with contextlib.suppress(OSError):
                    peer.sendall(peer.recv(100).upper())
                peer.close()

        threading.Thread(target=serve, daemon=True).start()
        there = link(server.login(user))
        here = there.forward(str(path))
        assert Path(here).parent.stat().st_mode & 0o777 == 0o700
        for _number in range(30):  # more than MaxSessions: these are no sessions
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(here)
                client.sendall(b"hello")
                assert client.recv(100) == b"HELLO"
        assert there.forward(str(path)) == here
        with pytest.raises(SshProblem, match="did not lead to"):
            there.forward(str(user.home / "nothing.sock"))


# When it breaks.


class TestBreaking:
    def test_cut_in_the_middle(self, server: Sshd, user: User) -> None:
        there = link(server.login(user))
        there.connect()
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(there.run, "sleep 60") for _number in range(3)]
            waiting.append(pool.submit(there.ask, "sleep 60"))
            wait_until("they run", lambda: len([pid for pid in server.children() if _sleeps(pid)]) >= 4)
            server.cut()
            for each in waiting:
                with pytest.raises(SshProblem) as caught:
                    each.result(20)
                assert caught.value.code == "connect"
        assert there.run("echo again").out == b"again\n"
        assert there.ask("echo again").strip() == b"again"
        assert there.connects == 2

    def test_frozen_and_thawed(self, tmp_path: Path) -> None:
        """Every kind of use comes to an end while the peer says nothing, and works again once it does."""
        with Sshd() as server:
            user = server.user()
            there = link(server.login(user))
            (user.home / "file").write_bytes(b"x" * 100)
            assert read_stream(there, str(user.home / "file").encode(), 0, 100)
            there.ask("true")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(user.home / "s"))
            (user.home / "s").chmod(0o777)
            listener.listen()
            here = there.forward(str(user.home / "s"))
            half = socket.socket(socket.AF_UNIX)
            half.connect(here)
            half.sendall(b"GET / HTTP/1.1\r\n")
            server.freeze()
            try:
                uses = [
                    lambda: there.run("true"),
                    lambda: there.ask("true"),
                    lambda: read_stream(there, str(user.home / "file").encode(), 0, 100),
                    lambda: there.connect(),
                ]
                with ThreadPoolExecutor(4) as pool:
                    found = [pool.submit(use) for use in uses]
                    for each in found[:3]:
                        with pytest.raises(Unreachable):
                            each.result(60)
                half.settimeout(60)
                assert half.recv(10) == b"", "who waits for an answer through the socket is told too"
                with pytest.raises(Unreachable, match="in time"):
                    there.connect(fresh=True)
            finally:
                server.thaw()
            wait_until("it is there again", lambda: _works(there), 30)
            assert read_stream(there, str(user.home / "file").encode(), 90, 100) == b"x" * 10
            listener.close()

    def test_a_network_that_swallows_everything(self, server: Sshd, user: User) -> None:
        gate = Gate(server.port)
        try:
            there = link(replace(server.login(user), port=gate.port))
            assert there.run("echo one").out == b"one\n"
            gate.open.clear()
            with pytest.raises(Unreachable):
                there.run("echo two")
            gate.open.set()
            assert wait_until("it is there again", lambda: _works(there), 30)
        finally:
            gate.close()

    def test_those_who_come_while_it_connects_wait_for_the_same_attempt(self) -> None:
        port = free_port()
        tried = []
        with socket.create_server(("127.0.0.1", port)) as listener:

            def refuse() -> None:
                while True:
                    peer, _address = listener.accept()
                    tried.append(peer)
                    time.sleep(0.3)
                    peer.close()

            threading.Thread(target=refuse, daemon=True).start()
            there = link(Login("127.0.0.1", port, "ann", "x"))
            with ThreadPoolExecutor(20) as pool:
                errors = list(pool.map(lambda _number: _fails(there), range(20)))
        assert all(isinstance(error, SshProblem) for error in errors)
        assert len(tried) == 1, "nobody hammers"

    def test_after_a_failure_the_next_attempt_waits(self) -> None:
        there = link(Login("127.0.0.1", free_port(), "ann", "x"))
        first = _fails(there)
        assert str(_fails(there)) == str(first)
        assert there._failures == 1
        with pytest.raises(SshProblem):
            there.connect(fresh=True)
        assert there._failures == 2

    def test_an_unused_connection_is_closed(self, server: Sshd, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ssh, "IDLE_S", 0.2)
        there = link(server.login(user))
        there.connect()
        wait_until("it is closed", lambda: not there.connected)
        assert there.run("true").code == 0


def _sleeps(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "sleep"
    except OSError:
        return False


def _works(there: Link) -> bool:
    try:
        return there.run("echo here").out == b"here\n"
    except Unreachable:
        return False


def _fails(there: Link) -> BaseException | None:
    try:
        there.connect()
    except Unreachable as error:
        return error
    return None


# Machines of other kinds, which an SSH server in this process plays.


class Fake:
    """An SSH server in this process. ``answer(process)`` plays its shell."""

    def __init__(self, answer: Any = None, *, server_factory: Any = None, version: str = "OpenSSH_9.2") -> None:
        self.answer, self.factory, self.version = answer, server_factory, version
        self.loop = asyncio.new_event_loop()
        self.key = asyncssh.generate_private_key("ssh-ed25519")

    def __enter__(self) -> Fake:
        class Open(asyncssh.SSHServer):
            def begin_auth(self, username: str) -> bool:
                return False

        async def start() -> Any:
            return await asyncssh.listen(
                "127.0.0.1", 0, server_host_keys=[self.key], server_factory=self.factory or Open,
                process_factory=self.answer, server_version=self.version, encoding="utf-8",
            )  # fmt: skip

        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.listener = asyncio.run_coroutine_threadsafe(start(), self.loop).result(10)
        self.port = self.listener.get_port()
        return self

    def __exit__(self, *_error: object) -> None:
        self.loop.call_soon_threadsafe(self.listener.close)
        self.loop.call_soon_threadsafe(self.loop.stop)

    def login(self, **more: Any) -> Login:
        return Login("127.0.0.1", self.port, "ann", host_key=public_line(self.key), **more)


class TestOtherMachines:
    def test_windows(self) -> None:
        def shell(process: Any) -> None:
            process.stderr.write("'exec' is not recognized as an internal or external command,\r\n")
            process.exit(1)

        with Fake(shell, version="OpenSSH_for_Windows_9.5") as fake, pytest.raises(SshProblem) as caught:
            remote_host.probe(link(fake.login()))
        assert caught.value.code == "system"
        assert "Windows machine" in str(caught.value)
        assert "Linux" in caught.value.hint

    def test_powershell(self) -> None:
        def shell(process: Any) -> None:
            process.stderr.write("exec : The term 'exec' is not recognized as the name of a cmdlet, function\r\n")
            process.exit(1)

        with Fake(shell) as fake, pytest.raises(SshProblem, match="Windows machine"):
            remote_host.probe(link(fake.login()))

    @pytest.mark.parametrize(("system", "words"), [("Darwin", "runs macOS"), ("FreeBSD", "runs FreeBSD")])
    def test_other_systems(self, system: str, words: str) -> None:
        async def shell(process: Any) -> None:
            length = int(await process.stdin.readline())
            script = await process.stdin.readexactly(length)
            mark = script.split("\n", 1)[0].split()[-1]
            process.stdout.write(f"\n{mark}\nsystem={system}\nuid=501\nhome=/Users/ann\n")
            process.stderr.write(f"\n{mark}\n")
            process.exit(0)

        with Fake(shell) as fake, pytest.raises(SshProblem, match=words) as caught:
            remote_host.probe(link(fake.login()))
        assert caught.value.code == "system"
