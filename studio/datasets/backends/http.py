"""A server of the web whose files lie below one address. It is read only, and browsed where it gives index pages."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote, unquote, urljoin, urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from studio.datasets.backends import parts, web
from studio.datasets.backends.base import Entry, Listing, StoreError
from studio.lib.fields import FormField, Problem

Entries = list[Entry]  # within the class, ``list`` is a method
INDEX_BYTES = 16 << 20  # an index page that is larger is none
_INDEX = re.compile(r"\b(index of|directory listing|listing of|parent directory)\b", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# What says where a request goes, and where it ends on a connection that others use as well.
_OWN = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect", "range",
     "if-range", "accept-encoding", "proxy-authorization", "proxy-connection", "keep-alive"}
)  # fmt: skip


class HttpStore(parts.ReadOnly):
    """Files below a base address, with a fixed header or a name and password where the server wants them."""

    kind: ClassVar[str] = "http"
    label: ClassVar[Any] = gettext_lazy("Web server (HTTP)")
    summary: ClassVar[Any] = gettext_lazy("Files below an address of the web, read as they are needed.")
    icon: ClassVar[str] = "broadcast"
    fields: ClassVar[list[FormField]] = [
        FormField(
            "url",
            gettext_lazy("Address"),  # type: ignore[arg-type]  # lazy
            help=gettext_lazy("What all files lie below, such as https://example.org/data/."),  # type: ignore[arg-type]
            required=True,
        ),
        FormField(
            "user",
            gettext_lazy("User name"),  # type: ignore[arg-type]  # lazy
            help=gettext_lazy("Where the server asks for a name and password."),  # type: ignore[arg-type]  # lazy
        ),
        FormField("password", gettext_lazy("Password"), kind="password", secret=True),  # type: ignore[arg-type]  # lazy
        FormField(
            "header_name",
            gettext_lazy("Header"),  # type: ignore[arg-type]  # lazy
            help=gettext_lazy("A header that each request carries, such as Authorization."),  # type: ignore[arg-type]
        ),
        FormField(
            "header_value",
            gettext_lazy("Header's value"),  # type: ignore[arg-type]  # lazy
            kind="password",
            secret=True,
        ),
    ]

    def __init__(self, config: dict[str, Any], secrets: dict[str, str]) -> None:
        self._url, self._config, self._secrets = str(config.get("url") or ""), config, secrets

    def address(self) -> str:
        return web.shown(self._url)

    def local_path(self, path: str) -> Path | None:
        return None

    def check(self) -> tuple[list[Problem], list[Entry]]:
        try:
            return [], self.list("", limit=parts.SHOWN).entries
        except StoreError as error:
            # A server that answers and gives no index is well: its files are named by their paths.
            if error.code in ("unsupported", "no-such-file"):
                return [], []
            return parts.as_problems(error)

    def file(self, path: str, *, folder: bool = False) -> web.WebFile:
        """Raises StoreError for settings that cannot be used and paths that leave."""
        return web.WebFile(self._base() + _quoted(parts.clean_path(path), folder), self._headers(), path or "/")

    # Reading

    def list(self, path: str = "", *, limit: int = 1000, after: str | None = None) -> Listing:
        return parts.page(self._entries(parts.clean_path(path)), limit, after)

    def find(self, pattern: str) -> Iterator[Entry]:
        return parts.walk(parts.Glob(pattern), self._entries, self.stat)

    def stat(self, path: str) -> Entry:
        clean = parts.clean_path(path)
        if not clean:
            return Entry("", is_dir=True)
        head = self.file(clean).head()
        if urlsplit(head.url).path.endswith("/"):  # servers lead from a folder's name to its index
            return Entry(clean, is_dir=True)
        return Entry(clean, size=head.size, modified=head.modified, etag=head.tag)

    def open(self, path: str) -> BinaryIO:
        return self.file(path).open()

    def stream(self, path: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        yield from self.file(path).stream(offset, length)

    def _entries(self, folder: str) -> Entries:
        """What the index page of a folder links to below it. Raises StoreError unsupported for another page."""
        page = self.file(folder, folder=True)

        def read() -> tuple[str, str]:
            with page.ask() as answer:
                body, kind = b"", answer.head().content_type
                if kind in ("text/html", "application/xhtml+xml"):
                    for piece in answer.pieces():
                        body += piece
                        if len(body) > INDEX_BYTES:
                            raise self._no_index(folder)
                return answer.url, body.decode("utf-8", "replace")

        url, text = parts.retrying(read)
        if not _INDEX.search(text):
            raise self._no_index(folder)
        return _links(text, url, folder)

    def _no_index(self, folder: str) -> StoreError:
        return parts.unsupported(
            _("%(url)s gives no list of its files, so it cannot be browsed.")
            % {"url": web.shown(self._base() + _quoted(folder, True))},
            folder,
            hint=_("Name files by their paths below the address."),
        )

    def _base(self) -> str:
        url = web.checked(self._url, "url")
        split = urlsplit(url)
        if split.query or split.fragment:
            text = _("The address has a query, which cannot be put before the paths of files.")
            hint = _("Register a signed address as a dataset's path; leave it out here.")
            raise StoreError("failed", text, hint=hint, field="url")
        return url.rstrip("/") + "/"

    def _headers(self) -> dict[str, str]:
        found = {}
        user, password = str(self._config.get("user") or ""), self._secrets.get("password", "")
        if user or password:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            found["Authorization"] = f"Basic {token}"
        name, value = str(self._config.get("header_name") or ""), self._secrets.get("header_value", "")
        if name or value:
            if not _TOKEN.fullmatch(name):
                raise StoreError(
                    "failed", _("%(name)r is not the name of a header.") % {"name": name}, field="header_name"
                )
            if name.lower() in _OWN:
                text = _("The header %(name)s is the studio's to set.") % {"name": name}
                raise StoreError("failed", text, field="header_name")
            if re.search(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]", value):
                text = _("The value of the header holds a character that no header can.")
                raise StoreError("failed", text, field="header_value")
            found[name] = value
        return found


def _quoted(path: str, folder: bool) -> str:
    quoted = quote(path, safe="/~!$&'()*+,;=:@")
    return f"{quoted}/" if folder and quoted else quoted


class _Anchors(HTMLParser):
    """The targets of a page's links."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _links(text: str, url: str, folder: str) -> Entries:
    """Files and folders directly below ``url`` among a page's links; sorting links and what lies elsewhere are not."""
    anchors = _Anchors()
    anchors.feed(text)
    here = urlsplit(url)
    base = unquote(here.path)
    found: dict[str, Entry] = {}
    for target in anchors.found:
        try:
            there = urlsplit(urljoin(url, target))
        except ValueError:
            continue
        path = unquote(there.path)
        if (there.scheme, there.netloc) != (here.scheme, here.netloc) or there.query or not path.startswith(base):
            continue
        name = path[len(base) :]
        plain = name.rstrip("/")
        if plain and "/" not in plain and plain not in (".", "..") and "\x00" not in plain:
            whole = f"{folder}/{plain}" if folder else plain
            found[plain] = Entry(whole, is_dir=name.endswith("/"))
    return sorted(found.values(), key=lambda entry: entry.path)
