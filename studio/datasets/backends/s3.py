"""Buckets of S3 and of servers that speak as it does (MinIO, Ceph, R2...), on s3fs.

Only the keys that were given are used: never those of this machine's environment, files or cloud.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import AsyncIterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from studio.datasets.backends import guard, parts
from studio.datasets.backends.base import StoreError
from studio.datasets.backends.faults import network_fault
from studio.datasets.backends.objects import CONNECT_S, READ_S, Found, Keys, Missing, ObjectStore, clean_prefix
from studio.lib.fields import FormField

_REFUSED = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "InvalidSecurity",
    "UnrecognizedClientException",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_BUSY = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "OperationAborted"}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "307"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "401", "Unauthorized"}


class S3Store(ObjectStore):
    kind = "s3"
    label: ClassVar[Any] = gettext_lazy("S3-compatible storage")
    summary: ClassVar[Any] = gettext_lazy("A bucket on Amazon S3, MinIO, Ceph, R2 or another server that speaks S3.")
    icon = "bucket"
    fields: ClassVar[list[FormField]] = [
        FormField("bucket", gettext_lazy("Bucket"), required=True),
        FormField(
            "endpoint",
            gettext_lazy("Address of the server"),
            help=gettext_lazy("For example https://minio.example:9000. Empty: Amazon S3."),
        ),
        FormField("region", gettext_lazy("Region"), help=gettext_lazy("For example eu-central-1. Empty: us-east-1.")),
        FormField(
            "prefix",
            gettext_lazy("Folder"),
            help=gettext_lazy("Only what lies below it is seen. Empty: all."),
            address=False,
        ),
        FormField(
            "anonymous",
            gettext_lazy("Without keys"),
            "checkbox",
            help=gettext_lazy("For buckets that everybody may read. Also so when both keys are empty."),
            default=False,
        ),
        FormField("access_key", gettext_lazy("Access key"), "password", secret=True),
        FormField("secret_key", gettext_lazy("Secret key"), "password", secret=True),
        FormField(
            "session_token",
            gettext_lazy("Session token"),
            "password",
            secret=True,
            help=gettext_lazy("Only with temporary keys."),
        ),
        FormField(
            "path_style",
            gettext_lazy("The bucket's name is in the path"),
            "checkbox",
            help=gettext_lazy("As most servers other than Amazon's want it. Off: it is in the host's name."),
            default=True,
        ),
    ]
    max_parts = 10_000
    min_part = 5 << 20

    def __init__(self, config: dict[str, Any], secrets: dict[str, str]) -> None:
        self.bucket = str(config.get("bucket") or "").strip().removeprefix("s3://").strip("/")
        self.endpoint = _endpoint(config.get("endpoint"))
        self.region = str(config.get("region") or "").strip() or "us-east-1"
        self.prefix = clean_prefix(config.get("prefix"))
        self.path_style = bool(config.get("path_style", True)) and bool(self.endpoint)
        self._keys_given = {name: (secrets.get(name) or "").strip() for name in ("access_key", "secret_key")}
        self._token = (secrets.get("session_token") or "").strip()
        self.anonymous = bool(config.get("anonymous")) or not any(self._keys_given.values())

    def address(self) -> str:
        return f"{self.endpoint or 's3:/'}/{self.bucket}/{self.prefix}"

    def where(self) -> str:
        return urlsplit(self.endpoint).netloc if self.endpoint else _("Amazon S3")

    @functools.cached_property
    def _filesystem(self) -> Any:
        """One s3fs of this datastore's own: nothing is shared with other credentials, no listing is kept."""
        if not self.bucket:
            raise StoreError("no-such-container", _("No bucket is named."), field="bucket")
        if not self.anonymous and not all(self._keys_given.values()):
            missing = next(name for name, value in self._keys_given.items() if not value)
            text = _("The access key and the secret key belong together: one of them is missing.")
            raise StoreError("refused-key", text, field=missing)
        import s3fs

        made = s3fs.S3FileSystem(
            anon=self.anonymous,
            key=None if self.anonymous else self._keys_given["access_key"],
            secret=None if self.anonymous else self._keys_given["secret_key"],
            token=None if self.anonymous else self._token or None,
            endpoint_url=self.endpoint or None,
            client_kwargs={"region_name": self.region, "verify": True},
            config_kwargs={
                "connector_args": guard.connector_arguments(),
                "proxies": {},
                "connect_timeout": CONNECT_S,
                "read_timeout": READ_S,
                "retries": {"total_max_attempts": 1, "mode": "standard"},  # ours are bounded and say how many
                "s3": {"addressing_style": "path" if self.path_style else "auto"},
                "ignore_configured_endpoint_urls": True,
                # Checksums in trailers are what servers other than Amazon's stumble over; parts carry their MD5.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
                "max_pool_connections": 32,
            },
            skip_instance_cache=True,
            use_listings_cache=False,
        )
        made.retries = 1
        return made

    async def _call(self, method: str, **given: Any) -> Any:
        # On fsspec's one loop, so that no two threads make the file system.
        return await self._filesystem._call_s3(method, Bucket=self.bucket, **given)

    # --- the calls of ObjectStore ---

    async def _keys(self, prefix: str, *, deep: bool, limit: int, token: str | None) -> Keys:
        words: dict[str, Any] = {"Prefix": prefix, "MaxKeys": limit}
        if not deep:
            words["Delimiter"] = "/"
        if token:
            words["ContinuationToken"] = token
        answer = await self._call("list_objects_v2", **words)
        folders = [row["Prefix"] for row in answer.get("CommonPrefixes", ())]
        files = [_found(row["Key"], row["Size"], row) for row in answer.get("Contents", ())]
        return Keys(folders, files, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None)

    async def _head(self, key: str) -> Found:
        try:
            answer = await self._call("head_object", Key=key)
        except Exception as error:
            code, status = _code(error)
            if status == 404:
                raise Missing(key) from None
            if status not in (400, 403):
                raise
            # The answer to HEAD has no body that could say what is wrong.
            answer = await self._call("get_object", Key=key, Range="bytes=0-0")
            answer["Body"].close()
            answer["ContentLength"] = int(answer["ContentRange"].rpartition("/")[2])
        return _found(key, answer["ContentLength"], answer)

    async def _head_or_none(self, key: str) -> Found | None:
        try:
            return await self._head(key)
        except Missing:
            return None

    async def _read(self, key: str, start: int, end: int, etag: str) -> AsyncIterator[bytes]:
        words = {"IfMatch": etag} if etag else {}
        answer = await self._call("get_object", Key=key, Range=f"bytes={start}-{end - 1}", **words)
        body = answer["Body"]
        try:
            if answer["ResponseMetadata"]["HTTPStatusCode"] != 206 and answer["ContentLength"] != end - start:
                text = _("%(where)s does not answer with the range that was asked for.") % {"where": self.where()}
                raise StoreError("incomplete", text, path=key)
            while piece := await body.read(parts.PIECE):
                yield piece
        finally:
            body.close()

    async def _remove(self, key: str) -> None:
        await self._call("delete_object", Key=key)

    async def _begin(self, key: str) -> str:
        return str((await self._call("create_multipart_upload", Key=key))["UploadId"])

    async def _send(self, key: str, upload: str, number: int, data: bytes) -> str:
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        answer = await self._call(
            "upload_part", Key=key, UploadId=upload, PartNumber=number, Body=data, ContentMD5=digest
        )
        return str(answer["ETag"])

    async def _complete(self, key: str, upload: str, marks: list[str]) -> Found:
        if not marks:
            # Nothing to put together: S3 has no uploads of no parts.
            answer = await self._call("put_object", Key=key, Body=b"")
            await self._abort(key, upload)
            return _found(key, 0, answer)
        rows = [{"PartNumber": number, "ETag": mark} for number, mark in enumerate(marks, 1)]
        try:
            answer = await self._call(
                "complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": rows}
            )
        except Exception as error:
            if _code(error)[0] != "NoSuchUpload":
                raise
            # The answer to an earlier attempt was lost: is it there?
            found = await self._head_or_none(key)
            if found is None or not found.etag.endswith(f'-{len(marks)}"'):
                raise
            return found
        return _found(key, 0, answer)

    async def _abort(self, key: str, upload: str) -> None:
        try:
            await self._call("abort_multipart_upload", Key=key, UploadId=upload)
        except Exception as error:
            if _code(error)[0] not in ("NoSuchUpload", "404"):
                raise

    # --- what goes wrong ---

    def _fault(self, error: Exception, path: str, *, writing: bool) -> StoreError:
        code, status = _code(error)
        if not code:
            return network_fault(error, self.where(), path) or self._strange(error, path)
        words = {"bucket": self.bucket, "where": self.where(), "path": path or self.bucket, "code": code}
        if code in _REFUSED:
            return StoreError("refused-key", _refusals(code) % words, hint=_("Enter the keys again."), path=path)
        if code in _EXPIRED:
            return StoreError(
                "expired-signature", _("The session token has expired."), hint=_("Enter new temporary keys."), path=path
            )
        if code == "RequestTimeTooSkewed":
            text = _("The clocks of this machine and of %(where)s differ by too much.") % words
            return StoreError("refused-key", text, path=path)
        if code in ("NoSuchBucket", "InvalidBucketName"):
            text = _("There is no bucket %(bucket)s on %(where)s.") % words
            return StoreError("no-such-container", text, path=path, field="bucket")
        if code == "NoSuchUpload":
            text = _("The upload of %(path)s has been given up by the store.") % words
            return StoreError("incomplete", text, hint=_("Upload the file again."), path=path)
        if code in ("InvalidPart", "InvalidPartOrder", "EntityTooSmall", "BadDigest", "InvalidRange", "416"):
            text = _("%(where)s does not have all of %(path)s (%(code)s).") % words
            return StoreError("incomplete", text, path=path, retry=code == "BadDigest")
        if code in ("NoSuchKey", "404") or status == 404:
            return parts.no_such_file(path)
        if code in ("PreconditionFailed", "412"):
            return parts.changed(path)
        if code in _DENIED or status in (401, 403):
            return self._denied(words, path, writing)
        if code in _ELSEWHERE:
            text = _("The bucket %(bucket)s is in another region than the one given (%(code)s).") % words
            return StoreError("failed", text, hint=_("Enter the bucket's region."), path=path, field="region")
        if code in _BUSY or status >= 500 or status == 429:
            text = _("%(where)s is too busy or has an error of its own (%(code)s).") % words
            return StoreError("failed", text, path=path, retry=True)
        return StoreError("failed", _("%(where)s refused the request for %(path)s: %(code)s.") % words, path=path)

    def _denied(self, words: dict[str, str], path: str, writing: bool) -> StoreError:
        if writing:
            text = _("The keys may not write to %(path)s in the bucket %(bucket)s.") % words
            return StoreError("read-only", text, hint=_("Use keys that may write, or another datastore."), path=path)
        text = _("%(where)s does not allow to read %(path)s in the bucket %(bucket)s.") % words
        hint = _("The bucket is not public: enter keys.") if self.anonymous else _("Use keys that may read and list.")
        return StoreError("forbidden", text, hint=hint, path=path)

    def _strange(self, error: Exception, path: str) -> StoreError:
        kind = type(error).__name__
        if kind == "ParamValidationError":
            text = _("%(bucket)r is not the name of a bucket.") % {"bucket": self.bucket}
            return StoreError("no-such-container", text, path=path, field="bucket")
        words = {"where": self.where(), "kind": kind}
        return StoreError("failed", _("The request to %(where)s failed (%(kind)s).") % words, path=path)


