"""A workspace of the studio."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

from atelier import config
from atelier.auth import AbstractAuthentication, InteractiveLoginAuthentication
from atelier.exceptions import ProjectSystemException, ServiceException, UserErrorException
from atelier.transport import Response, Transport, segment


class LazyMapping(Mapping[str, Any]):
    """Objects by name. One request lists the names; an object is made when it is asked for."""

    def __init__(self, load: Callable[[], dict[str, Any]]) -> None:
        self._load = load
        self._held: dict[str, Any] | None = None

    def _items(self) -> dict[str, Any]:
        if self._held is None:
            self._held = self._load()
        return self._held

    def __getitem__(self, name: str) -> Any:
        return self._items()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items())

    def __len__(self) -> int:
        return len(self._items())

    def __repr__(self) -> str:
        return repr(self._items())


class Workspace:
    """``Workspace(subscription_id, resource_group, workspace_name)`` as in v1; the studio knows it by its name alone.

    ``endpoint`` is the studio's address; see ``Workspace.from_config`` for where it comes from otherwise.
    Raises ProjectSystemException when the studio has no such workspace or hides it from this identity.
    """

    def __init__(
        self,
        subscription_id: str = "",
        resource_group: str = "",
        workspace_name: str = "",
        auth: AbstractAuthentication | None = None,
        _location: str | None = None,
        _disable_service_check: bool = False,
        _workspace_id: str | None = None,
        sku: str = "",
        tags: dict[str, str] | None = None,
        *,
        endpoint: str | None = None,
    ) -> None:
        if not workspace_name:
            raise UserErrorException("Which workspace? Give workspace_name=.")
        self.name = workspace_name
        self.subscription_id = subscription_id
        self.resource_group = resource_group
        self.endpoint = config.endpoint_resolve(endpoint)
        self._auth_object = auth or InteractiveLoginAuthentication()
        self._auth_object.endpoint = self._auth_object.endpoint or self.endpoint
        self._transport = Transport(self.endpoint, self._token)
        self._details: dict[str, Any] | None = None
        if not _disable_service_check:
            self.get_details()

    def _token(self) -> str:
        return self._auth_object.token(self.endpoint)

    # -- finding one ----------------------------------------------------------------------------------------------

    @classmethod
    def from_config(
        cls,
        path: str | os.PathLike[str] | None = None,
        auth: AbstractAuthentication | None = None,
        _logger: Any = None,
        _file_name: str | None = None,
    ) -> Workspace:
        """The workspace of ``config.json``, ``.azureml/config.json`` or ``aml_config/config.json`` in the working
        folder
        (or ``path``) or a parent of it."""
        found = config.config_read(config.config_find(path, _file_name))
        return cls(
            str(found.get("subscription_id", "")),
            str(found.get("resource_group", "")),
            str(found["workspace_name"]),
            auth=auth,
            endpoint=found.get("endpoint"),
        )

    @classmethod
    def get(
        cls,
        name: str,
        auth: AbstractAuthentication | None = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        *,
        endpoint: str | None = None,
    ) -> Workspace:
        return cls(subscription_id or "", resource_group or "", name, auth=auth, endpoint=endpoint)

    @classmethod
    def create(
        cls,
        name: str,
        auth: AbstractAuthentication | None = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        create_resource_group: bool = True,
        exist_ok: bool = False,
        *,
        endpoint: str | None = None,
        **_: Any,
    ) -> Workspace:
        """Make a workspace (site administrators may). With ``exist_ok`` an existing one is given."""
        ws = cls(
            subscription_id or "", resource_group or "", name, auth, endpoint=endpoint, _disable_service_check=True
        )
        try:
            ws._transport.request("POST", "/api/v1/workspaces", data={"name": name})
        except ServiceException as error:
            if not (exist_ok and error.status_code == 409):
                raise
        return ws

    @classmethod
    def list(
        cls,
        subscription_id: str | None = None,
        auth: AbstractAuthentication | None = None,
        resource_group: str | None = None,
        *,
        endpoint: str | None = None,
    ) -> dict[str, list[Workspace]]:
        """Workspaces of this identity, as v1 gives them: a list under each name."""
        base = cls("", "", "-", auth, endpoint=endpoint, _disable_service_check=True)
        names = [item["name"] for item in base._pages("/api/v1/workspaces", {})]
        return {
            n: [cls("", "", n, base._auth_object, endpoint=base.endpoint, _disable_service_check=True)] for n in names
        }

    def write_config(self, path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> None:
        """Write ``.azureml/config.json`` below ``path`` (the working folder)."""
        folder = Path(path or ".") / ".azureml"
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "subscription_id": self.subscription_id,
            "resource_group": self.resource_group,
            "workspace_name": self.name,
            "endpoint": self.endpoint,
        }
        (folder / (file_name or "config.json")).write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")

    # -- what it holds --------------------------------------------------------------------------------------------

    def get_details(self) -> dict[str, Any]:
        """What the studio says of the workspace."""
        if self._details is None:
            try:
                self._details = self._call("GET", "") or {}
            except ServiceException as error:
                if error.status_code != 404:
                    raise
                raise ProjectSystemException(
                    f"{self.endpoint} has no workspace {self.name!r}, or you are not a member of it."
                ) from error
        return self._details

    @property
    def location(self) -> str:
        return str(self.get_details().get("location") or "local")

    @property
    def tags(self) -> dict[str, Any]:
        return dict(self.get_details().get("tags") or {})

    @property
    def compute_targets(self) -> Mapping[str, Any]:
        from atelier.compute import ComputeTarget

        return LazyMapping(lambda: {target.name: target for target in ComputeTarget.list(self)})

    @property
    def datastores(self) -> Mapping[str, Any]:
        from atelier.datastore import Datastore

        return LazyMapping(lambda: {store.name: store for store in Datastore.list(self)})

    @property
    def datasets(self) -> Mapping[str, Any]:
        from atelier.dataset import Dataset

        return Dataset.get_all(self)

    def get_default_datastore(self) -> Any:
        from atelier.datastore import Datastore

        return Datastore.get_default(self)

    def set_default_datastore(self, name: Any) -> None:
        """By its name, or the datastore itself."""
        from atelier.datastore import Datastore

        Datastore.get(self, getattr(name, "name", name)).set_as_default()

    @property
    def experiments(self) -> Mapping[str, Any]:
        from atelier.experiment import Experiment

        return LazyMapping(lambda: {experiment.name: experiment for experiment in Experiment.list(self)})

    @property
    def environments(self) -> Mapping[str, Any]:
        from atelier.environment import Environment

        return LazyMapping(lambda: Environment.list(self))

    @property
    def models(self) -> Mapping[str, Any]:
        from atelier.model import Model

        return LazyMapping(lambda: {model.name: model for model in Model.list(self, latest=True)})

    @property
    def webservices(self) -> Mapping[str, Any]:
        from atelier.webservice import Webservice

        return LazyMapping(lambda: {service.name: service for service in Webservice.list(self)})

    def get_run(self, run_id: str) -> Any:
        from atelier.run import Run

        return Run.get(self, run_id)

    def get_default_compute_target(self, type: str = "CPU") -> Any:  # noqa: A002 - the v1 name
        from atelier.compute import ComputeTarget

        return ComputeTarget(self, "local")

    def __repr__(self) -> str:
        return f"Workspace.create(name={self.name!r}, endpoint={self.endpoint!r})"

    # -- the studio's REST interface ------------------------------------------------------------------------------

    def _path(self, path: str) -> str:
        return f"/api/v1/workspaces/{segment(self.name)}{'/' + path if path else ''}"

    def _request(self, method: str, path: str, **options: Any) -> Response:
        return self._transport.request(method, self._path(path), **options)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        """One call below this workspace; the answer's JSON."""
        return self._request(method, path, **options).json()

    def _list(self, path: str, limit: int | None = None, **params: Any) -> Iterator[dict[str, Any]]:
        """All items of a paged list below this workspace, page by page; at most ``limit``."""
        for count, item in enumerate(self._pages(self._path(path), params), 1):
            yield item
            if limit is not None and count >= limit:
                return

    def _pages(self, path: str, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
        cursor = None
        while True:
            page = self._transport.request("GET", path, params={**params, "cursor": cursor}).json()
            if isinstance(page, list):
                yield from page
                return
            yield from page["items"]
            cursor = page.get("next")
            if not cursor:
                return
