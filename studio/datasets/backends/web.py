"""Files at addresses of the web: read by ranges where the server has them, else from the beginning.

Nothing that a server says is believed without a look: a length that does not come is asked for again a few times and
then an error, bytes beyond it too; a file that is another one than before is ``changed``. Error texts name an address
without its query and without who signed in, for those are secrets.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import functools
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urljoin, urlsplit

import urllib3
from django.utils.translation import gettext as _
from urllib3 import exceptions

from studio.datasets.backends import guard, parts
from studio.datasets.backends.base import Entry, StoreError
from studio.datasets.backends.faults import network_fault

CONNECT_S = 10.0
READ_S = 30.0  # without a byte
SLOW_S, SLOW_BYTES = 60.0, 6000  # fewer bytes in that time is a stall, too
REDIRECTS = 5
_MOVED = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_AGENT = "Atelier"


def shown(url: str) -> str:
    """An address for people: no query, no fragment, nobody's name and password."""
    try:
        split = urlsplit(url)
        port = f":{split.port}" if split.port else ""
        host = f"[{split.hostname}]" if ":" in (split.hostname or "") else split.hostname or ""
    except ValueError:
        return re.sub(r"//[^/@]*@", "//", url.partition("?")[0].partition("#")[0])
    return f"{split.scheme}://{host}{port}{unquote(split.path)}"


def checked(url: str, field: str | None = None) -> str:
    """The address, when it is one of the web. Raises StoreError."""
    try:
        split = urlsplit(url)
        well = split.scheme in ("http", "https") and bool(split.hostname) and split.port != 0
    except ValueError:
        well = False
    if not well or re.search(r"[\x00-\x1f\x7f]", url.strip()):
        text = _("%(url)s is not an address of the web.") % {"url": shown(url)[:200]}
        raise StoreError("failed", text, hint=_("It begins with http:// or https:// and a host."), field=field)
    if split.username or split.password:
        text = _("%(url)s: the address holds a name or a password.") % {"url": shown(url)[:200]}
        raise StoreError("failed", text, hint=_("Register the server as a datastore with its sign-in."), field=field)
    return url.strip().replace(" ", "%20")


@functools.lru_cache(maxsize=2)
def _pool(process: int) -> Any:
    """Connections of this process; a child never uses those of its parent."""
    return guard.pool_manager(num_pools=32, maxsize=16, block=False)


@dataclass(frozen=True)
class Head:
    """What a server says of a file. ``size`` None: only its end will tell. ``ranges``: parts can be asked for."""

    size: int | None
    tag: str
    ranges: bool
    modified: float | None
    url: str  # after redirects
    content_type: str


