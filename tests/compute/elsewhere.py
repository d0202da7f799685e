"""A target that is elsewhere: real units, as on this machine, in folders that the studio does not share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from compute.drivers.base import HostKeyChanged, HostKeyUnknown, Unreachable
from compute.drivers.local import LocalDriver
from compute.spec import Handle, Observation, Problem
from studio.lib import storage

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGDDy2hQJtGd3HXY0g3qfmE2r6b2C5d4H0Nf4b3o6m1x"


class FarDriver(LocalDriver):
    """``away``: nothing answers. ``piece``: the most bytes of the log that one ``fetch`` brings. ``cut``: then it
    breaks off with an error."""

    name: ClassVar[str] = "far"
    shared: ClassVar[bool] = False
    root: ClassVar[Path]
    away: ClassVar[bool] = False
    cut: ClassVar[bool] = False
    piece: ClassVar[int] = 1 << 30
    key: ClassVar[str] = KEY
    fetched: ClassVar[list[str]] = []

    @classmethod
    def _folder(cls, key: str) -> Path:  # type: ignore[override]
        return cls.root / key

    def _answer(self) -> None:
        if self.away:
            raise Unreachable("The machine does not answer.")

    def check(self) -> list[Problem]:
        self._answer()
        pinned = self.config.get("host_key", "")
        if not pinned:
            raise HostKeyUnknown("Nobody knows it.", self.key)
        if pinned != self.key:
            raise HostKeyChanged("It changed.", self.key)
        return []

    def facts(self) -> dict[str, Any]:
        self.root.mkdir(exist_ok=True)
        return {"cpus": 4, "disk_free_bytes": shutil.disk_usage(self.root).free}

    def submit(self, spec: Any) -> Handle:
        self._answer()
        return super().submit(spec)

    def observe(self, handles: Sequence[Handle]) -> dict[str, Observation]:
        self._answer()
        return super().observe(handles)

    def fetch(self, handle: Handle, *, final: bool = False) -> bool:
        self._answer()
        names = ["stdout.log", "events.jsonl"]
        if final:
            root = self._folder(handle.key)
            names += [
                str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "code" not in path.parts
            ]
        whole = True
        for name in names:
            whole = self._bring(handle, name) and whole
        if self.cut:
            raise Unreachable("The connection was cut.")
        return whole

    def _bring(self, handle: Handle, name: str) -> bool:
        far, near = self._folder(handle.key) / name, storage.unit_directory(handle.key) / name
        if not far.exists():
            return True
        near.parent.mkdir(parents=True, exist_ok=True)
        have = near.stat().st_size if near.exists() else 0
        with far.open("rb") as reader, near.open("ab") as writer:
            reader.seek(have)
            os.write(writer.fileno(), reader.read(self.piece if name == "stdout.log" else -1))
        self.fetched.append(name)
        return near.stat().st_size == far.stat().st_size
