"""The Python interpreters of this machine, and which of them a recipe gets."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from studio.lib.errors import Invalid

# The client library and the shim need it; environments below it could not report to the studio.
OLDEST = Version("3.8")
_FOUND_FOR_S = 300.0
_PROBE = (
    "import sys;print('%d.%d.%d'%sys.version_info[:3]);"
    "print(getattr(sys,'_base_executable',None) or sys.executable);import ssl,venv"
)

_lock = threading.Lock()
_found: tuple[float, list[tuple[str, str]]] | None = None


def _candidates() -> list[Path]:
    """Files that may be interpreters: the PATH's, pyenv's, uv's and this process's own."""
    own = getattr(sys, "_base_executable", None) or sys.executable
    paths = [Path(own)]
    name = re.compile(r"^python3(\.\d+)?$")
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        # Shims choose by the folder they are called in; what they would choose is found below.
        if folder and not folder.rstrip("/").endswith("shims") and Path(folder).is_dir():
            paths += [entry for entry in sorted(Path(folder).iterdir()) if name.match(entry.name)]
    home = Path.home()
    roots = [
        Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions",
        Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python"),
        Path("/opt/python"),
    ]
    for root in roots:
        paths += sorted(root.glob("*/bin/python3")) if root.is_dir() else []
    return paths


def _probe(path: Path) -> tuple[str, str] | None:
    """(version, path) of an interpreter that starts and has what a venv needs; of a venv's, the one below it."""
    try:
        done = subprocess.run([str(path), "-I", "-c", _PROBE], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.split()
    if done.returncode != 0 or len(lines) < 2:
        return None
    return lines[0], lines[1]


def local_pythons(*, refresh: bool = False) -> list[tuple[str, str]]:
    """(version, path) of every usable interpreter, newest first. Starts each of them once every five minutes."""
    global _found
    with _lock:
        if _found is None or refresh or time.monotonic() - _found[0] > _FOUND_FOR_S:
            real = list(dict.fromkeys(Path(os.path.realpath(path)) for path in _candidates()))
            with ThreadPoolExecutor(max_workers=4) as pool:
                seen = dict.fromkeys(result for result in pool.map(_probe, real) if result)
            usable = [entry for entry in seen if Version(entry[0]) >= OLDEST]
            by_version: dict[str, tuple[str, str]] = {}
            for entry in usable:
                by_version.setdefault(entry[0], entry)
            _found = (time.monotonic(), sorted(by_version.values(), key=lambda entry: Version(entry[0]), reverse=True))
        return list(_found[1])


@functools.lru_cache(maxsize=256)
def parse_wanted(requested: str) -> tuple[tuple[int, ...] | None, SpecifierSet | None]:
    """``3.6.2`` as numbers, or a range as a SpecifierSet. Raises Invalid."""
    text = requested.strip()
    single = re.match(r"^(?:==?)?(\d+(?:\.\d+){0,2})(?:\.\*)?$", text)
    if single:
        return tuple(int(part) for part in single.group(1).split(".")), None
    try:
        return None, SpecifierSet(text)
    except InvalidSpecifier:
        raise Invalid(
            f"{requested!r} is not a Python version. Write 3.11, 3.11.4 or >=3.9,<3.12.", field="python"
        ) from None


def _distance(version: str, numbers: tuple[int, ...]) -> tuple[int, int, int]:
    have = Version(version)
    wanted = (*numbers, *(0,) * (3 - len(numbers)))
    minor = abs(have.major - wanted[0]) * 100 + (abs(have.minor - wanted[1]) if len(numbers) > 1 else 0)
    # The same series first; then, of two equally far, the newer; then the patch level: newer ones only mend.
    return minor, -have.minor, -have.micro


def _fits(version: str, numbers: tuple[int, ...] | None, wanted: SpecifierSet | None) -> bool:
    have = Version(version)
    if numbers is not None:
        return have.release[: len(numbers)] == numbers
    return wanted is not None and wanted.contains(have, prereleases=True)


def choose_python(requested: str | None, strict: bool) -> tuple[str, str, str | None]:
    """(version, path, warning or None) of the interpreter for ``requested``; None asks for the studio's own series.

    Raises Invalid when ``strict`` and there is none that fits, naming what this machine has.
    """
    found = local_pythons()
    if not found:
        raise Invalid("No usable Python was found on this machine. Install Python 3.8 or later.", field="python")
    if not requested:
        own = tuple(sys.version_info[:2])
        return (*min(found, key=lambda entry: _distance(entry[0], own)), None)
    numbers, wanted = parse_wanted(requested)
    fitting = [entry for entry in found if _fits(entry[0], numbers, wanted)]
    if fitting:
        return (*fitting[0], None)
    have = ", ".join(version for version, _path in found)
    if strict:
        raise Invalid(
            f"The recipe asks for Python {requested}, and this machine has {have}. Install it, ask for one of these, "
            "or allow the nearest one by turning strict off.",
            field="python",
        )
    if numbers is None:
        numbers = _lower_bound(wanted)
    version, path = min(found, key=lambda entry: _distance(entry[0], numbers))
    return (
        version,
        path,
        f"The recipe asks for Python {requested}; this machine has {have}, so it runs on Python {version}.",
    )


def _lower_bound(wanted: SpecifierSet | None) -> tuple[int, ...]:
    """A version that a range which nothing fits speaks of, to measure the distance from."""
    versions = [Version(spec.version.removesuffix(".*")) for spec in wanted or ()]
    return min(versions).release[:2] if versions else tuple(sys.version_info[:2])
