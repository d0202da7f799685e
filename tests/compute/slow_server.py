"""A web server whose speed and faults a test decides, with ranges and an index page."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class SlowServer:
    """``files``: path -> bytes. ``pause_s`` between pieces of ``piece`` bytes; ``gone``: paths that answer 404;
    ``lies``: path -> the length that is said; ``away``: every connection is closed at once. ``asked``: (method, path,
    first byte) of every request."""

    def __init__(self, files: dict[str, bytes], *, piece: int = 1 << 16, pause_s: float = 0.0) -> None:
        self.files, self.piece, self.pause_s = files, piece, pause_s
        self.gone: set[str] = set()
        self.lies: dict[str, int] = {}
        self.away = False
        self.asked: list[tuple[str, str, int]] = []
        self.sent = 0  # bytes of files
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _handler(self) -> Any:
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_arguments: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path = self.path.partition("?")[0].lstrip("/")
                found = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                first = int(found[1]) if found else 0
                world.asked.append((self.command, path, first))
                if world.away:
                    self.close_connection = True
                    return
                if path in world.gone or (path not in world.files and not (path == "" or path.endswith("/"))):
                    self.send_error(404)
                    return
                if path not in world.files:
                    self.index(path, body)
                    return
                self.file(path, first, found, body)

            def index(self, path: str, body: bool) -> None:
                names = sorted({name[len(path) :].split("/")[0] + ("/" if "/" in name[len(path) :] else "")
                                for name in world.files if name.startswith(path)})  # fmt: skip
                links = "".join(f'<a href="{name}">{name}</a>' for name in names)
                page = f"<html><title>Index of /{path}</title>{links}</html>".encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                if body:
                    self.wfile.write(page)

            def file(self, path: str, first: int, ranged: Any, body: bool) -> None:
                content = world.files[path]
                last = int(ranged[2]) + 1 if ranged and ranged[2] else len(content)
                part = content[first:last]
                self.send_response(206 if ranged else 200)
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("ETag", f'"{hash(content) & 0xFFFFFFFF:x}"')
                if ranged:
                    total = world.lies.get(path, len(content))
                    self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{total}")
                self.send_header("Content-Length", str(world.lies.get(path, len(content)) - first if not ranged
                                                       else len(part)))  # fmt: skip
                self.end_headers()
                if not body:
                    return
                for at in range(0, len(part), world.piece):
                    if world.away:
                        self.close_connection = True
                        return
                    try:
                        self.wfile.write(part[at : at + world.piece])
                        self.wfile.flush()
                        world.sent += len(part[at : at + world.piece])
                    except OSError:
                        return
                    if world.pause_s:
                        time.sleep(world.pause_s)
                if world.lies.get(path, len(content)) != len(content):
                    self.close_connection = True

        return Handler
