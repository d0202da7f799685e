"""HTTP/1.1 on asyncio: keep-alive, pipelining, bodies by length or in chunks, limits and timeouts, clean 4xx.

A handler gets one complete request and calls ``reply`` once, now or later; answers leave in the order of the requests.
"""

from __future__ import annotations

import asyncio
import collections
import json
import time
from typing import Any, Callable, Deque, Dict, List, Optional, Set

MAX_HEAD = 16 * 1024
MAX_BODY = 16 * 1024 * 1024
SLOW_S = 30.0  # a request must arrive completely in this time
LINGER_S = 2.0  # after a refusal, what the client still sends is read and dropped so that it sees the answer
IDLE_S = 75.0  # a kept connection without a request is closed after this
MAX_PIPELINED = 64

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
JSON = b"application/json"
_HEADS = {
    (status, mime): b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: " % (status, reason.encode(), mime)
    for status, reason in REASONS.items()
    for mime in (JSON, b"application/problem+json")
}


class BadRequest(Exception):
    """What the sender did wrong: the status, and a sentence for a person. ``close``: nothing can be read after it."""

    def __init__(self, status: int, detail: str, close: bool = False) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.close = close


def problem(status: int, detail: str) -> bytes:
    """A problem+json body (RFC 9457)."""
    return json.dumps({"status": status, "title": REASONS.get(status, "Error"), "detail": detail}).encode()


class Request:
    """One complete request. ``reply(status, body, mime)`` answers it; a second call does nothing."""

    __slots__ = ("method", "path", "headers", "body", "keep", "answer", "started", "_connection")

    def __init__(self, connection: Connection, method: bytes, path: bytes, headers: Dict[bytes, bytes], keep: bool):
        self.method = method
        self.path = path
        self.headers = headers
        self.body = b""
        self.keep = keep
        self.answer: Optional[bytes] = None
        self.started = time.perf_counter()
        self._connection = connection

    def reply(self, status: int, body: bytes, mime: bytes = JSON, extra: bytes = b"") -> None:
        if self.answer is not None:
            return
        tail = b"\r\n" if self.keep else b"\r\nConnection: close\r\n"
        content = b"" if self.method == b"HEAD" else body
        self.answer = b"%s%d%s%s\r\n%s" % (_HEADS[status, mime], len(body), tail, extra, content)
        self._connection.flush()

    def refuse(self, status: int, detail: str, extra: bytes = b"") -> None:
        self.reply(status, problem(status, detail), b"application/problem+json", extra)


Handler = Callable[[Request], None]


