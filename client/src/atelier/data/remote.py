"""Files at the other end of HTTP: read by ranges, or brought here whole. Standard library only.

What is read is checked against what the server said of the file: a connection that ends early is taken up again a few
times, and a file that changed meanwhile, or is shorter than was said, is an error. A short file is never taken for a
whole one.
"""

from __future__ import annotations

import http.client
import io
import random
import re
import socket
import time
import urllib.error
import urllib.request
from typing import IO, Any
from urllib.parse import quote, urlsplit, urlunsplit

from atelier._version import VERSION
from atelier.exceptions import ServiceException, StudioUnreachable, UserErrorException

ATTEMPTS = 5
_LEAST = 6000  # new bytes that an attempt has to give, or it counts as one without progress
_TIMEOUT = 30.0  # seconds without a byte
_PIECE = 1 << 20
_AHEAD = 1 << 20  # bytes that a range asks for at least
_MOST_AHEAD = 16 << 20
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_BROKEN = (OSError, http.client.HTTPException)


class Answer:
    """The head of an answer; ``some`` and ``most`` give what follows. ``drop`` ends a connection that is not done."""

    def __init__(self, status: int, headers: Any, body: Any, drop: Any) -> None:
        self.status = status
        self.headers: dict[str, str] = {str(name).lower(): str(value) for name, value in headers}
        self._body, self._drop, self._left = body, drop, self.length
        self._broken: Exception | None = None

    def some(self, count: int) -> bytes:
        """What has come, at least a byte and at most ``count``; nothing at the end. What came before a connection
        breaks is given before its error is raised."""
        if self._broken is not None:
            raise self._broken
        wanted = count if self._left is None else min(count, self._left)
        piece: bytes = self._body.read1(wanted) if wanted else b""
        if self._left is not None:
            self._left -= len(piece)
        elif not piece:
            self._left = 0
        return piece

    def most(self, count: int | None) -> bytes:
        """``count`` bytes (None: all), fewer at the end or where the connection breaks; its error comes next time."""
        pieces: list[bytes] = []
        left = count
        while left is None or left > 0:
            try:
                piece = self.some(_PIECE if left is None else left)
            except _BROKEN as error:
                self._broken, piece = error, b""
                if not pieces:
                    raise
            if not piece:
                break
            pieces.append(piece)
            left = None if left is None else left - len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        self._body.close()
        if self._left != 0:
            self._drop()

    @property
    def length(self) -> int | None:
        found = self.headers.get("content-length", "")
        return int(found) if found.isdigit() and not self.headers.get("content-encoding") else None

    @property
    def total(self) -> int | None:
        """Bytes of the whole file, where the answer says."""
        found = re.match(r"bytes (?:\d+-\d+|\*)/(\d+)$", self.headers.get("content-range", "").strip())
        return int(found.group(1)) if found else self.length if self.status == 200 else None

    @property
    def begins(self) -> int:
        found = re.match(r"bytes (\d+)-", self.headers.get("content-range", "").strip())
        return int(found.group(1)) if found and self.status == 206 else 0

    @property
    def etag(self) -> str:
        return self.headers.get("etag") or self.headers.get("last-modified") or ""


class Refused(Exception):
    """The server answered that it will not, now or ever."""

    def __init__(self, status: int, words: str, passing: bool = False) -> None:
        super().__init__(words)
        self.status, self.words, self.passing = status, words, passing


