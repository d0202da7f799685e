"""Addresses of Azure Blob Storage, and the signatures that come with them."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from urllib.parse import parse_qs, unquote, urlsplit

from django.utils.translation import gettext as _

from studio.datasets.backends.base import StoreError


class Signature:
    """What a SAS token says of itself: until when (``se``), from when (``st``), what it allows (``sp``)."""

    def __init__(self, token: str) -> None:
        self.given = {name: values[0] for name, values in parse_qs(token.lstrip("?")).items()}
        self.resource = self.given.get("sr", "")

    def _time(self, name: str) -> datetime | None:
        try:
            found = datetime.fromisoformat(self.given[name].replace("Z", "+00:00"))
        except (KeyError, ValueError):
            return None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def outside_its_time(self) -> str:
        """A sentence with the time, or "" within it."""
        now, begins, ends = datetime.now(UTC), self._time("st"), self._time("se")
        if ends and ends <= now:
            return _("The SAS token expired on %(time)s.") % {"time": f"{ends:%Y-%m-%d %H:%M:%S} UTC"}
        if begins and begins > now:
            return _("The SAS token is valid only from %(time)s on.") % {"time": f"{begins:%Y-%m-%d %H:%M:%S} UTC"}
        return ""


def split_address(pasted: str) -> dict[str, str]:
    """A container's or blob's whole address as ``account_name``, ``container``, ``endpoint``, ``prefix``, ``sas``.

    Raises StoreError where it is none; the text never repeats it.
    """
    address = urlsplit(pasted)
    names = [unquote(part) for part in address.path.split("/") if part]
    in_path = _account_in_path(address.hostname or "")
    account = names.pop(0) if in_path and names else (address.hostname or "").partition(".")[0]
    if address.scheme not in ("http", "https") or not address.hostname or address.username is not None or not names:
        text = _("This is not the address of a container: https://ACCOUNT.blob.core.windows.net/CONTAINER?sv=...")
        raise StoreError("no-such-container", text, field="url")
    endpoint = f"{address.scheme}://{address.netloc}" + (f"/{account}" if in_path else "")
    return {
        "account_name": account,
        "container": names[0],
        "endpoint": endpoint,
        "prefix": "/".join(names[1:]),
        "sas": address.query,
    }


def _account_in_path(host: str) -> bool:
    """Azurite and emulators have the account in the path: http://127.0.0.1:10000/ACCOUNT/CONTAINER."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or "." not in host
    return True


def service_address(endpoint: str, account: str) -> str:
    """The address of the account's blobs. Raises StoreError where it is no address."""
    if not endpoint:
        if not account:
            text = _("Name the storage account, or paste the whole address of the container.")
            raise StoreError("no-such-host", text, field="account_name")
        if not account.isalnum():
            text = _("%(account)r is not the name of a storage account: small letters and digits only.")
            raise StoreError("no-such-host", text % {"account": account}, field="account_name")
        return f"https://{account}.blob.core.windows.net"
    address = urlsplit(endpoint if "://" in endpoint else "https://" + endpoint)
    if address.scheme not in ("http", "https") or not address.hostname or address.username is not None or address.query:
        text = _("The address of the blob service must look like https://ACCOUNT.blob.core.windows.net.")
        raise StoreError("no-such-host", text, field="endpoint")
    path = address.path.rstrip("/")
    if not path and account and _account_in_path(address.hostname):
        path = f"/{account}"
    return f"{address.scheme}://{address.netloc}{path}"