class Connection(asyncio.Protocol):
    """One client. ``connections`` is the server's set of open ones, for the sweeper and the shutdown."""

    def __init__(self, handler: Handler, connections: Set[Connection], max_body: int = MAX_BODY) -> None:
        self.handler = handler
        self.connections = connections
        self.max_body = max_body
        self.buffer = bytearray()
        self.queue: Deque[Request] = collections.deque()
        self.request: Optional[Request] = None  # its body is still arriving
        self.needed = 0  # body bytes still to come, -1 for chunks
        self.chunks = bytearray()
        self.chunk_left = -1  # bytes left of the current chunk, -1 before its size line, -2 in the trailer
        self.closing = False
        self.lingering = False
        self.paused = False
        self.writable = True
        self.since = time.monotonic()
        self.transport: Any = None

    # asyncio's side.

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.connections.add(self)

    def connection_lost(self, error: Optional[Exception]) -> None:
        self.connections.discard(self)
        self.closing = True
        self.queue.clear()

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        if not self.buffer and self.request is None:
            self.since = time.monotonic()
        self.buffer += data
        self._parse()

    def eof_received(self) -> bool:
        """A client may close its half after the last request and still read the answers."""
        if self.queue:
            self.closing = True
            return True
        return False

    def pause_writing(self) -> None:
        self.writable = False
        self._throttle()

    def resume_writing(self) -> None:
        self.writable = True
        self._throttle()
        self._parse()

    # Answers, in order.

    def flush(self) -> None:
        queue, transport = self.queue, self.transport
        out: List[bytes] = []
        while queue and queue[0].answer is not None:
            request = queue.popleft()
            out.append(request.answer or b"")
            if not request.keep:
                self.closing = True
                queue.clear()
        if out and not transport.is_closing():
            transport.write(out[0] if len(out) == 1 else b"".join(out))
        if self.closing and not queue:
            self._leave()
        elif self.paused and len(queue) < MAX_PIPELINED // 2:
            self._throttle()
            asyncio.get_running_loop().call_soon(self._parse)
        if not queue:
            self.since = time.monotonic()

    def _leave(self) -> None:
        """Close. With bytes unread a close would reset the connection, and the client might never see why."""
        if not self.lingering:
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER_S, self.transport.close)

    def _throttle(self) -> None:
        """Stop reading from a client that sends more than it takes."""
        stop = not self.writable or len(self.queue) >= MAX_PIPELINED
        if stop != self.paused and not self.transport.is_closing():
            self.paused = stop
            (self.transport.pause_reading if stop else self.transport.resume_reading)()

    def sweep(self, now: float) -> None:
        """Called every second: who sends too slowly gets 408, who is silent is closed."""
        waiting = self.request is not None or bool(self.buffer)
        if waiting and not self.paused and now - self.since > SLOW_S:
            self._fail(
                BadRequest(408, f"The request did not arrive completely within {SLOW_S:.0f} seconds.", close=True)
            )
        elif not waiting and not self.queue and now - self.since > IDLE_S:
            self.transport.close()

    def finish(self) -> None:
        """For the shutdown: close once what was asked is answered."""
        self.closing = True
        if not self.queue:
            self.transport.close()

    # Requests.

    def _parse(self) -> None:
        try:
            while not self.closing and not self.paused and self.buffer:
                if self.request is None:
                    if not self._head():
                        return
                elif not self._body():
                    return
                if len(self.queue) >= MAX_PIPELINED:
                    self._throttle()
        except BadRequest as error:
            self._fail(error)

    def _fail(self, error: BadRequest) -> None:
        request = self.request or Request(self, b"GET", b"/", {}, False)
        if self.request is None:
            self.queue.append(request)
        request.keep = False
        self.buffer.clear()
        self.request = None
        self.closing = self.lingering = True
        request.refuse(error.status, error.detail)

    def _head(self) -> bool:
        """Read one head from the buffer. False: more bytes are needed."""
        buffer = self.buffer
        while buffer[:2] == b"\r\n":  # empty lines before a request are allowed
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > MAX_HEAD:
                raise BadRequest(431, f"The request's head is longer than {MAX_HEAD} bytes.", close=True)
            return False
        if end > MAX_HEAD:
            raise BadRequest(431, f"The request's head is longer than {MAX_HEAD} bytes.", close=True)
        lines = bytes(buffer[:end]).split(b"\r\n")
        del buffer[: end + 4]
        words = lines[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/") or not words[0].isalpha():
            raise BadRequest(400, "This is not an HTTP request.", close=True)
        if words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise BadRequest(505, "Use HTTP/1.1.", close=True)
        headers = _headers(lines[1:])
        connection = headers.get(b"connection", b"").lower()
        keep = b"close" not in connection and (words[2] == b"HTTP/1.1" or b"keep-alive" in connection)
        self.request = Request(self, words[0], words[1], headers, keep)
        self.queue.append(self.request)
        self._expect_body(headers)
        if self.needed == 0:
            self._complete(b"")
        return True

    def _expect_body(self, headers: Dict[bytes, bytes]) -> None:
        coding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
        if coding is not None:
            if length is not None:
                raise BadRequest(400, "A request has a Content-Length or a Transfer-Encoding, not both.", close=True)
            if coding.strip().lower() != b"chunked":
                raise BadRequest(501, "The only transfer encoding here is chunked.", close=True)
            self.needed, self.chunk_left = -1, -1
            self.chunks.clear()
        else:
            if length is not None and not (length.isdigit() and len(length) < 19):
                raise BadRequest(400, "Content-Length is not a number of bytes.", close=True)
            self.needed = int(length or 0)
            if self.needed > self.max_body:
                raise BadRequest(413, _too_large(self.max_body), close=True)
        if self.needed and headers.get(b"expect", b"").lower() == b"100-continue" and len(self.queue) == 1:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _body(self) -> bool:
        """Take body bytes from the buffer. False: more are needed."""
        if self.needed >= 0:
            if len(self.buffer) < self.needed:
                return False
            body = bytes(self.buffer[: self.needed])
            del self.buffer[: self.needed]
            self._complete(body)
            return True
        return self._chunk()

    def _chunk(self) -> bool:
        buffer = self.buffer
        if self.chunk_left > 0:
            part = buffer[: self.chunk_left]
            if len(self.chunks) + len(part) > self.max_body:
                raise BadRequest(413, _too_large(self.max_body), close=True)
            self.chunks += part
            del buffer[: len(part)]
            self.chunk_left -= len(part)
            return True
        end = buffer.find(b"\r\n")
        if end < 0:
            if len(buffer) > 1024:
                raise BadRequest(400, "A chunk's size line is too long.", close=True)
            return False
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        if self.chunk_left == -2:  # the trailer ends with an empty line
            if not line:
                self._complete(bytes(self.chunks))
        elif self.chunk_left == 0:  # the line end behind a chunk
            if line:
                raise BadRequest(400, "A chunk is longer than its size says.", close=True)
            self.chunk_left = -1
        else:
            size = line.split(b";", 1)[0].strip()
            if not size or len(size) > 8 or any(digit not in b"0123456789abcdefABCDEF" for digit in size):
                raise BadRequest(400, "A chunk's size is not a hexadecimal number.", close=True)
            self.chunk_left = int(size, 16) or -2
        return True

    def _complete(self, body: bytes) -> None:
        request = self.request
        self.request = None
        self.since = time.monotonic()
        if request is not None:
            request.body = body
            self.handler(request)


def _too_large(limit: int) -> str:
    return f"The body is larger than {limit} bytes ({limit / 1048576:.0f} MB). Send fewer rows per request."


def _headers(lines: Any) -> Dict[bytes, bytes]:
    headers: Dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip() or b"\x00" in value:
            raise BadRequest(400, "A header line is not of the form name: value.", close=True)
        name = name.lower()
        if name in headers and name in (b"content-length", b"transfer-encoding", b"host", b"authorization"):
            raise BadRequest(400, f"The header {name.decode('latin-1')} is given twice.", close=True)
        headers[name] = value.strip()
    return headers
