"""A WebHDFS server for the tests, as the documentation of Hadoop 3 describes it: no Hadoop can be installed here.

Two HTTP ports: the name node answers questions and sends every CREATE, APPEND and OPEN on with 307, the data node
moves the bytes. Rights are those of owners and modes; errors are RemoteExceptions. The files lie in memory.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

PACKAGES = {
    "FileNotFoundException": "java.io",
    "IllegalArgumentException": "java.lang",
    "SecurityException": "java.lang",
    "AccessControlException": "org.apache.hadoop.security",
    "InvalidToken": "org.apache.hadoop.security.token.SecretManager$",
}


class Remote(Exception):
    """A RemoteException: HTTP status, the Java class and its message."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status, self.name, self.message = status, name, message


@dataclass
class Node:
    number: int
    owner: str
    data: bytearray | None = None  # None: a folder
    mode: int = 0o755
    modified: int = field(default_factory=lambda: int(time.time() * 1000))
    leased: bool = False  # somebody writes it: one at a time, as in HDFS

    def status(self, name: str) -> dict[str, Any]:
        return {
            "accessTime": self.modified,
            "blockSize": 128 << 20,
            "childrenNum": 0,
            "fileId": self.number,
            "group": "supergroup",
            "length": len(self.data or b""),
            "modificationTime": self.modified,
            "owner": self.owner,
            "pathSuffix": name,
            "permission": f"{self.mode:o}",
            "replication": 1,
            "storagePolicy": 0,
            "type": "DIRECTORY" if self.data is None else "FILE",
        }


