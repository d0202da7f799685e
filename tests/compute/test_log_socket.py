"""Live output through a real Daphne: what a viewer gets is the file, except what it is told it will not get."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sqlite3
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import websockets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stack import Stack

pytestmark = pytest.mark.services

MAKE = """
from studio.accounts.models import Membership, User
from studio.accounts.services import workspace_create
from studio.accounts.tokens import token_create
from compute.models import LogStream, Target, Unit
owner = User.objects.create_user("owner", "owner@example.test", "correct-horse-battery")
outsider = User.objects.create_user("outsider", "outsider@example.test", "correct-horse-battery")
reader = User.objects.create_user("reader", "reader@example.test", "correct-horse-battery")
workspace = workspace_create(name="main", title="Main", user=owner)
workspace_create(name="elsewhere", title="Elsewhere", user=outsider)
Membership.objects.create(workspace=workspace, user=reader, role="reader")
target, _made = Target.objects.get_or_create(workspace=workspace, name="local", defaults={"driver": "local"})
for user in (owner, outsider, reader):
    print(token_create(user=user, name="test")[1])
print(workspace.pk, target.pk)
"""


class Studio:
    """A stack with the broker and the web process, and rows made straight in its database."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.owner, self.outsider, self.reader, ids = stack.python(MAKE).split("\n")[:4]
        self.workspace_id, self.target_id = (int(number) for number in ids.split())

    def execute(self, sql: str, *parameters: Any) -> None:
        with closing(sqlite3.connect(self.stack.database, timeout=30)) as database, database:
            database.execute(sql, parameters)

    def unit(self, state: str = "running") -> tuple[str, Path]:
        """(key, path of its log) of a unit that nobody advances."""
        key = uuid.uuid4().hex
        with closing(sqlite3.connect(self.stack.database, timeout=30)) as database, database:
            columns = {row[1]: (row[2].lower(), row[3]) for row in database.execute("PRAGMA table_info(compute_unit)")}
            given = {"key": key, "state": state, "workspace_id": self.workspace_id, "target_id": self.target_id}
            given |= {"kind": "command", "spec": "{}", "history": "[]", "warnings": "[]", "created_at": "2026-01-01"}
            for name, (kind, required) in columns.items():
                if required and name not in given and name != "id":
                    given[name] = "" if "char" in kind or kind == "text" else 0
            marks = ",".join("?" * len(given))
            database.execute(f"INSERT INTO compute_unit ({','.join(given)}) VALUES ({marks})", list(given.values()))
        path = self.stack.unit_directory(key) / "stdout.log"
        path.parent.mkdir(parents=True)
        return key, path

    def end(self, key: str, state: str = "completed") -> None:
        self.execute("UPDATE compute_unit SET state = ? WHERE key = ?", state, key)

    def connect(self, key: str, token: str | None = None, *, workspace: str = "main", **options: Any) -> Any:
        address = f"ws://127.0.0.1:{self.stack.port}/ws/w/{workspace}/logs/{key}/"
        headers = {"Authorization": f"Bearer {token or self.owner}"}
        return websockets.connect(address, additional_headers=headers, max_size=None, compression=None, **options)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    stack = Stack(tmp_path_factory.mktemp("logs"), environ={"ATELIER_LOG_RECHECK_S": "1"})
    try:
        stack.migrate()
        stack.start("valkey", "daphne")
        yield Studio(stack)
    finally:
        stack.stop()


class Viewer:
    """What one viewer has got: bytes by offset, what it was told to do without, and how it ended."""

    def __init__(self) -> None:
        self.position = 0
        self.parts: list[tuple[int, bytes]] = []
        self.skips: list[tuple[int, int]] = []
        self.messages: list[dict[str, Any]] = []
        self.ended = False

    def take(self, message: str | bytes) -> None:
        if isinstance(message, str):
            said = json.loads(message)
            self.messages.append(said)
            if said["type"] == "skip":
                assert said["from"] == self.position < said["to"]
                self.skips.append((said["from"], said["to"]))
                self.position = said["to"]
            elif said["type"] == "eof":
                assert said["size"] == self.position
                self.ended = True
            return
        (offset,) = struct.unpack(">Q", message[:8])
        content = message[8:]
        assert offset == self.position and 0 < len(content) <= 65536
        self.parts.append((offset, bytes(content)))
        self.position += len(content)

    def check(self, content: bytes) -> None:
        for offset, part in self.parts:
            assert content[offset : offset + len(part)] == part
        assert sum(len(part) for _offset, part in self.parts) + sum(b - a for a, b in self.skips) == len(content)


