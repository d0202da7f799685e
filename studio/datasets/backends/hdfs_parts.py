"""Pieces of the HDFS store that stand alone: its address, and bytes on their way up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from studio.datasets.backends.base import StoreError


class NotKnown(StoreError):
    """The server does not have the operation: there may be another way."""


class Rest:
    """The bytes that are still missing, without the first ``skip``; counts what was sent."""

    def __init__(self, path: str, pieces: Iterable[bytes], skip: int, room: int) -> None:
        self.path, self.room, self.sent = path, room, 0
        self._pieces = self._after(iter(pieces), skip)
        self._first: bytes | None = None

    def _after(self, pieces: Iterator[bytes], skip: int) -> Iterator[bytes]:
        for piece in pieces:
            rest = piece[skip:]
            skip = max(0, skip - len(piece))
            if rest:
                yield bytes(rest)

    def any(self) -> bool:
        self._first = next(self._pieces, None)
        return self._first is not None

    def __iter__(self) -> Iterator[bytes]:
        piece = self._first
        while piece is not None:
            if self.sent + len(piece) > self.room:
                text = _("%(path)s is longer than was announced.") % {"path": self.path}
                raise StoreError("incomplete", text, path=self.path)
            yield piece
            self.sent += len(piece)
            piece = next(self._pieces, None)


def base_address(raw: str, https: bool) -> str:
    """Scheme, host, port and, for gateways, path. Raises StoreError for what is no such address."""
    text = raw.strip().rstrip("/")
    for scheme, plain in (("swebhdfs://", "https://"), ("webhdfs://", "http://"), ("hdfs://", "http://")):
        if text.startswith(scheme):
            text = plain + text.removeprefix(scheme)
    address = urlsplit(text if "://" in text else f"{'https' if https else 'http'}://{text}")
    try:
        well = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        well = False
    if not well or address.username is not None or address.query or address.fragment:
        text = _("The address of the name node must look like namenode.example:9870.")
        raise StoreError("no-such-host", text, hint=_("User and token belong into their own fields."), field="url")
    scheme = "https" if https else address.scheme
    netloc = address.netloc if address.port else f"{address.netloc}:{9871 if scheme == 'https' else 9870}"
    return f"{scheme}://{netloc}{address.path.rstrip('/')}"
