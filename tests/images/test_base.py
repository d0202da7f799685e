"""The base image that is shipped can be built: its arguments, its parts, its user."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import tarfile
import threading
import uuid
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

from compute.images import dockerfile, probe

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "images" / "base" / "Dockerfile"


def test_it_starts_from_a_public_python() -> None:
    text = SHIPPED.read_text()
    assert [one.name for one in dockerfile.read(text)][:3] == ["ARG", "ARG", "FROM"]
    assert "USER root" not in text


@pytest.mark.services
@pytest.mark.timeout(600)
def test_it_is_built_with_micromamba_from_a_mirror(engine: docker.APIClient, base_image: str, tmp_path: Path) -> None:
    program = b'#!/bin/sh\n[ "$1" = --version ] && echo 2.0.0\n'
    with tarfile.open(tmp_path / "latest", "w:bz2") as archive:
        entry = tarfile.TarInfo("bin/micromamba")
        entry.size = len(program)
        archive.addfile(entry, io.BytesIO(program))
    (tmp_path / "linux-64").mkdir()
    (tmp_path / "latest").rename(tmp_path / "linux-64" / "latest")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tag = f"atelier-test-shipped:{uuid.uuid4().hex[:8]}"
    try:
        said = list(
            engine.build(
                fileobj=io.BytesIO(SHIPPED.read_bytes()),
                tag=tag,
                rm=True,
                forcerm=True,
                decode=True,
                network_mode="host",
                buildargs={
                    "PYTHON_IMAGE": base_image,
                    "PACKAGES": "",
                    "MICROMAMBA_URL": f"http://127.0.0.1:{server.server_port}",
                },
            )
        )
        assert not any("error" in one for one in said), said
        found = probe.look(engine, tag)
        assert found.micromamba == "/usr/local/bin/micromamba" and found.python
    finally:
        server.shutdown()
        server.server_close()
        with contextlib.suppress(DockerException):
            engine.remove_image(tag, force=True)
