"""The files of units that run in containers: where they are written, and where the engine's machine has them.

A driver with containers holds one ``ContainerFiles``; all that differs between an engine on this machine and one far
away, other than how the engine is asked, is in here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from django.utils.translation import gettext as _

from compute.client_library import client_library
from compute.data.places import DATASETS_FILE
from compute.drivers import unit_records
from compute.drivers.base import NotFound, Refused, Unreachable
from compute.drivers.unit_folder import STREAM_FILES, lay_out, read_json, stream_sizes, write_atomic
from compute.shim import mounts as shield
from compute.shim import supervisor
from compute.spec import UnitSpec
from studio.bootstrap import gate
from studio.lib import beneath, storage
from studio.lib.errors import Invalid

SHIM_PLACE = "/opt/atelier/shim"  # in the container
GATE_PLACE = "/opt/atelier/gate"
STREAMS = tuple(STREAM_FILES.values())


@dataclass(frozen=True)
class Bind:
    """A folder of the engine's machine, and where a container has it."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Look:
    """What lies in a unit's folder now. ``sizes`` in bytes: ``stdout`` and ``events``."""

    beat: dict[str, Any] | None = None
    exit: dict[str, Any] | None = None
    sizes: dict[str, int] = field(default_factory=dict)


class ContainerFiles(Protocol):
    """``key`` names a unit, ``path`` is relative to its folder. All of it is blocking.

    Every method raises Unreachable where the machine does not answer or its disk cannot be written, and NotFound where
    it says so.
    """

    def lay_out(self, spec: UnitSpec) -> None:
        """Everything of ``spec`` but its secrets, and what containers mount beside it (shim, client library).
        Idempotent: a second time changes nothing that a script may have written. Refused where a file of it is gone."""
        ...

    def write(self, key: str, path: str, value: Any) -> None:
        """JSON, readable by the unit's user alone, so that a reader sees all of it or none."""
        ...

    def read(self, key: str, path: str, offset: int, limit: int) -> bytes:
        """At most ``limit`` bytes from ``offset``; empty at the end. NotFound."""
        ...

    def remove(self, key: str, path: str) -> None:
        """Idempotent."""
        ...

    def look(self, keys: Sequence[str]) -> dict[str, Look]:
        """By key, for all of them: in one round trip where there is one. A folder that is not there is
        an empty Look."""
        ...

    def forget(self, key: str) -> None:
        """Take away the folder of what was no unit, and was only laid out for a check. Idempotent."""
        ...

    def host_path(self, key: str) -> str:
        """The unit's folder as the engine's machine names it."""
        ...

    def place(self, key: str) -> str:
        """The unit's folder as its container sees it: the absolute path that it has in the studio."""
        ...

    def binds(self, spec: UnitSpec) -> list[Bind]:
        """What the unit's container mounts: its folder at ``place``, shim, client library, and data that its inputs
        lead to. After ``lay_out``. Refused where the engine's machine has no such folder."""
        ...

    def gate(self) -> str:
        """The folder of the engine's machine through whose sockets containers reach the studio; empty where there can
        be none."""
        ...

    def user(self) -> tuple[int, int, list[int]]:
        """(uid, gid, further groups) that containers run as: whose the files are."""
        ...

    def disk_free(self, path: str) -> int | None:
        """Bytes free below a folder of the engine's machine, "" for the folder of the units; None where nobody
        can tell."""
        ...

    def gpus(self) -> list[str]:
        """The names of the GPUs of the engine's machine; empty where there are none or nobody can tell."""
        ...


