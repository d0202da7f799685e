"""Live output: print in a script to bytes in a websocket client, and a burst with twenty viewers.

Everything is real: a unit under the local driver, its shim, Daphne, and clients in a process of their own. Beside it,
in the same run, a bare pipe that is sent on over a websocket, with nothing in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import websockets

from tests.stack import Stack, wait_until

REACH = {"p50_ms": 25.0, "p99_ms": 100.0, "viewers_equal": 20}
TICKS = "import sys,time\nfor n in range({count}):\n    print(repr(time.time()), flush=True)\n    time.sleep(0.02)\n"
BURST = """import sys,time
LINE = b"step %09d  loss=0.123456  accuracy=0.987654  time=12:34:56\\n"
began = time.perf_counter()
for step in range({seconds} * 100):
    first = step * {rate} // 100
    last = (step + 1) * {rate} // 100
    sys.stdout.buffer.write(b"".join(LINE % n for n in range(first, last)))
    sys.stdout.flush()
    time.sleep(max(0, began + (step + 1) / 100 - time.perf_counter()))
"""
SETUP = """
from studio.accounts.models import User
from studio.accounts.services import workspace_create
from studio.accounts.tokens import token_create
from compute.services import ensure_local_target
owner = User.objects.create_user("bench", "bench@example.test", "correct-horse-battery")
workspace = workspace_create(name="bench", title="Bench", user=owner)
ensure_local_target(workspace)
print(token_create(user=owner, name="bench")[1])
"""
SUBMIT = """
from compute.models import Target
from compute.services import unit_create
target = Target.objects.get(workspace__name="bench", name="local")
code = [{{"path": "script.py", "source": {source!r}, "mode": 0o644}}]
spec = {{"argv": ["{{python}}", "-u", "script.py"], "code": code}}
print(unit_create(workspace=target.workspace, target=target, kind="command", spec=spec, label="bench")[0].key)
"""


def _submit(stack: Stack, folder: Path, script: str) -> str:
    source = folder / f"script-{time.monotonic_ns()}.py"
    source.write_text(script)
    return stack.python(SUBMIT.format(source=str(source))).split()[-1]


def _connect(stack: Stack, token: str, key: str) -> Any:
    address = f"ws://127.0.0.1:{stack.port}/ws/w/bench/logs/{key}/"
    headers = {"Authorization": f"Bearer {token}"}
    return websockets.connect(address, additional_headers=headers, max_size=None, compression=None, ping_interval=None)


async def _latencies(stack: Stack, token: str, key: str) -> list[float]:
    """Seconds from print to here, one per line that is printed while we listen: what was there before is no news."""
    rest, listening = b"", time.time()
    found: list[float] = []
    async with _connect(stack, token, key) as socket:
        await socket.send('{"stream": "stdout", "from": 0}')
        async for message in socket:
            now = time.time()
            if isinstance(message, str):
                if json.loads(message)["type"] == "hello":
                    listening = now
                if json.loads(message)["type"] == "eof":
                    return found
                continue
            *lines, rest = (rest + message[8:]).split(b"\n")
            found += [now - float(line) for line in lines if float(line) >= listening]
    return found


async def _bare(script: Path) -> list[float]:
    """The same script's pipe sent on over a websocket, with nothing in between."""
    found: list[float] = []

    async def serve(connection: Any) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-u", str(script), stdout=asyncio.subprocess.PIPE
        )
        while piece := await process.stdout.read(65536):  # type: ignore[union-attr]  # a pipe was asked for
            await connection.send(piece)
        await process.wait()

    async with websockets.serve(serve, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with websockets.connect(f"ws://127.0.0.1:{port}", compression=None) as socket:
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                async for message in socket:
                    now = time.time()
                    found += [now - float(line) for line in message.split()]
    return found


async def _viewer(stack: Stack, token: str, key: str, path: Path) -> dict[str, Any]:
    """Compares what comes with the file at once, so that nothing is kept."""
    position = skipped = parts = 0
    async with _connect(stack, token, key) as socket:
        await socket.send('{"stream": "stdout", "from": 0}')
        descriptor = -1
        try:
            async for message in socket:
                if isinstance(message, str):
                    said = json.loads(message)
                    if said["type"] == "skip":
                        if said["from"] != position:
                            break
                        skipped += said["to"] - said["from"]
                        position = said["to"]
                    if said["type"] == "eof":
                        return {
                            "equal": said["size"] == position == path.stat().st_size,
                            "skipped": skipped,
                            "frames": parts,
                        }
                    continue
                if descriptor < 0:
                    descriptor = os.open(path, os.O_RDONLY)
                content = message[8:]
                if (
                    struct.unpack(">Q", message[:8])[0] != position
                    or os.pread(descriptor, len(content), position) != content
                ):
                    break
                position += len(content)
                parts += 1
        finally:
            if descriptor >= 0:
                os.close(descriptor)
    return {"equal": False, "skipped": skipped, "frames": parts}


def _spent(process: Any) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _burst(stack: Stack, folder: Path, token: str, rate: int, seconds: int, viewers: int) -> dict[str, Any]:
    key = _submit(stack, folder, BURST.format(rate=rate, seconds=seconds))
    path = stack.unit_directory(key) / "stdout.log"

    async def everybody() -> list[dict[str, Any]]:
        return await asyncio.gather(*(_viewer(stack, token, key, path) for _number in range(viewers)))

    before = _spent(stack.processes["daphne"])
    found = asyncio.run(everybody())
    return {
        "viewers_equal": sum(viewer["equal"] for viewer in found),
        "viewers_that_skipped": sum(viewer["skipped"] > 0 for viewer in found),
        "bytes_skipped": sum(viewer["skipped"] for viewer in found),
        "log_bytes": path.stat().st_size,
        "lines": path.read_bytes().count(b"\n"),
        "frames": sum(viewer["frames"] for viewer in found),
        "web_cpu_s": round(_spent(stack.processes["daphne"]) - before, 2),
    }


def run(options: dict[str, Any] | None = None) -> dict[str, Any]:
    """``options``: quick; lines (of the latency part), seconds, rate (lines per second) and viewers (of the burst)."""
    quick = {"lines": 100, "seconds": 3} if (options or {}).get("quick") else {}
    given = {"lines": 500, "seconds": 20, "rate": 50_000, "viewers": 20, **quick, **(options or {})}
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as name:
        folder = Path(name)
        with Stack(folder) as stack:
            token = stack.python(SETUP).split()[-1]
            key = _submit(stack, folder, TICKS.format(count=given["lines"]))
            path = stack.unit_directory(key) / "stdout.log"
            wait_until("the script prints", path.exists, 60)
            ours = sorted(1000 * value for value in asyncio.run(_latencies(stack, token, key)))
            script = folder / "bare.py"
            script.write_text(TICKS.format(count=given["lines"]))
            bare = sorted(1000 * value for value in asyncio.run(_bare(script)))
            burst = _burst(stack, folder, token, given["rate"], given["seconds"], given["viewers"])
    figures = {
        "p50_ms": round(statistics.median(ours), 2),
        "p99_ms": round(ours[int(len(ours) * 0.99)], 2),
        "max_ms": round(ours[-1], 2),
        "lines_seen": len(ours),
        **burst,
    }
    met = (
        figures["p50_ms"] <= REACH["p50_ms"]
        and figures["p99_ms"] <= REACH["p99_ms"]
        and burst["viewers_equal"] == given["viewers"]
        and burst["lines"] == given["rate"] * given["seconds"]
    )
    return {
        "bench": "live_log",
        "figures": figures,
        "unit": "ms",
        "reach": {**REACH, "viewers_equal": given["viewers"]},
        "compared_with": {
            "bare pipe to a websocket, p50_ms": round(statistics.median(bare), 2),
            "bare pipe to a websocket, p99_ms": round(bare[int(len(bare) * 0.99)], 2),
        },
        "met": bool(met),
    }
