"""Files of a datastore: up, down, and what is there."""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence

from atelier.data.references import inner_path
from atelier.exceptions import ServiceException, UserErrorException
from atelier.transport import relative, segment

if TYPE_CHECKING:
    from atelier.workspace import Workspace

PIECE = 16 << 20  # bytes per request of an upload
_AT_ONCE = 4


def in_parallel(work: Callable[[Any], Any], items: Sequence[Any], at_once: int = _AT_ONCE) -> list[Any]:
    """``work`` for each item, a few at once, results in order. The first error ends it and is raised."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(at_once, len(items))) as pool:
        running = [pool.submit(work, item) for item in items]
        done, late = wait(running, return_when=FIRST_EXCEPTION)
        for one in late:
            one.cancel()
        for one in done:
            if not one.cancelled():
                one.result()
        return [one.result() for one in running]


class StoreFiles:
    """Part of Datastore. Needs ``name``, ``_workspace`` and ``_call``."""

    name: Any
    _workspace: Workspace
    _call: Any

    # -- up -------------------------------------------------------------------------------------------------------

    def upload(
        self,
        src_dir: Any,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> Any:
        """Send all files below ``src_dir`` to below ``target_path``; gives that place. Files that are there already
        are left, unless ``overwrite``."""
        folder = Path(src_dir)
        if not folder.is_dir():
            raise UserErrorException(f"There is no folder {folder} to upload.")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            raise UserErrorException(f"{folder} has no files to upload.")
        return self.upload_files([str(path) for path in files], str(folder), target_path, overwrite, show_progress)

    def upload_files(
        self,
        files: Sequence[Any],
        relative_root: Any = None,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> Any:
        """Send files to ``target_path``, under their paths relative to ``relative_root``, or by their names alone.
        Files that are there already are left, unless ``overwrite``; gives the place."""
        if isinstance(files, (str, os.PathLike)):
            raise UserErrorException("upload_files takes a list of files; for one file give [path].")
        target = inner_path(target_path)
        pairs = [(Path(file), self._target(Path(file), relative_root, target)) for file in files]
        names = [name for _source, name in pairs]
        double = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) != len(names) else []
        if double:
            raise UserErrorException(
                f"Two of the files would both become {double[0]}: give relative_root= to keep their folders."
            )
        for source, _name in pairs:
            if not source.is_file():
                raise UserErrorException(f"There is no file {source} to upload.")
        progress = _Progress("Uploading", len(pairs), show_progress)
        in_parallel(lambda pair: progress.step(self._send(pair[0], pair[1], overwrite), pair[0]), pairs)
        progress.end("Uploaded")
        return self.path(target)  # type: ignore[attr-defined]

    @staticmethod
    def _target(source: Path, root: Any, target: str) -> str:
        if root is None:
            inner = source.name
        else:
            try:
                inner = source.resolve().relative_to(Path(root).resolve()).as_posix()
            except ValueError as error:
                raise UserErrorException(f"{source} does not lie below relative_root={root}.") from error
        return inner_path(f"{target}/{inner}")

    def _send(self, source: Path, name: str, overwrite: bool) -> bool:
        """Send one file in pieces; False where it is there already and is to be left. Goes on where the studio says
        that it is when an answer was lost."""
        path, size = f"/content/{relative(name)}", source.stat().st_size
        headers = {"Content-Type": "application/octet-stream"}
        if not overwrite:
            headers["If-None-Match"] = "*"
        start, strayed = 0, 0
        with source.open("rb") as file:
            while True:
                file.seek(start)
                piece = file.read(min(PIECE, size - start))
                if start + len(piece) < size and len(piece) < PIECE:
                    raise UserErrorException(f"{source} became shorter while it was sent.")
                span = {"Content-Range": f"bytes {start}-{start + len(piece) - 1}/{size}"} if piece else {}
                try:
                    answer = self._call("PUT", path, body=piece, headers={**headers, **span}, timeout=300)
                except ServiceException as error:
                    if error.status_code == 412:
                        return False
                    if error.status_code != 409 or strayed > 10:
                        raise
                    strayed += 1
                    span = {"Content-Range": f"bytes */{size}"}
                    answer = self._call("PUT", path, headers={**headers, **span})
                start = int((answer or {}).get("offset", start + len(piece)))
                if start >= size:
                    return True

    # -- down -----------------------------------------------------------------------------------------------------

    def download(
        self,
        target_path: Any,
        prefix: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> int:
        """Bring all files whose path begins with ``prefix`` to ``target_path``, under their whole path on the datastore
        (``prefix`` included); gives how many. Files that are here already are left, unless ``overwrite``."""
        base = Path(target_path)
        found = list(self.files(prefix))
        progress = _Progress("Downloading", len(found), show_progress)
        in_parallel(lambda entry: progress.step(self._fetch(entry, base, overwrite), entry["path"]), found)
        progress.end("Downloaded")
        return len(found)

    def _fetch(self, entry: dict[str, Any], base: Path, overwrite: bool) -> bool:
        from atelier.data import remote

        target = base / inner_path(entry["path"])
        if target.exists() and not overwrite:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        address = remote.StudioAddress(
            self._workspace,
            f"datastores/{segment(self.name)}/content/{relative(entry['path'])}",
            f"{self.name}/{entry['path']}",
        )
        partial = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            with partial.open("w+b") as file:
                remote.bring(address, file, entry.get("size"))
            partial.replace(target)
        finally:
            if partial.exists():
                partial.unlink()
        return True

    # -- what is there --------------------------------------------------------------------------------------------

    def entries(self, path: str = "") -> Iterator[dict[str, Any]]:
        """What a folder holds: ``{"path", "is_dir", "size", "modified", "etag"}``, page by page."""
        after = None
        while True:
            page = self._call("GET", "/entries", params={"path": inner_path(path), "after": after})
            yield from page["entries"]
            after = page.get("next")
            if not after:
                return

    def files(self, prefix: str | None = None) -> Iterator[dict[str, Any]]:
        """All files, folder by folder, whose path begins with ``prefix``."""
        wanted = inner_path(prefix)
        if str(prefix or "").endswith("/") and wanted:
            wanted += "/"
        yield from self._below(wanted.rpartition("/")[0], wanted)

    def _below(self, folder: str, wanted: str) -> Iterator[dict[str, Any]]:
        for entry in self.entries(folder):
            path = entry["path"] + "/" if entry["is_dir"] else entry["path"]
            if not entry["is_dir"]:
                if path.startswith(wanted):
                    yield entry
            elif path.startswith(wanted) or wanted.startswith(path):
                yield from self._below(entry["path"], wanted)

    def remove(self, path: str) -> None:
        """Delete a file, or a folder with all below it."""
        self._call("DELETE", f"/content/{relative(inner_path(path))}")


class _Progress:
    """Lines for people while files move."""

    def __init__(self, word: str, total: int, show: bool) -> None:
        self._word, self._total, self._show = word, total, show
        self._lock = threading.Lock()
        self._done = self._left = 0

    def step(self, moved: bool, name: Any) -> None:
        with self._lock:
            self._done += 1
            self._left += 0 if moved else 1
            if self._show:
                said = f"{self._word} {name}" if moved else f"{name} is there already"
                print(f"{said} ({self._done} of {self._total})")

    def end(self, word: str) -> None:
        if self._show:
            left = f"; {self._left} {'was' if self._left == 1 else 'were'} there already" if self._left else ""
            moved = self._done - self._left
            print(f"{word} {moved} {'file' if moved == 1 else 'files'}{left}")