class WebAddress:
    """A public address, or one whose query is its key (a blob URL with a SAS). ``shown`` has no query."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserErrorException(f"{url!r} is not an address of the web: http:// or https:// and a host.")
        self._url = urlunsplit((parts.scheme, parts.netloc, quote(parts.path, safe="/%:@!$&'()*+,;=~-._"), "", ""))
        self._url += f"?{parts.query}" if parts.query else ""
        host = parts.hostname + (f":{parts.port}" if parts.port else "")
        self.shown = f"{parts.scheme}://{host}{parts.path}"
        self.identity = self.shown

    def ask(self, start: int | None = None, end: int | None = None, method: str = "GET") -> Answer:
        """One request for a range (both ends inclusive). Raises Refused, OSError or HTTPException."""
        headers = {"User-Agent": f"atelier-client/{VERSION}", "Accept-Encoding": "identity"}
        if start is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end}"
        asked = urllib.request.Request(self._url, headers=headers, method=method)  # noqa: S310 - http(s), checked above
        try:
            found = urllib.request.urlopen(asked, timeout=_TIMEOUT)  # noqa: S310
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416:
                    return Answer(416, error.headers.items(), io.BytesIO(b""), lambda: None)
                raise Refused(error.code, _words(error.code, error), error.code in _PASSING) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, OSError):
                raise error.reason from error
            raise
        return Answer(found.status, found.headers.items(), found, found.close)


def _words(status: int, error: Any) -> str:
    """What a server said: blob stores give the reason in an element of XML."""
    text = error.read(4096).decode("utf-8", "replace") if error.fp else ""
    said = re.search(r"<AuthenticationErrorDetail>([^<]{1,300})|<Message>([^<\n]{1,300})", text)
    reason = (said.group(1) or said.group(2)).strip() if said else ""
    standard = http.client.responses.get(status, "refused")
    return f"{status} {standard}{': ' + reason if reason else ''}"


class StudioAddress:
    """A path below a workspace of the studio, asked with the workspace's own sign-in."""

    def __init__(self, workspace: Any, href: str, shown: str) -> None:
        self._workspace, self._href, self.shown = workspace, href, shown
        self.identity = f"{workspace.endpoint}/{workspace.name}/{href}"

    def ask(self, start: int | None = None, end: int | None = None, method: str = "GET") -> Answer:
        """As WebAddress.ask. The studio's sentence about a file that it cannot read is kept."""
        headers = {"Accept": "*/*"}
        if start is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end}"
        transport = self._workspace._transport
        path = self._workspace._path(self._href)
        try:
            found = transport._send(method, transport._prefix + path, None, transport._headers(headers), _TIMEOUT, 1)
        except StudioUnreachable as error:
            raise ConnectionError(str(error)) from error
        except ServiceException as error:
            if error.status_code == 416:
                return Answer(416, (), io.BytesIO(b""), lambda: None)
            passing = error.status_code in _PASSING or bool(error.problem.get("retry"))
            raise Refused(error.status_code, str(error), passing) from error
        return Answer(found.status, found.getheaders(), found, transport.close)


def failed(shown: str, why: str, status: int = 0) -> Exception:
    """The error of a file that cannot be read; names it."""
    from atelier.data.errors import DataError

    kind = "no-such-file" if status in (404, 410) else "incomplete"
    return DataError(f"{shown} cannot be read: {why.rstrip('.')}.", kind, file=shown)


