"""``Datastore.register_...``: the kinds of datastore under the names that scripts type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

from atelier.exceptions import ServiceException, UserErrorException
from atelier.transport import segment

if TYPE_CHECKING:
    from atelier.datastore import Datastore
    from atelier.workspace import Workspace


class StoreRegister:
    """``Datastore.register_...`` for each kind. Where a datastore of the name is there already, it is updated when
    ``overwrite`` is given, or refused."""

    @staticmethod
    def register_azure_blob_container(
        workspace: Workspace,
        datastore_name: str,
        container_name: str = "",
        account_name: str = "",
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
        url: str | None = None,
        prefix: str | None = None,
        description: str = "",
    ) -> Datastore:
        """A container of Azure Blob storage: public to read (neither key nor token), with an account key, or with a SAS
        token. ``endpoint`` is a host (core.windows.net) or the whole address of another blob server. ``url``, the
        container's address with its SAS, takes the place of all of these. ``prefix``: only what lies below it."""
        config = {
            "account_name": account_name,
            "container": container_name,
            "endpoint": _blob_endpoint(endpoint, protocol, account_name),
            "prefix": prefix,
        }
        secrets = {"account_key": account_key, "sas_token": sas_token, "url": url}
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
        secrets: dict[str, Any] = {key: options.pop(key) for key in ("password", "header_value") if key in options}
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
        secrets: dict[str, Any] = {key: options.pop(key) for key in ("token", "password") if key in options}
        config = {"url": url, "user": user, "root": root, **options}
        return _made(workspace, datastore_name, "hdfs", config, secrets, description, overwrite, not skip_validation)

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
        options: dict[str, Any] = {"sslmode": "require" if enforce_ssl else "prefer"}
        return StoreRegister.register_postgresql(
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
    from atelier.datastore import Datastore

    kept = {key: value for key, value in config.items() if value not in (None, "")}
    opened = {key: value for key, value in secrets.items() if value}
    asked = {"config": kept, "secrets": opened, "description": description, "check": check}
    before = there(workspace, name)
    if before is None:
        data = workspace._call("POST", "datastores", data={"name": name, "kind": kind, **asked})
        return Datastore(workspace, _data=data)  # type: ignore[no-any-return]
    have = before.get("config") or {}
    same = before.get("kind") == kind and all(str(have.get(key)) == str(value) for key, value in kept.items())
    if not overwrite and not same:
        raise UserErrorException(
            f"Workspace {workspace.name} has a datastore {name!r} already, and it is another place. Choose another "
            "name, or say overwrite=True."
        )
    if before.get("kind") != kind:
        raise UserErrorException(
            f"Datastore {name!r} is of kind {before.get('kind')}, and cannot become {kind}: unregister() it first."
        )
    data = workspace._call("PATCH", f"datastores/{segment(name)}", data=asked)
    return Datastore(workspace, _data=data)  # type: ignore[no-any-return]


def there(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """The studio's row of a datastore, None where there is none of this name."""
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
