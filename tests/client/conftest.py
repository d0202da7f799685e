"""The client under test is the one in this tree, as a user's process sees it: its folder on the path, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.gear.fixtures import azurite, s3_server  # noqa: F401 - fixtures of tests here

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "client" / "src"

sys.path.insert(0, str(SOURCE))


@pytest.fixture(autouse=True)
def _nobody_signed_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No run, no studio and no sign-in of the machine leaks into a test."""
    for name in list(os.environ):
        if name.startswith("AZUREML_") or name in ("ATELIER_ENDPOINT", "ATELIER_TOKEN", "ATELIER_UNIT_DIR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    import atelier.run

    atelier.run._context = None
    yield
    atelier.run._context = None


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A unit's directory, as the shim leaves it to the command."""
    folder = tmp_path / "unit"
    for name in ("code", "outputs", "logs", "artifacts"):
        (folder / name).mkdir(parents=True)
    monkeypatch.setenv("ATELIER_UNIT_DIR", str(folder))
    monkeypatch.setenv("AZUREML_RUN_ID", "iris_1_0a")
    monkeypatch.setenv("AZUREML_ARM_PROJECT_NAME", "iris")
    monkeypatch.setenv("AZUREML_ARM_WORKSPACE_NAME", "main")
    monkeypatch.setenv("AZUREML_SERVICE_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    return folder


@dataclass
class Script:
    """Runs Python as a user does: another process, this tree's client on its path."""

    env: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, *arguments: str, cwd: Path | None = None, code: int | None = 0, stdin: str = "", timeout: float = 180
    ) -> subprocess.CompletedProcess[str]:
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "ATELIER_HOME")}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env={**keep, "PYTHONPATH": str(SOURCE), **self.env},
            capture_output=True,
            text=True,
            input=stdin,
            timeout=timeout,
        )
        if code is not None and done.returncode != code:
            raise AssertionError(f"exit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done


@pytest.fixture
def script() -> Script:
    return Script()
