"""This machine: units are processes of their own session that outlive the worker that started them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.utils.translation import gettext, gettext_lazy

from compute.client_library import client_library
from compute.drivers.base import NotFound, Refused, Unreachable
from compute.drivers.unit_folder import lay_out, read_json, stream_sizes, write_atomic
from compute.installation import installation_id
from compute.shim import supervisor
from compute.shim.command import kill_rest
from compute.spec import Capacity, FormField, Handle, Observation, Owned, Phase, Problem, UnitSpec
from studio.lib import storage

LAUNCH_TIMEOUT_S = 30.0
LOW_DISK_BYTES = 1 << 30

# What a unit gets of the worker's environment. Everything else stays here: the studio's own settings hold secrets.
PASSED = frozenset(
    """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR LD_LIBRARY_PATH JAVA_HOME SPARK_HOME HADOOP_HOME
    HADOOP_CONF_DIR HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy REQUESTS_CA_BUNDLE
    CURL_CA_BUNDLE XDG_CACHE_HOME
    """.split()  # noqa: SIM905 - a list of words reads better as words
)
PASSED_PREFIXES = ("LC_", "CUDA", "NVIDIA_", "OMP_", "MKL_", "OPENBLAS_", "PIP_", "UV_", "SSL_CERT_", "PYENV_")


def base_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in PASSED or name.startswith(PASSED_PREFIXES)}


def machine_python() -> str:
    """This machine's Python, not the studio's own virtual environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in (version, "python3"):
        binary = Path(sys.base_exec_prefix) / "bin" / name
        if os.access(binary, os.X_OK):
            return str(binary)
    return sys.executable


