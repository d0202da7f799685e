"""Files and live output over REST: ranges, resumable uploads, zip streams, long polls; nothing that a browser runs."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.test import RequestFactory

from runs.models import Run
from studio.lib import storage
from studio.lib.responses import file_response, parse_range
from tests.api.conftest import WS, World

CONTENT = b"0123456789" * 10


def content(world: World, path: str = "outputs/model.txt", role: str = "reader", **headers: str) -> Any:
    return world.clients[role].get(f"{WS}/runs/{world.run.run_id}/files/content/{path}", headers=headers or None)


class TestDownload:
    def test_whole(self, world: World) -> None:
        response = content(world)
        assert response.getvalue() == CONTENT and response["Content-Length"] == "100"
        assert response["Content-Disposition"].startswith('attachment; filename="model.txt"')
        assert response["X-Content-Type-Options"] == "nosniff" and response["Accept-Ranges"] == "bytes"
        assert content(world, **{"If-None-Match": response["ETag"]}).status_code == 304

    @pytest.mark.parametrize(
        ("header", "expected"),
        [("bytes=0-4", "bytes 0-4/100"), ("bytes=95-", "bytes 95-99/100"), ("bytes=-5", "bytes 95-99/100"),
         ("bytes=90-500", "bytes 90-99/100"), ("bytes=-500", "bytes 0-99/100")],
    )  # fmt: skip
    def test_range(self, world: World, header: str, expected: str) -> None:
        response = content(world, Range=header)
        first, last = (int(part) for part in expected.removeprefix("bytes ").split("/")[0].split("-"))
        assert response.status_code == 206 and response["Content-Range"] == expected
        assert response.getvalue() == CONTENT[first : last + 1]

    @pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=500-600"])
    def test_outside(self, world: World, header: str) -> None:
        response = content(world, Range=header)
        assert response.status_code == 416 and response["Content-Range"] == "bytes */100"

    @pytest.mark.parametrize("header", ["lines=1-2", "bytes=", "bytes=5-2", "bytes=0-1,3-4", "bytes=a-b"])
    def test_ranges_that_are_ignored(self, world: World, header: str) -> None:
        assert content(world, Range=header).status_code == 200

    def test_if_range(self, world: World) -> None:
        tag = content(world)["ETag"]
        assert content(world, Range="bytes=0-1", **{"If-Range": tag}).status_code == 206
        assert content(world, Range="bytes=0-1", **{"If-Range": '"old"'}).status_code == 200

    def test_html_is_never_a_page(self, world: World) -> None:
        shown = content(world, "outputs/page.html?download=false")
        assert shown["Content-Type"].startswith("text/plain") and "sandbox" in shown["Content-Security-Policy"]
        assert shown["Content-Disposition"].startswith("inline")
        assert content(world, "outputs/page.html")["Content-Disposition"].startswith("attachment")

    def test_names(self, world: World) -> None:
        for path in (
            "none",
            "outputs",
            "outputs/../spec.json",
            "secrets.json",
            "spec.json",
            "outputs/a/../../beat.json",
        ):
            assert content(world, path).status_code in (404, 422), path
        assert content(world, "user_logs/std_log.txt").getvalue().startswith(b"epoch 1")
        assert content(world, role="outsider").status_code == 404

    def test_list_and_zip(self, world: World) -> None:
        paths = [one["path"] for one in world.get("reader", f"/runs/{world.run.run_id}/files").json()]
        assert paths[0] == "user_logs/std_log.txt" and "outputs/deep/table.csv" in paths
        below = world.get("reader", f"/runs/{world.run.run_id}/files?prefix=outputs/deep").json()
        assert [one["path"] for one in below] == ["outputs/deep/table.csv"] and below[0]["kind"] == "csv"
        archive = world.get("reader", f"/runs/{world.run.run_id}/files/zip?prefix=outputs")
        assert "outputs/model.txt" in zipfile.ZipFile(io.BytesIO(archive.getvalue())).namelist()

    async def test_the_same_bytes_asynchronously(self, tmp_path: Path) -> None:
        path = tmp_path / "big.bin"
        path.write_bytes(bytes(range(256)) * 20_000)
        response = file_response(RequestFactory().get("/", headers={"Range": "bytes=5-4999999"}), path)
        parts = [part async for part in response]  # type: ignore[attr-defined]
        assert b"".join(parts) == path.read_bytes()[5:5_000_000] and len(parts) == 5
        response.close()

    def test_parse_range(self) -> None:
        assert parse_range("bytes=0-0", 1) == (0, 1) and parse_range("bytes=0-", 0 + 5) == (0, 5)
        with pytest.raises(ValueError, match="bytes"):
            parse_range("bytes=-5", 0)

    def test_any_name_that_a_file_can_have(self, world: World) -> None:
        for name in ("two\nlines.txt", "\u202egnp.exe", "a?b#c%d.txt"):
            (storage.unit_directory(world.run.key) / "outputs" / name).write_bytes(b"inside")
            assert content(world, f"outputs/{quote(name)}").getvalue() == b"inside"
            assert f"outputs/{name}" in {
                one["path"] for one in world.get("reader", f"/runs/{world.run.run_id}/files").json()
            }


class TestUpload:
    def put(self, world: World, data: bytes, path: str = "outputs/up.bin", **headers: str) -> Any:
        address = f"{WS}/runs/{world.run.run_id}/files/content/{path}"
        return world.clients["unit"].put(
            address, data, content_type="application/octet-stream", headers=headers or None
        )

    def test_in_chunks_that_can_be_resumed(self, world: World) -> None:
        first = self.put(world, b"01234", **{"Content-Range": "bytes 0-4/10"})
        assert first.status_code == 200 and first.json() == {"path": "outputs/up.bin", "offset": 5, "complete": False}
        assert content(world, "outputs/up.bin").status_code == 404
        asked = self.put(world, b"", **{"Content-Range": "bytes */10"})
        assert asked.status_code == 200 and asked.json()["offset"] == 5
        gap = self.put(world, b"9", **{"Content-Range": "bytes 9-9/10"})
        assert gap.status_code == 409
        last = self.put(world, b"3456789", **{"Content-Range": "bytes 3-9/10"})
        assert last.status_code == 201 and last.json()["complete"]
        assert content(world, "outputs/up.bin").getvalue() == b"0123456789"
        assert self.put(world, b"", **{"Content-Range": "bytes */10"}).json() == {
            "path": "outputs/up.bin", "offset": 10, "complete": True,
        }  # fmt: skip

    def test_whole_file_replaces(self, world: World) -> None:
        assert self.put(world, b"hello").status_code == 201
        assert self.put(world, b"").status_code == 201
        assert content(world, "outputs/up.bin").getvalue() == b""

    @pytest.mark.parametrize("header", ["bytes 0-4/3", "bytes 4-0/10", "lines 0-1/2", "bytes 0-9/10"])
    def test_ranges_that_do_not_fit(self, world: World, header: str, check_problem: Any) -> None:
        check_problem(self.put(world, b"01234", **{"Content-Range": header}), 422)

    @pytest.mark.parametrize("path", ["../up.bin", "outputs/../../x", "user_logs/x", "outputs/%00"])
    def test_paths_that_leave(self, world: World, path: str) -> None:
        before = sorted(one.name for one in storage.unit_directory(world.run.key).iterdir())
        assert self.put(world, b"x", path=path).status_code in (400, 404, 409, 422)
        assert sorted(one.name for one in storage.unit_directory(world.run.key).iterdir()) == before

    @pytest.mark.parametrize("path", ["spec.json", "code/train.py", "stdout.log"])
    def test_names_of_the_run_itself(self, world: World, path: str, check_problem: Any) -> None:
        body = check_problem(self.put(world, b"x", path=path), 422)
        assert "keeps for itself" in body["detail"]

    def test_a_file_that_is_on_the_disk_already_gets_its_name(self, world: World, tmp_path: Path) -> None:
        from runs.services.uploads import put_whole

        source = tmp_path / "source"
        source.write_bytes(b"x" * 1000)

        def link(destination: Path) -> int:
            source.rename(destination)
            return 1000

        self.put(world, b"01234", **{"Content-Range": "bytes 0-4/10"})
        assert put_whole(world.run, "outputs/up.bin", link).complete
        assert content(world, "outputs/up.bin").getvalue() == b"x" * 1000


class TestLogs:
    def logs(self, world: World, query: str = "") -> Any:
        return world.get("reader", f"/runs/{world.run.run_id}/logs{query}")

    def test_by_offset(self, world: World) -> None:
        response = self.logs(world, "?from=8&limit=7")
        assert response.content == b"epoch 2" and response["X-Atelier-Offset"] == "8"
        assert response["X-Atelier-Size"] == "26" and response["X-Atelier-Sealed"] == "false"
        assert response["X-Content-Type-Options"] == "nosniff" and "sandbox" in response["Content-Security-Policy"]
        assert self.logs(world, "?from=1000").content == b""

    def test_sealed_is_said_at_once(self, world: World) -> None:
        started = time.monotonic()
        response = world.get("reader", f"/runs/{world.ended.run_id}/logs?from=26&wait=20")
        assert response["X-Atelier-Sealed"] == "true" and time.monotonic() - started < 8

    def test_long_poll(self, world: World) -> None:
        path = storage.unit_directory(world.run.key) / "stdout.log"

        def later() -> None:
            time.sleep(0.3)
            with path.open("ab") as handle:
                handle.write(b"more\n")

        thread = threading.Thread(target=later)
        thread.start()
        started = time.monotonic()
        response = self.logs(world, "?from=26&wait=15")
        thread.join()
        assert response.content == b"more\n" and 0.2 < time.monotonic() - started < 8
        started = time.monotonic()
        assert self.logs(world, "?from=31&wait=0.3").content == b"" and time.monotonic() - started < 8

    def test_interactive_ends_with_its_run(self, world: World) -> None:
        path = f"/runs/{world.interactive.run_id}/logs?wait=5"
        Run.objects.filter(pk=world.interactive.pk).update(status="Completed")
        assert world.get("reader", path)["X-Atelier-Sealed"] == "true"

    def test_search(self, world: World, check_problem: Any) -> None:
        found = world.get("reader", f"/runs/{world.run.run_id}/logs/search?q=EPOCH").json()
        assert [(hit["line"], hit["offset"], hit["text"]) for hit in found["hits"]] == [
            (1, 0, "epoch 1"),
            (2, 8, "epoch 2"),
        ]
        check_problem(world.get("reader", f"/runs/{world.run.run_id}/logs/search?q=(&regex=true"), 422)
        check_problem(world.get("reader", f"/runs/{world.interactive.run_id}/logs/search?q=a"), 404)
