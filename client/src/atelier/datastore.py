"""Datastores: where a workspace's data lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping
from urllib.parse import urlsplit

from atelier.data.store_files import StoreFiles
from atelier.data.store_register import StoreRegister, there
from atelier.exceptions import UserErrorException
from atelier.transport import segment

if TYPE_CHECKING:
    from atelier.data.references import DataReference
    from atelier.workspace import Workspace


class Datastore(StoreFiles, StoreRegister):
    """``Datastore(workspace, name)`` gives an object of the kind's own class. Without a name it is the default one."""

    datastore_type = ""
    _data: dict[str, Any]

    def __new__(cls, workspace: Workspace, name: str | None = None, *, _data: dict[str, Any] | None = None) -> Any:
        data = _data if _data is not None else _found(workspace, name)
        made = object.__new__(_KINDS.get(str(data.get("kind")), cls))
        made._workspace, made._data = workspace, data
        return made

    def __init__(self, workspace: Workspace, name: str | None = None, *, _data: dict[str, Any] | None = None) -> None:
        """Made in ``__new__``."""

    def __getnewargs_ex__(self) -> Any:
        return (self._workspace, self._data["name"]), {"_data": self._data}

    # -- finding one ----------------------------------------------------------------------------------------------

    @staticmethod
    def get(workspace: Workspace, datastore_name: str) -> Any:
        """A datastore by its name. Raises UserErrorException with the names there are."""
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: Workspace) -> Any:
        return Datastore(workspace)

    @staticmethod
    def list(workspace: Workspace) -> Any:
        return [Datastore(workspace, _data=item) for item in workspace._list("datastores")]

    # -- what it is -----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return str(self._data["name"])

    @property
    def workspace(self) -> Workspace:
        return self._workspace

    @property
    def is_default(self) -> bool:
        return bool(self._data.get("is_default"))

    @property
    def description(self) -> str:
        return str(self._data.get("description") or "")

    @property
    def config(self) -> Mapping[str, Any]:
        """Its settings, without secrets."""
        return dict(self._data.get("config") or {})

    def path(self, path: Any = None, data_reference_name: str | None = None) -> DataReference:
        """A place in it, for datasets and for the inputs of runs."""
        from atelier.data.references import DataReference

        return DataReference(self, data_reference_name, path)

    def as_mount(self) -> DataReference:
        return self.path().as_mount()

    def as_download(self, path_on_compute: str | None = None) -> DataReference:
        return self.path().as_download(path_on_compute)

    def as_upload(self, path_on_compute: str | None = None) -> DataReference:
        return self.path().as_upload(path_on_compute)

    def test(self) -> dict[str, Any]:
        """Look whether it can be reached: ``{"problems": [...], "entries": [...]}``."""
        return dict(self._call("POST", "/test"))

    def set_as_default(self) -> None:
        self._call("POST", "/default")
        self._data = {**self._data, "is_default": True}

    def unregister(self) -> None:
        """Take it off the workspace. The data stays where it lies; datasets that name it cannot be read any more."""
        self._call("DELETE", "")

    def _call(self, method: str, path: str, **options: Any) -> Any:
        return self._workspace._call(method, f"datastores/{segment(self.name)}{path}", **options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, workspace={self._workspace.name!r})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Datastore)
            and (other.name, other._workspace.name, other._workspace.endpoint)
            == (self.name, self._workspace.name, self._workspace.endpoint)
        )  # fmt: skip

    def __hash__(self) -> int:
        return hash((self.name, self._workspace.name))


class AzureBlobDatastore(Datastore):
    datastore_type = "AzureBlob"

    @property
    def account_name(self) -> str:
        return str(self.config.get("account_name") or "")

    @property
    def container_name(self) -> str:
        return str(self.config.get("container") or self.name)

    @property
    def endpoint(self) -> str:
        return str(self.config.get("endpoint") or "core.windows.net")

    @property
    def protocol(self) -> str:
        return urlsplit(self.endpoint).scheme or "https"


class WorkspaceDatastore(AzureBlobDatastore):
    """The workspace's own store. It is a blob store to scripts that look at the type, as it was in v1."""


class AzureFileDatastore(Datastore):
    """A name for scripts that look at types: no datastore here is one."""

    datastore_type = "AzureFile"


class LocalDatastore(Datastore):
    datastore_type = "Local"


class HttpDatastore(Datastore):
    datastore_type = "Http"


class S3Datastore(Datastore):
    datastore_type = "S3"


class HdfsDatastore(Datastore):
    datastore_type = "Hdfs"


class AzurePostgreSqlDatastore(Datastore):
    datastore_type = "AzurePostgreSql"


_KINDS: dict[str, type[Datastore]] = {
    "workspace": WorkspaceDatastore,
    "local": LocalDatastore,
    "http": HttpDatastore,
    "s3": S3Datastore,
    "azure_blob": AzureBlobDatastore,
    "hdfs": HdfsDatastore,
    "postgresql": AzurePostgreSqlDatastore,
}


AbstractDatastore = Datastore


def _found(workspace: Workspace, name: str | None) -> dict[str, Any]:
    """The studio's row of a datastore; that of the default one where no name is given."""
    if name is None:
        for item in workspace._list("datastores"):
            if item.get("is_default"):
                return item
        raise UserErrorException(f"Workspace {workspace.name} has no default datastore.")
    found = there(workspace, name)
    if found is not None:
        return found
    names: list[str] = sorted(item["name"] for item in workspace._list("datastores"))
    raise UserErrorException(
        f"Workspace {workspace.name} has no datastore {name!r}. It has: {', '.join(names) or 'none'}."
    )