def alive(pid: int, start_time: str) -> bool:
    """Whether this very process still runs; a later process with the same number is told apart by its start."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return not start_time
    if not start_time:
        return True
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()
        return fields[0] not in (b"Z", b"X") and fields[19].decode("ascii") == start_time
    return False


def locked(folder: Path) -> bool:
    """Whether a supervisor, or the guard that tidies up after one, still holds the unit."""
    try:
        with (folder / "lock").open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


class LocalDriver:
    """Runs units as processes of the user that the studio runs as."""

    name: ClassVar[str] = "local"
    title: ClassVar[Any] = gettext_lazy("This machine")
    summary: ClassVar[Any] = gettext_lazy("Runs are processes on the machine that Atelier runs on.")
    containers: ClassVar[bool] = False
    shared: ClassVar[bool] = True
    checks: ClassVar[Sequence[tuple[str, Any]]] = (
        ("data-folder", gettext_lazy("The data folder can be written")),
        ("disk", gettext_lazy("Room on the disk")),
    )
    fields: ClassVar[Sequence[FormField]] = (
        FormField(
            name="slots",
            label=gettext_lazy("Runs at the same time"),  # type: ignore[arg-type]  # lazy
            kind="number",
            help=gettext_lazy("Empty: one per processor, shared with the other workspaces."),  # type: ignore[arg-type]  # lazy
            minimum=1,
            maximum=1024,
        ),
    )

    def __init__(self, config: dict[str, Any], secrets: dict[str, str]) -> None:
        self.config = config

    # Places.

    @staticmethod
    def _folder(key: str) -> Path:
        return storage.unit_directory(key)

    @staticmethod
    def _marker(key: str) -> Path:
        """A file per unit that was started and not released: the list of what bears this installation's id."""
        return storage.data("units", "started", key)

    # The protocol.

    def check(self) -> list[Problem]:
        problems = []
        root = storage.data("units")
        try:
            root.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(root).free
        except OSError as error:
            return [
                Problem(
                    "data-folder",
                    gettext("The data folder cannot be written: %(error)s.") % {"error": error.strerror},
                    gettext("Give the user that runs Atelier the right to write there, or set ATELIER_DATA."),
                )
            ]
        if not os.access(root, os.W_OK):
            problems.append(Problem("data-folder", gettext("The data folder cannot be written."), "ATELIER_DATA"))
        if free < LOW_DISK_BYTES:
            problems.append(
                Problem(
                    "disk",
                    gettext("Only %(free)d MB of disk are free.") % {"free": free >> 20},
                    gettext("Delete runs that are not needed any more, or move ATELIER_DATA to a larger disk."),
                )
            )
        return problems

    def facts(self) -> dict[str, Any]:
        usage = shutil.disk_usage(storage.data())
        pages = (
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in os.sysconf_names else None
        )
        return {
            "system": platform.platform(terse=True),
            "architecture": platform.machine(),
            "cpus": os.cpu_count(),
            "memory_bytes": pages,
            "disk_free_bytes": usage.free,
        }

    def slots(self) -> int | None:
        return int(self.config.get("slots") or settings.ATELIER_LOCAL_SLOTS or os.cpu_count() or 1)

    def capacity(self) -> Capacity:
        return Capacity(total=self.slots(), used=sum(not self._ended(item.key) for item in self.list_owned()))

    def prepare(self, spec: UnitSpec) -> None:
        try:
            lay_out(self._folder(spec.key), replace(spec, python=spec.python or machine_python()), client_library())
        except FileNotFoundError as error:
            raise Refused(gettext("A file of the run is gone: %(name)s") % {"name": error.filename}) from error
        except OSError as error:
            raise Unreachable(gettext("The unit's folder cannot be written: %(error)s") % {"error": error}) from error

    def submit(self, spec: UnitSpec) -> Handle:
        found = self.find(spec.key)
        if found is not None:
            return found
        folder = self._folder(spec.key)
        self.prepare(spec)
        try:
            self._marker(spec.key).parent.mkdir(parents=True, exist_ok=True)
            self._marker(spec.key).write_text(spec.installation or installation_id(), encoding="ascii")
            write_atomic(folder / "secrets.json", spec.secret_env)
        except OSError as error:
            raise Unreachable(str(error)) from error
        self._launch(folder)
        handle = self._wait_started(spec.key)
        if handle is None:
            raise Unreachable(gettext("The supervisor did not answer in time."))
        return handle

    def _launch(self, folder: Path) -> None:
        command = [sys.executable, "-I", "-S", supervisor.__file__, str(folder)]
        try:
            done = subprocess.run(
                command,
                env=base_environment(),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=LAUNCH_TIMEOUT_S,
                start_new_session=True,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreachable(str(error)) from error
        if done.returncode not in (0, supervisor.RC_BUSY, supervisor.RC_STARTED):
            raise Unreachable(done.stderr.decode("utf-8", "replace").strip()[-500:])

    def _wait_started(self, key: str) -> Handle | None:
        """The handle once the first beat is there; another launcher may be half-way."""
        end = time.monotonic() + LAUNCH_TIMEOUT_S
        while time.monotonic() < end:
            handle = self.find(key)
            if handle is not None or not locked(self._folder(key)):
                return handle or self.find(key)
            time.sleep(0.01)
        return None

    def find(self, key: str) -> Handle | None:
        folder = self._folder(key)
        beat = read_json(folder / "beat.json")
        if beat is not None:
            return Handle(key, {"pid": beat.get("pid"), "start_time": beat.get("start_time", "")})
        return Handle(key) if (folder / "exit.json").exists() else None

    def list_owned(self) -> Iterable[Owned]:
        own = installation_id()
        for marker in storage.data("units", "started").glob("*"):
            with contextlib.suppress(OSError):
                if marker.read_text(encoding="ascii").strip() == own:
                    yield Owned(marker.name, Handle(marker.name), marker.stat().st_mtime)

    def _ended(self, key: str) -> bool:
        folder = self._folder(key)
        return (folder / "exit.json").exists() or not locked(folder)

    def observe(self, handles: Sequence[Handle]) -> dict[str, Observation]:
        return {handle.key: self._observe(handle) for handle in handles}

    def _observe(self, handle: Handle) -> Observation:
        folder = self._folder(handle.key)
        sizes = stream_sizes(folder)
        beat = read_json(folder / "beat.json")
        started = beat.get("started") if beat is not None else None
        living = beat is not None and alive(int(beat["pid"]), beat.get("start_time", ""))
        held = living or locked(folder)
        # Looked for last: a record is written before its writer lets go, so without one nobody is left to write it.
        if (folder / "exit.json").exists():
            phase = Phase.EXITED
        elif held:
            phase = Phase.RUNNING if living or beat is not None else Phase.PENDING
        else:
            phase = Phase.GONE
        if phase is not Phase.EXITED:
            return Observation(phase, None, sizes, started)
        sizes = stream_sizes(folder)
        record = read_json(folder / "exit.json") or {"reason": "unreadable", "code": None, "signal": None}
        return Observation(Phase.EXITED, record, sizes, record.get("started"))

    def read(self, handle: Handle, path: str, offset: int, limit: int) -> bytes:
        try:
            with storage.safe_join(self._folder(handle.key), path).open("rb") as reader:
                reader.seek(offset)
                return reader.read(limit)
        except FileNotFoundError:
            raise NotFound(path) from None
        except OSError as error:
            raise Unreachable(str(error)) from error

    def fetch(self, handle: Handle, *, final: bool = False) -> bool:
        return True

    def cancel(self, handle: Handle, grace_s: float) -> None:
        folder = self._folder(handle.key)
        if not folder.is_dir() or (folder / "exit.json").exists():
            return
        try:
            write_atomic(folder / "cancel.json", {"grace_s": grace_s})
        except OSError as error:
            raise Unreachable(str(error)) from error
        beat = read_json(folder / "beat.json")
        if beat is not None and alive(int(beat["pid"]), beat.get("start_time", "")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(beat["pid"]), signal.SIGTERM)

    def diagnose(self, handle: Handle) -> str:
        folder = self._folder(handle.key)
        exit_record = read_json(folder / "exit.json")
        if exit_record is not None:
            return str(exit_record.get("message", ""))
        if not folder.is_dir():
            return gettext("The run's folder is gone from the data folder.")
        if (folder / "beat.json").exists():
            return gettext(
                "The run's supervisor ended without an exit record: the machine was restarted, or everything of the "
                "run was killed at once."
            )
        return gettext("The run was never started on this machine.")

    def release(self, handle: Handle) -> None:
        folder = self._folder(handle.key)
        if not (folder / "exit.json").exists():
            # Nobody is left to end what the command started.
            beat = read_json(folder / "beat.json")
            if beat is not None and not locked(folder):
                kill_rest(str(folder), None)
        for leftover in (folder / "secrets.json", self._marker(handle.key)):
            leftover.unlink(missing_ok=True)