def shim_library() -> Path:
    """The shim as containers see it: one read-only copy per content under the data folder, as the client library."""
    source = Path(supervisor.__file__).parent
    contents = {name: (source / name).read_bytes() for name in supervisor.FILES}
    digest = hashlib.sha256(b"\0".join(name.encode() + b"\0" + data for name, data in sorted(contents.items())))
    target = storage.data("lib", f"shim-{digest.hexdigest()[:24]}")
    if target.is_dir():
        return target
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}")
    partial.mkdir(parents=True)
    for name, data in contents.items():
        (partial / name).write_bytes(data)
    try:
        os.rename(partial, target)  # noqa: PTH104 - fails where another process was first, unlike shutil.move
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def linked_folders(unit: Path) -> list[str]:
    """The folders that a unit's inputs lead to, as their real paths."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        for link in sorted((unit / shield.FOLDER).iterdir(), key=lambda path: path.name):
            real = os.path.realpath(link)
            if real not in found:
                found.append(real)
    return found


def read_folders(unit: Path) -> list[str]:
    """The folders of this machine that the client reads by itself, for inputs that are neither mounted nor copied."""
    known = read_json(unit / DATASETS_FILE) or {}
    if not any(item.get("mode") == "direct" for item in (known.get("inputs") or {}).values()):
        return []
    roots = [store.get("root") for store in (known.get("stores") or {}).values()]
    return [os.path.realpath(root) for root in roots if root]


def mounted_below(folder: str, table: str = "/proc/self/mountinfo") -> list[str]:
    """Disks mounted within a folder: a read-only mount of the folder alone would leave them writable."""
    found = []
    with contextlib.suppress(OSError), Path(table).open("rb") as handle:
        for line in handle:
            place = os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split()[4]))
            if place.startswith(folder.rstrip("/") + "/"):
                found.append(place)
    return found


def absolute_tree(unit: Path, name: str) -> Path:
    """``<unit>/outside/<name>``: the files of an input as absolute links, which lead to them from any other place too;
    those of the input itself are relative to it."""
    source, made = unit / "inputs" / name, unit / "outside" / name
    if made.is_dir():
        return made
    partial = made.with_name(f".{uuid.uuid4().hex}")
    partial.mkdir(parents=True)
    for folder, folders, files in os.walk(source):
        here = partial / os.path.relpath(folder, source)
        here.mkdir(exist_ok=True)
        for each in files + [one for one in folders if Path(folder, one).is_symlink()]:
            (here / each).symlink_to(Path(folder, each))
    with contextlib.suppress(OSError):  # another submit was first
        partial.rename(made)
    shutil.rmtree(partial, ignore_errors=True)
    return made


class LocalFiles:
    """On this machine. ``translate`` says how the engine's machine names a path of ours: another one where the studio
    itself runs in a container. It raises Refused where the engine's machine does not have it at all."""

    def __init__(self, translate: Any = str) -> None:
        self._translate = translate

    @staticmethod
    def folder(key: str) -> Path:
        return storage.unit_directory(key)

    def lay_out(self, spec: UnitSpec) -> None:
        try:
            lay_out(self.folder(spec.key), spec, client_library())
            shim_library()
        except FileNotFoundError as error:
            raise Refused(_("A file of the run is gone: %(name)s") % {"name": error.filename}) from error
        except OSError as error:
            raise Unreachable(_("The unit's folder cannot be written: %(error)s") % {"error": error}) from error

    def write(self, key: str, path: str, value: Any) -> None:
        try:
            write_atomic(self.folder(key) / path, value)
        except FileNotFoundError as error:
            raise NotFound(path) from error
        except OSError as error:
            raise Unreachable(str(error)) from error

    def read(self, key: str, path: str, offset: int, limit: int) -> bytes:
        try:
            with beneath.reader(storage.safe_join(self.folder(key), path)) as reader:
                reader.seek(offset)
                return reader.read(limit)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, beneath.Leaves, Invalid):
            raise NotFound(path) from None
        except OSError as error:
            raise Unreachable(str(error)) from error

    def remove(self, key: str, path: str) -> None:
        with contextlib.suppress(OSError):
            (self.folder(key) / path).unlink()

    def forget(self, key: str) -> None:
        shutil.rmtree(self.folder(key), ignore_errors=True)

    def look(self, keys: Sequence[str]) -> dict[str, Look]:
        return {key: self._look(self.folder(key)) for key in keys}

    @staticmethod
    def _look(folder: Path) -> Look:
        ended = _own_json(folder / "exit.json")
        if ended is None and os.path.lexists(folder / "exit.json"):
            ended = {"reason": "unreadable", "code": None, "signal": None}
        # The sizes after the record: once it is there, nothing is added to them.
        sizes = stream_sizes(folder)
        return Look(_own_json(folder / "beat.json"), ended, sizes)

    def host_path(self, key: str) -> str:
        return str(self._translate(self.place(key)))

    def place(self, key: str) -> str:
        return str(self.folder(key).resolve())

    def binds(self, spec: UnitSpec) -> list[Bind]:
        unit = self.folder(spec.key).resolve()
        found = [Bind(self.host_path(spec.key), str(unit)), self._own(shim_library(), SHIM_PLACE)]
        for name in STREAMS:
            # What is mounted cannot be replaced from within, by a link to a file that only the studio may read.
            (unit / name).touch(0o644)
            found.append(Bind(f"{found[0].source}/{name}", f"{unit}/{name}"))
        library = client_library()
        if library is not None:
            found.append(self._own(library.resolve(), str(library.resolve())))
        sockets = self.gate()
        if sockets:
            found.append(Bind(sockets, GATE_PLACE, read_only=True))
        for folder in [*linked_folders(unit), *read_folders(unit)]:
            found += [self._own(Path(each), each) for each in [folder, *mounted_below(folder)]]
        found += self._outside(unit, spec.inputs)
        return list({bind.target: bind for bind in found}.values())

    def _own(self, source: Path, target: str) -> Bind:
        if not source.exists():
            raise Refused(_("The folder %(folder)s, which an input of the run leads to, is gone.") % {"folder": source})
        return Bind(str(self._translate(str(source))), target, read_only=True)

    def _outside(self, unit: Path, inputs: Iterable[dict[str, Any]]) -> list[Bind]:
        """Inputs that the command wants at a path of the container's own."""
        found = []
        for item in inputs:
            wanted = str(item.get("path_on_compute") or "")
            if wanted.startswith("/") and item.get("mode") != "direct":
                source = Path(os.path.realpath(unit / "inputs" / item["name"]))
                if source.is_relative_to(unit):
                    source = absolute_tree(unit, item["name"])
                found.append(self._own(source, os.path.normpath(wanted)))
        return found

    def gate(self) -> str:
        place = gate.folder(settings.ATELIER_DATA)
        try:
            gate.make(place)
            return str(self._translate(str(place.resolve())))
        except (OSError, Refused):
            return ""

    def user(self) -> tuple[int, int, list[int]]:
        gid = os.getgid()
        return os.getuid(), gid, [group for group in os.getgroups() if group not in (gid, _engine_group())]

    def disk_free(self, path: str) -> int | None:
        try:
            return shutil.disk_usage(path or storage.data()).free
        except OSError:
            return None

    def gpus(self) -> list[str]:
        found = []
        for card in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            with contextlib.suppress(OSError):
                model = re.search(r"^Model:\s*(.+)$", card.read_text(errors="replace"), re.MULTILINE)
                found.append(model.group(1).strip() if model else card.parent.name)
        return found


def _engine_group() -> int | None:
    """Who may use the engine's socket. No container of a run is to have that right, whatever folders it mounts."""
    try:
        return Path(str(settings.ATELIER_DOCKER_SOCKET).removeprefix("unix://")).stat().st_gid or None
    except OSError:
        return None


def _own_json(path: Path) -> dict[str, Any] | None:
    """A record in a plain file. Through a link, what runs in a container could lead us to what it cannot see, and a
    pipe would keep us waiting."""
    try:
        return unit_records.parsed(beneath.read_small(path, unit_records.LIMIT + 1))
    except OSError:
        return None
