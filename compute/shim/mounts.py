"""Read-only inputs: the folders that a unit mounts, in a mount namespace of its command.

``<unit>/mounts/<n>`` are links to the folders that its inputs lead to, and every input leads through them. Where the
supervisor may, the command sees read-only mounts in their place: it cannot write through an input, whatever it tries
with the path. Elsewhere the links stay as they are. ``<unit>/mounts.json`` says which.

Part of the shim: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Any, List, Optional, Tuple

FOLDER = "mounts"
COVER = ".mounts"  # holds the mounts; laid over FOLDER once they are there
NOTE = "mounts.json"

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 1, 32, 4096, 16384, 1 << 19
KEPT_FLAGS = 2 | 4 | 8 | 1024 | 2048  # nosuid nodev noexec noatime nodiratime stay as they are


class Shield:
    """Made before the fork, put up in the child. Nothing of it outlives the command."""

    def __init__(self, unit: str, sources: List[Tuple[str, str]], libc: Any) -> None:
        self.unit = unit
        self.sources = sources  # (mount point, folder)
        self.libc = libc

    @classmethod
    def of(cls, unit: str) -> "Optional[Shield]":
        """None where the unit mounts nothing, or this machine's system does not know how."""
        try:
            names = sorted(os.listdir(os.path.join(unit, FOLDER)))
        except OSError:
            return None
        sources = []
        for name in names:
            with contextlib.suppress(OSError):
                source = os.path.realpath(os.path.join(unit, FOLDER, name))
                point = os.path.join(unit, COVER, name)
                os.makedirs(point, exist_ok=True)
                sources.append((point, source))
        if not sources or not os.path.exists("/proc/self/ns/mnt"):
            return None
        try:
            import ctypes

            return cls(unit, sources, ctypes.CDLL(None, use_errno=True))
        except (ImportError, OSError):
            return None

    def _call(self, worked: int, what: str) -> None:
        if worked != 0:
            import ctypes

            number = ctypes.get_errno()
            raise OSError(number, "%s: %s" % (what, os.strerror(number)))

    def _mount(self, source: str, target: str, flags: int) -> None:
        done = self.libc.mount(os.fsencode(source), os.fsencode(target), None, _unsigned(flags), None)
        self._call(done, "mount")

    def put_up(self) -> None:
        """In the child, before it becomes the command. Never raises: without the right to, the links stay."""
        try:
            self._call(self.libc.unshare(CLONE_NEWNS), "unshare")
            self._mount("none", "/", MS_REC | MS_SLAVE)
            for point, source in self.sources:
                if not os.path.isdir(source):
                    continue
                self._mount(source, point, MS_BIND | MS_REC)
                for each in _mounted_at(point):
                    flags = os.statvfs(each).f_flag & KEPT_FLAGS
                    self._mount("none", each, MS_REMOUNT | MS_BIND | MS_RDONLY | flags)
            self._mount(os.path.join(self.unit, COVER), os.path.join(self.unit, FOLDER), MS_BIND | MS_REC)
            self._note({"read_only": True})
        except OSError as error:
            if all(_read_only(source) for _point, source in self.sources):
                self._note({"read_only": True})  # whoever made this container has mounted them so
            else:
                self._note({"read_only": False, "why": str(error)})

    def _note(self, note: Any) -> None:
        with contextlib.suppress(OSError), open(os.path.join(self.unit, NOTE), "w", encoding="utf-8") as handle:
            json.dump(note, handle)


def _read_only(folder: str) -> bool:
    """Whether nothing can be written to it, nor to a disk mounted within it."""
    try:
        return all(os.statvfs(each).f_flag & os.ST_RDONLY for each in [folder, *_mounted_at(folder)])
    except OSError:
        return False


def _mounted_at(point: str) -> List[str]:
    """The mount at this folder and those below it: a disk within the folder is a mount of its own."""
    point, found = os.path.realpath(point), []
    with open("/proc/self/mountinfo", "rb") as handle:
        for line in handle:
            place = os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split()[4]))
            if place == point or place.startswith(point + "/"):
                found.append(place)
    return found or [point]


def _unsigned(flags: int) -> Any:
    import ctypes

    return ctypes.c_ulong(flags)
