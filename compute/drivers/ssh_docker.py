"""Docker on a Linux machine over SSH: nothing has to be installed there but Docker and an SSH server.

The same driver as for this machine, with the engine's socket forwarded over the one connection, and the units' folders
on the machine itself. What the studio reads of a unit is its own copy; ``fetch`` brings what is new by its offset.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from django.utils.translation import gettext, gettext_lazy
from docker import APIClient

from compute.drivers import container_fields, containers, docker_checks, engine, remote_fetch, remote_gate, remote_host
from compute.drivers.base import HostKeyUnknown, NotFound, Refused, Unreachable
from compute.drivers.docker import DockerDriver
from compute.drivers.engine import asking
from compute.drivers.remote_files import RemoteFiles
from compute.drivers.ssh import Link, Login, link
from compute.drivers.ssh_login import SshProblem
from compute.installation import installation_id
from compute.spec import FormField, Handle, Observation, Problem

LAST_WORDS_S = 5
SEEN_S = 0.5  # how long what a look has seen may stand for the sizes

SLOTS = replace(container_fields.SLOTS, help=gettext_lazy("Empty: as many as come."))


class RemoteDockerDriver(DockerDriver):
    """Runs units in containers of the engine of another machine."""

    name: ClassVar[str] = "remotedocker"
    title: ClassVar[Any] = gettext_lazy("Docker over SSH")
    summary: ClassVar[Any] = gettext_lazy(
        "Runs are containers on another Linux machine. It needs Docker and an SSH login, nothing else."
    )
    shared: ClassVar[bool] = False
    checks: ClassVar[Sequence[tuple[str, Any]]] = (
        ("connect", gettext_lazy("The machine answers")),
        ("host-key", gettext_lazy("Its host key is the confirmed one")),
        ("login", gettext_lazy("The user may sign in")),
        ("system", gettext_lazy("It runs Linux")),
        ("docker", gettext_lazy("Docker is installed")),
        ("rights", gettext_lazy("The user may use Docker")),
        ("folder", gettext_lazy("The folder can be written")),
        *(row for row in container_fields.CHECKS if row[0] not in ("system", "volumes")),
    )
    fields: ClassVar[Sequence[FormField]] = (
        FormField(
            name="address",
            label=gettext_lazy("Address"),
            help=gettext_lazy("The machine's name or IP address, as the machine that Atelier runs on knows it."),
            required=True,
            address=True,
        ),
        FormField(
            name="port",
            label=gettext_lazy("Port"),
            kind="number",
            default=22,
            minimum=1,
            maximum=65535,
            address=True,
        ),
        FormField(
            name="username",
            label=gettext_lazy("User"),
            help=gettext_lazy("Who signs in there. Runs belong to this user."),
            required=True,
            address=True,
        ),
        FormField(
            name="password",
            label=gettext_lazy("Password"),
            kind="password",
            help=gettext_lazy("Or a private key."),
            secret=True,
        ),
        FormField(
            name="private_key",
            label=gettext_lazy("Private key"),
            kind="textarea",
            help=gettext_lazy("The whole file, from -----BEGIN to -----END."),
            secret=True,
        ),
        FormField(
            name="passphrase",
            label=gettext_lazy("Passphrase"),
            kind="password",
            help=gettext_lazy("Of the private key, where it has one."),
            secret=True,
        ),
        FormField(
            name="folder",
            label=gettext_lazy("Folder"),
            help=gettext_lazy("On the machine, for the files of runs while they run. Empty: below ~/.atelier."),
            address=False,
        ),
        SLOTS,
        *container_fields.LIMITS,
    )

    # The connection.

    @functools.cached_property
    def link(self) -> Link:
        return link(
            Login(
                address=str(self.config.get("address") or "").strip(),
                port=int(self.config.get("port") or 22),
                username=str(self.config.get("username") or "").strip(),
                password=self.secrets.get("password") or "",
                private_key=self.secrets.get("private_key") or "",
                passphrase=self.secrets.get("passphrase") or "",
                host_key=str(self.config.get("host_key") or "").strip(),
            )
        )

    @property
    def address(self) -> str:
        return str(self.link.login)

    def _engine(self, timeout: float = engine.TIMEOUT_S) -> APIClient:
        host = remote_host.probe(self.link)
        problem = remote_host.engine_problem(self.link, host)
        if problem is not None:
            self.link.memo.pop("host", None)  # it may be mended: look again at the next use
            raise Unreachable(problem.message)
        return engine.client(self.link.forward(host.engine), timeout)

    @functools.cached_property
    def _files(self) -> RemoteFiles:
        return RemoteFiles(self.link, self._base)

    def _base(self) -> str:
        host = remote_host.probe(self.link)
        return remote_host.base_folder(host, str(self.config.get("folder") or ""), installation_id())

    def slots(self) -> int | None:
        return int(self.config["slots"]) if self.config.get("slots") else None

    # What it says of itself.

    def check(self) -> list[Problem]:
        """Raises HostKeyUnknown and HostKeyChanged: nothing was said to the machine then."""
        try:
            self.link.connect(fresh=True)
            host = remote_host.probe(self.link, fresh=True)
            problem = remote_host.engine_problem(self.link, host)
            if problem is not None:
                self.link.close()  # what groups a user is in is seen at a new login alone
                self.link.connect(fresh=True)
                problem = remote_host.engine_problem(self.link, remote_host.probe(self.link, fresh=True))
        except HostKeyUnknown:
            raise
        except SshProblem as error:
            return [Problem(error.code, str(error), error.hint, error.field, stops=True)]
        if problem is not None:
            return [problem]
        try:
            return self._check_folder()
        except SshProblem as error:
            return [Problem(error.code, str(error), error.hint, error.field, stops=True)]

    def _check_folder(self) -> list[Problem]:
        problems = remote_host.folder_problems(self.link, self._base())
        if problems:
            return problems  # without room, the engine has nothing to look at
        with contextlib.suppress(NotFound, Refused):
            self._engine()  # its socket may not be led to, which has its own way out
        return docker_checks.check(self)

    def facts(self) -> dict[str, Any]:
        host = remote_host.probe(self.link)
        gate = remote_gate.keep(self.link, self._base()) == remote_gate.OPEN
        return {**docker_checks.facts(self), "user": host.user, "folder": self._base(), "gate": gate}

    # The bytes.

    def observe(self, handles: Sequence[Handle]) -> dict[str, Observation]:
        if handles:
            remote_gate.keep(self.link, self._base())  # again after every reconnection
        return super().observe(handles)

    def fetch(self, handle: Handle, *, final: bool = False) -> bool:
        key = handle.key
        local = self._files.local(key)
        if self._files.done(key) or not local.is_dir():
            return True
        remote = self._files.remote(key)
        if not final:
            at, sizes = self.link.memo.get(f"sizes-{key}") or (0.0, None)
            known = sizes if time.monotonic() - at < SEEN_S else None
            return remote_fetch.fetch_streams(self.link, remote, local, known=known)
        over = self._over(key)
        whole = remote_fetch.fetch_streams(self.link, remote, local, patient=True)
        whole = whole and remote_fetch.fetch_rest(self.link, remote, local)
        if whole and over:
            # Only what can change no more is known to be here for good.
            (local / remote_fetch.DONE).touch()
        return whole

    def release(self, handle: Handle) -> None:
        """What is not here yet comes first; then nothing of the unit stays there."""
        key = handle.key
        if not self._files.done(key) and not self.fetch(handle, final=True):
            raise Unreachable(gettext("The run's files are still being written on its machine."))
        with contextlib.suppress(NotFound, Refused), asking(self.address):  # gone, or just going
            self._engine().remove_container(containers.container_name(key), v=True, force=True)
        self._files.discard(key)
