"""Builds one virtual environment. Standard library only, Python 3.8 and later; runs as a unit of kind build.

The work order is JSON in the environment variable ATELIER_BUILD:
{"directory", "uv", "python", "python_version", "packages": [...], "unavailable": [...], "label"}.
``directory`` becomes the environment; ``directory/.ready`` (JSON, written last and atomically) says that it is whole.
Safe to run again after a kill at any instant: without the marker it starts anew. A lock beside the directory keeps
two builders apart. Problems are also written to ``outputs/problems.json`` of the unit.
Exit codes: 0 ready, 2 packages cannot be had, 1 anything else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

READY = ".ready"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")
_NETWORK = re.compile(
    r"error sending request|dns error|failed to fetch|connection refused|request failed|timed? ?out", re.I
)


def say(text: str) -> None:
    print(text, flush=True)


def uv_environment() -> dict:
    """Quiet, without colour, never fetching a Python of its own, blind to the environment that we run in."""
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH", "CONDA_PREFIX")}
    env.update({"UV_NO_PROGRESS": "1", "NO_COLOR": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_HTTP_RETRIES": "3"})
    return env


def uv_compile(
    uv: str, python: str, packages: list, *, deps: bool = True, timeout: float = 300.0, options: tuple = ()
) -> tuple:
    """(pinned requirements or None, what uv said)."""
    command = [uv, "pip", "compile", "-", "--python", python, "--quiet", "--no-header", "--no-annotate"]
    command.extend(options)
    if not deps:
        command.append("--no-deps")
    try:
        done = subprocess.run(
            command,
            input="\n".join(packages) + "\n",
            capture_output=True,
            text=True,
            timeout=timeout,
            env=uv_environment(),
            cwd=tempfile.gettempdir(),
        )
    except subprocess.TimeoutExpired:
        return None, "timed out after %d s" % timeout
    if done.returncode != 0:
        return None, done.stderr.strip()
    return [line.strip() for line in done.stdout.splitlines() if line.strip()], ""


def bare_name(package: str) -> str:
    """``numpy`` of ``numpy>=1.20``."""
    found = _NAME.match(package)
    return found.group() if found else package


def explain(package: str, said: str, python_version: str) -> dict:
    """One problem in plain words: {"package", "code", "message", "hint"}."""
    name = bare_name(package)
    flat = " ".join(said.split())
    hint = ""
    if _NETWORK.search(flat) and "No solution" not in flat:
        code, message = "index-unreachable", "the package index did not answer, so it could not be looked up."
        hint = "Check the network of this machine, or the index set with UV_DEFAULT_INDEX."
    elif "not found in the package registry" in flat or "was not found in" in flat:
        code, message = "not-found", "the package index has no package of this name."
        hint = "Check the spelling; the name on PyPI can differ from the name that is imported."
    elif re.search(r"does not satisfy Python", flat):
        need = re.search(r"does not satisfy (Python[^ ]+)", flat)
        code, message = (
            "python",
            "it needs %s, and this environment has Python %s."
            % (
                need.group(1) if need else "another Python",
                python_version,
            ),
        )
        hint = "Ask for another Python, or for another version of the package."
    elif "has no wheels with a matching" in flat or "has no usable wheels" in flat:
        code, message = "no-wheel", "this version has no build for Python %s on this machine." % python_version
        hint = "Ask for another version of the package, or for another Python."
    elif (
        "there is no version of" in flat or "there are no versions of" in flat or "only the following versions" in flat
    ):
        code, message = "no-version", "no such version is published."
    elif "Failed to build" in flat or "build backend" in flat.lower():
        code, message = "no-build", "it has to be compiled, and that failed on this machine."
        hint = "Ask for a version that has a wheel for Python %s." % python_version
    else:
        code, message = "unavailable", (flat.split("cause:", 1)[-1].strip() or "it cannot be had.")[:600]
    return {"package": package, "name": name, "code": code, "message": "%s: %s" % (package, message), "hint": hint}


def resolve(
    uv: str, python: str, python_version: str, packages: list, timeout: float = 300.0, options: tuple = ()
) -> tuple:
    """(pinned requirements or None, problems). Names every package that cannot be had, not only the first.

    ``options`` are of uv: another Python or platform than ``python`` is of.
    """
    if not packages:
        return [], []
    pins, said = uv_compile(uv, python, packages, timeout=timeout, options=options)
    if pins is not None:
        return pins, []

    def one(package: str) -> tuple:
        return uv_compile(uv, python, [package], deps=False, timeout=timeout, options=options)

    with ThreadPoolExecutor(max_workers=4) as pool:
        alone = list(pool.map(one, packages))
    problems = [
        explain(package, answer[1], python_version)
        for package, answer in zip(packages, alone)  # noqa: B905 - strict came with Python 3.10
        if answer[0] is None
    ]
    for problem in problems:
        if problem["code"] in ("no-version", "no-wheel", "python"):
            newest, _said = one(problem["name"])
            if newest:
                problem["hint"] = "%s can be had for Python %s." % (newest[0].split(" ")[0], python_version)
    if not problems:
        flat = " ".join(said.split())
        code = "index-unreachable" if _NETWORK.search(flat) and "No solution" not in flat else "conflict"
        reason = flat.split("cause:", 1)[-1].strip()
        named = [package for package in packages if re.search(r"\b%s\b" % re.escape(bare_name(package)), flat)]
        what = ", ".join(named[:6]) or "the packages"
        problems = [
            {
                "package": what,
                "name": what,
                "code": code,
                "message": "%s: these cannot be had together. %s" % (what, reason[:1500]),
                "hint": "Loosen one of the versions.",
            }
        ]
    return None, problems


class Lock:
    """One builder per directory. Waits, and says so once; the kernel frees it when its holder dies."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> "Lock":
        self.handle = open(self.path, "a+")  # noqa: SIM115 - held until __exit__
        try:
            import fcntl
        except ImportError:  # not a POSIX system: the studio's own row is the only guard there
            return self
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("Another build of this environment is running; waiting for it.")
            fcntl.flock(self.handle, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_error: object) -> None:
        self.handle.close()


