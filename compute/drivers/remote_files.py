"""The files of units on a machine behind SSH, as ``compute.drivers.container_files`` wants them.

A unit lies there in ``<base>/units/<key>``, and its container sees it at the path that it has in the studio. What the
studio itself reads is its own copy: ``fetch`` brings what is new. What is looked at again and again (the sizes of all
units' streams) is one line to a shell that is kept open, and one answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from compute.client_library import client_library
from compute.drivers import remote_gate, remote_host, unit_records
from compute.drivers.base import NotFound, Unreachable
from compute.drivers.container_files import GATE_PLACE, SHIM_PLACE, STREAMS, Bind, LocalFiles, Look, shim_library
from compute.drivers.remote_fetch import DONE, safe_key
from compute.drivers.remote_push import push
from compute.drivers.remote_tree import close_streams, read_piece
from compute.drivers.ssh import Link
from compute.drivers.unit_folder import read_json
from compute.spec import UnitSpec
from studio.lib import storage

RECORD_LIMIT = 1 << 16
LOOKED_AT = ("stdout.log", "events.jsonl", "beat.json", "exit.json")
KEYS_AT_ONCE = 200
MOST_BYTES = 1 << 62  # of a file: more is a lie, and no number that a database takes
BEAT_S = 10.0  # how old what is known of a beat may be


class RemoteFiles:
    """``base``: the folder on the machine, asked for when it is first needed."""

    def __init__(self, link: Link, base: Callable[[], str]) -> None:
        self.link = link
        self._base = base
        self.own = LocalFiles()

    @property
    def base(self) -> str:
        return self._base()

    def host_path(self, key: str) -> str:
        return f"{self.base}/units/{safe_key(key)}"

    def remote(self, key: str) -> bytes:
        return os.fsencode(self.host_path(key))

    def place(self, key: str) -> str:
        return self.own.place(key)

    def local(self, key: str) -> Path:
        return storage.unit_directory(key)

    def done(self, key: str) -> bool:
        """Whether everything is here, and may be gone there."""
        return (self.local(key) / DONE).exists()

    # Laying out.

    def lay_out(self, spec: UnitSpec) -> None:
        if self._there(spec.key):
            return
        self.own.lay_out(spec)
        push(self.link, self.base, spec.key, self.local(spec.key), self._libraries(spec.key))

    def _there(self, key: str) -> bool:
        place = shlex.quote(self.host_path(key))
        libraries = " ".join(f"-a -d {shlex.quote(f'{self.base}/lib/{each.name}')}" for each in self._libraries(key))
        return self.link.ask(f"[ -e {place}/spec.json {libraries} ] && echo yes").strip() == b"yes"

    def _libraries(self, key: str) -> list[Path]:
        library = self._client(key)
        return [shim_library(), *([library] if library is not None else [])]

    def _client(self, key: str) -> Path | None:
        """The client that the unit was laid out with; it may have changed since."""
        laid = read_json(self.local(key) / "spec.json")
        if laid is None:
            return client_library()
        return Path(laid["lib"]) if laid.get("lib") else None

    def binds(self, spec: UnitSpec) -> list[Bind]:
        there, here = self.host_path(spec.key), self.place(spec.key)
        found = [
            Bind(there, here),
            # What is mounted cannot be replaced from within, by a link to a file that only the login may read.
            *(Bind(f"{there}/{name}", f"{here}/{name}") for name in STREAMS),
            Bind(f"{self.base}/lib/{shim_library().name}", SHIM_PLACE, read_only=True),
        ]
        library = self._client(spec.key)
        if library is not None:
            found.append(Bind(f"{self.base}/lib/{library.name}", str(library.resolve()), read_only=True))
        sockets = self.gate()
        if sockets:
            found.append(Bind(sockets, GATE_PLACE, read_only=True))
        for item in spec.inputs:
            wanted = str(item.get("path_on_compute") or "")
            if wanted.startswith("/") and item.get("mode") != "direct":
                source = f"{there}/inputs/{item['name']}"
                found.append(Bind(source, os.path.normpath(wanted), read_only=True))
        return list({bind.target: bind for bind in found}.values())

    # Single files.

    def write(self, key: str, path: str, value: Any) -> None:
        place = shlex.quote(f"{self.host_path(key)}/{path}")
        fresh = shlex.quote(f"{self.host_path(key)}/.{secrets.token_hex(6)}")
        folder = shlex.quote(self.host_path(key))
        # Through the shell's input, not in a command that others on the machine could see.
        text = shlex.quote(json.dumps(value))
        keep = f"printf %s {text} | LC_ALL=C cat >{fresh} && mv -f {fresh} {place}"
        line = f"if [ -d {folder} ]; then (umask 077; {keep}) 2>&1 && echo written; rm -f {fresh}; else echo absent; fi"
        if len(line) < RECORD_LIMIT:
            said = self.link.ask(line).decode("utf-8", "replace").strip()
        else:
            said = self.link.run(line).out.decode("utf-8", "replace").strip()
        if said == "absent":
            raise NotFound(path)
        if not said.endswith("written"):
            full = remote_host.no_space(said)
            raise Unreachable(
                remote_host.full_words(self.link, self.base)
                if full
                else _("A file of the run could not be written on %(host)s: %(why)s")
                % {"host": self.link.login, "why": said[:300]}
            )

    def remove(self, key: str, path: str) -> None:
        place = shlex.quote(f"{self.host_path(key)}/{path}")
        self.link.ask(f"rm -f -- {place}")

    def read(self, key: str, path: str, offset: int, limit: int) -> bytes:
        """From our own copy once everything is here, and of what is no longer there."""
        clean = storage.clean_relative(path)
        if not self.done(key):
            with contextlib.suppress(NotFound):
                return self._read_there(key, clean, offset, limit)
            if clean.startswith("inputs/") or not self._gone(key):
                raise NotFound(path)
        return self.own.read(key, clean, offset, limit)

    def _read_there(self, key: str, path: str, offset: int, limit: int) -> bytes:
        root = self.remote(key)
        wanted = root + b"/" + os.fsencode(path)
        parent = wanted.rpartition(b"/")[0]
        if parent != root:
            # A folder on the way may be a link to what is not the run's.
            real = self.link.sftp(lambda client: client.realpath(parent))
            own = self.link.sftp(lambda client: client.realpath(root))
            if real != own and not bytes(real).startswith(bytes(own) + b"/"):  # type: ignore[arg-type]
                raise NotFound(path)
        return read_piece(self.link, wanted, offset, limit)

    def _gone(self, key: str) -> bool:
        return self.link.ask(f"[ -d {shlex.quote(self.host_path(key))} ] || echo gone").strip() == b"gone"

    def forget(self, key: str) -> None:
        self.discard(key)
        self.own.forget(key)

    def discard(self, key: str) -> None:
        """Take away the folder there. Idempotent."""
        root = self.remote(key)
        close_streams(self.link, [root + b"/" + name.encode() for name in STREAMS])
        units = shlex.quote(f"{self.base}/units")
        # What a run made unwritable is its own all the same.
        self.link.run(
            f"cd {units} 2>/dev/null || exit 0\nrm -rf {key} .{key}.* 2>/dev/null && exit 0\n"
            f"chmod -R u+rwx {key} 2>/dev/null; rm -rf {key} .{key}.*",
            timeout=600,
        )
        for name in ("beat", "sizes"):
            self.link.memo.pop(f"{name}-{key}", None)

    # All units at once.

    def look(self, keys: Sequence[str]) -> dict[str, Look]:
        found: dict[str, Look] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            found.update(self._look(keys[start : start + KEYS_AT_ONCE]))
        return found

    def _look(self, keys: Sequence[str]) -> dict[str, Look]:
        first = self._stat(keys)
        beats: dict[str, Any] = {}
        wanted = []
        for key in keys:
            seen = first.get(key, {})
            beats[key], known = self._known_beat(key, seen.get("beat.json"))
            if "beat.json" in seen and not known:
                wanted.append(f"{key}/beat.json")
            if "exit.json" in seen:
                wanted.append(f"{key}/exit.json")
        contents = self._contents(wanted)
        # The sizes after the record: once it is there, nothing is added to them.
        ended = [key for key in keys if f"{key}/exit.json" in contents]
        later = self._stat(ended) if ended else {}
        found = {}
        for key in keys:
            if not first.get(key) and self.done(key):
                found[key] = self.own.look([key])[key]
                continue
            if f"{key}/beat.json" in contents:
                beats[key] = unit_records.parsed(contents[f"{key}/beat.json"])
                self.link.memo[f"beat-{key}"] = (first[key]["beat.json"][2], beats[key])
            record = None
            if key in ended:
                record = unit_records.parsed(contents[f"{key}/exit.json"])
                record = record or {"reason": "unreadable", "code": None, "signal": None}
            files = later.get(key) or first.get(key) or {}
            sizes = {name: files.get(file, (0, 0, 0))[1] for name, file in _STREAM_FILES.items()}
            by_file = {_STREAM_FILES[name]: size for name, size in sizes.items()}
            self.link.memo[f"sizes-{key}"] = (time.monotonic(), by_file)
            found[key] = Look(beats[key], record, sizes)
        return found

    def _known_beat(self, key: str, file: tuple[int, int, int] | None) -> tuple[dict[str, Any] | None, bool]:
        """(what is known of the beat, whether that will do). Only its time changes once the command has started."""
        if file is None:
            return None, False
        known = self.link.memo.get(f"beat-{key}")
        if known is None or known[1] is None:
            return None, False
        return known[1], bool(known[1].get("started")) and file[2] - known[0] < BEAT_S

    def _stat(self, keys: Sequence[str]) -> dict[str, dict[str, tuple[int, int, int]]]:
        """By key and file: (mode, size, time of the last change), plain files alone."""
        for key in keys:
            safe_key(key)
        files = " ".join(LOOKED_AT).replace(" ", " $k/")
        line = (
            f'cd {shlex.quote(self.base)}/units && set -- && for k in {" ".join(keys)}; do set -- "$@" $k/{files}; done'
            " && LC_ALL=C stat -c '%n %f %s %Y' -- \"$@\""
        )
        found: dict[str, dict[str, tuple[int, int, int]]] = {}
        for row in self.link.ask(line).decode("ascii", "replace").splitlines():
            with contextlib.suppress(ValueError):
                name, mode, size, changed = row.split(" ")
                key, _slash, file = name.partition("/")
                if stat.S_ISREG(int(mode, 16)) and key in keys and int(size) < MOST_BYTES:
                    found.setdefault(key, {})[file] = (int(mode, 16), int(size), int(changed))
        return found

    def _contents(self, names: Sequence[str]) -> dict[str, bytes]:
        """Of small plain files, named from the folder of the units."""
        if not names:
            return {}
        mark = secrets.token_hex(8)
        line = (
            f"cd {shlex.quote(self.base)}/units && for f in {' '.join(names)}; do "
            f'if [ -f $f ] && [ ! -L $f ]; then printf "\\n%s %s\\n" {mark} $f; head -c {RECORD_LIMIT} $f; fi; done'
        )
        found = {}
        for part in self.link.ask(line).split(f"\n{mark} ".encode())[1:]:
            name, _newline, content = part.partition(b"\n")
            found[name.decode("ascii", "replace")] = content
        return found

    # The machine.

    def host(self) -> remote_host.Host:
        return remote_host.probe(self.link)

    def gate(self) -> str:
        there = remote_gate.keep(self.link, self.base) != remote_gate.ABSENT
        return remote_gate.folder(self.base) if there else ""

    def user(self) -> tuple[int, int, list[int]]:
        host = self.host()
        return host.uid, host.gid, [group for group in host.groups if group != host.gid]

    def disk_free(self, path: str) -> int | None:
        return remote_host.disk_free(self.link, path or self.base)

    def gpus(self) -> list[str]:
        return self.host().gpus


_STREAM_FILES = {"stdout": "stdout.log", "events": "events.jsonl"}
