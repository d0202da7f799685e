"""A workspace with real runs: submitted through the services, with metrics, files and a log, and no worker needed."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client

from compute import states
from compute.models import Unit
from compute.services import ensure_local_target
from runs.models import Run
from runs.services import events, places, snapshots, submit

SCRIPT = "print('hello')\n"


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
        + chunk(b"IEND", b"")
    )


def zip_of(files: dict[str, str]) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    buffer.seek(0)
    buffer.name = "source.zip"
    return buffer


def end(run: Run, status: str = "Completed") -> Run:
    """Ends the run as the reconciler would, without a process."""
    Unit.objects.filter(pk=run.unit_id).update(state=states.COMPLETED if status == "Completed" else states.FAILED)
    Run.objects.filter(pk=run.pk).update(status=status)
    unit = Unit.objects.get(pk=run.unit_id)
    unit.history = [["created", 1.0, ""], [unit.state, 2.0, ""]]
    unit.save(update_fields=["history"])
    run.refresh_from_db()
    return run


@dataclass
class World:
    """The team's workspace, a client per person, and a way to make runs."""

    team: Any
    clients: dict[str, Client]

    @property
    def base(self) -> str:
        return f"/w/{self.team.workspace.name}/"

    def run(
        self, experiment: str = "iris", *, name: str = "", lr: float = 0.1, script: str = SCRIPT, **extra: Any
    ) -> Run:
        workspace = self.team.workspace
        return submit.run_submit(
            workspace=workspace,
            user=self.team.contributor,
            experiment=experiment,
            script="train.py",
            arguments=["--lr", str(lr)],
            snapshot=snapshots.snapshot_from_texts(workspace, {"train.py": script, "lib/a.py": "x = 1\n"}),
            target=ensure_local_target(workspace),
            environment=None,
            name=name,
            **extra,
        )

    def log(self, run: Run, *objects: dict[str, Any]) -> None:
        assert events.ingest_objects(run, list(objects)) == 0

    def write(self, run: Run, path: str, content: bytes) -> None:
        target = places.directory(run) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


@pytest.fixture
def world(team: Any) -> World:
    clients = {}
    for who in ("owner", "contributor", "reader", "outsider", "anonymous"):
        clients[who] = Client(raise_request_exception=True)
        if who != "anonymous":
            clients[who].force_login(getattr(team, who))
    return World(team, clients)