class WebHdfs:
    """``token``: what ``delegation`` must be, "" where anybody may come; ``expired`` makes it too old. ``batched`` is
    whether LISTSTATUS_BATCH is known, ``page`` its rows; ``sends_to`` overrides where the name node sends on to."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {"/": Node(16385, "hdfs", mode=0o777)}
        self.numbers = itertools.count(16386)
        self.lock = threading.RLock()
        self.token, self.expired, self.batched, self.page = "", False, True, 1000
        self.options_known, self.sends_to, self.read_limit = True, "", 0
        self.requests: list[str] = []
        self.name_server = self._serve(data=False)
        self.data_server = self._serve(data=True)
        self.url = f"http://127.0.0.1:{self.name_server.server_address[1]}"

    def _serve(self, *, data: bool) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"hdfs": self, "data_node": data})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def stop(self) -> None:
        for server in (self.name_server, self.data_server):
            server.shutdown()
            server.server_close()

    # --- the file system ---

    def put(self, path: str, data: bytes, owner: str = "hdfs", mode: int = 0o755) -> None:
        with self.lock:
            self.folders(path.rpartition("/")[0] or "/", owner)
            self.nodes[path] = Node(next(self.numbers), owner, bytearray(data), mode)

    def folders(self, path: str, owner: str = "hdfs") -> None:
        names = [name for name in path.split("/") if name]
        for end in range(1, len(names) + 1):
            folder = "/" + "/".join(names[:end])
            if self.nodes.setdefault(folder, Node(next(self.numbers), owner)).data is not None:
                raise Remote(403, "ParentNotDirectoryException", f"{folder} (is not a directory)")

    def get(self, path: str) -> Node:
        if path not in self.nodes:
            raise Remote(404, "FileNotFoundException", f"File does not exist: {path}")
        return self.nodes[path]

    def children(self, path: str) -> list[tuple[str, Node]]:
        start = path.rstrip("/") + "/"
        found = [(name[len(start) :], node) for name, node in self.nodes.items() if name.startswith(start)]
        return sorted((name, node) for name, node in found if name and "/" not in name)

    def may(self, user: str, path: str, *, write: bool) -> None:
        """Owners may what the first digit of the mode says, others what the last one says."""
        while path not in self.nodes:
            path = path.rpartition("/")[0] or "/"
        node = self.nodes[path]
        bits = node.mode >> 6 if user in (node.owner, "hdfs") else node.mode
        if not bits & (2 if write else 4):
            text = f'Permission denied: user={user}, access={"WRITE" if write else "READ"}, inode="{path}"'
            raise Remote(403, "AccessControlException", text)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hdfs: WebHdfs
    data_node: bool

    def log_message(self, *_words: object) -> None:
        """Quiet."""

    def _any(self) -> None:
        address = urlsplit(self.path)
        self.given = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.place = unquote(address.path).removeprefix("/webhdfs/v1").rstrip("/") or "/"
        operation = self.given.get("op", "").upper()
        self.hdfs.requests.append(f"{'data' if self.data_node else 'name'} {self.command} {operation}")
        try:
            self._check()
            work = getattr(self, f"{self.command.lower()}_{operation.lower()}", None)
            if work is None:
                text = f'Invalid value for webhdfs parameter "op": No enum constant {operation}'
                raise Remote(400, "IllegalArgumentException", text)
            work()
        except Remote as error:
            package = PACKAGES.get(error.name, "org.apache.hadoop.hdfs.protocol")
            words = {"exception": error.name, "javaClassName": f"{package}.{error.name}", "message": error.message}
            self._answer({"RemoteException": words}, error.status)

    do_GET = do_PUT = do_POST = do_DELETE = _any  # noqa: N815 - names of the standard library

    def _check(self) -> None:
        self.user = self.given.get("user.name", "dr.who")
        if not self.hdfs.token:
            return
        self.user = "team"
        if "delegation" not in self.given:
            raise Remote(401, "SecurityException", "Failed to obtain user group information: token required")
        if self.given["delegation"] != self.hdfs.token:
            raise Remote(403, "InvalidToken", "token (token for team) can't be found in cache")
        if self.hdfs.expired:
            raise Remote(403, "InvalidToken", "token (token for team) is expired")

    def _answer(self, words: dict[str, Any] | None, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(words).encode() if words is not None else b""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if body:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.command in ("PUT", "POST") and "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def _send_on(self) -> bool:
        """The name node: 307 to the data node. False on the data node itself."""
        if self.data_node:
            return False
        host = self.hdfs.sends_to or f"http://127.0.0.1:{self.hdfs.data_server.server_address[1]}"
        words = {**self.given, "namenoderpcaddress": "127.0.0.1:8020"}
        self._answer(None, 307, {"Location": f"{host}{urlsplit(self.path).path}?{urlencode(words)}"})
        return True

    def _body(self) -> Any:
        """Pieces of the request's body, chunked or not; ends early where the client went away."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline() or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left and (piece := self.rfile.read(min(left, 1 << 20))):
            left -= len(piece)
            yield piece

    # --- operations ---

    def get_getfilestatus(self) -> None:
        self._answer({"FileStatus": self.hdfs.get(self.place).status("")})

    def _rows(self) -> list[dict[str, Any]]:
        node = self.hdfs.get(self.place)
        self.hdfs.may(self.user, self.place, write=False)
        if node.data is not None:
            return [node.status("")]
        with self.hdfs.lock:
            return [child.status(name) for name, child in self.hdfs.children(self.place)]

    def get_liststatus(self) -> None:
        self._answer({"FileStatuses": {"FileStatus": self._rows()}})

    def get_liststatus_batch(self) -> None:
        if not self.hdfs.batched:
            text = 'Invalid value for webhdfs parameter "op": No enum constant LISTSTATUS_BATCH'
            raise Remote(400, "IllegalArgumentException", text)
        after = self.given.get("startAfter", "")
        rows = [row for row in self._rows() if not after or row["pathSuffix"] > after]
        shown = rows[: self.hdfs.page]
        listing = {"FileStatuses": {"FileStatus": shown}}
        left = len(rows) - len(shown)
        self._answer({"DirectoryListing": {"partialListing": listing, "remainingEntries": left}})

    def get_open(self) -> None:
        node = self.hdfs.get(self.place)
        self.hdfs.may(self.user, self.place, write=False)
        if node.data is None:
            raise Remote(404, "FileNotFoundException", f"Path is not a file: {self.place}")
        if self._send_on():
            return
        start = int(self.given.get("offset", 0))
        data = bytes(node.data[start : start + int(self.given.get("length", len(node.data)))])
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        limit = self.hdfs.read_limit
        self.wfile.write(data[:limit] if limit else data)
        self.close_connection = self.close_connection or bool(limit)

    def put_create(self) -> None:
        self.hdfs.may(self.user, self.place.rpartition("/")[0] or "/", write=True)
        if self.place in self.hdfs.nodes and self.given.get("overwrite") != "true":
            raise Remote(403, "FileAlreadyExistsException", f"{self.place} already exists")
        if self._send_on():
            return
        self.hdfs.put(self.place, b"", self.user)
        self._take()
        self._answer(None, 201, {"Location": f"hdfs://127.0.0.1:8020{quote(self.place)}"})

    def post_append(self) -> None:
        node = self.hdfs.get(self.place)
        self.hdfs.may(self.user, self.place, write=True)
        if node.data is None:
            raise Remote(404, "FileNotFoundException", f"Path is not a file: {self.place}")
        if self._send_on():
            return
        self._take()
        self._answer(None)

    def _take(self) -> None:
        node = self.hdfs.get(self.place)
        with self.hdfs.lock:
            taken, node.leased = node.leased, True
        if taken:
            for _piece in self._body():
                """Thrown away."""
            text = f"Failed to APPEND_FILE {self.place}: this file lease is currently owned by another client"
            raise Remote(403, "AlreadyBeingCreatedException", text)
        try:
            for piece in self._body():
                assert node.data is not None
                node.data += piece
        finally:
            node.leased = False
        node.modified = int(time.time() * 1000)

    def post_truncate(self) -> None:
        node = self.hdfs.get(self.place)
        self.hdfs.may(self.user, self.place, write=True)
        if not self.hdfs.options_known:
            raise Remote(400, "IllegalArgumentException", "No enum constant TRUNCATE")
        assert node.data is not None
        with self.hdfs.lock:
            if node.leased:
                raise Remote(403, "AlreadyBeingCreatedException", f"Failed to TRUNCATE_FILE {self.place}: it is leased")
            del node.data[int(self.given["newlength"]) :]
        self._answer({"boolean": True})

    def put_mkdirs(self) -> None:
        self.hdfs.folders(self.place, self.user)
        self._answer({"boolean": True})

    def put_rename(self) -> None:
        target = self.given["destination"]
        overwrite = "OVERWRITE" in self.given.get("renameoptions", "") and self.hdfs.options_known
        with self.hdfs.lock:
            node = self.hdfs.get(self.place)
            there = self.hdfs.nodes.get(target)
            if there is not None and (not overwrite or there.data is None):
                if overwrite:
                    raise Remote(403, "FileAlreadyExistsException", f"rename destination {target} is a directory")
                self._answer({"boolean": False})
                return
            self.hdfs.nodes[target] = self.hdfs.nodes.pop(self.place)
            assert node.data is not None
        self._answer(None if overwrite else {"boolean": True})

    def delete_delete(self) -> None:
        with self.hdfs.lock:
            if self.place not in self.hdfs.nodes:
                self._answer({"boolean": False})
                return
            self.hdfs.may(self.user, self.place.rpartition("/")[0] or "/", write=True)
            below = [name for name in self.hdfs.nodes if name.startswith(self.place + "/")]
            if below and self.given.get("recursive") != "true":
                text = f"`{self.place} is non empty': Directory is not empty"
                raise Remote(403, "PathIsNotEmptyDirectoryException", text)
            for name in [self.place, *below]:
                del self.hdfs.nodes[name]
        self._answer({"boolean": True})
