"""The no-code service: logistic regression on iris, one row per request, 1 and 64 clients; beside a bare app."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from compute.resolving import uv_binary

SERVING = Path(__file__).resolve().parent.parent / "models_registry" / "serving"
KEY = "bench-key"
BODY = b'{"data": [[5.1, 3.5, 1.4, 0.2]]}'
TRAIN = """
import joblib, sys
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
x, y = load_iris(return_X_y=True)
joblib.dump(LogisticRegression(max_iter=1000).fit(x, y), sys.argv[1])
"""
# What one would write by hand: the same HTTP without keys, without checks, one predict per request.
BARE = """
import asyncio, json, sys
import joblib
model = joblib.load(sys.argv[1])
class App(asyncio.Protocol):
    def connection_made(self, transport): self.transport, self.buffer = transport, b""
    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\\r\\n\\r\\n")) >= 0:
            head = self.buffer[:end].lower()
            size = int(head.split(b"content-length:")[1].split(b"\\r\\n")[0]) if b"content-length:" in head else 0
            if len(self.buffer) < end + 4 + size: return
            body, self.buffer = self.buffer[end + 4:end + 4 + size], self.buffer[end + 4 + size:]
            answer = json.dumps(model.predict(json.loads(body)["data"]).tolist() if body else []).encode()
            head = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
            self.transport.write(head % len(answer) + answer)
async def main():
    server = await asyncio.get_running_loop().create_server(App, "127.0.0.1", int(sys.argv[2]))
    await server.serve_forever()
asyncio.run(main())
"""
# The load: kept connections, one request at a time on each; every answer is compared with the expected bytes.
LOAD = """
import asyncio, json, sys, time
port, clients, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
request, expected = sys.argv[4].encode(), sys.argv[5].encode()
request = request.replace(b"|", b"\\r\\n")
times, wrong = [], 0
class Client(asyncio.Protocol):
    def connection_made(self, transport): self.transport, self.buffer = transport, b""; self.send()
    def send(self): self.begun = time.perf_counter(); self.transport.write(request)
    def data_received(self, data):
        global wrong
        self.buffer += data
        if not self.buffer.endswith(expected):
            if len(self.buffer) > 4096: wrong += 1; self.transport.close()
            return
        if not self.buffer.startswith(b"HTTP/1.1 200"): wrong += 1
        now = time.perf_counter(); times.append(now - self.begun); self.buffer = b""
        if now < until: self.send()
        else: self.transport.close()
async def main():
    global until
    until = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    for _ in range(clients): await loop.create_connection(Client, "127.0.0.1", port)
    await asyncio.sleep(seconds + 0.5)
asyncio.run(main())
times.sort()
p50, p99 = times[len(times) // 2] * 1e3, times[int(len(times) * .99)] * 1e3
print(json.dumps({"rate": len(times) / seconds, "p50": p50, "p99": p99, "wrong": wrong}))
"""


def _environment() -> str:
    """An interpreter with scikit-learn, in a folder that later runs find again."""
    folder = Path(tempfile.gettempdir()) / f"atelier-bench-sklearn-{sys.version_info[0]}{sys.version_info[1]}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        uv = str(uv_binary())
        subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "-p", str(python), "scikit-learn"], check=True)
        (folder / "ready").touch()
    return str(python)


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, path: str, process: subprocess.Popen[bytes]) -> float:
    """Seconds until the service answers 200."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < 60 and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                if answer.status == 200:
                    return time.perf_counter() - begun
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the service did not start")


def _memory(pid: int) -> float | None:
    """Megabytes of resident memory; None where /proc is absent."""
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def _load(port: int, clients: int, seconds: float, key: str) -> dict[str, float]:
    auth = f"Authorization: Bearer {key}|" if key else ""
    head = f"POST /score HTTP/1.1|Host: bench|{auth}Content-Type: application/json|Content-Length: {len(BODY)}"
    request = f"{head}||{BODY.decode()}"
    arguments = [str(port), str(clients), str(seconds), request, "[0]"]
    done = subprocess.run([sys.executable, "-c", LOAD, *arguments], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    if found["wrong"]:
        raise RuntimeError(f"{found['wrong']} wrong answers with {clients} clients")
    return found


def run(options: dict[str, Any]) -> dict[str, Any]:
    """``options``: seconds (of each measurement, 4)."""
    seconds = float(options.get("seconds", 1 if options.get("quick") else 4))
    python = _environment()
    figures: dict[str, Any] = {}
    bare: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="atelier-score-") as raw:
        folder = Path(raw)
        model = folder / "model.joblib"
        subprocess.run([python, "-c", TRAIN, str(model)], check=True)
        shutil.copytree(SERVING, folder / "serving")
        port, other = _port(), _port()
        environ = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "ATELIER_KEY_DIGESTS": hashlib.sha256(KEY.encode()).hexdigest(),
        }
        with (folder / "log").open("wb") as log:
            command = [python, "-m", "serving.server", "--model", str(model), "--port", str(port)]
            services = [subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)]
            try:
                figures["cold_start_s"] = round(_wait(port, "/healthz", services[0]), 2)
                services.append(
                    subprocess.Popen(
                        [python, "-c", BARE, str(model), str(other)], cwd=folder, env=environ, stdout=log, stderr=log
                    )
                )
                _wait(other, "/", services[1])
                for clients in (1, 64):
                    for into, at, key in ((figures, port, KEY), (bare, other, "")):
                        _load(at, clients, 0.5, key)
                        found = _load(at, clients, seconds, key)
                        into[f"rate_{clients}"] = round(found["rate"])
                        into[f"p50_{clients}_ms"] = round(found["p50"], 2)
                        into[f"p99_{clients}_ms"] = round(found["p99"], 2)
                memory = _memory(services[0].pid)
                figures["memory_mb"] = round(memory) if memory is not None else None
            finally:
                for process in services:
                    process.kill()
                    process.wait()
    return {
        "bench": "score",
        "figures": figures,
        "unit": "requests/s, ms, s, MB",
        "reach": {"rate_64": 3000},
        "compared_with": {"bare asyncio app around predict, no key, no checks": bare},
        "met": figures["rate_64"] >= 3000,
    }
