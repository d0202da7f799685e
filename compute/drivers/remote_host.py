"""What a machine behind SSH says of itself, in one go, and what of it keeps containers from running there."""

from __future__ import annotations

import posixpath
import re
import shlex
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from compute.drivers.container_fields import LOW_DISK_BYTES
from compute.drivers.ssh import Link
from compute.drivers.ssh_login import SYSTEM, SshProblem
from compute.drivers.ssh_sessions import NoShell
from compute.spec import Problem

_WINDOWS = re.compile(r"is not recognized as|OpenSSH_for_Windows|Microsoft Windows|CommandNotFoundException", re.I)

PROBE = r"""
p() { printf '%s=%s\n' "$1" "$(printf %s "$2" | tr '\n' ' ')"; }
p system "$(uname -s)"; p user "$(id -un)"; p uid "$(id -u)"; p gid "$(id -g)"
p groups "$(id -G)"; p home "$HOME"; p docker "$(command -v docker || command -v dockerd)"
for tool in tar stat mv head df; do command -v $tool >/dev/null || p lacks $tool; done
if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | while IFS= read -r g; do p gpu "$g"; done
fi
c=
if [ -z "$DOCKER_HOST" ] && command -v docker >/dev/null; then
  c=$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null </dev/null)
fi
p docker_host "${DOCKER_HOST:-$c}"
u=$(id -u)
for s in "${DOCKER_HOST#unix://}" "${XDG_RUNTIME_DIR:-/run/user/$u}/docker.sock" "/run/user/$u/docker.sock" \
    "$HOME/.docker/run/docker.sock" "${c#unix://}" /var/run/docker.sock /run/docker.sock; do
  if [ -S "$s" ]; then
    if [ -r "$s" ] && [ -w "$s" ]; then p usable "$s"; else p closed "$(stat -c %G "$s") $s"; fi
  fi
done
"""


@dataclass(frozen=True)
class Host:
    """``usable``: sockets of engines that the login may use, the likeliest first; ``closed``: (group, socket)."""

    system: str = ""
    user: str = ""
    uid: int = -1
    gid: int = -1
    groups: list[int] = field(default_factory=list)
    home: str = ""
    docker: str = ""
    docker_host: str = ""
    usable: list[str] = field(default_factory=list)
    closed: list[tuple[str, str]] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    gpus: list[str] = field(default_factory=list)

    @property
    def engine(self) -> str:
        """Where its engine listens: a path, "host:port", or empty."""
        match = re.match(r"tcp://(\[?[^/\s]+\]?:\d+)", self.docker_host)
        if match:
            return match.group(1)
        return self.usable[0] if self.usable else ""


def probe(link: Link, *, fresh: bool = False) -> Host:
    """Asked once per connection. Raises SshProblem (code "system") where it is no machine for containers."""
    found = link.memo.get("host")
    if found is None or fresh:
        try:
            done = link.run(PROBE)
        except NoShell as error:
            raise _no_shell(link, error) from None
        found = link.memo["host"] = _host(done.out.decode("utf-8", "replace"))
    wrong = system_problem(link, found)
    if wrong is not None:
        raise wrong
    return found


def _number(text: str, other: Any = -1) -> Any:
    return int(text) if re.fullmatch(r"\d{1,18}", text.strip()) else other


def _host(text: str) -> Host:
    said: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            said.setdefault(name, []).append(value.strip())
    one = {name: values[0] for name, values in said.items()}
    closed = [(each.partition(" ")[0], each.partition(" ")[2]) for each in said.get("closed", [])]
    return Host(
        system=one.get("system", ""), user=one.get("user", ""),
        uid=_number(one.get("uid", "")), gid=_number(one.get("gid", "")),
        groups=[_number(word) for word in one.get("groups", "").split()], home=one.get("home", ""),
        docker=one.get("docker", ""), docker_host=one.get("docker_host", ""),
        usable=list(dict.fromkeys(said.get("usable", []))), closed=list(dict.fromkeys(closed)),
        lacks=said.get("lacks", []), gpus=said.get("gpu", [])[:64],
    )  # fmt: skip


def _no_shell(link: Link, error: NoShell) -> SshProblem:
    if _WINDOWS.search(error.output) or "Windows" in link.server_version:
        return SshProblem(
            SYSTEM,
            _("%(host)s is a Windows machine.") % {"host": link.login},
            _("A Linux machine is needed. WSL will do, with an SSH server of its own inside it."),
            "address",
        )
    return error


