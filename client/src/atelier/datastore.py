"""Datastores: where a workspace's data lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping
from urllib.parse import urlsplit

from atelier.data.store_files import StoreFiles
from atelier.exceptions import ServiceException, UserErrorException
from atelier.transport import segment

if TYPE_CHECKING:
    from atelier.data.references import DataReference
    from atelier.workspace import Workspace


class _Register:
    """``Datastore.register_...`` for each kind. Where a datastore of the name is there already, it is updated when
    ``overwrite`` is given, or refused."""

    @staticmethod
    def register_azure_blob_container(
        workspace: Workspace,
        datastore_name: str,
        container_name: str,
        account_name: str,
        sas_token: str | None = None,
        account_key: str | None = None,
        protocol: str | None = None,
        endpoint: str | None = None,
        overwrite: bool = False,
        create_if_not_exists: bool = False,
        skip_validation: bool = False,
        blob_cache_timeout: int | None = None,
        grant_workspace_access: bool = False,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        *,
        description: str = "",
    ) -> Datastore:
        """A container of Azure Blob storage: public to read (neither key nor token), with an account key, or with a SAS
        token. ``endpoint`` is a host (core.windows.net) or the whole address of another blob server."""
        config = {
            "account_name": account_name,
            "container": container_name,
            "endpoint": _blob_endpoint(endpoint, protocol, account_name),
        }
        secrets = {"account_key": account_key, "sas_token": sas_token}
        return _made(
            workspace, datastore_name, "azure_blob", config, secrets, description, overwrite, not skip_validation
        )

    @staticmethod
    def register_s3(
        workspace: Workspace,
        datastore_name: str,
        bucket: str,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        endpoint: str | None = None,
        region: str | None = None,
        prefix: str = "",
        overwrite: bool = False,
        skip_validation: bool = False,
        description: str = "",
        **options: Any,
    ) -> Datastore:
        """A bucket of an S3 service; without keys it is read as anybody may. ``endpoint``: the address of a server
        other than Amazon's."""
        config = {"bucket": bucket, "endpoint": endpoint, "region": region, "prefix": prefix, **options}
        secrets = {"access_key": access_key, "secret_key": secret_key, "session_token": session_token}
        return _made(workspace, datastore_name, "s3", config, secrets, description, overwrite, not skip_validation)

    @staticmethod
    def register_http(
        workspace: Workspace,
        datastore_name: str,
        url: str,
        overwrite: bool = False,
        skip_validation: bool = False,
        description: str = "",
        **options: Any,
    ) -> Datastore:
        """A web server's folder. Where the server asks: ``user`` and ``password``, or ``header_name`` and
        ``header_value``, a header that each request carries."""
        secrets = {name: options.pop(name) for name in ("password", "header_value") if name in options}
        config = {"url": url, **options}
        return _made(workspace, datastore_name, "http", config, secrets, description, overwrite, not skip_validation)

    @staticmethod
    def register_hdfs(
        workspace: Workspace,
        datastore_name: str,
        url: str,
        user: str | None = None,
        root: str = "",
        overwrite: bool = False,
        skip_validation: bool = False,
        description: str = "",
        **options: Any,
    ) -> Datastore:
        """A folder of HDFS over WebHDFS: ``url`` is the address of the name node's web server."""
        config = {"url": url, "user": user, "root": root, **options}
        return _made(workspace, datastore_name, "hdfs", config, {}, description, overwrite, not skip_validation)

    @staticmethod
    def register_local(
        workspace: Workspace,
        datastore_name: str,
        path: str,
        overwrite: bool = False,
        skip_validation: bool = False,
        description: str = "",
    ) -> Datastore:
        """A folder of the studio's machine, or one that is mounted there (NFS)."""
        config = {"path": str(path)}
        return _made(workspace, datastore_name, "local", config, {}, description, overwrite, not skip_validation)

    @staticmethod
    def register_postgresql(
        workspace: Workspace,
        datastore_name: str,
        server_name: str,
        database_name: str,
        user_id: str | None = None,
        user_password: str | None = None,
        port_number: Any = None,
        overwrite: bool = False,
        skip_validation: bool = False,
        description: str = "",
        **options: Any,
    ) -> Datastore:
        """A PostgreSQL database, for ``Dataset.Tabular.from_sql_query``."""
        config = {"host": server_name, "database": database_name, "user": user_id, "port": int(port_number or 5432)}
        secrets = {"password": user_password}
        config.update(options)
        return _made(
            workspace, datastore_name, "postgresql", config, secrets, description, overwrite, not skip_validation
        )

    @staticmethod
    def register_azure_postgre_sql(
        workspace: Workspace,
        datastore_name: str,
        server_name: str,
        database_name: str,
        user_id: str,
        user_password: str,
        port_number: Any = None,
        endpoint: str | None = None,
        overwrite: bool = False,
        enforce_ssl: bool = True,
        **_: Any,
    ) -> Datastore:
        """As ``register_postgresql``. A bare server name gets ``endpoint`` (postgres.database.azure.com) behind it."""
        bare = "." not in server_name and ":" not in server_name and server_name != "localhost"
        host = f"{server_name}.{endpoint or 'postgres.database.azure.com'}" if bare else server_name
        options = {} if enforce_ssl else {"ssl": False}
        return Datastore.register_postgresql(
            workspace, datastore_name, host, database_name, user_id, user_password, port_number, overwrite, **options
        )

    @staticmethod
    def register_azure_file_share(*_arguments: Any, **_options: Any) -> Datastore:
        """Refused: see the message."""
        raise UserErrorException(
            "Azure file shares are not a kind of datastore here. Mount the share on the studio's machine and use "
            "Datastore.register_local, or copy it into a blob container and use register_azure_blob_container."
        )

    @staticmethod
    def register_azure_data_lake_gen2(*_arguments: Any, **_options: Any) -> Datastore:
        """Refused: see the message."""
        raise UserErrorException(
            "Data Lake Gen2 is registered as a blob container here (a lake's file system is one): "
            "Datastore.register_azure_blob_container(workspace, name, container_name=file system, account_name=...)."
        )

    register_azure_data_lake = register_azure_data_lake_gen2

    @staticmethod
    def register_azure_sql_database(*_arguments: Any, **_options: Any) -> Datastore:
        """Refused: see the message."""
        raise UserErrorException(
            "Of databases PostgreSQL is a kind of datastore here: Datastore.register_postgresql. Export tables of "
            "other databases as Parquet or CSV files."
        )

    register_azure_my_sql = register_azure_sql_database


