"""A web server on loopback that keeps files, and misbehaves where a test asks for it. Real sockets, real HTTP."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import html
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

Trick = Callable[["Handler", bytes], None]


class WebServer:
    """``files``: path -> bytes. ``tricks``: path -> what to do instead of answering well. ``requests``: what came."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.tricks: dict[str, Trick] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.ranges = True
        self.index = True
        self.wanted: tuple[str, str] | None = None  # a header that each request must carry
        self.chunked = False
        server = self

        class Bound(Handler):
            owner = server

        self._server = _Quiet(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    def put(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def count(self, path: str) -> int:
        return sum(1 for asked, _headers in self.requests if asked == path)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Quiet(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests."""


@contextlib.contextmanager
def running() -> Iterator[WebServer]:
    server = WebServer()
    try:
        yield server
    finally:
        server.close()


@functools.lru_cache(maxsize=64)
def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    owner: WebServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_given: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        self.owner.requests.append((path, {name.lower(): value for name, value in self.headers.items()}))
        wanted = self.owner.wanted
        if wanted and self.headers.get(wanted[0]) != wanted[1]:
            self.plain(401, b"who are you?")
        elif path in self.owner.tricks:
            self.owner.tricks[path](self, self.owner.files.get(path, b""))
        elif path in self.owner.files:
            self.well(self.owner.files[path])
        else:
            self._folder(path)

    def _folder(self, path: str) -> None:
        inside = path.rstrip("/") + "/" if path.rstrip("/") else ""
        names = set()
        for one in self.owner.files:
            if one.startswith(inside):
                head, slash, _rest = one[len(inside) :].partition("/")
                names.add(head + slash)
        if not names or (inside and not self.owner.index):
            self.plain(404, b"not here")
        elif path and not path.endswith("/"):
            self.head(301, {"Location": f"/{quote(path)}/", "Content-Length": "0"})
        elif not self.owner.index:
            self.plain(200, b"<html><body><h1>Welcome</h1><a href='about'>about</a></body></html>", "text/html")
        else:
            rows = "".join(f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in sorted(names))
            extra = '<a href="?C=N;O=D">Name</a> <a href="../">Parent</a> <a href="https://elsewhere.example/x">x</a>'
            page = f"<html><head><title>Index of /{html.escape(inside)}</title></head><pre>{extra}\n{rows}</pre></html>"
            self.plain(200, page.encode(), "text/html; charset=utf-8")

    # Answers

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def plain(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.head(status, {"Content-Length": str(len(body)), "Content-Type": kind})
        self.wfile.write(body)

    def span(self, size: int) -> tuple[int, int] | None:
        """What the request asks for, end exclusive."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not found or not self.owner.ranges:
            return None
        return int(found[1]), min(int(found[2]) + 1 if found[2] else size, size)

    def well(self, data: bytes, **more: str) -> None:
        headers = {"ETag": etag(data), "Content-Type": "application/octet-stream", **more}
        span = self.span(len(data))
        if span is None:
            self._send(200, headers, data)
        elif span[0] >= len(data):
            self.head(416, {**headers, "Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
        else:
            headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{len(data)}"
            self._send(206, headers, data[span[0] : span[1]])

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        if self.owner.chunked:
            self.head(status, {**headers, "Transfer-Encoding": "chunked"})
            for at in range(0, len(body), 50_000):
                piece = body[at : at + 50_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.head(status, {**headers, "Content-Length": str(len(body))})
            self.wfile.write(body)

    def reset(self) -> None:
        """Drop the connection at once, in the middle."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


# Tricks


def drops(after: int, times: int) -> Trick:
    """Drop the connection after so many bytes of an answer, so many times; then answer well."""
    left = [times]

    def trick(handler: Handler, data: bytes) -> None:
        span = handler.span(len(data)) or (0, len(data))
        if left[0] <= 0 or span[1] - span[0] <= after:
            handler.well(data)
            return
        left[0] -= 1
        headers = {"Content-Length": str(span[1] - span[0]), "ETag": etag(data)}
        if handler.span(len(data)):
            headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{len(data)}"
        handler.head(206 if handler.span(len(data)) else 200, headers)
        handler.wfile.write(data[span[0] : span[0] + after])
        handler.wfile.flush()
        time.sleep(0.05)  # the bytes arrive before the end does
        handler.reset()

    return trick


def stalls(after: int = 0, seconds: float = 30.0) -> Trick:
    """Send a few bytes and then nothing."""

    def trick(handler: Handler, data: bytes) -> None:
        handler.head(200, {"Content-Length": str(len(data))})
        handler.wfile.write(data[:after])
        handler.wfile.flush()
        time.sleep(seconds)

    return trick


def drips(pause: float) -> Trick:
    """One byte at a time."""

    def trick(handler: Handler, data: bytes) -> None:
        handler.head(200, {"Content-Length": str(len(data))})
        for at in range(len(data)):
            handler.wfile.write(data[at : at + 1])
            handler.wfile.flush()
            time.sleep(pause)

    return trick


def claims(length: int) -> Trick:
    """Announce this length, send what there is, and end the connection."""

    def trick(handler: Handler, data: bytes) -> None:
        handler.head(200, {"Content-Length": str(length), "Connection": "close"})
        handler.wfile.write(data)
        handler.close_connection = True

    return trick


def answers(status: int, body: bytes = b"", **headers: str) -> Trick:
    def trick(handler: Handler, _data: bytes) -> None:
        handler.head(status, {"Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}})
        handler.wfile.write(body)

    return trick


def redirects(target: str) -> Trick:
    return answers(302, Location=target)


def endless() -> Trick:
    """No length and no chunks: the end of the connection is the end of the file, perhaps."""

    def trick(handler: Handler, data: bytes) -> None:
        handler.head(200, {"Connection": "close"})
        handler.wfile.write(data)
        handler.close_connection = True

    return trick


def zipped(handler: Handler, data: bytes) -> None:
    """Compressed although nobody asked for it."""
    body = gzip.compress(data)
    handler.head(200, {"Content-Encoding": "gzip", "Content-Length": str(len(body)), "ETag": '"zipped"'})
    handler.wfile.write(body)


def changes(after_requests: int) -> Trick:
    """Another content, of the same size, after so many requests."""
    seen = [0]

    def trick(handler: Handler, data: bytes) -> None:
        seen[0] += 1
        handler.well(data if seen[0] <= after_requests else data[::-1])

    return trick