class Answer:
    """The head of an answer, whose body is still to come. Close it."""

    def __init__(self, raw: Any, url: str, path: str) -> None:
        self.raw, self.url, self.path, self.status = raw, url, path, int(raw.status)
        self.encoding = raw.headers.get("content-encoding", "identity").strip().lower()
        # A .gz file that is labelled as an encoding is the file itself.
        self.decode = self.encoding not in ("", "identity") and not urlsplit(url).path.endswith((".gz", ".tgz", ".br"))

    @property
    def length(self) -> int | None:
        """Bytes of this answer's body, as they come over the wire."""
        found = self.raw.headers.get("content-length", "")
        return int(found) if found.isdigit() else None

    @property
    def begins(self) -> int:
        found = re.match(r"bytes (\d+)-", self.raw.headers.get("content-range", ""))
        return 0 if self.status != 206 else int(found[1]) if found else -1

    @property
    def total(self) -> int | None:
        """Bytes of the whole file."""
        found = re.match(r"bytes (?:\d+-\d+|\*)/(\d+)$", self.raw.headers.get("content-range", "").strip())
        if found and self.status in (206, 416):
            return int(found[1])
        return None if self.decode or self.status != 200 else self.length

    @property
    def tag(self) -> str:
        return str(self.raw.headers.get("etag") or self.raw.headers.get("last-modified") or "")

    @property
    def framed(self) -> bool:
        """Whether one can see that the body has come to its end and was not cut."""
        return self.length is not None or "chunked" in self.raw.headers.get("transfer-encoding", "").lower()

    def head(self) -> Head:
        with contextlib.suppress(KeyError, ValueError, TypeError, IndexError):
            when = email.utils.parsedate_to_datetime(self.raw.headers["last-modified"]).timestamp()
            return self._head(when)
        return self._head(None)

    def _head(self, modified: float | None) -> Head:
        ranged = self.status == 206 and not self.decode
        kind = self.raw.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Head(self.total, self.tag, ranged, modified, self.url, kind)

    def pieces(self) -> Iterator[bytes]:
        """The body. Raises StoreError when it is not as long as was said."""
        if not self.framed:
            text = _("%(url)s: the server does not say where the file ends, so nobody can tell whether all of it came.")
            raise StoreError("incomplete", text % {"url": shown(self.url)}, path=self.path)
        left = None if self.decode else self.length
        since, got = time.monotonic(), 0
        with _named(self.url, self.path):
            while left is None or left > 0:
                if left == 1:
                    self._nothing_beyond()
                # The last byte is read by itself, so that what comes behind it can be seen.
                amount = parts.PIECE if left is None else max(min(parts.PIECE, left - 1), 1)
                piece = self.raw.read1(amount, decode_content=self.decode)
                if not piece:
                    break
                got += len(piece)
                left = None if left is None else left - len(piece)
                yield piece
                now = time.monotonic()
                if now - since > SLOW_S:
                    if got < SLOW_BYTES:
                        raise _timeout(self.url, self.path)
                    since, got = now, 0

    def _nothing_beyond(self) -> None:
        """Raises StoreError where the server has sent more than it announced."""
        buffer = getattr(getattr(self.raw, "_fp", None), "fp", None)
        if self.status != 200 or "chunked" in self.raw.headers.get("transfer-encoding", "") or buffer is None:
            return
        if len(buffer.peek(2)) > 1:
            text = _("%(url)s is longer than the %(length)d bytes that the server announced.")
            text %= {"url": shown(self.url), "length": self.length}
            raise StoreError("incomplete", text, path=self.path)

    def close(self) -> None:
        if getattr(self.raw, "length_remaining", None) == 0:
            self.raw.release_conn()
        else:
            self.raw.close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class WebFile:
    """One file. ``headers`` (a sign-in) go to its own server only, never where a redirect leads.

    ``path`` is what errors give as the file's path; ``signed`` says that the query of ``url`` is a key.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, path: str = "") -> None:
        self.url, self.headers = checked(url), dict(headers or {})
        self.path = path or shown(url)

    def ask(self, start: int | None = None, end: int | None = None) -> Answer:
        """One request, redirects followed; ``end`` is exclusive. Raises StoreError."""
        url, headers = self.url, {"User-Agent": _AGENT, "Accept-Encoding": "identity", **self.headers}
        if start is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        for _hop in range(REDIRECTS + 1):
            with _named(url, self.path):
                raw = _pool(os.getpid()).request(
                    "GET",
                    url,
                    headers=headers,
                    preload_content=False,
                    redirect=False,
                    retries=False,
                    timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
                )
            if raw.status not in _MOVED:
                answer = Answer(raw, url, self.path)
                if raw.status in (200, 206, 416):
                    return answer
                with answer:
                    raise _refused(raw.status, url, self)
            target = raw.headers.get("location", "")
            raw.close()
            url, headers = self._moved(url, target, headers)
        text = _("%(url)s leads from one address to another more than %(count)d times.")
        raise StoreError("failed", text % {"url": shown(self.url), "count": REDIRECTS}, path=self.path)

    def _moved(self, url: str, target: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        """The next address of a redirect, and the headers that may go there."""
        if not target:
            text = _("%(url)s leads elsewhere, and the server does not say where.") % {"url": shown(url)}
            raise StoreError("failed", text, path=self.path)
        following = checked(urljoin(url, target))
        before, after = urlsplit(url), urlsplit(following)
        if (before.scheme, before.netloc) != (after.scheme, after.netloc):
            headers = {name: value for name, value in headers.items() if name not in self.headers}
        return following, headers

    def head(self) -> Head:
        """One request for the first byte: it tells more than HEAD, which many servers refuse. Raises StoreError."""
        return parts.retrying(self._head)

    def _head(self) -> Head:
        with self.ask(0, 1) as answer:
            if answer.status != 416:
                return answer.head()
            if answer.total == 0:
                head = answer.head()
                return Head(0, head.tag, True, head.modified, head.url, head.content_type)
        with self.ask() as answer:  # no byte to ask for, and not said why
            return answer.head()

    def entry(self, head: Head) -> Entry:
        return Entry(self.path, size=head.size, modified=head.modified, etag=head.tag)

    def open(self) -> BinaryIO:
        """Seekable. Without ranges the file is read from its beginning as far as needed and kept meanwhile."""
        head = self.head()
        if head.ranges and head.size is not None:
            return parts.opened(
                parts.RangeFile(self.path, head.size, lambda start, end: self.stream(start, end - start, head))
            )
        return parts.opened(parts.SpoolFile(self.stream(0, None, head), head.size))

    def stream(self, offset: int = 0, length: int | None = None, head: Head | None = None) -> Iterator[bytes]:
        """The bytes of a range. ``head`` is what was said of the file before, asked for when not given."""
        was = head or self.head()
        end = was.size
        if length is not None:
            end = offset + length if end is None else min(end, offset + length)
        if end is not None and offset >= end:
            return
        read = functools.partial(self._read, was=was, end=end)
        yield from _upto(parts.steady(self.path, read, offset, None if was.size is None else end), length)

    def _read(self, at: int, *, was: Head, end: int | None) -> Iterator[bytes]:
        """The bytes from ``at`` on, of one request."""
        whole = at == 0 and (end is None or end == was.size)
        with self.ask() if whole or not was.ranges else self.ask(at, end) as answer:
            self._same(was, answer)
            if answer.status == 416 or answer.begins not in (0, at):
                raise parts.changed(self.path, shown(self.url))
            skip = at - answer.begins
            left = None if end is None else end - at
            for piece in answer.pieces():
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                piece, skip = piece[skip:], 0
                yield piece if left is None or was.size == end else piece[:left]
                if left is not None:
                    left -= len(piece)
                    if left <= 0 and was.size != end:
                        return

    def _same(self, was: Head, answer: Answer) -> None:
        total = answer.total
        if (was.tag and answer.tag and was.tag != answer.tag) or (
            was.size is not None and total is not None and total != was.size
        ):
            raise parts.changed(self.path, shown(self.url))


def _upto(pieces: Iterator[bytes], length: int | None) -> Iterator[bytes]:
    """At most ``length`` bytes: where the file's size is unknown, its end is not asked for."""
    for piece in pieces:
        if length is None:
            yield piece
            continue
        yield piece[:length]
        length -= len(piece)
        if length <= 0:
            return


