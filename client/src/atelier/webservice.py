"""Services: deployed models."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Sequence

from atelier.exceptions import ServiceException, UserErrorException, WebserviceException
from atelier.transport import segment

if TYPE_CHECKING:
    from atelier.workspace import Workspace

_MOVING = "Transitioning"


class DeploymentConfiguration:
    """What ``deploy_configuration`` gives. ``tags``, ``description`` and ``auth_enabled`` are used; the rest describes
    clusters that the studio's own targets stand for."""

    def __init__(
        self, tags: Any = None, description: str | None = None, auth_enabled: bool | None = None, **rest: Any
    ) -> None:
        self.tags = tags
        self.description = description
        self.auth_enabled = auth_enabled
        self.rest = rest

    def _asked(self) -> dict[str, Any]:
        from atelier.experiment import tags_of

        asked: dict[str, Any] = {"tags": tags_of(self.tags), "description": self.description or ""}
        if self.auth_enabled is not None:
            asked["auth_enabled"] = bool(self.auth_enabled)
        return asked


class Webservice:
    """``Webservice(workspace, name)``. Raises WebserviceException when there is no such service."""

    def __init__(self, workspace: Workspace, name: str, *, _data: dict[str, Any] | None = None) -> None:
        self.workspace = workspace
        self.name = name
        self._data = _data if _data is not None else self._fetch()

    @classmethod
    def _from_studio(cls, workspace: Workspace, data: dict[str, Any]) -> Webservice:
        return Webservice(workspace, data["name"], _data=data)

    def _path(self, rest: str = "") -> str:
        return f"endpoints/{segment(self.name)}{rest}"

    def _fetch(self) -> dict[str, Any]:
        try:
            return dict(self.workspace._call("GET", self._path()))
        except ServiceException as error:
            if error.status_code != 404:
                raise
            message = f"WebserviceNotFound: there is no service {self.name} in workspace {self.workspace.name}."
            raise WebserviceException(message, status_code=404) from error

    @staticmethod
    def list(
        workspace: Workspace, compute_type: str | None = None, model_name: str | None = None, **_: Any
    ) -> list[Webservice]:
        found = [Webservice._from_studio(workspace, item) for item in workspace._list("endpoints")]
        return [one for one in found if model_name in (None, str(one._data.get("model") or "").rpartition(":")[0])]

    @staticmethod
    def deploy_configuration(**kwargs: Any) -> DeploymentConfiguration:
        return DeploymentConfiguration(**kwargs)

    # -- what it is -----------------------------------------------------------------------------------------------

    state = property(lambda self: self._data["state"])
    scoring_uri = property(lambda self: self._data["scoring_uri"])
    swagger_uri = property(lambda self: self._data["swagger_uri"])
    description = property(lambda self: self._data["description"])
    auth_enabled = property(lambda self: self._data["auth_enabled"])
    tags = property(lambda self: dict(self._data["tags"]))
    error = property(lambda self: self._data["error"])
    created_time = property(lambda self: self._data["created_at"])
    updated_time = property(lambda self: self._data["updated_at"])
    compute_type = property(lambda self: "Local")

    @property
    def models(self) -> Sequence[Any]:
        from atelier.model import Model

        return [Model(self.workspace, id=self._data["model"])] if self._data.get("model") else []

    def update_deployment_state(self) -> None:
        self._data = self._fetch()

    def serialize(self) -> dict[str, Any]:
        return dict(self._data)

    def get_portal_url(self) -> str:
        return str(self._data["url"])

    # -- using it -------------------------------------------------------------------------------------------------

    def wait_for_deployment(self, show_output: bool = False, timeout_sec: float | None = None) -> None:
        """Wait until it answers. Raises WebserviceException with the reason and the last lines of its log when it
        does not."""
        until = time.monotonic() + (timeout_sec or 3600)
        pause = 0.1
        if show_output:
            print("Running", end="", flush=True)
        while True:
            self.update_deployment_state()
            if self.state != _MOVING or time.monotonic() > until:
                break
            time.sleep(pause)
            pause = min(pause * 1.5, 2.0)
            if show_output:
                print(".", end="", flush=True)
        if show_output:
            outcome = "Succeeded" if self.state == "Healthy" else "Failed"
            print(f'\n{outcome}\nService creation operation finished, operation "{outcome}"')
        if self.state != "Healthy":
            reason = (self.error or {}).get("message") or ("It was not ready in time." if self.state == _MOVING else "")
            raise WebserviceException(f"Service {self.name} is {self.state}. {reason}\n{self.get_logs(20)}".rstrip())

    def run(self, input_data: Any) -> Any:
        """Score ``input_data``: JSON text (or bytes), or an object that is turned into it. Gives the answer as an
        object.

        Raises WebserviceException with the service's own words when it answers with an error.
        """
        if hasattr(input_data, "tolist"):
            input_data = {"data": input_data.tolist()}
        body = input_data if isinstance(input_data, (str, bytes)) else json.dumps(input_data)
        body = body.encode() if isinstance(body, str) else body
        headers = {"Content-Type": "application/json"}
        try:
            found = self.workspace._request("POST", self._path("/score"), body=body, headers=headers, timeout=300)
        except ServiceException as error:
            said = error.problem.get("error") or error.problem.get("message") or str(error)
            raise WebserviceException(
                f"Received bad response from service {self.name}: {said}", error.status_code
            ) from error
        try:
            return json.loads(found.body)
        except ValueError:
            return found.body.decode("utf-8", "replace")

    def get_logs(self, num_lines: int = 5000, init: bool = False) -> str:
        """The last lines that it wrote."""
        text = self.workspace._request("GET", self._path("/logs")).body.decode("utf-8", "replace")
        return "".join(text.splitlines(keepends=True)[-num_lines:])

    def get_keys(self) -> tuple[str, str]:
        """(primary, secondary), as callers send them: ``Authorization: Bearer <key>``."""
        found = self.workspace._call("GET", self._path("/keys"))
        return found["primary"], found["secondary"]

    def regen_key(self, key: str = "Primary", set_key: str | None = None) -> None:
        """A fresh key in the place of one. Setting a key of your own is refused."""
        if set_key is not None:
            raise UserErrorException("regen_key(set_key=...): keys are made by the studio.")
        self.workspace._call("POST", self._path("/keys/rotate"), data={"which": str(key).lower()})

    def get_token(self) -> None:
        raise UserErrorException("Services here are called with a key: see get_keys().")

    def get_swagger(self) -> dict[str, Any]:
        return dict(self.workspace._call("GET", self._path("/swagger.json")))

    def update(
        self,
        *_: Any,
        models: Any = None,
        tags: Any = None,
        description: str | None = None,
        auth_enabled: bool | None = None,
        **rest: Any,
    ) -> None:
        """Put another model behind it. The address and the keys stay."""
        from atelier.model import Model

        chosen = models or self.models
        config = DeploymentConfiguration(
            tags=self.tags if tags is None else tags,
            description=self.description if description is None else description,
            auth_enabled=self.auth_enabled if auth_enabled is None else auth_enabled,
        )
        deployed = Model.deploy(
            self.workspace, self.name, chosen, rest.get("inference_config"), deployment_config=config, overwrite=True
        )
        self._data = deployed._data

    def stop(self) -> None:
        self._data = self.workspace._call("POST", self._path("/stop"))

    def start(self) -> None:
        self._data = self.workspace._call("POST", self._path("/start"))

    def delete(self) -> None:
        """Stop and delete it, with its keys."""
        self.workspace._call("DELETE", self._path())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workspace={self.workspace!r}, name={self.name}, state={self.state})"


class LocalWebservice(Webservice):
    """A service on the studio's machine."""


class AciWebservice(Webservice):
    """The v1 name for a service on a shared machine; here it runs on the target that is attached."""


class AksWebservice(Webservice):
    """The v1 name for a service on a cluster; here it runs on the target that is attached."""