async def refused(socket: Any, order: str | None = None) -> tuple[list[str], int | None]:
    """(types of the messages, close code) of a socket that the server closes."""
    types = []
    if order is not None:
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):  # it may have been refused already
            await socket.send(order)
    with contextlib.suppress(websockets.exceptions.ConnectionClosed):
        async for message in socket:
            types.append(json.loads(message)["type"])
    return types, socket.close_code


async def view(studio: Studio, key: str, viewer: Viewer, *, most: int | None = None) -> None:
    """Look on from where the viewer is until the end, or until ``most`` messages have come."""
    async with studio.connect(key) as socket:
        await socket.send(json.dumps({"stream": "stdout", "from": viewer.position}))
        count = 0
        async for message in socket:
            viewer.take(message)
            count += 1
            if viewer.ended or (most is not None and count >= most):
                return


async def test_bytes_come_as_they_are_written_and_the_end_is_told(studio: Studio) -> None:
    key, path = studio.unit()
    async with studio.connect(key) as socket:
        await socket.send('{"stream": "stdout", "from": 0}')
        assert json.loads(await socket.recv()) == {"type": "hello", "size": 0, "sealed": False}
        path.write_bytes(b"first\n")
        assert await asyncio.wait_for(socket.recv(), 2) == struct.pack(">Q", 0) + b"first\n"
        with path.open("ab") as handle:
            handle.write("zweite ⚡\n".encode())
        assert await asyncio.wait_for(socket.recv(), 2) == struct.pack(">Q", 6) + "zweite ⚡\n".encode()
        studio.end(key)
        assert json.loads(await asyncio.wait_for(socket.recv(), 5)) == {"type": "eof", "size": path.stat().st_size}


async def test_an_ended_log_is_sent_from_any_offset(studio: Studio) -> None:
    key, path = studio.unit("completed")
    content = random.Random(1).randbytes(6 << 20)
    path.write_bytes(content)
    viewer = Viewer()
    viewer.position = 1_000_003
    await asyncio.wait_for(view(studio, key, viewer), 30)
    assert b"".join(part for _offset, part in viewer.parts) == content[1_000_003:]
    assert viewer.skips == []


async def test_one_socket_can_be_sent_elsewhere(studio: Studio) -> None:
    key, path = studio.unit("completed")
    path.write_bytes(b"0123456789")
    async with studio.connect(key) as socket:
        for start in (7, 2):
            await socket.send(json.dumps({"stream": "stdout", "from": start}))
            assert json.loads(await socket.recv())["type"] == "hello"
            assert await socket.recv() == struct.pack(">Q", start) + b"0123456789"[start:]
            assert json.loads(await socket.recv())["type"] == "eof"


@pytest.mark.parametrize(
    ("who", "workspace", "key", "order", "code"),
    [
        ("outsider", "main", None, '{"stream": "stdout", "from": 0}', 4404),
        ("outsider", "elsewhere", None, '{"stream": "stdout", "from": 0}', 4404),
        ("owner", "main", "0" * 32, '{"stream": "stdout", "from": 0}', 4404),
        ("owner", "main", "not-a-key", '{"stream": "stdout", "from": 0}', 4404),
        ("owner", "main", None, '{"stream": "../secrets", "from": 0}', 4404),
        ("owner", "main", None, "what?", 4404),
        ("nobody", "main", None, '{"stream": "stdout", "from": 0}', 4401),
    ],
)
async def test_who_may_not_look_is_told_so(
    studio: Studio, who: str, workspace: str, key: str | None, order: str, code: int
) -> None:
    real, path = studio.unit()
    path.write_bytes(b"secret\n")
    token = getattr(studio, who, "atp_wrong")
    async with studio.connect(key or real, token, workspace=workspace) as socket:
        assert await refused(socket, order) == (["error"], code)


