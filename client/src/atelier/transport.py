"""HTTP to the studio: kept connections, retries, and problem+json as exceptions. Standard library only."""

from __future__ import annotations

import http.client
import json
import random
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import IO, Any, Callable, Iterable, Mapping, Union
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from atelier import gate
from atelier._version import VERSION
from atelier.exceptions import AuthenticationException, ServiceException, StudioUnreachable

Body = Union[bytes, IO[bytes], Iterable[bytes], None]

RETRIES = 5
GATE_RETRIES = 10  # connections, 25 s in all: the studio may just be starting again
_PASSING = frozenset({429, 502, 503, 504})
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_PIECE = 1 << 20
_BLOCK = 1 << 18  # bytes read at once from a file that is sent


@dataclass
class Response:
    """An answer that was read whole. Header names are lower case."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


class Transport:
    """One studio and one identity. May be used from several threads; each keeps its own connection.

    ``token`` is called for each request and may refresh; None sends no Authorization header.
    Calls that may be repeated (GET, HEAD, PUT, DELETE, and POST with an Idempotency-Key) are tried up to five times
    on a lost connection and on 429, 502, 503 and 504; any call is tried again when no connection was made at all.
    """

    def __init__(self, endpoint: str, token: Callable[[], str | None] | None = None, timeout: float = 60.0) -> None:
        parts = urlsplit(endpoint if "//" in endpoint else "http://" + endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise AuthenticationException(
                f"{endpoint!r} is not the address of a studio; an example: http://127.0.0.1:8000"
            )
        self.endpoint = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        self.timeout = timeout
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port or (443 if self._secure else 80)
        self._prefix = parts.path.rstrip("/")
        self._gate = gate.folder(self.endpoint)
        self._token = token
        self._local = threading.local()
        self._proxy = _proxy_for(parts.scheme, self._host)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        data: Any = None,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        retries: int = RETRIES,
    ) -> Response:
        """Send and read whole. ``data`` goes as JSON, ``body`` as it is. Raises ServiceException on 4xx and 5xx."""
        sent = self._headers(headers)
        if data is not None:
            body, sent["Content-Type"] = json.dumps(data).encode(), "application/json"
        found = self._send(method, _target(self._prefix + path, params), body, sent, timeout, retries)
        try:
            return Response(found.status, found.read(), _lower(found))
        except KeyboardInterrupt:
            self.close()
            raise
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if method not in _REPEATABLE or retries <= 1:
                raise StudioUnreachable(f"{self.endpoint} broke off its answer: {error}") from error
            return self.request(
                method, path, params=params, data=data, body=body, headers=headers, timeout=timeout, retries=retries - 1
            )

    def download(self, path: str, target: IO[bytes], params: Mapping[str, Any] | None = None) -> int:
        """Stream the answer to a GET into ``target``; goes on where it was after a lost connection. Gives the size."""
        done = 0
        for attempt in range(RETRIES):
            headers = self._headers({"Range": f"bytes={done}-"} if done else None)
            found = self._send("GET", _target(self._prefix + path, params), None, headers, None, RETRIES)
            if done and found.status != 206:  # the server began again from the start
                target.seek(0)
                target.truncate()
                done = 0
            try:
                piece = found.read(_PIECE)
                while piece:
                    target.write(piece)
                    done += len(piece)
                    piece = found.read(_PIECE)
                if found.length:  # http.client ends a read with a size silently when the connection is lost
                    raise http.client.IncompleteRead(b"", found.length)
            except (TimeoutError, ConnectionError, socket.timeout, http.client.HTTPException) as error:
                self.close()
                if attempt == RETRIES - 1:
                    raise StudioUnreachable(f"{self.endpoint} broke off a download: {error}") from error
                continue
            return done
        raise StudioUnreachable(
            f"{self.endpoint} broke off a download"
        )  # pragma: no cover - the loop returns or raises

    def close(self) -> None:
        """Close this thread's connection; the next call opens another."""
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        sent = {"Accept": "application/json", "User-Agent": f"atelier-client/{VERSION}"}
        sent.update(headers or {})
        token = self._token() if self._token else None
        if token:
            sent["Authorization"] = f"Bearer {token}"
        return sent

    def _send(
        self, method: str, target: str, body: Body, headers: dict[str, str], timeout: float | None, retries: int
    ) -> http.client.HTTPResponse:
        repeatable = method in _REPEATABLE or "Idempotency-Key" in headers
        start = body.tell() if hasattr(body, "tell") else None  # type: ignore[union-attr]
        rewindable = body is None or isinstance(body, bytes) or start is not None
        connects = GATE_RETRIES if self._gate and retries >= RETRIES else retries
        for attempt in range(1, connects + 1):
            last, sent = attempt >= retries, False
            if start is not None:
                body.seek(start)  # type: ignore[union-attr]
            try:
                connection = self._connection(timeout)
                sent = True
                connection.request(method, self._absolute(target), body, headers)  # type: ignore[arg-type]
                found = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                last = last if sent else attempt == connects
                if last or (sent and not (repeatable and rewindable)):
                    raise StudioUnreachable(self._no_answer(error)) from error
            except BaseException:  # Ctrl-C in mid-request: nothing else can be asked on this connection
                self.close()
                raise
            else:
                if found.status < 400:
                    return found
                problem = found.read()
                if last or found.status not in _PASSING or not (repeatable and rewindable):
                    raise failure(found.status, problem, _lower(found), f"{method} {target}")
                _pause(attempt, found.headers.get("Retry-After"))
                continue
            _pause(attempt, None)
        raise StudioUnreachable(f"{self.endpoint} does not answer")  # pragma: no cover - the loop returns or raises

    def _no_answer(self, error: Exception) -> str:
        reason = str(error) or type(error).__name__
        if self._gate:
            return f"The studio at {self.endpoint} does not answer ({reason}). {gate.why(self._gate)}"
        return f"The studio at {self.endpoint} does not answer ({reason}). Is it running, and is this its address?"

    def _connection(self, timeout: float | None) -> http.client.HTTPConnection:
        """This thread's connection, opened when there is none or the studio has closed it meanwhile."""
        wait = self.timeout if timeout is None else timeout
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None and (connection.sock is None or _has_ended(connection.sock)):
            self.close()
            connection = None
        if connection is None:
            connection = self._open(wait)
            self._local.connection = connection
        connection.sock.settimeout(wait)
        return connection

    def _open(self, wait: float) -> http.client.HTTPConnection:
        if self._gate:
            through = gate.connect(self._gate, self._host, self._port, self._secure, wait, _BLOCK)
            if through is not None:
                return through
            wait = min(wait, gate.NETWORK_S)
        host, port = (self._proxy or (self._host, self._port))[:2]
        connection: http.client.HTTPConnection
        if self._secure:
            connection = http.client.HTTPSConnection(
                host, port, timeout=wait, blocksize=_BLOCK, context=ssl.create_default_context()
            )
            if self._proxy:
                connection.set_tunnel(self._host, self._port)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=wait, blocksize=_BLOCK)
        connection.connect()
        # Headers and body are two writes; Nagle would hold the second for 40 ms.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _absolute(self, target: str) -> str:
        connection = getattr(self._local, "connection", None)
        direct = not self._proxy or self._secure or isinstance(connection, gate.Connection)
        return target if direct else f"http://{self._host}:{self._port}{target}"


