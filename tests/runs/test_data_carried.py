"""Data that has to be moved: fetched from a web server, sent to an S3 server, with a carrier that really runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compute.data import housekeeping as data_housekeeping
from compute.data.progress import transfer_text
from compute.models import Transfer, Unit
from runs.models import Run
from runs.services import manage
from studio.datasets import cache
from studio.datasets.models import DatasetVersion
from studio.datasets.services import datasets as dataset_services
from studio.datasets.services import datastores as datastore_services
from studio.lib import storage
from tests.compute.slow_server import SlowServer
from tests.runs.test_data_flow import WRITE, finish, given, log_of, seen, send, until

__all__ = ["send"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]


@pytest.fixture
def server() -> Iterator[SlowServer]:
    made = SlowServer({f"set/{name}.bin": name.encode() * 50_000 for name in "abcdef"})
    yield made
    made.close()


@pytest.fixture
def remote(team: Any, server: SlowServer) -> Callable[..., DatasetVersion]:
    datastore_services.datastore_create(
        workspace=team.workspace, user=team.owner, name="web", kind="http", config={"url": server.url}
    )

    def make(*patterns: str) -> DatasetVersion:
        definition = {
            "format": 1, "type": "file", "schema": None, "steps": [],
            "source": {"kind": "files", "paths": [{"datastore": "web", "path": pattern} for pattern in patterns]},
        }  # fmt: skip
        return dataset_services.definition_save(workspace=team.workspace, user=team.contributor, definition=definition)

    return make


def transfer_of(run: Run) -> Transfer:
    return Transfer.objects.get(unit=run.unit)


def test_a_download_is_kept_between_runs_and_cannot_be_changed(send: Any, remote: Any, server: SlowServer) -> None:
    version = remote("set/*.bin")
    run = finish(send(inputs=given(version, "download")))
    assert run.status == "Completed", (run.error, log_of(run))
    assert seen(run)["files"] == [f"{name}.bin" for name in "abcdef"]
    transfer = transfer_of(run)
    assert (transfer.files_done, transfer.bytes_done, transfer.cached_bytes) == (6, 300_000, 0)
    before = server.sent
    assert before >= 300_000
    again = finish(send(inputs=given(version, "mount")))
    assert again.status == "Completed" and server.sent < before + 100
    transfer = transfer_of(again)
    assert transfer.cached_bytes == transfer.bytes_done == 300_000 and "from the cache" in transfer_text(transfer)
    unit = storage.unit_directory(again.key)
    kept = (unit / "inputs" / "animals" / "a.bin").resolve()
    assert kept.parent.parent == cache.root().resolve() and kept.read_bytes() == b"a" * 50_000
    assert kept.stat().st_mode & 0o222 == 0


def test_the_cache_keeps_what_a_living_unit_links(send: Any, remote: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(cache, "YOUNG_S", -1.0)
    run = send("import time\ntime.sleep(60)\n", inputs=given(remote("set/a.bin", "set/b.bin"), "download"))
    until(lambda: Unit.objects.get(pk=run.unit_id).state == "running")
    assert len(data_housekeeping.pinned()) == 2
    assert cache.sweep(0, data_housekeeping.pinned) == 0
    manage.run_cancel(run, user=None, force=True)
    finish(run)
    assert cache.sweep(60_000, data_housekeeping.pinned) == 50_000
    assert cache.sweep(0, data_housekeeping.pinned) == 50_000


def test_one_file_that_is_gone_names_itself_and_nothing_starts(send: Any, remote: Any, server: SlowServer) -> None:
    server.gone.add("set/d.bin")
    run = finish(send(inputs=given(remote(*[f"set/{name}.bin" for name in "abcdef"]), "download")))
    assert run.status == "Failed" and run.error is not None and run.started_at is None
    assert run.error["code"] == "InputFailed" and "set/d.bin" in run.error["message"], run.error
    assert not (storage.unit_directory(run.key) / "stdout.log").exists()
    assert transfer_of(run).attempts == 1


def test_a_file_shorter_than_said_is_never_taken_for_whole(send: Any, remote: Any, server: SlowServer) -> None:
    server.lies["set/c.bin"] = 60_000
    run = finish(send(inputs=given(remote("set/a.bin", "set/c.bin"), "download")), 120)
    assert run.status == "Failed" and run.error is not None
    assert "set/c.bin" in run.error["message"], run.error
    whole = [path for path in cache.root().glob("??/*") if not path.suffix]
    assert [path.stat().st_size for path in whole] in ([50_000], [])


def test_a_server_that_goes_away_is_waited_for(send: Any, remote: Any, server: SlowServer) -> None:
    server.pause_s, server.piece = 0.02, 1000
    run = send(inputs=given(remote("set/*.bin"), "download"))
    until(lambda: (found := Transfer.objects.filter(unit=run.unit).first()) and found.bytes_done)
    server.away = True
    transfer = until(lambda: Transfer.objects.filter(unit=run.unit).exclude(note="").first())
    assert "Waits since" in transfer_text(transfer) and transfer.noted_at is not None
    server.away, server.pause_s = False, 0
    run = finish(run)
    assert run.status == "Completed", (run.error, log_of(run))
    assert transfer_of(run).attempts == 1 and transfer_of(run).note == ""
    assert seen(run)["files"] == [f"{name}.bin" for name in "abcdef"]


def test_cancel_ends_the_carrier_too(send: Any, remote: Any, server: SlowServer) -> None:
    server.pause_s, server.piece = 0.5, 1000
    run = send(inputs=given(remote("set/*.bin"), "download"))
    until(lambda: (found := Transfer.objects.filter(unit=run.unit).first()) and found.bytes_done)
    manage.run_cancel(run, user=None)
    run = finish(run)
    assert run.status == "Canceled" and run.error is None
    carrier = transfer_of(run).carrier
    assert carrier is not None
    until(lambda: Unit.objects.get(pk=carrier.pk).state == "canceled")


def test_a_carrier_that_is_killed_is_followed_by_another(send: Any, remote: Any, server: SlowServer) -> None:
    server.pause_s, server.piece = 0.05, 1000
    run = send(inputs=given(remote("set/*.bin"), "download"))
    transfer = until(lambda: Transfer.objects.filter(unit=run.unit, bytes_done__gt=0).first())
    beat = json.loads((storage.unit_directory(transfer.carrier.key) / "beat.json").read_text())
    os.kill(beat["child"], 9)
    server.pause_s = 0
    run = finish(run)
    assert run.status == "Completed", (run.error, log_of(run))
    assert transfer_of(run).attempts == 2
    for name in "abcdef":
        path = storage.unit_directory(run.key) / "inputs" / "animals" / f"{name}.bin"
        assert path.read_bytes() == name.encode() * 50_000


@pytest.fixture
def bucket(team: Any, tmp_path: Path) -> Iterator[Any]:
    from tests.gear.s3_server import S3Server

    made = S3Server(tmp_path)
    made.client().create_bucket(Bucket="made")
    for name, keys in (("s3", (made.access_key, made.secret_key)), ("readonly", made.reader)):
        datastore_services.datastore_create(
            workspace=team.workspace, user=team.owner, name=name, kind="s3",
            config={"bucket": "made", "endpoint": made.url},
            secrets={"access_key": keys[0], "secret_key": keys[1]},
        )  # fmt: skip
    yield made
    made.stop()


def test_an_output_goes_up_and_comes_back_as_an_input(send: Any, bucket: Any) -> None:
    outputs = [{"name": "made", "datastore": "s3", "path": "out", "register": {"name": "result"}}]
    run = finish(send(WRITE, outputs=outputs, arguments=["${{outputs.made}}"]), 120)
    assert run.status == "Completed", (run.error, log_of(run))
    keys = [entry["Key"] for entry in bucket.client().list_objects_v2(Bucket="made")["Contents"]]
    assert keys == ["out/deep/two.txt", "out/one.txt"]
    version = run.data.get().version
    assert str(version) == "result:1"
    back = finish(send(inputs=given(version, "mount")), 120)
    assert back.status == "Completed", (back.error, log_of(back))
    assert seen(back)["files"] == ["deep/two.txt", "one.txt"]
    printed = (storage.unit_directory(transfer_of(back).carrier.key) / "stdout.log").read_text()
    assert bucket.secret_key not in printed


def test_an_upload_that_is_refused_fails_the_run_and_loses_nothing(send: Any, bucket: Any) -> None:
    outputs = [{"name": "made", "datastore": "readonly", "path": "out", "register": {"name": "result"}}]
    run = finish(send(WRITE, outputs=outputs, arguments=["${{outputs.made}}"]), 120)
    assert run.status == "Failed" and run.error is not None
    assert run.error["code"] == "OutputUploadFailed", run.error
    assert "readonly" in run.error["message"] and "out/" in run.error["message"]
    assert (storage.unit_directory(run.key) / "produced" / "made" / "one.txt").read_text() == "made one.txt"
    assert run.data.get().version is None
    assert transfer_of(run).carrier.state == "failed"


def test_cancel_while_an_output_goes_up(send: Any, team: Any, bucket: Any) -> None:
    from tests.gear.servers import Wire

    wire = Wire(bucket.port)
    wire.cut_after = 0
    datastore_services.datastore_create(
        workspace=team.workspace, user=team.owner, name="far", kind="s3", check=False,
        config={"bucket": "made", "endpoint": f"http://127.0.0.1:{wire.port}"},
        secrets={"access_key": bucket.access_key, "secret_key": bucket.secret_key},
    )  # fmt: skip
    run = send(WRITE, outputs=[{"name": "made", "datastore": "far", "path": "out"}], arguments=["${{outputs.made}}"])
    until(lambda: Transfer.objects.filter(unit=run.unit, direction="out", state="moving").first())
    assert Run.objects.get(pk=run.pk).status == "Finalizing"
    manage.run_cancel(run, user=None)
    run = finish(run)
    wire.close()
    assert run.status == "Canceled" and run.data.get().version is None
    carrier = transfer_of(run).carrier
    assert carrier is not None
    until(lambda: Unit.objects.get(pk=carrier.pk).state == "canceled")
    assert (storage.unit_directory(run.key) / "produced" / "made" / "one.txt").read_text() == "made one.txt"
