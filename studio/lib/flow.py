"""Bodies of any size through Daphne with flat memory.

As it comes, Daphne reads a whole request body into memory (its temporary file into a queue of messages, and Django
writes them into another temporary file), and takes whatever the application sends without looking whether the client
keeps up. Here a request hands its temporary file on as it is, and a send waits while the connection's buffer is full.

``install()`` teaches Daphne both; ``FlowHandler`` is Django's ASGI handler that takes the file. Under any other ASGI
server ``FlowHandler`` is Django's own handler.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.db import DatabaseError, close_old_connections, connection
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from studio.bootstrap import gate

BODY_FILE = "atelier.body"  # in the scope: the request's body, an open file at its start
SPOOL_BYTES = 100_000  # smaller bodies go the usual way, in memory
SEND_BYTES = 1 << 20
READ_BYTES = 1 << 19
PROXY_HEADERS = (b"x-forwarded-", b"x-real-ip", b"forwarded", b"via")  # what proxies say of whom they speak for
THREADS = 96  # requests at the same moment; most of them wait, such as those that follow a log


class _Receive:
    """The ``receive`` of a request whose body is a file already."""

    def __init__(self, receive: Any, body: Any) -> None:
        self.receive, self.body = receive, body

    async def __call__(self) -> Any:
        return await self.receive()


class Query:
    """What a request asks the database while it runs. ``stop`` ends it when nobody waits for the answer any more.

    A request that may write is left alone: what it began it ends.
    """

    def __init__(self, *, readonly: bool) -> None:
        self.readonly, self.stopped = readonly, False
        self._lock = threading.Lock()
        self._raw: Any = None  # the driver's connection, while a statement may run on it

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Around everything that the request does, in the thread that does it."""
        try:
            with connection.execute_wrapper(self._execute):
                yield
        finally:
            with self._lock:  # from here on the connection may serve another request
                self._raw = None

    def _execute(self, execute: Any, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if self.stopped:
            raise RequestAborted
        self._raw = context["connection"].connection
        try:
            return execute(sql, params, many, context)
        except DatabaseError as error:
            if self.stopped:
                raise RequestAborted from error
            raise

    def stop(self) -> None:
        """End the statement that runs now and refuse the ones after it. Called from another thread."""
        with self._lock:
            self.stopped = self.readonly
            if self.stopped and self._raw is not None:
                end = getattr(self._raw, "interrupt", None) or self._raw.cancel  # SQLite's name, PostgreSQL's name
                end()


class FlowHandler(ASGIHandler):
    """Django's handler with larger messages, request bodies taken over as files, and threads that stay.

    Django would begin a thread, and with it a database connection, for every request, and go through the middleware in
    five hops between threads. Every middleware and view here is synchronous, so a request is one call in one thread of
    a pool, on that thread's connection.
    """

    chunk_size = SEND_BYTES
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        # Not in Django's ThreadSensitiveContext: a thread begun and ended for each request, to send signals from.
        await self.handle(scope, receive, send)

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        query = Query(readonly=request.method in ("GET", "HEAD"))
        running = asyncio.ensure_future(
            sync_to_async(self._respond, thread_sensitive=False, executor=self.threads)(request, query)
        )
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:  # the client went away
            query.stop()
            await asyncio.wait([running])
            raise

    def _respond(self, request: HttpRequest, query: Query) -> HttpResponseBase:
        """The response, on this thread's connection, which Django's signals do not see: they are sent elsewhere."""
        close_old_connections()
        try:
            with query.watched():
                return self.get_response(request)
        finally:
            close_old_connections()

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        body = scope.pop(BODY_FILE, None)
        await super().handle(scope, _Receive(receive, body) if body is not None else receive, send)

    async def read_body(self, receive: Any) -> Any:
        if isinstance(receive, _Receive):
            await receive()  # the empty message that stands for the body
            return receive.body
        return await super().read_body(receive)


def get_asgi_application() -> FlowHandler:
    """As ``django.core.asgi.get_asgi_application``."""
    import django

    django.setup(set_prefix=False)
    install()
    return FlowHandler()


class Body(io.BufferedReader):
    """A request's body in a file without a name on the disk of the data folder. ``link`` gives it one."""

    def link(self, destination: Path) -> int:
        """Make the file appear at ``destination``, which must not exist; its size. Raises OSError where it cannot."""
        os.fchmod(self.fileno(), 0o644)
        # The directory is not used for an absolute path, but with one Python calls linkat, which can follow the link.
        own = self.fileno()
        os.link(f"/proc/self/fd/{own}", destination, src_dir_fd=own, follow_symlinks=True)
        return os.fstat(self.fileno()).st_size


def body_of(request: HttpRequest) -> Body | None:
    """The request's body as a file that can be linked; None where it came another way or was read already."""
    body = getattr(request, "_stream", None)
    return body if isinstance(body, Body) and body.tell() == 0 else None


def _spool() -> Any:
    """A temporary file on the disk that keeps the bytes in the end: /tmp may be memory, or small."""
    folder = Path(settings.ATELIER_DATA) / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return io.FileIO(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600), "r+b")
    except (AttributeError, OSError):  # not on every system and file system
        return tempfile.TemporaryFile(dir=folder, buffering=0)