class Datastore(StoreFiles, _Register):
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
    found = _there(workspace, name)
    if found is not None:
        return found
    names: list[str] = sorted(item["name"] for item in workspace._list("datastores"))
    raise UserErrorException(
        f"Workspace {workspace.name} has no datastore {name!r}. It has: {', '.join(names) or 'none'}."
    )


def _made(
    workspace: Workspace,
    name: str,
    kind: str,
    config: Mapping[str, Any],
    secrets: Mapping[str, Any],
    description: str,
    overwrite: bool,
    check: bool,
) -> Datastore:
    """Register, or update where ``overwrite`` says so. A failing test of the connection is an error with its reason."""
    kept = {key: value for key, value in config.items() if value not in (None, "")}
    opened = {key: value for key, value in secrets.items() if value}
    asked = {"config": kept, "secrets": opened, "description": description, "check": check}
    there = _there(workspace, name)
    if there is None:
        data = workspace._call("POST", "datastores", data={"name": name, "kind": kind, **asked})
        return Datastore(workspace, _data=data)  # type: ignore[no-any-return]
    have = there.get("config") or {}
    same = there.get("kind") == kind and all(str(have.get(key)) == str(value) for key, value in kept.items())
    if not overwrite and not same:
        raise UserErrorException(
            f"Workspace {workspace.name} has a datastore {name!r} already, and it is another place. Choose another "
            "name, or say overwrite=True."
        )
    if there.get("kind") != kind:
        raise UserErrorException(
            f"Datastore {name!r} is of kind {there.get('kind')}, and cannot become {kind}: unregister() it first."
        )
    data = workspace._call("PATCH", f"datastores/{segment(name)}", data=asked)
    return Datastore(workspace, _data=data)  # type: ignore[no-any-return]


def _there(workspace: Workspace, name: str) -> dict[str, Any] | None:
    try:
        return dict(workspace._call("GET", f"datastores/{segment(name)}"))
    except ServiceException as error:
        if error.status_code == 404:
            return None
        raise


def _blob_endpoint(endpoint: str | None, protocol: str | None, account: str) -> str | None:
    """The address of the account's blobs; None for the public cloud's."""
    if not endpoint or endpoint == "core.windows.net":
        return None
    if "//" in endpoint:
        return endpoint
    return f"{protocol or 'https'}://{account}.blob.{endpoint}"
