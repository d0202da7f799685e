"""Orders for the program that builds images, run as the studio runs it, against the real engine. What is made is
labelled with an installation of the tests' own and removed again."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from compute.environments import content_hash, recipe_from_dict
from compute.resolving import uv_binary
from tests.compute.conftest import drive, published  # noqa: F401 - fixtures
from tests.gear.docker import SOCKET, clean, need_engine, test_image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.APIClient]:
    need_engine()
    client = docker.APIClient(base_url=f"unix://{SOCKET}", version="auto", timeout=300)
    yield client
    client.close()


@pytest.fixture(scope="session")
def base_image(engine: docker.APIClient) -> Iterator[str]:
    """A base of this session's own: what is made from it was made by these tests, whatever the engine has of others."""
    nonce = uuid.uuid4().hex
    tag = f"atelier-test-own:{nonce[:12]}"
    text = f"FROM {test_image()}\nLABEL atelier.test={nonce}\n"
    list(engine.build(fileobj=io.BytesIO(text.encode()), tag=tag, rm=True, forcerm=True))
    yield tag
    with contextlib.suppress(DockerException):  # an image that was made from it may still be there
        engine.remove_image(tag, force=True)


@pytest.fixture(scope="session")
def installation(engine: docker.APIClient) -> Iterator[str]:
    """The installation that images of this test session belong to; they are removed at its end."""
    own = f"test-{uuid.uuid4().hex[:16]}"
    yield own
    clean(own)


@dataclass
class Done:
    """How a job ended: its exit code, its log, its result or its problems."""

    code: int
    log: str
    result: dict[str, Any] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)


class Job:
    """One run of the program in a folder of its own."""

    def __init__(self, folder: Path, order: dict[str, Any], environ: dict[str, str], secrets: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "order.json").write_text(json.dumps(order))
        given = {**os.environ, "PYTHONPATH": str(ROOT), "ATELIER_DATA": str(folder / "data"), **environ}
        given.update({name: json.dumps(value) for name, value in secrets.items()})
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "compute.images.job"],
            cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def finish(self) -> Done:
        said = self.process.communicate(timeout=280)[0]
        return Done(self.process.returncode, said, self._json("image.json", {}), self._json("problems.json", []))

    def _json(self, name: str, empty: Any) -> Any:
        path = self.folder / "outputs" / name
        return json.loads(path.read_text()) if path.exists() else empty


@pytest.fixture
def start(tmp_path: Path, base_image: str, installation: str) -> Iterator[Callable[..., Job]]:
    """Starts the program for a recipe: ``start(packages=[...])``, ``start(dockerfile=...)``."""
    jobs: list[Job] = []

    def begin(
        *, options: dict[str, Any] | None = None, environ: dict[str, str] | None = None,
        registries: list[dict[str, Any]] | None = None, secrets: dict[str, str] | None = None, **recipe: Any,
    ) -> Job:  # fmt: skip
        if recipe.get("dockerfile"):
            recipe["kind"] = "dockerfile"
        read = recipe_from_dict(recipe)
        order = {
            "mode": "environment",
            "label": "mine:1",
            "recipe": read.to_dict(),
            "content_hash": content_hash(read),
            "base_image": "" if read.dockerfile else read.base_image or base_image,
            "strict": read.strict,
            "fresh": False,
            "installation": installation,
            "uv": uv_binary(),
            "access": {"kind": "docker", "config": {}},
            "push_to": "",
            "settings": {"ATELIER_DOCKER_SOCKET": SOCKET},
            **(options or {}),
        }
        folder = tmp_path / f"unit-{len(jobs)}"
        job = Job(
            folder, order, environ or {}, {"ATELIER_ENGINE": secrets or {}, "ATELIER_REGISTRIES": registries or []}
        )
        jobs.append(job)
        return job

    yield begin
    for job in jobs:
        if job.process.poll() is None:
            job.process.kill()
        if job.process.stdout is not None:
            job.process.stdout.close()
        job.process.wait()


@pytest.fixture
def build(start: Callable[..., Job]) -> Callable[..., Done]:
    """``start`` to its end."""
    return lambda **given: start(**given).finish()


@pytest.fixture
def layers(engine: docker.APIClient) -> Callable[[str], list[str]]:
    """The layers of an image, lowest first."""
    return lambda image: list(engine.inspect_image(image)["RootFS"]["Layers"])


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_words: Any) -> None: ...


class Index:
    """A package index of this machine: wheels of a few bytes that need each other as a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        handler = functools.partial(_Quiet, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def environ(self) -> dict[str, str]:
        """What tells the studio to use this index and no other."""
        address = f"http://someone:secret-of-index@127.0.0.1:{self.server.server_port}/simple/"
        return {
            "UV_DEFAULT_INDEX": address,
            "UV_NO_CACHE": "1",
            "UV_INSECURE_HOST": "127.0.0.1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": "",
            "PIP_EXTRA_INDEX_URL": "",
        }

    def add(self, name: str, version: str, *needs: str) -> None:
        folder = self.folder / "simple" / name
        folder.mkdir(parents=True, exist_ok=True)
        wheel = folder / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
        metadata += [f"Requires-Dist: {need}" for need in needs]
        files = {
            f"{name}/__init__.py": f"version = {version!r}\n",
            f"{info}/METADATA": "\n".join(metadata) + "\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, text in {**files, f"{info}/RECORD": record}.items():
                archive.writestr(path, text)
        links = "".join(f'<a href="{one.name}">{one.name}</a>\n' for one in sorted(folder.glob("*.[wt]*")))
        (folder / "index.html").write_text(f"<html><body>{links}</body></html>")

    def add_source(self, name: str, version: str, setup: str) -> None:
        """A package that has to be built, by ``setup``."""
        import io
        import tarfile

        folder = self.folder / "simple" / name
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
            info = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n"
            for path, text in {"setup.py": setup, "PKG-INFO": info}.items():
                entry = tarfile.TarInfo(f"{name}-{version}/{path}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        (folder / "index.html").write_text(f'<html><body><a href="{name}-{version}.tar.gz">x</a></body></html>')

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    made = Index(tmp_path / "index")
    yield made
    made.close()