def install() -> None:
    """Make this process's Daphne hand bodies on as files and wait for slow clients. Again: nothing happens."""
    from daphne import http_protocol, server

    if issubclass(http_protocol.WebRequest, _Flow):
        return
    create_application, reply = server.Server.create_application, server.Server.handle_reply

    def create(self: Any, protocol: Any, scope: dict[str, Any]) -> Any:
        if came_by_gate(protocol):
            as_if_direct(scope)
        if isinstance(protocol, _Flow):
            protocol.hand_over(scope)
        return create_application(self, protocol, scope)

    async def handle_reply(self: Any, protocol: Any, message: dict[str, Any]) -> None:
        await reply(self, protocol, message)
        if isinstance(protocol, _Flow) and protocol.room is not None:
            await protocol.room.wait()

    http_protocol.WebRequest = type("FlowRequest", (_Flow, http_protocol.WebRequest), {})
    server.Server.create_application = create
    server.Server.handle_reply = handle_reply


def came_by_gate(protocol: Any) -> bool:
    """Whether a request or websocket of Daphne's came to a socket of ``studio.bootstrap.gate``."""
    transport = getattr(protocol, "transport", None) or getattr(protocol, "channel", None)
    name = getattr(transport.getHost(), "name", None) if transport is not None else None
    return name is not None and Path(os.fsdecode(name)).parent == gate.folder(settings.ATELIER_DATA)


def as_if_direct(scope: dict[str, Any]) -> None:
    """What comes by the gate is from a container, which could say of itself that it is a proxy that we trust. It has no
    address, and came by the scheme that people use: behind a proxy with TLS it would be sent there for ever."""
    scope["headers"] = [(name, value) for name, value in scope["headers"] if not name.startswith(PROXY_HEADERS)]
    scope["client"], scope["root_path"] = None, ""
    if settings.HTTPS and scope["type"] == "http":
        scope["scheme"] = "https"


class _Flow:
    """What is added to Daphne's request: a push producer of its connection, which says when there is room."""

    room: asyncio.Event | None = None
    content: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parsePOSTFormSubmission = False  # Twisted would parse multipart bodies in memory, for nobody

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's names from here on
        if length is None or length >= SPOOL_BYTES:
            self.content = _spool()
            self._read_more_at_once()
        else:
            self.content = io.BytesIO()

    def _read_more_at_once(self) -> None:
        """64 KiB for each turn of the event loop is what limits a large upload."""
        transport = getattr(self.channel, "transport", None)  # type: ignore[attr-defined]
        if transport is not None and hasattr(transport, "bufferSize"):
            transport.bufferSize = READ_BYTES

    def hand_over(self, scope: dict[str, Any]) -> None:
        """Put a body that lies in a file into the scope, and leave an empty one for Daphne to read."""
        if scope.get("type") != "http" or isinstance(self.content, io.BytesIO):
            return
        body = Body(io.FileIO(os.dup(self.content.fileno()), "rb"), SEND_BYTES)
        body.seek(0)
        scope[BODY_FILE] = body
        self.content.close()
        self.content = io.BytesIO()

    def handle_reply(self, message: dict[str, Any]) -> None:
        if self.room is None and message.get("more_body") and not self.finished and self.channel is not None:  # type: ignore[attr-defined]
            self.room = asyncio.Event()
            self.room.set()
            self.registerProducer(self, True)  # type: ignore[attr-defined]
        super().handle_reply(message)  # type: ignore[misc]

    def pauseProducing(self) -> None:  # noqa: N802
        if self.room is not None:
            self.room.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        if self.room is not None:
            self.room.set()

    def stopProducing(self) -> None:  # noqa: N802
        self.resumeProducing()

    def handle_exception(self, exception: Exception) -> None:
        """The application failed. A response that has begun cannot say so any more: its connection is cut, or a client
        would wait for the rest, or take what came for the whole."""
        transport = getattr(self.channel, "transport", None)  # type: ignore[attr-defined]
        if self._response_started and transport is not None:  # type: ignore[attr-defined]
            self.resumeProducing()
            transport.abortConnection()
        elif not self._response_started:  # type: ignore[attr-defined]
            self.basic_error(500, b"Internal Server Error", "Exception inside application.")  # type: ignore[attr-defined]

    def finish(self) -> None:
        self.resumeProducing()
        if self.room is not None and self.producer is not None:  # type: ignore[attr-defined]
            self.unregisterProducer()  # type: ignore[attr-defined]
        super().finish()  # type: ignore[misc]

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        self.resumeProducing()
        super().connectionLost(reason)  # type: ignore[misc]
