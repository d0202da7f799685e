"""Who signs in where, and what went wrong with it in words for a person."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncssh
from django.utils.translation import gettext as _

from compute import host_keys
from compute.drivers.base import DriverError, HostKeyChanged, HostKeyUnknown, Unreachable
from studio.datasets.backends import guard

CONNECT, HOST_KEY, LOGIN, SYSTEM = "connect", "host-key", "login", "system"


class SshProblem(Unreachable):
    """Why nothing can be done over SSH. ``code``: the check that it belongs to; ``field``: of the attach form."""

    def __init__(self, code: str, message: str, hint: str = "", field: str = "") -> None:
        super().__init__(message)
        self.code, self.hint, self.field = code, hint, field


@dataclass(frozen=True)
class Login:
    """A machine and who signs in there. The secrets are in no text that is made of it."""

    address: str
    port: int
    username: str
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    host_key: str = ""  # the confirmed one: "ssh-ed25519 AAAA..."

    @property
    def identity(self) -> tuple[str, ...]:
        """The same for all who may share a connection; the secrets only as a digest."""
        secrets = "\0".join((self.password, self.private_key, self.passphrase))
        digest = hashlib.sha256(secrets.encode()).hexdigest()
        return (self.address, str(self.port), self.username, digest, host_keys.fingerprint(self.host_key))

    def __str__(self) -> str:
        place = f"[{self.address}]" if ":" in self.address else self.address
        return place if self.port == 22 else f"{place}:{self.port}"


async def reach(login: Login, timeout: float) -> socket.socket:
    """A connection to the machine, under the rules that hold for datastores too. ``timeout``: seconds for each of its
    addresses. Raises OSError; ForbiddenAddress where the studio may not go."""
    last: OSError = OSError("no address to connect to")
    for family, kind, protocol, _name, place in await asyncio.to_thread(guard.resolve, login.address, login.port):
        made = socket.socket(family, kind, protocol)
        try:
            made.setblocking(False)
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(made, place)
            return made
        except BaseException as error:
            made.close()
            if not isinstance(error, OSError):
                raise
            last = error
    raise last


def _bad_key(message: str, hint: str = "", name: str = "private_key") -> SshProblem:
    return SshProblem(LOGIN, message, hint, name)


def read_key(text: str, passphrase: str) -> asyncssh.SSHKey:
    """The private key as it was pasted: with Windows line ends, indented, without its last newline. Raises SshProblem
    with what else it is."""
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    clean = "\n".join(lines) + "\n"
    first = lines[0] if lines else ""
    if first.startswith("PuTTY-User-Key-File"):
        raise _bad_key(
            _("The private key is in PuTTY's own format."),
            _("In PuTTYgen, load it and use Conversions, Export OpenSSH key; paste what that file holds."),
        )
    if re.match(r"(ssh-|ecdsa-sha2-|sk-)\S+ AAAA", first) or "PUBLIC KEY" in first:
        raise _bad_key(
            _("This is a public key."),
            _("Paste its private half: the file without .pub, which begins with -----BEGIN."),
        )
    if "-----BEGIN" in first:  # PEM has headers, and an empty line after them, which must stay
        clean = "\n".join(line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")).strip()
    try:
        return asyncssh.import_private_key(clean + "\n", passphrase or None)
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError, ValueError) as error:
        if not passphrase and "assphrase" in str(error):
            raise _bad_key(
                _("The private key is locked with a passphrase."), _("Give its passphrase too."), "passphrase"
            ) from None
        if isinstance(error, asyncssh.KeyEncryptionError) or (passphrase and "ENCRYPTED" in clean):
            raise _bad_key(
                _("The passphrase does not open the private key."), _("Type it again."), "passphrase"
            ) from None
        raise _bad_key(
            _("The private key cannot be read."),
            _("Paste the whole file, from -----BEGIN to the line that begins with -----END."),
        ) from None


def public_line(key: asyncssh.SSHKey) -> str:
    """``ssh-ed25519 AAAA...``, without its comment."""
    return " ".join(key.export_public_key().decode().split()[:2])


def unknown_host_key(login: Login, offered: str) -> HostKeyUnknown:
    """What to raise for a machine that showed this key and was told nothing."""
    shown = {"host": login, "kind": host_keys.key_type(offered), "key": host_keys.fingerprint(offered)}
    if not login.host_key:
        return HostKeyUnknown(
            _("Nobody has confirmed yet that %(host)s is the right machine. It shows %(kind)s %(key)s.") % shown,
            offered,
        )
    shown["pinned"] = host_keys.fingerprint(login.host_key)
    return HostKeyChanged(
        _("ANOTHER HOST KEY: %(host)s shows %(kind)s %(key)s, but %(pinned)s was confirmed. Nothing was sent to it. "
          "Either the machine was set up anew, or somebody stands between.") % shown,
        offered,
    )  # fmt: skip


def refusal(login: Login, key: asyncssh.SSHKey | None, methods: Sequence[str]) -> SshProblem:
    """Why the server let nobody in. ``methods``: what it takes of this user, empty where that is not known."""
    words: dict[str, Any] = {"user": login.username, "host": login, "methods": ", ".join(methods)}
    words["fingerprint"] = key.get_fingerprint() if key else ""
    takes_password = not methods or bool({"password", "keyboard-interactive"} & set(methods))
    takes_key = not methods or "publickey" in methods
    if not login.password and key is None:
        return SshProblem(
            LOGIN, _("%(host)s wants %(user)s to sign in.") % words, _("Give a password or a private key."), "password"
        )
    if key is not None and not login.password and takes_key:
        return SshProblem(
            LOGIN,
            _("%(host)s does not take the key %(fingerprint)s of %(user)s.") % words,
            _("Add this line to ~/.ssh/authorized_keys of %(user)s there: %(line)s")
            % {**words, "line": public_line(key)},
            "private_key",
        )
    if key is not None and not login.password:
        return SshProblem(
            LOGIN,
            _("%(host)s takes no keys; it takes: %(methods)s.") % words,
            _("Give the password of %(user)s.") % words,
            "password",
        )
    if key is None and not takes_password:
        return SshProblem(
            LOGIN,
            _("%(host)s takes no passwords; it takes: %(methods)s.") % words,
            _("Give a private key of %(user)s.") % words,
            "private_key",
        )
    if key is None:
        return SshProblem(
            LOGIN,
            _("%(host)s does not take this password of %(user)s.") % words,
            _("Check the user and the password; some machines let root sign in with a key alone."),
            "password",
        )
    return SshProblem(
        LOGIN, _("%(host)s takes neither this key nor this password of %(user)s.") % words, "", "private_key"
    )


def said(login: Login, error: BaseException) -> DriverError:
    """What a person reads of an error that came up while connecting or on the way."""
    if isinstance(error, DriverError):
        return error
    words = {"host": login, "error": str(error) or type(error).__name__, "user": login.username, "port": login.port}
    if isinstance(error, socket.gaierror):
        return SshProblem(
            CONNECT,
            _("There is no machine named %(address)s.") % {"address": login.address},
            _("Check the address; the machine that Atelier runs on has to know it."),
            "address",
        )
    if isinstance(error, (asyncssh.ProtocolNotSupported, asyncssh.ProtocolError)):
        return SshProblem(
            CONNECT, _("What answers at %(host)s is no SSH server that can be used: %(error)s.") % words, "", "port"
        )
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return SshProblem(CONNECT, _("%(host)s and Atelier know no common algorithm: %(error)s.") % words)
    if isinstance(error, TimeoutError):
        return SshProblem(
            CONNECT,
            _("%(host)s did not answer in time.") % words,
            _("Check the address and the port, that the machine is on, and what its firewall lets in."),
            "address",
        )
    if isinstance(error, asyncssh.ChannelOpenError) and "connection closed" not in str(error).lower():
        return SshProblem(
            CONNECT,
            _("%(host)s opened no further session: %(error)s.") % words,
            _("Its SSH server has to allow at least 4 sessions in a connection: MaxSessions in sshd_config."),
        )
    if isinstance(error, (asyncssh.DisconnectError, asyncssh.SFTPError, asyncssh.ChannelOpenError, EOFError)):
        if "imeout" in str(error):
            return SshProblem(CONNECT, _("%(host)s did not answer in time.") % words, "", "address")
        return SshProblem(CONNECT, _("The connection to %(host)s was lost: %(error)s.") % words)
    if isinstance(error, OSError):
        return _network(login, error, words)
    return SshProblem(CONNECT, f"{login}: {type(error).__name__}: {error}")


def _network(login: Login, error: OSError, words: dict[str, Any]) -> SshProblem:
    text = str(error)
    if isinstance(error, guard.ForbiddenAddress):
        return SshProblem(
            CONNECT,
            _("Atelier makes no connections to %(where)s.") % {"where": error.where},
            _("An administrator can allow this address with the setting ATELIER_DATA_ALLOW."),
            "address",
        )
    if isinstance(error, ConnectionRefusedError) or f"Errno {errno.ECONNREFUSED}" in text:
        return SshProblem(
            CONNECT,
            _("%(host)s refused the connection: no SSH server listens on port %(port)s.") % words,
            _("Check the port, and that the SSH server runs there."),
            "port",
        )
    return SshProblem(CONNECT, _("%(host)s cannot be reached: %(error)s.") % words, "", "address")