@contextlib.contextmanager
def _named(url: str, path: str) -> Iterator[None]:
    """Errors of the library as StoreError; none of them is quoted, for they quote the address."""
    try:
        yield
    except (exceptions.HTTPError, OSError, UnicodeError, ValueError) as error:
        raise _translated(error, url, path) from None


def _translated(error: BaseException, url: str, path: str) -> StoreError:
    words = {"url": shown(url)}
    if isinstance(error, exceptions.DecodeError):
        text = _("%(url)s: the server says that it compressed the file, and what came cannot be unpacked.") % words
        return StoreError("failed", text, path=path)
    fault = network_fault(error, urlsplit(url).netloc.rpartition("@")[2], path, what=shown(url))
    if fault is not None:
        return fault
    if isinstance(error, ValueError):
        return StoreError("failed", _("%(url)s is not an address of the web.") % words, path=path)
    return StoreError("unreachable", _("%(url)s: the connection broke off.") % words, path=path, retry=True)


def _timeout(url: str, path: str) -> StoreError:
    text = _("%(url)s: the server has not answered for %(seconds)d seconds.")
    return StoreError("timeout", text % {"url": shown(url), "seconds": READ_S}, path=path, retry=True)


def _refused(status: int, url: str, file: WebFile) -> StoreError:
    """What a status means."""
    words: dict[str, Any] = {"url": shown(url), "status": status}
    if status in (404, 410):
        return StoreError("no-such-file", _("There is no file at %(url)s.") % words, path=file.path)
    if status in (401, 403):
        expired = expiry(url)
        if expired is not None and expired < dt.datetime.now(dt.UTC):
            words["when"] = expired.strftime("%Y-%m-%d %H:%M UTC")
            text = _("The signature of %(url)s expired on %(when)s.") % words
            return StoreError("expired-signature", text, hint=_("Ask for a new address."), path=file.path)
        if file.headers or expired is not None:
            return StoreError("refused-key", _("%(url)s refused the sign-in (%(status)d).") % words, path=file.path)
        hint = _("Register the server as a datastore with its sign-in.") if status == 401 else ""
        text = _("%(url)s cannot be read without a sign-in (%(status)d).") % words
        return StoreError("forbidden", text, hint=hint, path=file.path)
    text = _("%(url)s: the server answered %(status)d.") % words
    passing = status in _PASSING
    return StoreError("unreachable" if passing else "failed", text, path=file.path, retry=passing)


def expiry(url: str) -> dt.datetime | None:
    """When a signed address ends: Azure's ``se``, S3's date and seconds, or seconds since 1970. None: it is not signed,
    or does not say."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    readers: list[Callable[[], dt.datetime]] = [
        lambda: dt.datetime.fromisoformat(query["se"]),
        lambda: (
            dt.datetime.strptime(query["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
            + dt.timedelta(seconds=int(query["X-Amz-Expires"]))
        ),
        lambda: dt.datetime.fromtimestamp(int(query["Expires"]), dt.UTC),
    ]
    for read in readers:
        with contextlib.suppress(KeyError, ValueError, OverflowError):
            found = read()
            return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
    return None
