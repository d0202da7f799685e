"""Containers of Azure Blob Storage: public to read, with an account key, or with a SAS token.

A whole address of a container or blob, signature and all, may be pasted instead of the fields.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import secrets as random_words
import weakref
from collections.abc import AsyncIterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from studio.datasets.backends import guard, parts
from studio.datasets.backends.azure_address import Signature, service_address, split_address
from studio.datasets.backends.base import Entry, StoreError
from studio.datasets.backends.faults import network_fault
from studio.datasets.backends.objects import (
    CONNECT_S,
    PART,
    READ_S,
    Found,
    Keys,
    Missing,
    ObjectStore,
    clean_prefix,
)
from studio.lib.fields import FormField

_REFUSED = {"AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"}
_DENIED = {
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "AuthorizationProtocolMismatch",
    "AuthorizationResourceTypeMismatch",
    "AuthorizationServiceMismatch",
    "AuthorizationSourceIPMismatch",
    "InsufficientAccountPermissions",
    "UnauthorizedBlobOverwrite",
}
_NO_CONTAINER = {"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled", "InvalidResourceName"}
_PRIVATE = {"PublicAccessNotPermitted", "ResourceNotFound"}


class AzureBlobStore(ObjectStore):
    kind = "azure_blob"
    label: ClassVar[Any] = gettext_lazy("Azure Blob Storage")
    summary: ClassVar[Any] = gettext_lazy("A container: public to read, with an account key or with a SAS token.")
    icon = "brand-azure"
    fields: ClassVar[list[FormField]] = [
        FormField(
            "url",
            gettext_lazy("Address of the container, with its SAS"),
            "password",
            secret=True,
            help=gettext_lazy(
                "As the Azure portal gives it: https://ACCOUNT.blob.core.windows.net/CONTAINER?sv=... "
                "It takes the place of the fields below."
            ),
            address=True,
        ),
        FormField("account_name", gettext_lazy("Storage account")),
        FormField("container", gettext_lazy("Container")),
        FormField(
            "endpoint",
            gettext_lazy("Address of the blob service"),
            help=gettext_lazy("Only for other clouds and Azurite. Empty: ACCOUNT.blob.core.windows.net."),
        ),
        FormField(
            "prefix",
            gettext_lazy("Folder"),
            help=gettext_lazy("Only what lies below it is seen. Empty: all."),
            address=False,
        ),
        FormField(
            "auth",
            gettext_lazy("Access"),
            "select",
            default="",
            choices=[
                ("", gettext_lazy("By what is filled in")),  # type: ignore[list-item]
                ("public", gettext_lazy("Everybody may read")),  # type: ignore[list-item]
                ("key", gettext_lazy("Account key")),  # type: ignore[list-item]
                ("sas", gettext_lazy("SAS token")),  # type: ignore[list-item]
            ],
        ),
        FormField("account_key", gettext_lazy("Account key"), "password", secret=True),
        FormField("sas_token", gettext_lazy("SAS token"), "password", secret=True),
    ]
    max_parts = 50_000
    min_part = 1

    def __init__(self, config: dict[str, Any], secrets: dict[str, str]) -> None:
        given = {name: str(config.get(name) or "").strip() for name in ("account_name", "container", "endpoint")}
        pasted = str(secrets.get("url") or config.get("url") or "").strip()
        prefix = str(config.get("prefix") or "")
        self.sas = (secrets.get("sas_token") or "").strip().lstrip("?")
        if pasted:
            split = split_address(pasted)
            given.update({name: split[name] for name in ("account_name", "container", "endpoint")})
            prefix = prefix or split["prefix"]
            self.sas = split["sas"] or self.sas
        self.account, self.container = given["account_name"], given["container"].strip("/")
        self._key_given = (secrets.get("account_key") or "").strip()
        self.auth = str(config.get("auth") or "") or ("sas" if self.sas else "key" if self._key_given else "public")
        self.signature = Signature(self.sas if self.auth == "sas" else "")
        self._service = service_address(given["endpoint"], self.account)
        # A signature for one blob opens nothing else, its container's listing neither.
        self.only = ""
        if self.signature.resource == "b" and prefix.strip("/"):
            folder, _slash, self.only = parts.clean_path(prefix.strip("/")).rpartition("/")
            prefix = folder
        self.prefix = clean_prefix(prefix)
        self._made: tuple[int, Any] | None = None

    def address(self) -> str:
        return f"{self._service}/{self.container}/{self.prefix}{self.only}"

    def where(self) -> str:
        return urlsplit(self._service).netloc

    async def _client(self) -> Any:
        """The container's client, on fsspec's loop. Made once in each process."""
        if self._made and self._made[0] == os.getpid():
            return self._made[1]
        import aiohttp
        from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
        from azure.core.pipeline.transport import AioHttpTransport
        from azure.storage.blob.aio import ContainerClient

        self._complete_fields()
        logging.getLogger("azure").setLevel(logging.WARNING)  # it tells of every request at the level of news
        credential = {
            "key": lambda: AzureNamedKeyCredential(self.account, self._key_given),
            "sas": lambda: AzureSasCredential(self.sas),
        }.get(self.auth, lambda: None)()
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=32, **guard.connector_arguments()),
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        client = ContainerClient(
            self._service,
            self.container,
            credential=credential,  # type: ignore[arg-type]  # one of three kinds
            transport=AioHttpTransport(session=session, session_owner=False, use_env_settings=False),
            connection_timeout=CONNECT_S,
            read_timeout=READ_S,
            retry_total=0,  # ours are bounded and say how many
            permit_redirects=False,  # the signature would go along
            max_single_get_size=PART // 2,
            max_chunk_get_size=PART // 2,
        )
        self._made = (os.getpid(), client)
        weakref.finalize(self, _close, asyncio.get_running_loop(), session)
        return client

    def _complete_fields(self) -> None:
        """Raises StoreError where a field is missing or cannot be used."""
        if not self.container:
            raise StoreError("no-such-container", _("No container is named."), field="container")
        if self.auth == "key":
            try:
                well = bool(base64.b64decode(self._key_given, validate=True)) and bool(self.account)
            except ValueError:
                well = False
            if not well:
                text = _("An account key is needed, as the portal shows it: 88 characters that end with ==.")
                raise StoreError("refused-key", text, field="account_key")
        if self.auth == "sas" and not self.signature.given.get("sig"):
            text = _("The SAS token has no signature: it must hold sv=, sp= and sig=.")
            raise StoreError("refused-key", text, field="sas_token")

    # --- the calls of ObjectStore ---

    async def _keys(self, prefix: str, *, deep: bool, limit: int, token: str | None) -> Keys:
        if self.only:
            return await self._only_key(prefix)
        client = await self._client()
        words = {"name_starts_with": prefix or None, "results_per_page": limit, "include": ["metadata"]}
        pages = client.list_blobs(**words) if deep else client.walk_blobs(delimiter="/", **words)
        page = pages.by_page(continuation_token=token)
        rows = [row async for row in await anext(page)]
        # A hierarchical account lists its folders among the blobs.
        files = [row for row in rows if hasattr(row, "etag") and (row.metadata or {}).get("hdi_isfolder") != "true"]
        folders = [row.name for row in rows if not hasattr(row, "etag")]
        return Keys(folders, [_found(row.name, row) for row in files], page.continuation_token or None)

    async def _only_key(self, prefix: str) -> Keys:
        key = self.prefix + self.only
        return Keys([], [await self._head(key)] if key.startswith(prefix) else [], None)

    async def _head(self, key: str) -> Found:
        client = await self._client()
        try:
            row = await client.get_blob_client(key).get_blob_properties()
        except Exception as error:
            if _code(error)[0] == "BlobNotFound" or (self.auth != "public" and _code(error)[1] == 404):
                raise Missing(key) from None
            raise
        if (row.metadata or {}).get("hdi_isfolder") == "true":
            raise Missing(key)
        return _found(key, row)

    async def _read(self, key: str, start: int, end: int, etag: str) -> AsyncIterator[bytes]:
        from azure.core import MatchConditions

        client = await self._client()
        words = {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}
        answer = await client.get_blob_client(key).download_blob(start, end - start, max_concurrency=1, **words)
        async for piece in answer.chunks():
            yield piece

    async def _remove(self, key: str) -> None:
        client = await self._client()
        await client.get_blob_client(key).delete_blob(delete_snapshots="include")

    async def _begin(self, key: str) -> str:
        self._may_write(key)
        await self._client()
        return random_words.token_hex(8)

    async def _send(self, key: str, upload: str, number: int, data: bytes) -> str:
        client = await self._client()
        # Uploads of the same blob at the same time share its list of blocks: each names its own.
        name = f"{upload}-{number:06d}"
        await client.get_blob_client(key).stage_block(name, data, len(data), validate_content=True)
        return name

    async def _complete(self, key: str, upload: str, marks: list[str]) -> Found:
        from azure.storage.blob import BlobBlock

        client = await self._client()
        answer = await client.get_blob_client(key).commit_block_list([BlobBlock(block_id=name) for name in marks])
        return Found(key, 0, answer["last_modified"].timestamp(), str(answer["etag"]))

    async def _abort(self, key: str, upload: str) -> None:
        """Blocks that no list names are removed by the store after a week."""

    # --- what goes wrong ---

    def _may_write(self, key: str) -> None:
        """A signature says what it allows: nothing is sent in vain. Raises StoreError read-only."""
        if self.auth == "public":
            raise self._read_only(key)
        allowed = self.signature.given.get("sp", "")
        if self.auth == "sas" and allowed and not set(allowed) & set("wca"):
            raise self._read_only(key)

    def _read_only(self, path: str) -> StoreError:
        words = {"container": self.container, "path": path}
        if self.auth == "public":
            text = _("The container %(container)s is opened for everybody to read; writing needs a key or a SAS token.")
            return StoreError("read-only", text % words, path=path, field="auth")
        text = _("The SAS token does not allow to write to %(path)s in the container %(container)s.")
        hint = _("Make a SAS token with the permissions Read, Create, Write, Delete and List.")
        return StoreError("read-only", text % words, hint=hint, path=path, field="sas_token")

    def _fault(self, error: Exception, path: str, *, writing: bool) -> StoreError:
        code, status = _code(error)
        words = {"container": self.container, "where": self.where(), "path": path or self.container, "code": code}
        if not status:
            words["kind"] = type(error).__name__
            text = _("The request to %(where)s failed (%(kind)s).") % words
            return network_fault(error, self.where(), path) or StoreError("failed", text, path=path)
        if 300 <= status < 400:
            text = _("%(where)s sends requests on to another address; that is not followed.") % words
            return StoreError("failed", text, path=path, field="endpoint")
        if code in _NO_CONTAINER:
            text = _("There is no container %(container)s on %(where)s.") % words
            return StoreError("no-such-container", text, path=path, field="container")
        if code in _PRIVATE and self.auth == "public" and not writing:
            text = _("There is no container %(container)s on %(where)s that everybody may read.") % words
            hint = _("Give an account key or a SAS token if it is private.")
            return StoreError("no-such-container", text, hint=hint, path=path, field="container")
        if code in _REFUSED or code in _DENIED or status in (401, 403):
            return self._refused(code, words, path, writing)
        if code in ("ConditionNotMet", "TargetConditionNotMet") or status == 412:
            return parts.changed(path)
        if code in ("InvalidBlockList", "InvalidBlockId", "InvalidBlobOrBlock", "Md5Mismatch", "InvalidRange"):
            text = _("%(where)s does not have all of %(path)s (%(code)s).") % words
            return StoreError("incomplete", text, hint=_("Upload the file again."), path=path)
        if status == 404:
            return parts.no_such_file(path)
        if status >= 500 or status in (408, 429):
            text = _("%(where)s is too busy or has an error of its own (%(code)s).") % words
            return StoreError("failed", text, path=path, retry=True)
        return StoreError("failed", _("%(where)s refused the request for %(path)s: %(code)s.") % words, path=path)

    def _refused(self, code: str, words: dict[str, str], path: str, writing: bool) -> StoreError:
        outside = self.signature.outside_its_time()
        if self.auth == "sas" and outside:
            return StoreError(
                "expired-signature", outside, hint=_("Make a new SAS token."), path=path, field="sas_token"
            )
        if writing and self.auth != "key" and (code in _DENIED or self.auth == "public"):
            return self._read_only(path)
        if self.auth == "public":
            text = _("The container %(container)s on %(where)s is not open to everybody.") % words
            return StoreError(
                "refused-key", text, hint=_("Give an account key or a SAS token."), path=path, field="auth"
            )
        if self.auth == "key":
            text = _("%(where)s refuses the account key (%(code)s).") % words
            hint = _("Enter the key again. Network rules of the account may be the reason, too.")
            return StoreError("refused-key", text, hint=hint, path=path, field="account_key")
        if code in _REFUSED or {"r", "l"} <= set(self.signature.given.get("sp", "")):
            text = _("%(where)s refuses the SAS token: its signature does not fit this container.") % words
            return StoreError("refused-key", text, hint=_("Copy the whole token again."), path=path, field="sas_token")
        text = _("The SAS token does not allow to read or list %(path)s in the container %(container)s.") % words
        hint = _("Make a SAS token with the permissions Read and List.")
        return StoreError("forbidden", text, hint=hint, path=path, field="sas_token")

    def stat(self, path: str) -> Entry:
        if self.only and parts.clean_path(path) not in ("", self.only):
            raise parts.no_such_file(path)
        return super().stat(path)


def _close(loop: asyncio.AbstractEventLoop, session: Any) -> None:
    if loop.is_running():
        loop.call_soon_threadsafe(lambda: asyncio.ensure_future(session.close()))


def _code(error: BaseException) -> tuple[str, int]:
    """The code and the HTTP status that the store answered with; ("", 0) without an answer."""
    status = getattr(error, "status_code", None)
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or status or ""), int(status or 0)


def _found(key: str, row: Any) -> Found:
    return Found(
        key,
        int(row.size),
        row.last_modified.timestamp() if row.last_modified else None,
        f'"{(row.etag or "").strip(chr(34))}"',
    )