async def test_without_a_token_a_script_is_refused(studio: Studio) -> None:
    key, _path = studio.unit()
    address = f"ws://127.0.0.1:{studio.stack.port}/ws/w/main/logs/{key}/"
    for origin in (None, "https://elsewhere.example"):
        with pytest.raises(websockets.exceptions.InvalidStatus):
            await websockets.connect(address, origin=origin)
    async with websockets.connect(address, origin=f"http://127.0.0.1:{studio.stack.port}") as socket:
        assert json.loads(await socket.recv())["type"] == "error"


async def test_who_is_removed_from_the_workspace_sees_no_more(studio: Studio) -> None:
    key, path = studio.unit()
    path.write_bytes(b"before\n")
    async with studio.connect(key, studio.reader) as socket:
        await socket.send('{"stream": "stdout", "from": 0}')
        await socket.recv()
        assert (await socket.recv())[8:] == b"before\n"
        studio.execute("DELETE FROM accounts_membership WHERE role = 'reader'")
        assert await refused(socket) == (["error"], 4403)


async def test_whoever_falls_behind_skips_to_the_tail(studio: Studio) -> None:
    key, path = studio.unit()
    path.write_bytes(b"start\n")
    viewer = Viewer()
    line = b"a line of the burst with some text in it, as scripts write them %09d\n"
    async with studio.connect(key, max_queue=1) as socket:
        await socket.send('{"stream": "stdout", "from": 0}')
        for _message in range(2):
            viewer.take(await socket.recv())
        await socket.send(json.dumps({"ack": viewer.position}))  # and none after it: what is under way is limited
        with path.open("ab", buffering=0) as handle:
            for block in range(160):
                handle.write(b"".join(line % (block * 1000 + n) for n in range(1000)))
                await asyncio.sleep(0.005)
        studio.end(key)
        while not viewer.ended:
            viewer.take(await asyncio.wait_for(socket.recv(), 10))
            await socket.send(json.dumps({"ack": viewer.position}))
    assert viewer.skips
    viewer.check(path.read_bytes())
    after = path.read_bytes()[viewer.skips[0][1] - 1 :]
    assert after[:1] == b"\n"  # it goes on where a line starts


async def test_a_slow_reader_of_an_old_log_is_not_disturbed(studio: Studio) -> None:
    key, path = studio.unit()
    path.write_bytes(b"0123456789abcde\n" * 400_000)
    viewer = Viewer()
    async with studio.connect(key, max_queue=1) as socket:
        await socket.send('{"stream": "stdout", "from": 0}')
        while viewer.position < path.stat().st_size:
            viewer.take(await socket.recv())
            await socket.send(json.dumps({"ack": viewer.position}))
    assert viewer.skips == []


def write_all(path: Path, appends: list[bytes], pause: float) -> None:
    with path.open("ab", buffering=0) as handle:
        for piece in appends:
            handle.write(piece)
            time.sleep(pause)


appends = st.lists(
    st.one_of(st.binary(min_size=1, max_size=200), st.integers(1, 90_000).map(lambda size: os.urandom(size))),
    max_size=30,
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(appends=appends, cuts=st.lists(st.integers(1, 6), max_size=6), viewers=st.integers(1, 3))
def test_any_appends_and_any_disconnects_give_the_file(
    studio: Studio, appends: list[bytes], cuts: list[int], viewers: int
) -> None:
    key, path = studio.unit()
    path.touch()
    writer = threading.Thread(target=write_all, args=(path, appends, 0.004))

    async def one(shift: int) -> Viewer:
        viewer = Viewer()
        for most in cuts[shift:]:
            if not viewer.ended:
                await asyncio.wait_for(view(studio, key, viewer, most=most if writer.is_alive() else 1), 20)
        if not viewer.ended:
            await asyncio.wait_for(view(studio, key, viewer), 20)
        return viewer

    async def everybody() -> list[Viewer]:
        ending = asyncio.get_running_loop().run_in_executor(None, lambda: (writer.join(), studio.end(key)))
        found = await asyncio.gather(*(one(shift) for shift in range(viewers)))
        await ending
        return found

    writer.start()
    for viewer in asyncio.run(everybody()):
        viewer.check(b"".join(appends))
        assert viewer.skips == []
