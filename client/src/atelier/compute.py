"""Compute targets: where runs and services run."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Sequence

from atelier import attach as attaching
from atelier.attach import AttachConfiguration
from atelier.exceptions import ComputeTargetException, ServiceException, UserErrorException
from atelier.transport import segment

if TYPE_CHECKING:
    from atelier.workspace import Workspace


class ComputeTarget:
    """``ComputeTarget(workspace, name)`` gives the class that stands for that target's kind, or raises
    ComputeTargetException when there is no such target."""

    _driver = ""

    def __new__(cls, workspace: Workspace, name: str, **_: Any) -> ComputeTarget:
        data = _.get("_data") or _fetch(workspace, name)
        made = object.__new__(_KINDS.get(data["driver"], ComputeTarget))
        made._data = data
        return made

    def __init__(self, workspace: Workspace, name: str, **_: Any) -> None:
        self.workspace = workspace
        self.name = name
        self._data: dict[str, Any]
        self._expected_key: str | None = None  # where its host key was given beforehand

    @classmethod
    def list(cls, workspace: Workspace) -> list[ComputeTarget]:
        return [ComputeTarget(workspace, item["name"], _data=item) for item in workspace._list("targets")]

    @staticmethod
    def create(workspace: Workspace, name: str, provisioning_configuration: Any) -> ComputeTarget:
        raise ComputeTargetException(_NOT_MADE)

    @staticmethod
    def attach(workspace: Workspace, name: str, attach_configuration: AttachConfiguration) -> ComputeTarget:
        """Attach a machine under a name; ``wait_for_completion`` says when it can be used. One that is there with the
        same settings is given back. Raises ComputeTargetException."""
        if not isinstance(attach_configuration, AttachConfiguration):
            raise UserErrorException(
                "attach takes what attach_configuration gives, such as RemoteCompute.attach_configuration(address=...)."
            )
        data, _known = attaching.attach(workspace, name, attach_configuration)
        made = ComputeTarget(workspace, name, _data=data)
        made._expected_key = attach_configuration.host_key
        return made

    @property
    def type(self) -> str:
        return str(self._data["driver"])

    @property
    def provisioning_state(self) -> str:
        """Creating, Succeeded, Failed or Detaching."""
        return str(self._data["state"])

    @property
    def description(self) -> str:
        return str(self._data.get("description") or "")

    @property
    def provisioning_errors(self) -> Sequence[dict[str, Any]]:
        return self._data.get("problems") or []

    def refresh_state(self) -> None:
        self._data = _fetch(self.workspace, self.name)

    def get_status(self) -> TargetStatus:
        self.refresh_state()
        return TargetStatus(self._data)

    def serialize(self) -> dict[str, Any]:
        return dict(self._data)

    def wait_for_completion(
        self,
        show_output: bool = False,
        min_node_count: Any = None,
        timeout_in_minutes: float | None = None,
        is_delete_operation: bool = False,
    ) -> None:
        """Wait until it is ready. Raises ComputeTargetException when it is not, with what is wrong. The host key of a
        machine that nobody has confirmed yet is asked for at a terminal."""
        until = time.monotonic() + 60 * float(timeout_in_minutes or 25)
        if is_delete_operation:
            return self._wait_gone(until)
        shown = ""
        self.refresh_state()
        while True:
            if show_output and self.provisioning_state != shown:
                shown = self.provisioning_state
                print(shown, flush=True)
            if attaching.unconfirmed(self._data):
                self._data = attaching.settle_key(self.workspace, self._data, self._expected_key)
                continue
            if self.provisioning_state != "Creating" or time.monotonic() > until:
                break
            time.sleep(0.5)
            self.refresh_state()
        if self.provisioning_state != "Succeeded":
            said = (f"{one.get('message')} {one.get('hint') or ''}".strip() for one in self.provisioning_errors)
            raise ComputeTargetException(
                f"Compute target {self.name} is {self.provisioning_state}. {' '.join(said)}".strip()
            )

    def _wait_gone(self, until: float) -> None:
        try:
            while time.monotonic() < until:
                self.refresh_state()
                time.sleep(0.5)
        except ComputeTargetException:
            return
        raise ComputeTargetException(f"Compute target {self.name} is still {self.provisioning_state}.")

    def detach(self, cancel: bool = False) -> None:
        """Take it out of the workspace; what ran there keeps its history. Refused while runs or services live on it,
        unless ``cancel`` asks them to end first: then it goes with the last of them."""
        try:
            self.workspace._call("DELETE", f"targets/{segment(self.name)}", params={"cancel": "true"} if cancel else {})
        except ServiceException as error:
            if error.status_code not in (403, 409):
                raise
            raise ComputeTargetException(str(error)) from error
        self._data["state"] = "Detaching"

    delete = detach

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workspace={self.workspace!r}, name={self.name!r}, type={self.type!r})"


class LocalTarget(ComputeTarget):
    """The machine that the studio runs on. ``LocalTarget()`` names it, for a ``compute_target=``."""

    _driver = "local"

    def __new__(cls, workspace: Workspace | None = None, name: str = "local", **_: Any) -> LocalTarget:
        if workspace is None:
            _["_data"] = {"name": name, "driver": "local", "state": "Succeeded", "problems": []}
        return super().__new__(cls, workspace, name, **_)  # type: ignore[arg-type,return-value]

    def __init__(self, workspace: Workspace | None = None, name: str = "local", **_: Any) -> None:
        super().__init__(workspace, name)  # type: ignore[arg-type]

    def refresh_state(self) -> None:
        if self.workspace is not None:
            super().refresh_state()


class DockerTarget(ComputeTarget):
    """Docker on the machine that the studio runs on."""

    _driver = "docker"

    @staticmethod
    def attach_configuration(
        cpus: Any = None,
        memory: Any = None,
        gpus: Any = None,
        shm_size: Any = None,
        pids: Any = None,
        volumes: Any = None,
        slots: Any = None,
    ) -> AttachConfiguration:
        """The limits are of one run; ``volumes`` ``{"/folder/of/the/machine": "/folder/in/the/container"}``; ``slots``
        how many runs there are at once."""
        config = {**_limits(cpus, memory, gpus, shm_size, pids, slots), "volumes": attaching.volumes_text(volumes)}
        return AttachConfiguration("docker", config)


class RemoteCompute(ComputeTarget):
    """Docker on a Linux machine that is reached by SSH."""

    _driver = "remotedocker"

    @staticmethod
    def attach_configuration(
        address: str | None = None,
        ssh_port: int = 22,
        username: str | None = None,
        password: str | None = None,
        private_key_file: str | os.PathLike[str] | None = None,
        private_key_passphrase: str | None = None,
        resource_id: str | None = None,
        *,
        host_key: str | None = None,
        folder: str | None = None,
        cpus: Any = None,
        memory: Any = None,
        gpus: Any = None,
        shm_size: Any = None,
        pids: Any = None,
        slots: Any = None,
    ) -> AttachConfiguration:
        """``host_key``: the fingerprint (``SHA256:...``) that the machine is known to have; else it is asked for. The
        limits are of one run; ``folder`` is where runs lie on the machine."""
        if not address:
            raise UserErrorException(
                "Where is the machine? Give address=, its name or IP address"
                + (": a resource_id says nothing to this studio." if resource_id else ".")
            )
        if not username:
            raise UserErrorException("As whom does one sign in on the machine? Give username=.")
        config = {"address": address, "port": int(ssh_port), "username": username, "folder": folder}
        config.update(_limits(cpus, memory, gpus, shm_size, pids, slots))
        secrets = {
            "password": password or "",
            "private_key": attaching.private_key_text(private_key_file),
            "passphrase": private_key_passphrase or "",
        }
        return AttachConfiguration("remotedocker", config, secrets, host_key)


def _limits(cpus: Any, memory: Any, gpus: Any, shm_size: Any, pids: Any, slots: Any) -> dict[str, Any]:
    found = {"cpus": cpus, "memory": memory, "gpus": gpus, "shm_size": shm_size}
    return {
        **{name: str(value) for name, value in found.items() if value not in (None, "")},
        "pids": int(pids) if pids else None,
        "slots": int(slots) if slots else None,
    }


class TargetStatus:
    """What ``get_status`` gives: ``state``, ``errors``, ``capacity``."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data
        self.state = self.provisioning_state = data["state"]
        self.errors = data.get("problems") or []
        self.capacity = data.get("capacity")

    def serialize(self) -> dict[str, Any]:
        return dict(self._data)

    def __repr__(self) -> str:
        return f"TargetStatus(state={self.state!r}, capacity={self.capacity!r})"


_KINDS: dict[str, type[ComputeTarget]] = {kind._driver: kind for kind in (LocalTarget, DockerTarget, RemoteCompute)}
_NOT_MADE = (
    "This studio runs on machines that are there and makes none: attach one (RemoteCompute.attach_configuration, "
    "DockerTarget.attach_configuration), or see ws.compute_targets; 'local' is the studio's own machine."
)


def _fetch(workspace: Workspace, name: str) -> dict[str, Any]:
    if not isinstance(name, str) or not name:
        raise UserErrorException("A compute target has a name.")
    try:
        return dict(workspace._call("GET", f"targets/{segment(name)}"))
    except ServiceException as error:
        if error.status_code != 404:
            raise
        raise ComputeTargetException(
            f"ComputeTargetNotFound: there is no compute target {name} in {workspace.name}."
        ) from error