def ask(address: Any, start: int | None = None, end: int | None = None, method: str = "GET") -> Answer:
    """Ask, a few times where the failure may pass. Raises DataError with the file's name."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            found: Answer = address.ask(start, end, method)
            return found
        except Refused as error:
            if not error.passing or attempt == ATTEMPTS:
                raise failed(address.shown, error.words, error.status) from error
        except _BROKEN as error:
            if attempt == ATTEMPTS or isinstance(error, socket.gaierror):
                raise failed(address.shown, reason(error)) from error
        pause(attempt)
    raise AssertionError("unreachable")  # pragma: no cover - the loop returns or raises


def reason(error: BaseException) -> str:
    """Words for a broken connection."""
    if isinstance(error, socket.gaierror):
        return "there is no such host"
    if isinstance(error, (socket.timeout, TimeoutError)):
        return f"the server has not sent anything for {_TIMEOUT:g} seconds"
    if isinstance(error, ConnectionRefusedError):
        return "nobody answers there"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended before the end of the file"
    if isinstance(error, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)):
        return "the server breaks the connection off"
    return str(error) or type(error).__name__


def pause(attempt: int) -> None:
    time.sleep(min(0.2 * 2 ** (attempt - 1), 5.0) * random.uniform(0.7, 1.3))  # noqa: S311 - spreads retries


def bring(address: Any, target: IO[bytes], size: int | None = None) -> int:
    """Write the whole file into ``target`` and give its size. ``size`` is what a listing said.

    Goes on where it was after a lost connection, for as long as one of ``ATTEMPTS`` in a row brings ``_LEAST`` bytes
    that had not come before. Raises DataError when the file is not what was said, or does not come.
    """
    done, furthest, stuck, attempt, seen = 0, 0, 0, 0, ""
    while True:
        attempt += 1
        try:
            answer = address.ask(done or None)
            try:
                if answer.status == 416 and size is not None and done == size:
                    return done
                if done and (answer.status != 206 or answer.begins != done or (seen and answer.etag != seen)):
                    if seen and answer.etag and answer.etag != seen:
                        raise failed(address.shown, "it was changed while it was read")
                    target.seek(0)
                    target.truncate()
                    done = 0
                seen = seen or answer.etag
                total = answer.total
                _same(address.shown, size, total)
                size = total if size is None else size
                done = _pour(answer, target, done, size)
            finally:
                answer.close()
            if size is None or done == size:
                return done
            if done > size:
                raise failed(address.shown, f"it has more than the {size} bytes that the server said")
            why = f"it ended after {done} of {size} bytes"
        except Refused as error:
            if not error.passing:
                raise failed(address.shown, error.words, error.status) from error
            why = error.words
        except _BROKEN as error:
            if isinstance(error, socket.gaierror):
                raise failed(address.shown, reason(error)) from error
            why, done = reason(error), target.tell()
        stuck = stuck + 1 if done < furthest + _LEAST else 1
        furthest = max(furthest, done)
        if stuck >= ATTEMPTS:
            raise failed(address.shown, f"{why}; {attempt} attempts were made")
        pause(stuck)


def _pour(answer: Answer, target: IO[bytes], done: int, size: int | None) -> int:
    """Write what comes; never more than one piece beyond the size that was said."""
    while size is None or done <= size:
        piece = answer.some(_PIECE)
        if not piece:
            break
        target.write(piece)
        done += len(piece)
    return done


def _same(shown: str, size: int | None, total: int | None) -> None:
    if size is not None and total is not None and size != total:
        raise failed(
            shown, f"it has {total} bytes, and was listed with {size}: it was changed, or is only partly there"
        )


class RangedFile(io.RawIOBase):
    """A remote file to read and seek in; each read asks for its range, with a little more. Wrap it with
    ``io.BufferedReader``."""

    def __init__(self, address: Any, size: int | None = None) -> None:
        self._address, self._size, self._etag = address, size, ""
        self._at, self._held, self._from = 0, b"", 0
        self._ahead = _AHEAD
        self._stream: Answer | None = None  # of a server without ranges
        self._streamed = 0  # bytes that were read from it

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size if whence == io.SEEK_END else 0}[whence]
        self._at = max(base + offset, 0)
        return self._at

    @property
    def size(self) -> int:
        if self._size is None:
            self._load(0, 1)
        assert self._size is not None  # noqa: S101 - _load sets it or raises
        return self._size

    def readinto(self, buffer: Any) -> int:
        wanted = len(buffer)
        if wanted and (self._size is None or self._at < self._size):
            if not self._from <= self._at < self._from + len(self._held):
                on = self._at == self._from + len(self._held) and self._at > 0  # who reads on gets more at a time
                self._ahead = min(self._ahead * 2, _MOST_AHEAD) if on else _AHEAD
                self._load(self._at, wanted)
            start = self._at - self._from
            piece = self._held[start : start + wanted]
            buffer[: len(piece)] = piece
            self._at += len(piece)
            return len(piece)
        return 0

    def close(self) -> None:
        self._end_stream()
        super().close()

    def _load(self, start: int, wanted: int) -> None:
        """Hold bytes from ``start`` on; asked again where the connection broke before any came."""
        for attempt in range(1, ATTEMPTS + 1):
            why = "the connection ended before the end of the file"
            try:
                if self._stream is None or self._streamed > start:
                    self._ask(start, max(wanted, self._ahead))
                elif self._follow(start, max(wanted, self._ahead)):
                    return
                if self._from <= start < self._from + len(self._held) or start >= (self._size or 0):
                    return
            except _BROKEN as error:
                why = reason(error)
            self._end_stream()
            if attempt == ATTEMPTS:
                raise failed(self._address.shown, f"{why}, {ATTEMPTS} times")
            pause(attempt)

    def _ask(self, start: int, count: int) -> None:
        """One range; a server without ranges is read from its beginning, and the stream is kept for what follows."""
        self._end_stream()
        answer = ask(self._address, start, start + count - 1)
        try:
            if answer.status == 416:  # an empty file has no range
                self._size, self._held, self._from = self._size or 0, b"", start
                return
            if answer.etag and self._etag and answer.etag != self._etag:
                raise failed(self._address.shown, "it was changed while it was read")
            self._etag = self._etag or answer.etag
            _same(self._address.shown, self._size, answer.total)
            self._size = answer.total if self._size is None else self._size
            if answer.status == 200:
                self._stream, self._streamed = answer, 0
                self._follow(start, count)
                return
            # What came of a range before it broke off is good, but does not tell the size.
            self._held, self._from = answer.most(answer.length), answer.begins
            if self._size is None and answer.length not in (None, len(self._held)):
                raise http.client.IncompleteRead(b"")
            if self._size is None:
                self._size = answer.begins + len(self._held)
        finally:
            if self._stream is not answer:
                answer.close()

    def _follow(self, start: int, count: int) -> bool:
        """Read on in the stream, to ``start`` and what comes after it."""
        assert self._stream is not None  # noqa: S101 - callers look
        while self._streamed < start:
            skipped = self._stream.some(min(_PIECE, start - self._streamed))
            if not skipped:
                return False
            self._streamed += len(skipped)
        held = self._stream.most(count)
        self._held, self._from = held, start
        self._streamed += len(held)
        if not held and self._size is None:  # a server that does not say how long the file is
            self._size = self._streamed
        return bool(held)

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def remote_open(address: Any, size: int | None = None) -> io.BufferedReader:
    return io.BufferedReader(RangedFile(address, size), 1 << 16)
