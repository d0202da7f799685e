"""Reading files and folders behind SSH. Nothing that is said there is believed: names, types and sizes may be lies.

Links are never followed there: what a run writes is read with the rights of the login, and a link in its folder must
not give out the login's other files.
"""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncssh
from asyncssh import SFTPClient, SFTPNoSuchFile
from django.utils.translation import gettext as _

from compute.drivers.base import NotFound, Unreachable
from compute.drivers.ssh import Link

AT_ONCE = 32
BLOCK = 32 << 10  # of one request
MOST_ENTRIES = 2_000_000
LONGEST = 3000  # bytes of a path
OPEN_FILES = 200
SLOW_S = 300.0  # for one piece on a slow line; a dead peer is noticed long before


@dataclass(frozen=True)
class Entry:
    """``path``: relative, with ``/`` between names that are safe to use here. ``target`` of a link."""

    path: bytes
    mode: int
    size: int
    mtime: int
    target: bytes = b""


def usable_name(name: bytes) -> bool:
    return 0 < len(name) <= 255 and name not in (b".", b"..") and b"/" not in name and b"\0" not in name


def _entry(path: bytes, attributes: Any, target: bytes = b"") -> Entry:
    mode = int(attributes.permissions or 0)
    return Entry(path, mode, max(0, int(attributes.size or 0)), int(attributes.mtime or 0), target)


def walk(link: Link, root: bytes, tops: Iterable[bytes]) -> list[Entry]:
    """Everything at and below ``tops``, which are names in the folder ``root``; files of other kinds are left out."""

    async def look(client: SFTPClient, path: bytes) -> list[Entry]:
        try:
            attributes = await client.lstat(root + b"/" + path)
        except SFTPNoSuchFile:
            return []
        return await known(client, path, attributes)

    async def known(client: SFTPClient, path: bytes, attributes: Any) -> list[Entry]:
        kind = stat.S_IFMT(int(attributes.permissions or 0))
        if kind == stat.S_IFLNK:
            with contextlib.suppress(asyncssh.SFTPError):
                return [_entry(path, attributes, bytes(await client.readlink(root + b"/" + path)))]  # type: ignore[arg-type]
            return []
        return [_entry(path, attributes)] if kind in (stat.S_IFREG, stat.S_IFDIR) else []

    async def below(client: SFTPClient, path: bytes) -> list[Entry]:
        found: list[Entry] = []
        try:
            async for one in client.scandir(root + b"/" + path):
                name = one.filename if isinstance(one.filename, bytes) else one.filename.encode("utf-8", "replace")
                if usable_name(name) and len(path) + len(name) < LONGEST:
                    found += await known(client, path + b"/" + name, one.attrs)
        except (SFTPNoSuchFile, asyncssh.SFTPPermissionDenied):
            return found
        return found

    found: list[Entry] = []
    level = _many(link, [(look, top) for top in tops])
    while level:
        found += level
        if len(found) > MOST_ENTRIES:
            raise Unreachable(_("There are more than %(number)d files in a run's folder.") % {"number": MOST_ENTRIES})
        level = _many(link, [(below, entry.path) for entry in level if stat.S_ISDIR(entry.mode)])
    return found


def _many(link: Link, jobs: Sequence[tuple[Any, bytes]]) -> list[Entry]:
    """The results of all jobs, a number of them at the same time."""
    found: list[Entry] = []
    for start in range(0, len(jobs), AT_ONCE):
        some = jobs[start : start + AT_ONCE]

        async def go(client: SFTPClient, some: Sequence[tuple[Any, bytes]] = some) -> list[list[Entry]]:
            return await asyncio.gather(*(job(client, path) for job, path in some))

        for entries in link.sftp(go, SLOW_S):
            found += entries
    return found


async def _open(client: SFTPClient, path: bytes, expected: Entry | None = None) -> Any:
    """The open file, once it is sure that it is a plain one and no link to another. Raises SFTPNoSuchFile."""
    before = await client.lstat(path)
    if not stat.S_ISREG(int(before.permissions or 0)):
        raise SFTPNoSuchFile("not a plain file")
    file = await client.open(path, "rb", block_size=BLOCK)
    try:
        after = await file.stat()
        changed = (after.uid, after.gid, after.permissions) != (before.uid, before.gid, before.permissions)
        if changed or int(after.size or 0) < int(before.size or 0) or int(after.mtime or 0) < int(before.mtime or 0):
            raise SFTPNoSuchFile("it was changed")
        if expected is not None and (after.size, after.mtime) != (expected.size, expected.mtime):
            raise SFTPNoSuchFile("it was changed")
    except BaseException:
        await file.close()
        raise
    return file


def read_piece(link: Link, path: bytes, offset: int, limit: int, expected: Entry | None = None) -> bytes:
    """At most ``limit`` bytes from ``offset``. Raises NotFound for what is no plain file, or not the expected one."""

    async def go(client: SFTPClient) -> bytes:
        file = await _open(client, path, expected)
        try:
            return bytes(await file.read(limit, offset))
        finally:
            await file.close()

    try:
        return link.sftp(go, SLOW_S)
    except Unreachable as error:
        if isinstance(error.__cause__, (asyncssh.SFTPNoSuchFile, asyncssh.SFTPPermissionDenied, asyncssh.SFTPFailure)):
            raise NotFound(path.decode("utf-8", "replace")) from None
        raise


def read_stream(link: Link, path: bytes, offset: int, limit: int) -> bytes:
    """As ``read_piece``, of a file that only grows and is asked for again and again: it stays open."""

    async def go(client: SFTPClient) -> bytes:
        handles = link.sessions.handles
        file = handles.pop(path, None)
        if file is None:
            file = await _open(client, path)
            while len(handles) >= OPEN_FILES:
                await handles.pop(next(iter(handles))).close()
        other = handles.pop(path, None)  # of another thread that came at the same time
        handles[path] = file
        if other is not None:
            await other.close()
        return bytes(await file.read(limit, offset))

    try:
        return link.sftp(go, SLOW_S)
    except Unreachable as error:
        if isinstance(error.__cause__, (asyncssh.SFTPNoSuchFile, asyncssh.SFTPPermissionDenied, asyncssh.SFTPFailure)):
            raise NotFound(path.decode("utf-8", "replace")) from None
        raise


def close_streams(link: Link, paths: Iterable[bytes]) -> None:
    wanted = [path for path in paths if path in link.sessions.handles]

    async def go(_client: SFTPClient) -> None:
        for path in wanted:
            file = link.sessions.handles.pop(path, None)
            if file is not None:
                await file.close()

    if wanted:
        link.sftp(go)


def read_small(link: Link, root: bytes, entries: Sequence[Entry]) -> list[bytes | None]:
    """The whole of each small file, many at the same time; None for one that is not there as it was listed."""

    async def one(client: SFTPClient, entry: Entry) -> bytes | None:
        try:
            file = await _open(client, root + b"/" + entry.path, entry)
        except asyncssh.SFTPError:
            return None
        try:
            data = bytes(await file.read(entry.size, 0)) if entry.size else b""
        finally:
            await file.close()
        return data if len(data) == entry.size else None

    async def go(client: SFTPClient) -> list[bytes | None]:
        return await asyncio.gather(*(one(client, entry) for entry in entries))

    return link.sftp(go, SLOW_S)
