"""The websocket of live output.

The client says ``{"stream": "stdout", "from": n}`` (again at any time, to go elsewhere). The server answers
``hello {size, sealed}``, then binary frames: 8 bytes of big-endian offset, and up to 64 KiB from there. ``skip
{from, to}`` says which bytes it leaves out, ``eof {size}`` that the unit has ended and all was sent, ``error
{detail}`` why it closes: 4401 not signed in, 4403 no longer a member, 4404 no such stream.

Backpressure, so that one slow viewer costs neither memory nor the others' time:

- Under Daphne the bytes that wait in the connection's own send buffer are counted (``pending``); with more than
  256 KiB waiting nothing is sent until some have left. Under another server that buffer is out of sight, and then
  its ``send`` is trusted to wait.
- A client may send ``{"ack": offset}`` as it works through the bytes; from its first one on, no more than 1 MiB is
  under way to it. This is for browsers, which take bytes off the network faster than a page can use them.
- Whoever falls 4 MiB further behind than it has been is told ``skip`` and goes on near the end of the file. A viewer
  that reads an old log from its beginning is therefore not disturbed as long as it gains on the file's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.utils.translation import gettext as _

from compute import states
from compute.logs.hub import FRAME, Watch, hub
from compute.logs.store import LogFile
from compute.models import LogStream, Unit
from studio.accounts import policy
from studio.accounts.models import User
from studio.lib.errors import AtelierError, Forbidden, NotAuthenticated, NotFound

log = logging.getLogger(__name__)

BEHIND = 4 << 20
WAITING_MOST = 256 << 10
UNDER_WAY_MOST = 1 << 20
END_CHECK_S = 1.0
QUIET_BEFORE_CHECK_S = 0.15
CLOSE_CODES = {NotAuthenticated: 4401, Forbidden: 4403, NotFound: 4404}

# Its own few threads: a slow query elsewhere never holds up live output.
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="log-sockets")


def _in_thread(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    return database_sync_to_async(function, thread_sensitive=False, executor=_threads)


def bearer(scope: dict[str, Any]) -> str | None:
    """The token of an ``Authorization: Bearer`` header, None without one."""
    for name, value in scope.get("headers", []):
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:].decode("latin-1").strip())
    return None


@_in_thread
def authorise(token: str | None, user_id: int | None, workspace: str, unit_key: str) -> tuple[int, bool]:
    """(unit id, whether it has ended). Raises NotAuthenticated, Forbidden or NotFound. Three or four queries."""
    from studio.accounts.tokens import user_from_token

    if token is not None:
        user = user_from_token(token)
    else:
        user = User.objects.filter(pk=user_id, is_active=True).first() if user_id else None
    if user is None:
        raise NotAuthenticated(_("Sign in first."))
    found, _role = policy.workspace_get(user, workspace)
    unit = Unit.objects.filter(key=unit_key, workspace=found).values_list("pk", "state").first()
    if unit is None:
        raise NotFound(_("There is no such stream."))
    return unit[0], unit[1] in states.TERMINAL


@_in_thread
def stream_ended(unit_id: int, stream: str) -> bool:
    """Whether nothing more will be appended; a unit that was deleted has ended too."""
    state = Unit.objects.filter(pk=unit_id).values_list("state", flat=True).first()
    return (
        state is None
        or state in states.TERMINAL
        or LogStream.objects.filter(unit_id=unit_id, name=stream, sealed=True).exists()
    )


@_in_thread
def stream_known(unit_id: int, stream: str) -> bool:
    return stream == "stdout" or LogStream.objects.filter(unit_id=unit_id, name=stream).exists()


def send_buffer(send: Any) -> Callable[[], int]:
    """A function that says how many bytes wait to leave the process on this connection; always 0 where out of sight.

    Daphne hands over ``partial(handle_reply, protocol)``; its transport is Twisted's, which buffers without a limit.
    """
    protocol = next(iter(getattr(send, "args", ())), None)
    transport = getattr(protocol, "transport", None)
    if transport is None or not hasattr(transport, "_tempDataLen"):
        return lambda: 0

    def pending() -> int:
        return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)

    return pending


class LogConsumer:
    """One websocket, as a plain ASGI application: nothing on the way of a frame that it does not need."""

    def __init__(self) -> None:
        self.acknowledged: int | None = None
        self.order: tuple[str, int] | None = None
        self.news = asyncio.Event()

    @classmethod
    def as_asgi(cls) -> Callable[..., Awaitable[None]]:
        async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
            await cls()(scope, receive, send)

        return application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.pending = send_buffer(send)
        if (await receive())["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept"})
        listener = asyncio.ensure_future(self.listen())
        serving = asyncio.ensure_future(self.serve())
        try:
            await asyncio.wait({listener, serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (listener, serving):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    # What the client says.

    async def listen(self) -> None:
        """Take in orders and acknowledgements until the client is gone."""
        while True:
            message = await self.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                said = json.loads(message.get("text") or message.get("bytes") or "")
                if "ack" in said:
                    # One that crossed a skip on its way must not take us back: nobody would ever make up for it.
                    self.acknowledged = max(int(said["ack"]), self.acknowledged or 0)
                else:
                    self.order = (str(said["stream"]), max(int(said["from"]), 0))
            except (ValueError, TypeError, KeyError):
                self.order = ("", 0)
            self.news.set()

    # What the server says.

    async def say(self, kind: str, **content: Any) -> None:
        await self.send({"type": "websocket.send", "text": json.dumps({"type": kind, **content})})

    async def close(self, error: AtelierError) -> None:
        await self.say("error", detail=error.detail)
        await self.send({"type": "websocket.close", "code": CLOSE_CODES.get(type(error), 4400)})

    async def check(self) -> tuple[int, bool]:
        arguments = self.scope["url_route"]["kwargs"]
        token = bearer(self.scope)
        user_id = None if token is not None else getattr(self.scope.get("user"), "pk", None)
        result: tuple[int, bool] = await authorise(token, user_id, arguments["workspace"], arguments["unit_key"])
        self.checked = time.monotonic()
        return result

    async def serve(self) -> None:
        try:
            self.unit_id, self.ended = await self.check()
            await self.news.wait()
            while True:
                order, self.order = self.order, None
                self.news.clear()
                if order is None:
                    await self.news.wait()
                    continue
                if not order[0] or not await stream_known(self.unit_id, order[0]):
                    raise NotFound(_("There is no such stream."))
                file = LogFile(self.scope["url_route"]["kwargs"]["unit_key"], order[0])
                async with hub.watching(file) as watch:
                    await self.follow(watch, file.name, order[1])
        except AtelierError as error:
            await self.close(error)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("live output of %s", self.scope.get("path"))
            await self.send({"type": "websocket.close", "code": 1011})

    async def follow(self, watch: Watch, stream: str, position: int) -> None:
        """Send from ``position`` on until the end of the stream or a new order."""
        self.acknowledged = position if self.acknowledged is not None else None
        await self.say("hello", size=watch.size, sealed=self.ended)
        best = max(watch.size - position, 0)
        end_checked = time.monotonic() if not self.ended else 0.0
        while self.order is None:
            await self.recheck()
            if watch.size > position:
                if not await self.room(position):
                    behind = watch.size - position
                    if behind > best + BEHIND:
                        position, best = await self.skip(watch, position), 0
                    continue
                frame = await watch.frame(position)
                if len(frame) > 8:
                    await self.send({"type": "websocket.send", "bytes": frame})
                    position += len(frame) - 8
                    best = min(best, max(watch.size - position, 0))
                    await asyncio.sleep(0)
                    continue
            if not self.ended and time.monotonic() - max(end_checked, watch.changed_at) > (
                END_CHECK_S if end_checked else QUIET_BEFORE_CHECK_S
            ):
                self.ended, end_checked = await stream_ended(self.unit_id, stream), time.monotonic()
            if self.ended:
                watch.look()
                if watch.size <= position:
                    await self.say("eof", size=watch.size)
                    await self.news_of_order()
                    return
                continue
            await watch.wait(position, END_CHECK_S)

    async def recheck(self) -> None:
        if time.monotonic() - self.checked > settings.ATELIER_LOG_RECHECK_S:
            try:
                await self.check()
            except NotFound as error:
                raise Forbidden(error.detail) from None

    async def room(self, position: int) -> bool:
        """Whether the next frame may be sent; waits a moment when not."""
        under_way = position - self.acknowledged if self.acknowledged is not None else 0
        if self.pending() <= WAITING_MOST and under_way <= UNDER_WAY_MOST:
            return True
        await asyncio.sleep(0.01)
        return False

    async def skip(self, watch: Watch, position: int) -> int:
        """Tell the client what it will not get; where it goes on: at a line's start near the end of the file."""
        to = watch.size
        near = max(watch.size - FRAME, position)
        piece = (await watch.frame(near))[8:]
        at = piece.find(b"\n") + 1
        to = near + at
        await self.say("skip", **{"from": position, "to": to})
        if self.acknowledged is not None:
            self.acknowledged = to
        return to

    async def news_of_order(self) -> None:
        while self.order is None:
            self.news.clear()
            await self.news.wait()
