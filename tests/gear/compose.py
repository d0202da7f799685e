"""compose.yaml as a newcomer uses it: in a clean copy of the project, with locally made images, a project name and
volumes of its own."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx

from tests.gear.docker import SOCKET, missing, need_engine, test_image
from tests.gear.images import postgres_image, redis_image
from tests.stack import ROOT, free_port, wait_until

SERVICES = ("postgres", "redis", "web", "worker", "beat")
IMAGE = "atelier-test-studio:latest"


def compose_command() -> list[str]:
    """``docker-compose`` (Debian's package), or ``docker compose`` where only that is there."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    missing("Neither docker-compose nor `docker compose` is installed (Debian: docker-compose)")
    raise AssertionError


class Compose:
    """One stack. ``api`` is signed in as the owner once ``sign_in`` was called."""

    def __init__(self, folder: Path) -> None:
        need_engine()
        self.command = compose_command()
        self.folder = folder
        self.project = f"atelier-test-{secrets.token_hex(4)}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = httpx.Client(base_url=self.url, timeout=30)
        self._copy()
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ATELIER_", "COMPOSE_", "PYTEST_"))
        }
        self.env = {**kept, "DOCKER_HOST": f"unix://{SOCKET}", "COMPOSE_PROJECT_NAME": self.project}

    def _copy(self) -> None:
        """What a fresh clone holds."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "bench/")):
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.folder / name)

    def first_commands(self) -> str:
        """The documented first one, and what it printed; then the names of local images are added to its file."""
        told = self.shell("sh", "deploy/new-env.sh")
        settings = {
            "ATELIER_IMAGE": IMAGE,
            "ATELIER_BUILD_BASE_IMAGE": test_image(),
            "ATELIER_POSTGRES_IMAGE": postgres_image(),
            "ATELIER_REDIS_IMAGE": redis_image(),
            "ATELIER_PORT": str(self.port),
            "ATELIER_URL": self.url,
            "COMPOSE_FILE": "compose.yaml:deploy/compose.docker.yaml",
            "DOCKER_GROUP": str(Path(SOCKET).stat().st_gid),
            "ATELIER_BASE_IMAGE": test_image(),
        }
        path = self.folder / ".env"
        kept = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in settings]
        path.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in settings.items())]) + "\n")
        return told

    def shell(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False, timeout=550,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not check or done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return done.stdout + done.stderr

    def run(self, *words: str, check: bool = True) -> str:
        return self.shell(*self.command, *words, check=check)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine says of a service's containers."""
        ids = self.shell(
            "docker", "ps", "-aq", "--no-trunc", "--filter", f"label=com.docker.compose.project={self.project}",
            "--filter", f"label=com.docker.compose.service={service}",
        ).split()  # fmt: skip
        return list(json.loads(self.shell("docker", "inspect", *ids))) if ids else []

    def healthy(self, service: str, count: int = 1) -> bool:
        states = [one["State"] for one in self.containers(service)]
        return [state.get("Health", {}).get("Status") for state in states] == ["healthy"] * count

    def wait_healthy(self, **counts: int) -> None:
        try:
            for service in SERVICES:
                number = counts.get(service, 1)
                wait_until(f"{service} is healthy", lambda: self.healthy(service, number), 120, every=0.5)  # noqa: B023
        except AssertionError as error:
            words = self.run("logs", "--no-color", "--tail", "40", check=False)
            raise AssertionError(f"{error}\n{words[-6000:]}") from None

    def sign_in(self, password: str) -> None:
        """Through the form, as a person; then a token, as a script has one."""
        page = self.api.get("/account/login/")
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert found, page.text[:500]
        form = {"csrfmiddlewaretoken": found[1], "login": "owner", "password": password}
        home = self.api.post("/account/login/", data=form, headers={"Referer": self.url}, follow_redirects=True)
        assert home.url.path == "/w/main/", home.text[:2000]
        headers = {"X-CSRFToken": self.api.cookies["csrftoken"], "Referer": self.url}
        made = self.api.post("/api/v1/me/tokens", json={"name": "test"}, headers=headers)
        assert made.status_code == 201, made.text
        self.api.cookies.clear()
        self.api.headers["Authorization"] = f"Bearer {made.json()['token']}"

    # Runs.

    def submit(self, script: str, target: str = "local") -> str:
        body = {"experiment": "stack", "script": "a.py", "files": {"a.py": script}, "target": target}
        made = self.api.post("/api/v1/workspaces/main/runs", json=body)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def state(self, run_id: str) -> dict[str, Any]:
        found = self.api.get(f"/api/v1/workspaces/main/runs/{run_id}")
        assert found.status_code == 200, found.text
        return dict(found.json())

    def output(self, run_id: str) -> str:
        path = f"/api/v1/workspaces/main/runs/{run_id}/files/content/user_logs/std_log.txt"
        found = self.api.get(path)
        return found.text if found.status_code == 200 else ""

    def ended(self, run_id: str, *, timeout: float = 90) -> dict[str, Any]:
        """The run once it is over."""

        def over() -> dict[str, Any] | None:
            run = self.state(run_id)
            return run if run["status"] in {"Completed", "Failed", "Canceled"} else None

        return dict(wait_until(f"{run_id} ends", over, timeout, every=0.2))

    def _units(self) -> list[str]:
        """Containers that runs of this stack are in: they have a folder of its volume."""
        ids = self.shell("docker", "ps", "-aq", "--filter", "label=atelier.unit").split()
        found = json.loads(self.shell("docker", "inspect", *ids, check=False).partition("\nError")[0]) if ids else []
        place = f"/{self.project}_data/"
        return [one["Id"] for one in found if any(place in mount.get("Source", "") for mount in one["Mounts"])]

    def remove(self) -> None:
        """Everything of this project: containers, networks, volumes. The image stays for the next session's cache."""
        self.api.close()
        self.run("stop", "--timeout", "20", check=False)
        for container in self._units():
            self.shell("docker", "rm", "-f", container, check=False)
        self.run("down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)