def failure(status: int, body: bytes, headers: Mapping[str, str], what: str) -> Exception:
    """The exception for an answer of 400 and above; problem+json gives its detail."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    detail = problem.get("detail") or problem.get("title") or http.client.responses.get(status, "error")
    for name, texts in (problem.get("errors") or {}).items():
        said = [text for text in texts if text not in detail]
        if said:
            detail += f"\n  {name}: {' '.join(said)}"
    if status == 401:
        return AuthenticationException(f"The studio does not accept these credentials: {detail} (run `atelier login`)")
    if not problem:
        detail = f"{detail} ({status} to {what})"
    return ServiceException(str(detail), status, problem)


def segment(text: object) -> str:
    """One part of a path, quoted."""
    return quote(str(text), safe="")


def relative(path: str) -> str:
    """A path with slashes, quoted."""
    return quote(path, safe="/")


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.") or host.endswith(".localhost")


def _proxy_for(scheme: str, host: str) -> tuple[str, int] | None:
    if is_loopback(host):
        return None
    address = getproxies().get(scheme)
    if not address or proxy_bypass(host):
        return None
    parts = urlsplit(address if "//" in address else "http://" + address)
    return (parts.hostname, parts.port or 8080) if parts.hostname else None


def _target(path: str, params: Mapping[str, Any] | None) -> str:
    kept = {key: value for key, value in (params or {}).items() if value is not None}
    return f"{path}?{urlencode(kept, doseq=True)}" if kept else path


def _lower(found: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in found.getheaders()}


def _has_ended(sock: socket.socket) -> bool:
    """An idle connection with something to read was closed by the other side."""
    try:
        return bool(select.select([sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def _pause(attempt: int, asked: str | None) -> None:
    wait = min(0.2 * 2 ** (attempt - 1), 5.0) * random.uniform(0.7, 1.3)  # noqa: S311 - spreads retries, no secret
    if asked and asked.isdigit():
        wait = min(float(asked), 30.0)
    time.sleep(wait)