def _endpoint(raw: Any) -> str:
    """Scheme, host, port and path of a server; "" for Amazon's. Raises StoreError for what is no such address."""
    text = str(raw or "").strip().rstrip("/")
    if not text:
        return ""
    address = urlsplit(text if "://" in text else "https://" + text)
    try:
        well = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        well = False
    if not well or address.username is not None or address.query or address.fragment:
        raise StoreError(
            "no-such-host",
            _("The address of the server must look like https://minio.example:9000."),
            hint=_("Keys belong into their own fields."),
            field="endpoint",
        )
    return f"{address.scheme}://{address.netloc}{address.path}"


def _code(error: BaseException | None) -> tuple[str, int]:
    """The code and the HTTP status that S3 answered with, within whatever s3fs made of it; ("", 0) without answer."""
    from botocore.exceptions import ClientError

    while error is not None:
        if isinstance(error, ClientError):
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return str(error.response.get("Error", {}).get("Code") or status), int(status or 0)
        error = error.__cause__ or error.__context__
    return "", 0


def _refusals(code: str) -> str:
    if code == "InvalidAccessKeyId":
        return _("%(where)s does not know the access key.")
    if code == "SignatureDoesNotMatch":
        return _("%(where)s refuses the secret key: it does not belong to the access key.")
    return _("%(where)s refuses the keys (%(code)s).")


def _found(key: str, size: int, row: dict[str, Any]) -> Found:
    modified = row.get("LastModified")
    return Found(key, int(size), modified.timestamp() if modified else None, str(row.get("ETag") or ""))