def write_json(path: str, value: object) -> None:
    partial = "%s.%d" % (path, os.getpid())
    with open(partial, "w", encoding="utf-8") as handle:
        json.dump(value, handle)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(partial, path)


def report(problems: list) -> None:
    """What went wrong, for the studio: the unit's outputs/problems.json."""
    os.makedirs("outputs", exist_ok=True)
    write_json(os.path.join("outputs", "problems.json"), problems)


def ready(directory: str) -> dict | None:
    """The content of the marker, None when the environment is not whole."""
    try:
        with open(os.path.join(directory, READY), encoding="utf-8") as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return None


def stream(command: list) -> tuple:
    """(exit code, last lines) of a command whose output goes into our log as it comes."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=uv_environment()
    )
    last: list[str] = []
    assert process.stdout is not None  # noqa: S101 - it was asked for
    for line in process.stdout:
        say("  " + line.rstrip())
        last = (last + [line.rstrip()])[-12:]
    return process.wait(), last


def folder_size(directory: str) -> int:
    """Bytes of all files; a file with several names counts once."""
    total, seen = 0, set()
    for folder, _names, files in os.walk(directory):
        for name in files:
            status = os.lstat(os.path.join(folder, name))
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total


def install(order: dict, directory: str, pins: list) -> list:
    """Makes the environment; the list of problems, empty when all went well."""
    uv = order["uv"]
    say("")
    say("Creating the environment with Python %s" % order["python_version"])
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    code, last = stream([uv, "venv", "--python", order["python"], "--no-project", "--quiet", directory])
    if code != 0:
        return [
            {
                "package": "",
                "code": "venv",
                "message": "Python %s could not make an environment: %s" % (order["python_version"], " ".join(last)),
                "hint": "",
            }
        ]
    if not pins:
        return []
    say("")
    say("Installing %d packages" % len(pins))
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as handle:
        handle.write("\n".join(pins) + "\n")
    interpreter = os.path.join(directory, "bin", "python")
    try:
        code, last = stream(
            [
                uv,
                "pip",
                "install",
                "--python",
                interpreter,
                "--no-deps",
                "--compile-bytecode",
                "--link-mode",
                "hardlink",
                "-r",
                handle.name,
            ]
        )
    finally:
        os.unlink(handle.name)
    if code == 0:
        return []
    said = "\n".join(last)
    named = [pin for pin in pins if re.search(r"`?%s" % re.escape(pin.split(" ")[0]), said)]
    package = named[0] if named else "the packages"
    return [explain(package, said, order["python_version"])]


def freeze(order: dict, directory: str) -> list:
    done = subprocess.run(
        [order["uv"], "pip", "freeze", "--python", os.path.join(directory, "bin", "python")],
        capture_output=True,
        text=True,
        env=uv_environment(),
        check=True,
    )
    return [line for line in done.stdout.splitlines() if line.strip()]


def fail(problems: list) -> int:
    for problem in problems:
        say("ERROR  " + problem["message"])
        if problem.get("hint"):
            say("       " + problem["hint"])
    report(problems)
    return 2


def build(order: dict) -> int:
    directory = order["directory"]
    started = time.time()
    found = ready(directory)
    if found is not None:
        say("The environment is already there: %d packages." % len(found["packages"]))
        return 0
    say("Environment %s" % (order.get("label") or os.path.basename(directory)[:12]))
    say("Python %s (%s)" % (order["python_version"], order["python"]))
    if order.get("unavailable"):
        return fail(
            [
                {
                    "package": name,
                    "code": "conda-only",
                    "message": "%s: only conda has this package." % name,
                    "hint": "Take it out of the recipe, or install it on the machine.",
                }
                for name in order["unavailable"]
            ]
        )
    say("")
    say("Resolving %d requirements" % len(order["packages"]))
    pins, problems = resolve(order["uv"], order["python"], order["python_version"], order["packages"])
    if problems:
        say("Nothing was installed, because:")
        return fail(problems)
    for pin in pins:
        say("  " + pin)
    problems = install(order, directory, pins)
    if problems:
        return fail(problems)
    packages = freeze(order, directory)
    size = folder_size(directory)
    seconds = round(time.time() - started, 3)
    marker = {
        "python": order["python_version"],
        "packages": packages,
        "size": size,
        "seconds": seconds,
        "at": time.time(),
    }
    write_json(os.path.join(directory, READY), marker)
    say("")
    say("Ready: %d packages, %.1f MB, %.1f s" % (len(packages), size / 1048576, seconds))
    return 0


def main() -> int:
    order = json.loads(os.environ["ATELIER_BUILD"])
    os.makedirs(os.path.dirname(order["directory"]), exist_ok=True)
    with Lock(order["directory"] + ".lock"):
        try:
            return build(order)
        except OSError as error:
            reason = "the disk is full" if error.errno == 28 else str(error)
            fail(
                [
                    {
                        "package": "",
                        "code": "machine",
                        "message": "The environment could not be built: %s." % reason,
                        "hint": "",
                    }
                ]
            )
            return 1


if __name__ == "__main__":
    sys.exit(main())
