"""A model as a web service: ``python -m serving.server --model model/model.joblib --port 8750``.

``POST /score``      ``{"data": [[...], ...]}``, rows as lists or (for a model with column names) as objects; answers
                     a list with one answer per row. With ``"method": "predict_proba"`` (or ``predict``...) the answer
                     is an object, ``{"predict_proba": [...]}``, as Azure ML's deployments without code give it.
``GET /``            the service's name; also ``/healthz`` (200 ready, else 503), ``/swagger.json``, ``/metrics``.

Errors are problem+json; a stack trace goes to standard output and never to the caller.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import gc
import hashlib
import hmac
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Deque, Dict, List, Optional, Set, Tuple

from . import schema
from .batching import Batcher
from .flavors import LoadFailed, Model, encode, versions
from .protocol import MAX_BODY, BadRequest, Connection, Request

BIND_S = 60.0  # how long a taken port is asked for again: the service before us may still be leaving
DRAIN_S = 5.0


def log(message: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), message, flush=True)


class Keys:
    """Digests of the keys that open the service: those of the start, or of the keys file once there is one.

    The studio replaces the file when a key is rotated; the next request is judged by the new keys.
    """

    def __init__(self, path: Optional[Path], given: str) -> None:
        self.path = path
        self.digests: List[str] = [part for part in given.split(",") if part]
        self.stamp: Tuple[int, int, int] = (0, 0, 0)
        self.refresh()

    def refresh(self) -> None:
        if self.path is None:
            return
        try:
            found = self.path.stat()
        except OSError:
            return
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp == self.stamp:
            return
        try:
            self.digests = [str(digest) for digest in json.loads(self.path.read_text())["digests"]]
            self.stamp = stamp
            log("The keys were read anew.")
        except (OSError, ValueError, KeyError, TypeError) as error:
            log(f"The keys file cannot be read, the keys stay as they are: {error}")

    def opens(self, header: bytes) -> bool:
        """Constant time in the content of the key."""
        scheme, _, key = header.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        self.refresh()
        digest = hashlib.sha256(key.strip()).hexdigest()
        matches = [hmac.compare_digest(digest, known) for known in self.digests]  # a list: every key is compared
        return any(matches)


class Service:
    """The routes and their state. ``model`` is None while it is loading; ``failed`` says why it never will be."""

    def __init__(self, options: argparse.Namespace, loop: asyncio.AbstractEventLoop) -> None:
        self.options = options
        self.loop = loop
        self.started = time.time()
        self.model: Optional[Model] = None
        self.batcher: Optional[Batcher] = None
        self.failed = ""
        self.sample = _sample(os.environ.get("ATELIER_SAMPLE_INPUT", ""))
        self.auth = options.auth == "key"
        self.keys = Keys(options.keys, os.environ.pop("ATELIER_KEY_DIGESTS", ""))
        self.counts: Dict[int, int] = collections.Counter()
        self.times: Deque[float] = collections.deque(maxlen=1000)
        self.in_flight = 0
        self.example: List[Any] = []

    # The model.

    def load(self) -> None:
        """Runs in a thread, so that health checks are answered while a large model is read."""
        begun = time.perf_counter()
        try:
            model = Model(Path(self.options.model))
            self.example = model.example()
            self._warm(model)
        except LoadFailed as error:
            traceback.print_exc(file=sys.stdout)
            self.failed = str(error)
        except Exception as error:  # noqa: BLE001 - the process stays, to say why it cannot serve
            traceback.print_exc(file=sys.stdout)
            self.failed = f"The model could not be loaded: {type(error).__name__}: {error}"[:1000]
        else:
            self.loop.call_soon_threadsafe(self._loaded, model, time.perf_counter() - begun)
            return
        log(f"The model is not served. {self.failed}")

    def _warm(self, model: Model) -> None:
        """One prediction, so that no caller waits for lazy imports. A refused example is no error."""
        with contextlib.suppress(Exception):
            body = schema.example(model.features, self.example, self.sample)
            rows = model.rows(body["data"])
            model.predict(model.methods[0], rows.kind, rows.values)

    def _loaded(self, model: Model, seconds: float) -> None:
        self.model = model
        self.batcher = Batcher(model, self.loop)
        gc.collect()
        gc.freeze()  # what the model holds is for good: the collector need not walk it again
        packages = ", ".join(f"{name} {version}" for name, version in versions().items())
        log(
            f"Model {self.options.version} ({type(model.estimator).__name__}) loaded in {seconds:.2f} s "
            f"with {packages}."
        )

    # Requests.

    def handle(self, request: Request) -> None:
        path = request.path.partition(b"?")[0]
        try:
            if path == b"/score":
                self._score(request)
            elif path in (b"/", b"/healthz", b"/swagger.json", b"/metrics"):
                if request.method not in (b"GET", b"HEAD"):
                    request.refuse(405, "Use GET.", b"Allow: GET, HEAD\r\n")
                else:
                    self._look(request, path)
            else:
                request.refuse(
                    404, "There is nothing here. The service answers at /score, /healthz, /swagger.json and /metrics."
                )
        except BadRequest as error:
            self._end(request, error.status)
            request.refuse(error.status, error.detail)
        except Exception:  # noqa: BLE001 - the last net: the trace is for the log, the sentence for the caller
            traceback.print_exc(file=sys.stdout)
            self._end(request, 500)
            request.refuse(500, "The service failed on this request. The reason is in its log.")

    def _look(self, request: Request, path: bytes) -> None:
        if path == b"/":
            request.reply(
                200, encode({"service": self.options.name, "model": self.options.version, "status": self.status})
            )
        elif path == b"/healthz":
            request.reply(200 if self.model else 503, encode(self.health()))
        elif path == b"/swagger.json":
            self._ready()
            request.reply(200, encode(self.description(request)))
        else:
            self._authorise(request)
            request.reply(200, encode(self.metrics()))

    def _authorise(self, request: Request) -> None:
        if self.auth and not self.keys.opens(request.headers.get(b"authorization", b"")):
            missing = b"authorization" not in request.headers
            raise BadRequest(
                401,
                "Send the endpoint's key: Authorization: Bearer <key>."
                if missing
                else "The key is not one of this endpoint's keys.",
            )

    def _ready(self) -> Model:
        if self.model is None:
            raise BadRequest(503, self.failed or "The model is still being loaded. Try again in a moment.")
        return self.model

    def _score(self, request: Request) -> None:
        self._authorise(request)
        if request.method != b"POST":
            request.refuse(405, "Use POST.", b"Allow: POST\r\n")
            return
        model = self._ready()
        method, named, data = self._read(model, request)
        rows = model.rows(data)
        if not rows.size:
            self._end(request, 200)
            request.reply(200, encode({method: []} if named else []))
            return
        self.in_flight += 1

        def done(answers: List[Any], error: Optional[BaseException]) -> None:
            self.in_flight -= 1
            if error is None:
                self._end(request, 200)
                request.reply(200, encode({method: answers} if named else answers))
            else:
                self._refused(request, model, rows, error)

        assert self.batcher is not None  # noqa: S101 - set together with the model
        self.batcher.submit(method, rows, done)

    def _read(self, model: Model, request: Request) -> Tuple[str, bool, Any]:
        mime = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        # curl -d names its JSON a form; that is let pass, what is plainly something else is not.
        if mime and b"json" not in mime and mime not in (b"text/plain", b"application/x-www-form-urlencoded"):
            raise BadRequest(415, "Send JSON: Content-Type: application/json.")
        try:
            body = json.loads(request.body)
        except RecursionError:
            raise BadRequest(400, "The JSON is nested too deeply.") from None
        except ValueError as error:  # also covers text that is not UTF-8
            where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
            raise BadRequest(400, f'The body is not JSON{where}. Send {{"data": [[...]]}}.') from None
        if type(body) is not dict or "data" not in body:
            raise BadRequest(
                422, 'The body must be an object with "data": a list of rows, as in {"data": [[5.1, 3.5, 1.4, 0.2]]}.'
            )
        method = body.get("method")
        if method is None:
            return model.methods[0], False, body["data"]
        if method not in model.methods:
            raise BadRequest(422, f"method must be one of {', '.join(model.methods)}.")
        return method, True, body["data"]

    def _refused(self, request: Request, model: Model, rows: Any, error: BaseException) -> None:
        """The model raised on the rows of one request: a ValueError or its like speaks of them, anything else of us."""
        log(
            "The model raised on a request:\n"
            + "".join(traceback.format_exception(type(error), error, error.__traceback__))
        )
        if isinstance(error, (ValueError, TypeError, KeyError, IndexError)):
            self._end(request, 422)
            request.refuse(422, model.blame(rows, error))
        else:
            self._end(request, 500)
            request.refuse(500, "The model failed on these rows. The reason is in the service's log.")

    def _end(self, request: Request, status: int) -> None:
        self.counts[status] += 1
        self.times.append(time.perf_counter() - request.started)

    # What the service says of itself.

    @property
    def status(self) -> str:
        return "ok" if self.model else ("failed" if self.failed else "loading")

    def health(self) -> Dict[str, Any]:
        out: Dict[str, Any] = {"status": self.status, "name": self.options.name, "model": self.options.version}
        # The unit's key: while one version takes the place of another, both may be asked at the same address.
        unit = Path(os.environ.get("ATELIER_UNIT_DIR", "")).name
        out.update(unit=unit, started=self.started, pid=os.getpid(), packages=versions())
        if self.failed:
            out["error"] = self.failed
        return out

    def metrics(self) -> Dict[str, Any]:
        """Counts since the start; latencies in milliseconds over the last 1,000 requests, from head to answer."""
        times = sorted(self.times)
        return {
            "uptime_s": round(time.time() - self.started, 1),
            "requests": sum(self.counts.values()),
            "by_status": {str(status): count for status, count in sorted(self.counts.items())},
            "in_flight": self.in_flight,
            "latency_ms": {
                name: round(times[min(len(times) - 1, int(len(times) * share))] * 1000, 3) if times else None
                for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
            },
            "predict_calls": self.batcher.calls if self.batcher else 0,
            "largest_batch": self.batcher.largest if self.batcher else 0,
        }

    def description(self, request: Request) -> Dict[str, Any]:
        model = self._ready()
        host = request.headers.get(b"host", b"").decode("latin-1") or f"127.0.0.1:{self.options.port}"
        return schema.openapi(
            name=self.options.name,
            model=self.options.version,
            description="",
            url=f"http://{host}",
            auth=self.auth,
            methods=model.methods,
            features=model.features,
            names=model.names,
            classes=model.classes,
            row=self.example,
            sample=self.sample,
        )


def _sample(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:  # one that was cut off because of its size
        return None


def _supervised(stop: asyncio.Event, parent: int) -> bool:
    """False once whoever started us is gone: nobody would end us, so that the port stayed taken."""
    if parent > 1 and os.getppid() != parent:
        log("The supervisor is gone: the service ends.")
        stop.set()
        return False
    return True


async def _bind(loop: asyncio.AbstractEventLoop, service: Service, connections: Set[Connection]) -> Any:
    options = service.options
    end = time.monotonic() + BIND_S
    while True:
        try:
            return await loop.create_server(
                lambda: Connection(service.handle, connections, options.max_body),
                options.host,
                options.port,
                backlog=1024,
            )
        except OSError as error:
            if time.monotonic() > end:
                raise
            log(f"Port {options.port} of {options.host} is not free ({error.strerror or error}); trying again.")
            await asyncio.sleep(1.0)


async def serve(options: argparse.Namespace) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parent = os.getppid()
    service = Service(options, loop)
    connections: Set[Connection] = set()
    try:
        server = await _bind(loop, service, connections)
    except OSError as error:
        log(f"Port {options.port} of {options.host} cannot be used: {error}")
        return 98
    log(f"Service {options.name} listens on http://{options.host}:{options.port} (pid {os.getpid()}).")
    threading.Thread(target=service.load, name="load", daemon=True).start()
    while not stop.is_set() and _supervised(stop, parent):
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)
        now = time.monotonic()
        for connection in list(connections):
            connection.sweep(now)
    log("The service ends: open requests are answered first.")
    server.close()
    for connection in list(connections):
        connection.finish()
    end = time.monotonic() + DRAIN_S
    while connections and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return 0


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", required=True, help="the model's file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="service")
    parser.add_argument("--version", default="model:1", help="name:version of the model, for people")
    parser.add_argument("--auth", choices=["key", "none"], default="key")
    parser.add_argument("--keys", type=Path, help="JSON file with the digests of the keys; read again when it changes")
    parser.add_argument("--max-body", type=int, default=MAX_BODY, help="bytes")
    options = parser.parse_args(arguments)
    os.environ.setdefault("AZUREML_MODEL_DIR", str(Path(options.model).resolve().parent))
    try:
        import uvloop  # a faster loop where the environment happens to have it
    except ImportError:
        pass
    else:
        uvloop.install()
    code = asyncio.run(serve(options))
    sys.stdout.flush()
    os._exit(code)  # a predict that is still computing in its thread must not keep the process


if __name__ == "__main__":
    main()