def system_problem(link: Link, host: Host) -> SshProblem | None:
    if re.match(r"(MINGW|MSYS|CYGWIN|Windows)", host.system) or "Windows" in link.server_version:
        return _no_shell(link, NoShell("Microsoft Windows"))
    words = {"host": link.login, "system": {"Darwin": "macOS"}.get(host.system, host.system or "?")}
    if host.system != "Linux":
        return SshProblem(
            SYSTEM, _("%(host)s runs %(system)s.") % words, _("A Linux machine with Docker is needed."), "address"
        )
    if host.lacks or host.uid < 0 or not host.home.startswith("/"):
        lacks = ", ".join(host.lacks) or _("a home folder and a user number")
        return SshProblem(SYSTEM, _("%(host)s lacks %(lacks)s.") % {**words, "lacks": lacks})
    return None


def engine_problem(link: Link, host: Host) -> Problem | None:
    """Why there is no engine to be asked: not installed, not running, or not for this user."""
    words = {"host": link.login, "user": host.user}
    if host.engine:
        return None
    if host.closed:
        group, socket = host.closed[0]
        return Problem(
            "rights",
            _("%(user)s may not use the Docker engine of %(host)s: no right to %(socket)s.")
            % {**words, "socket": socket},
            _("Run there as an administrator: sudo usermod -aG %(group)s %(user)s") % {**words, "group": group},
            "username",
            stops=True,
        )
    if not host.docker:
        return Problem(
            "docker",
            _("Docker is not installed on %(host)s.") % words,
            _("Install it there (docs.docker.com/engine/install), and let %(user)s use it.") % words,
            stops=True,
        )
    return Problem(
        "engine",
        _("Docker is installed on %(host)s, but its engine does not run.") % words,
        _("Start it there: sudo systemctl start docker"),
        stops=True,
    )


def base_folder(host: Host, wanted: str, installation: str) -> str:
    """The absolute folder on the machine: what was set, relative to the home folder."""
    wanted = (wanted or "").strip() or f"~/.atelier/{installation}"
    if wanted == "~" or wanted.startswith("~/"):
        wanted = wanted[2:]
    return posixpath.normpath(posixpath.join(host.home, wanted))


def folder_problems(link: Link, folder: str) -> list[Problem]:
    """Whether the folder can be made and written, and has room."""
    place = shlex.quote(folder)
    words: dict[str, Any] = {"folder": folder, "host": link.login, "user": link.login.username}
    done = link.run(
        f"umask 077\nmkdir -p -- {place}/units {place}/lib && cd {place} && LC_ALL=C date >.check.$$ && rm -f .check.$$"
        f" || exit 9\n[ -x . ] && echo fine"
    )
    if done.out.strip() != b"fine":
        if no_space(done.err):
            return [_full(words, 0)]
        why = done.err.splitlines()[-1][:300] if done.err else "?"
        return [
            Problem(
                "folder",
                _("The folder %(folder)s on %(host)s cannot be written: %(why)s") % {**words, "why": why},
                _("Choose a folder that %(user)s owns, or leave it empty for one in the home folder.") % words,
                "folder",
                stops=True,
            )
        ]
    free = disk_free(link, folder)
    return [_full(words, free)] if free is not None and free < LOW_DISK_BYTES else []


def _full(words: dict[str, Any], free: int) -> Problem:
    return Problem(
        "disk",
        _("The disk of %(host)s is full: only %(free)d MB are free for %(folder)s.") % {**words, "free": free >> 20},
        _("Make room there: docker system prune removes images and containers that nobody needs. Or choose a folder on "
          "a larger disk."),
        "folder",
        stops=True,
    )  # fmt: skip


def disk_free(link: Link, folder: str) -> int | None:
    """Bytes that are free for a folder, or for the nearest one above it that can be seen."""
    done = link.run(
        f"d={shlex.quote(folder)}\n"
        'while [ ! -e "$d" ] && [ "$d" != / ]; do d=$(dirname -- "$d"); done\n'
        "LC_ALL=C df -Pk -- \"$d\" | awk 'NR > 1 {print $4}' | tail -n 1"
    )
    kilobytes = _number(done.out.decode("ascii", "replace"), None)
    return kilobytes * 1024 if kilobytes is not None else None


def no_space(text: str) -> bool:
    return bool(re.search(r"No space left|Disk quota exceeded|ENOSPC", text))


def full_words(link: Link, folder: str) -> str:
    return _("The disk of %(host)s is full: %(folder)s has no room for the run's files. It goes on once there is.") % {
        "host": link.login,
        "folder": folder,
    }
