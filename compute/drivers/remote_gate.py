"""The studio's gate on a machine behind SSH: a socket there that leads, over the one connection, to a web process here.

Containers see the folder (``folder``). Each process and connection of ours listens in it under a name of its own, made
again after every reconnection; those of connections that are over are taken away.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shlex
from typing import Any

import asyncssh
from django.conf import settings

from compute.drivers.ssh import Link
from compute.installation import installation_id
from studio.bootstrap import gate

log = logging.getLogger(__name__)

OPEN, CLOSED, ABSENT = "open", "closed", "absent"  # closed: no socket is let through; absent: no folder either
MAKE_S = 20.0
WAIT_S = 20.0  # for a web process that is just starting again
PAUSE_S = 0.5
AGAIN_S = 30.0  # until a failure is tried again over the same connection

# A server leaves its sockets when a connection ends; the kernel lists the paths that somebody listens on. ``far`` tells
# the client that the studio does not share this machine's files.
MAKE = """
umask 077
mkdir -p -- {place} && chmod 700 {place} && cd {place} && : >far || exit 9
[ -r /proc/net/unix ] || exit 0
for s in *.sock; do
  if [ -S "$s" ] && ! grep -qF "/$s" /proc/net/unix; then rm -f -- "$s"; fi
done
exit 0
"""


def folder(base: str) -> str:
    """Of this studio alone: others may be given the same ``base``, and must not get each other's requests. Short, since
    the path of a socket may have no more than 107 bytes."""
    ours = installation_id()
    return f"{base}/gate" if ours in base else f"{base}/gate/{ours[:8]}"


def keep(link: Link, base: str) -> str:
    """OPEN, CLOSED or ABSENT. Made where this connection has none yet; else it costs nothing. Raises SshProblem."""
    made = link.memo.get(f"gate-{base}")
    if made is not None and made.done() and not made.cancelled():
        return str(made.result())
    return link.call(lambda connection: _once(link, connection, base), MAKE_S)


async def _once(link: Link, connection: asyncssh.SSHClientConnection, base: str) -> str:
    """Those who come at the same time wait for the same attempt."""
    name = f"gate-{base}"
    made = link.memo.get(name)
    if made is None or made.cancelled():
        made = link.memo[name] = asyncio.ensure_future(_make(link, connection, folder(base)))
    state = str(await asyncio.shield(made))
    if state == ABSENT:
        asyncio.get_running_loop().call_later(AGAIN_S, link.memo.pop, name, None)
    return state


async def _make(link: Link, connection: asyncssh.SSHClientConnection, place: str) -> str:
    """Whatever goes wrong costs no unit its looks."""
    try:
        async with asyncio.timeout(MAKE_S / 2):
            done = await link.sessions.run(connection, MAKE.format(place=shlex.quote(place)))
            if done.code != 0:
                log.warning("no gate on %s: %s", link.login, done.err[:300])
                return ABSENT
            await connection.create_unix_server(lambda: _lead(connection), f"{place}/{secrets.token_hex(4)}.sock")
    except asyncssh.ChannelListenError:
        return CLOSED
    except Exception:
        log.exception("no gate on %s", link.login)
        return ABSENT
    return OPEN


async def _lead(connection: asyncssh.SSHClientConnection) -> Any:
    """A connection to a web process here, the newest first, for one that came through the socket there."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WAIT_S
    while True:
        for path in gate.sockets(gate.folder(settings.ATELIER_DATA)):
            try:
                return await connection.forward_unix_connection(path)
            except asyncssh.ChannelOpenError:
                continue
        if loop.time() > end or connection.is_closed():
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "The studio's web process does not listen")
        await asyncio.sleep(PAUSE_S)
