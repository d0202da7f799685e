"""HDFS over WebHDFS: the name node answers questions and sends on to data nodes, which take and give bytes."""

from __future__ import annotations

import re
import secrets as random_words
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from typing import Any, ClassVar
from urllib.parse import quote, urljoin, urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from studio.datasets.backends import guard, parts
from studio.datasets.backends.base import Entry, Listing, StoreError
from studio.datasets.backends.faults import network_fault
from studio.datasets.backends.hdfs_parts import NotKnown, Rest, base_address
from studio.datasets.backends.objects import CONNECT_S, READ_S
from studio.lib.fields import FormField, Problem

REDIRECTS = 4
_HIDDEN = re.compile(r"\..*\.[0-9a-f]{16}\.upload", re.S)  # files on their way up
_BUSY = {
    "SafeModeException",
    "StandbyException",
    "RetriableException",
    "AlreadyBeingCreatedException",
    "RecoveryInProgressException",
    "LeaseExpiredException",
}
# Servers without the operation (HttpFS, old ones) answer so.
_UNKNOWN = {"IllegalArgumentException", "UnsupportedOperationException", "QueryParamException"}


class HdfsStore(parts.RangeReading):
    kind = "hdfs"
    label: ClassVar[Any] = gettext_lazy("HDFS")
    summary: ClassVar[Any] = gettext_lazy("A folder of a Hadoop file system, over WebHDFS or HttpFS.")
    icon = "database"
    writable = True
    fields: ClassVar[list[FormField]] = [
        FormField(
            "url",
            gettext_lazy("Name node"),
            required=True,
            help=gettext_lazy("The address of its web server, for example namenode.example:9870."),
        ),
        FormField("https", gettext_lazy("It speaks https"), "checkbox", default=False),
        FormField(
            "root", gettext_lazy("Folder"), help=gettext_lazy("For example /user/team. Empty: all."), address=False
        ),
        FormField("user", gettext_lazy("User"), help=gettext_lazy("Who the files are read and written as.")),
        FormField(
            "token",
            gettext_lazy("Delegation token"),
            "password",
            secret=True,
            help=gettext_lazy("For clusters with Kerberos: hdfs fetchdt --webservice ... --print."),
        ),
        FormField(
            "password",
            gettext_lazy("Password"),
            "password",
            secret=True,
            help=gettext_lazy("Only for gateways such as Knox."),
        ),
    ]

    def __init__(self, config: dict[str, Any], secrets: dict[str, str]) -> None:
        self.base = base_address(str(config.get("url") or ""), bool(config.get("https")))
        root = parts.clean_path(str(config.get("root") or config.get("prefix") or "").strip().strip("/"))
        self.root = f"/{root}" if root else ""
        self.user = str(config.get("user") or "").strip()
        self._token = (secrets.get("token") or "").strip()
        self._password = secrets.get("password") or ""
        self._local = threading.local()

    def address(self) -> str:
        return f"{self.base}{self.root or '/'}"

    def where(self) -> str:
        return urlsplit(self.base).netloc

    # --- requests ---

    def _session(self) -> Any:
        """requests' sessions are not made for several threads: each has its own."""
        if not hasattr(self._local, "session"):
            self._local.session = guard.requests_session()
        return self._local.session

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}".rstrip("/") or "/"

    def _url(self, path: str, operation: str, **options: Any) -> str:
        words = {"op": operation, **options}
        if self._token:
            words["delegation"] = self._token
        elif self.user:
            words["user.name"] = self.user
        query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in words.items())
        prefix = "" if "/webhdfs/v1" in self.base else "/webhdfs/v1"
        return f"{self.base}{prefix}{quote(self._full(path))}?{query}"

    def _request(self, method: str, url: str, path: str, **options: Any) -> Any:
        """One request, sent on nowhere. Raises StoreError; its texts never hold the address, which holds the token."""
        here, there = urlsplit(self.base), urlsplit(url)
        if self._password and (here.scheme, here.netloc) == (there.scheme, there.netloc):
            options["auth"] = (self.user, self._password)
        try:
            return self._session().request(
                method, url, timeout=(CONNECT_S, READ_S), allow_redirects=False, stream=True, **options
            )
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - of requests, urllib3, ssl, socket or the guard
            raise self._broken(error, there.netloc, path) from None

    def _broken(self, error: Exception, where: str, path: str) -> StoreError:
        words = {"where": where, "kind": type(error).__name__}
        text = _("The request to %(where)s failed (%(kind)s).") % words
        return network_fault(error, where, path) or StoreError("failed", text, path=path)

    def _ask(self, method: str, operation: str, path: str = "", **options: Any) -> dict[str, Any]:
        """The JSON of an operation that moves no bytes."""
        answer = self._request(method, self._url(path, operation, **options), path)
        with closing(answer):
            if answer.status_code // 100 != 2:
                raise self._fault(answer, path, writing=method != "GET")
            return self._json(answer, path) if answer.content else {}

    def _json(self, answer: Any, path: str) -> dict[str, Any]:
        try:
            found = answer.json()
            if isinstance(found, dict):
                return found
        except ValueError:
            pass
        text = _("%(where)s does not speak WebHDFS: its answer is no JSON.") % {"where": self.where()}
        raise StoreError("failed", text, hint=_("Is it the name node's web server (port 9870)?"), path=path)

    def _node(self, method: str, operation: str, path: str, **options: Any) -> tuple[Any, str]:
        """An operation that moves bytes: the answer of the name node, and where it sends on to ("" for nowhere)."""
        answer = self._request(method, self._url(path, operation, **options), path)
        if answer.status_code in (301, 302, 303, 307, 308) and answer.headers.get("Location"):
            with closing(answer):
                return answer, urljoin(answer.url, answer.headers["Location"])
        if answer.status_code // 100 != 2:
            with closing(answer):
                raise self._fault(answer, path, writing=method != "GET")
        return answer, ""

    def _put(self, method: str, operation: str, path: str, data: Any, **options: Any) -> None:
        """CREATE and APPEND: the bytes go to the data node only."""
        first, target = self._node(method, operation, path, **options)
        if not target:
            # HttpFS and some gateways want the bytes at their own address.
            first.close()
            target = self._url(path, operation, **options) + "&data=true"
        words = {"Content-Type": "application/octet-stream"}
        answer = self._request(method, target, path, data=data, headers=words)
        with closing(answer):
            if answer.status_code // 100 != 2:
                raise self._fault(answer, path, writing=True)

    # --- looking ---

    def _entry(self, folder: str, row: dict[str, Any]) -> Entry:
        name = str(row.get("pathSuffix") or "")
        path = f"{folder}/{name}".strip("/") if name else folder
        modified = row.get("modificationTime")
        seconds = modified / 1000 if modified else None
        if row.get("type") == "DIRECTORY":
            return Entry(path, True, None, seconds)
        size = int(row.get("length") or 0)
        return Entry(path, False, size, seconds, f"{row.get('fileId', 0)}-{modified}-{size}")

    def check(self) -> tuple[list[Problem], list[Entry]]:
        try:
            return [], self._page("", parts.SHOWN, None).entries[: parts.SHOWN]
        except StoreError as error:
            return parts.as_problems(error)

    def list(self, path: str = "", *, limit: int = 1000, after: str | None = None) -> Listing:
        path = parts.clean_path(path)
        return parts.retrying(lambda: self._page(path, max(1, limit), after))

    def _page(self, path: str, limit: int, after: str | None) -> Listing:
        """The name node's own pages, in the order of names; a page of ours is the beginning of one of them."""
        options = {"startAfter": after} if after else {}
        try:
            found = self._ask("GET", "LISTSTATUS_BATCH", path, **options)["DirectoryListing"]
        except NotKnown:
            rows = self._ask("GET", "LISTSTATUS", path)["FileStatuses"]["FileStatus"]
            self._no_file(path, rows)
            return parts.page(self._shown(path, rows), limit, after)
        rows = found["partialListing"]["FileStatuses"]["FileStatus"]
        self._no_file(path, rows)
        more = bool(found.get("remainingEntries")) or len(rows) > limit
        shown = rows[:limit]
        entries = sorted(self._shown(path, shown), key=lambda entry: (not entry.is_dir, entry.path))
        return Listing(entries, shown[-1]["pathSuffix"] if more and shown else None)

    def _shown(self, path: str, rows: Any) -> Iterator[Entry]:
        return (self._entry(path, row) for row in rows if not _HIDDEN.fullmatch(row["pathSuffix"]))

    def _no_file(self, path: str, rows: Any) -> None:
        """Listing a file gives the file itself, without a name."""
        if len(rows) == 1 and not rows[0].get("pathSuffix"):
            raise parts.no_such_file(path)

    def find(self, pattern: str) -> Iterator[Entry]:
        return parts.walk(parts.Glob(pattern), self._folder, self.stat)

    def stat(self, path: str) -> Entry:
        path = parts.clean_path(path)
        found = parts.retrying(lambda: self._ask("GET", "GETFILESTATUS", path))
        return self._entry(path, {**found["FileStatus"], "pathSuffix": ""})

    # --- reading ---

    def _bytes(self, entry: Entry, start: int, end: int) -> Iterator[bytes]:
        """One request for a range. The file is looked at again behind it: WebHDFS knows no If-Match."""
        answer, target = self._node("GET", "OPEN", entry.path, offset=start, length=end - start)
        for _step in range(REDIRECTS):
            if not target:
                break
            answer = self._request("GET", target, entry.path)
            sent = answer.headers.get("Location") if answer.status_code in (301, 302, 303, 307, 308) else None
            target = urljoin(answer.url, sent) if sent else ""
        with closing(answer):
            if answer.status_code // 100 != 2:
                raise self._fault(answer, entry.path, writing=False)
            try:
                while piece := answer.raw.read(parts.PIECE):
                    yield piece
            except (GeneratorExit, StoreError):
                raise
            except Exception as error:  # noqa: BLE001 - of urllib3 and below
                raise self._broken(error, urlsplit(answer.url).netloc, entry.path) from None
        if self.stat(entry.path).etag != entry.etag:
            raise parts.changed(entry.path)

    # --- writing: into a hidden file beside the place, which takes its name at the end ---

    def upload_begin(self, path: str, size: int) -> dict[str, Any]:
        path = parts.clean_path(path)
        if not path:
            raise StoreError("forbidden", _("An upload needs the name of a file."), field="path")
        folder, slash, name = path.rpartition("/")
        hidden = f"{folder}{slash}.{name[:80]}.{random_words.token_hex(8)}.upload"
        parts.retrying(lambda: self._put("PUT", "CREATE", hidden, b"", overwrite="true"))
        return {"path": path, "size": size, "hidden": hidden, "done": 0}

    def upload_piece(self, state: dict[str, Any], offset: int, pieces: Iterable[bytes]) -> tuple[dict[str, Any], int]:
        path, size, hidden = state["path"], state["size"], state["hidden"]
        # An earlier call may have been cut off: what it brought is there, in order, and need not come again.
        there = int(self.stat(hidden).size or 0)
        if offset > there:
            text = _("The upload of %(path)s goes on from byte %(there)d, not from %(offset)d.")
            raise StoreError("incomplete", text % {"path": path, "there": there, "offset": offset}, path=path)
        if there > size:
            raise parts.incomplete(path, there, size)
        rest = Rest(path, pieces, there - offset, size - there)
        if rest.any():
            # Bytes that were taken from ``pieces`` cannot be sent twice: no retries here.
            self._put("POST", "APPEND", hidden, rest)
            if int(self.stat(hidden).size or 0) != there + rest.sent:
                self._take_back(path, hidden, there)
        done = there + rest.sent
        return {**state, "done": done}, done

    def _take_back(self, path: str, hidden: str, size: int) -> None:
        """Bytes of a request that had broken off came between the look and the append: back to where all is in order.
        Always raises: the piece has to come again."""
        text = _("What had broken off before came late, and %(path)s was cut back to byte %(size)d.")
        try:
            self._ask("POST", "TRUNCATE", hidden, newlength=size)
        except NotKnown:
            self._ask("DELETE", "DELETE", hidden)
            text = _("What had broken off before came late: the upload of %(path)s has to begin again.")
            raise StoreError("incomplete", text % {"path": path}, path=path) from None
        raise StoreError("incomplete", text % {"path": path, "size": size}, path=path, retry=True)

    def upload_commit(self, state: dict[str, Any]) -> Entry:
        path, hidden = state["path"], state["hidden"]
        there = int(self.stat(hidden).size or 0)
        if there != state["size"]:
            raise parts.incomplete(path, there, state["size"])
        target = self._full(path)
        try:
            answer = self._ask("PUT", "RENAME", hidden, destination=target, renameoptions="OVERWRITE")
        except NotKnown:
            answer = {"boolean": False}
        if answer.get("boolean") is False:
            # A server without that option: what is in the way goes first.
            with suppress(StoreError):
                if not self.stat(path).is_dir:
                    self._ask("DELETE", "DELETE", path)
            answer = self._ask("PUT", "RENAME", hidden, destination=target)
        if answer.get("boolean") is False:
            text = _("%(path)s could not be put in its place: a folder of this name is there.") % {"path": path}
            raise StoreError("failed", text, path=path)
        return self.stat(path)

    def upload_abort(self, state: dict[str, Any]) -> None:
        parts.retrying(lambda: self._ask("DELETE", "DELETE", state["hidden"]))

    def delete(self, path: str) -> None:
        path = parts.clean_path(path)
        if not path:
            raise StoreError("forbidden", _("The whole datastore cannot be deleted."), field="path")
        answer = parts.retrying(lambda: self._ask("DELETE", "DELETE", path, recursive="true"))
        if answer.get("boolean") is False:
            raise parts.no_such_file(path)

    # --- what goes wrong ---

    def _fault(self, answer: Any, path: str, *, writing: bool) -> StoreError:
        """The documented RemoteException of WebHDFS, in words."""
        status = answer.status_code
        try:
            remote = answer.json()["RemoteException"]
        except (ValueError, KeyError, TypeError):
            return self._no_webhdfs(status, path)
        name, message = str(remote.get("exception", "")), str(remote.get("message", ""))
        words = {"path": self._full(path), "where": self.where(), "user": self.user or "dr.who", "name": name}
        if name == "FileNotFoundException" or (status == 404 and name not in _UNKNOWN):
            text = _("There is no folder %(path)s on %(where)s.") % words
            return parts.no_such_file(path) if path else StoreError("no-such-container", text, field="root")
        if name in _UNKNOWN or (status == 400 and "op" in message):
            return NotKnown("unsupported", _("%(where)s does not know this operation (%(name)s).") % words, path=path)
        if "expired" in message and name in ("InvalidToken", "SecretManager$InvalidToken", "SecurityException"):
            hint = _("Fetch a new delegation token.")
            return StoreError("expired-signature", _("The delegation token has expired."), hint=hint, path=path)
        if status == 401 or "InvalidToken" in name or name in ("SecurityException", "AuthenticationException"):
            text = _("%(where)s refuses the user %(user)s (%(name)s).") % words
            return StoreError("refused-key", text, hint=_("Check user, token and password."), path=path)
        if name == "AccessControlException":
            text = _("%(user)s may not write to %(path)s.") if writing else _("%(user)s may not read %(path)s.")
            return StoreError("read-only" if writing else "forbidden", text % words, path=path)
        if name in ("DSQuotaExceededException", "NSQuotaExceededException", "QuotaExceededException"):
            return StoreError("disk-full", _("The quota of %(path)s is used up.") % words, path=path)
        if name == "StandbyException":
            text = _("%(where)s is the standby name node.") % words
            return StoreError("unreachable", text, hint=_("Enter the active one's address."), path=path)
        busy = name in _BUSY or status >= 500 or status == 429
        text = _("%(where)s refused the request for %(path)s: %(name)s.") % words
        return StoreError("failed", text, path=path, retry=busy)

    def _no_webhdfs(self, status: int, path: str) -> StoreError:
        words = {"where": self.where(), "status": status}
        if status in (401, 407):
            text = _("%(where)s wants to know who asks (HTTP %(status)d).") % words
            return StoreError("refused-key", text, hint=_("Give a delegation token, or user and password."), path=path)
        if status == 403:
            return StoreError("forbidden", _("%(where)s does not allow this (HTTP 403).") % words, path=path)
        text = _("%(where)s does not answer as WebHDFS does (HTTP %(status)d).") % words
        hint = _("Is it the name node's web server (port 9870)?")
        return StoreError("failed", text, hint=hint, path=path, retry=status >= 500 or status == 429)
