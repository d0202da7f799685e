"""Compute targets: where runs and services run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Sequence

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

    @classmethod
    def list(cls, workspace: Workspace) -> list[ComputeTarget]:
        return [ComputeTarget(workspace, item["name"], _data=item) for item in workspace._list("targets")]

    @staticmethod
    def create(workspace: Workspace, name: str, provisioning_configuration: Any) -> ComputeTarget:
        raise ComputeTargetException(_NOT_MADE)

    @staticmethod
    def attach(workspace: Workspace, name: str, attach_configuration: Any) -> ComputeTarget:
        raise ComputeTargetException(_NOT_MADE)

    @property
    def type(self) -> str:
        return str(self._data["driver"])

    @property
    def provisioning_state(self) -> str:
        """Creating, Succeeded or Failed."""
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
        """Wait until it is ready. Raises ComputeTargetException when it is not, with what is wrong."""
        until = time.monotonic() + 60 * float(timeout_in_minutes or 25)
        self.refresh_state()
        while self.provisioning_state == "Creating" and time.monotonic() < until:
            time.sleep(1)
            self.refresh_state()
        if show_output:
            print(self.provisioning_state)
        if self.provisioning_state != "Succeeded":
            wrong = "; ".join(str(one.get("message")) for one in self.provisioning_errors)
            raise ComputeTargetException(f"Compute target {self.name} is {self.provisioning_state}. {wrong}".strip())

    def detach(self) -> None:
        raise ComputeTargetException("Targets are detached on their page in the studio.")

    delete = detach

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workspace={self.workspace!r}, name={self.name!r}, type={self.type!r})"


class LocalTarget(ComputeTarget):
    """The machine that the studio runs on."""

    _driver = "local"


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


_KINDS: dict[str, type[ComputeTarget]] = {kind._driver: kind for kind in (LocalTarget,)}
_NOT_MADE = (
    "This studio's targets are the machines that its administrators attach, and none can be made from a script. "
    "See ws.compute_targets for those that are there; 'local' is the studio's own machine."
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
