"""The small files by which a unit's supervisor and everybody else know of each other.

Part of the shim: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import time
from typing import Any, Dict, Optional

RECORD_BYTES = 8192  # kept free for exit.json, so that it can be written on a full disk

Json = Dict[str, Any]


def process_start_time(pid: int) -> str:
    """Field 22 of /proc/<pid>/stat, which with the pid names a process for good; "" where there is no /proc."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as handle:
            return handle.read().rsplit(b")", 1)[1].split()[19].decode("ascii")
    except (OSError, IndexError):
        return ""


def write_json(path: str, value: Json, durable: bool = False) -> None:
    """Write a file so that a reader sees all of it or none of it."""
    temporary = path + ".tmp"
    with open(temporary, "w", encoding="utf-8") as handle:
        json.dump(value, handle)
        if durable:
            handle.flush()
            os.fsync(handle.fileno())
    os.replace(temporary, path)
    if durable:
        sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot
    finally:
        os.close(descriptor)


def read_json(path: str) -> Optional[Json]:
    """The file's content, or None when it is not there or not whole."""
    try:
        with open(path, encoding="utf-8") as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return None


def reserve_record(unit: str) -> None:
    """Take the space of the exit record while there is some."""
    with contextlib.suppress(OSError), open(os.path.join(unit, "exit.json.tmp"), "wb") as handle:
        try:
            os.posix_fallocate(handle.fileno(), 0, RECORD_BYTES)  # at once, whatever else the disk has to do
        except OSError:
            handle.write(b" " * RECORD_BYTES)
            handle.flush()
            os.fsync(handle.fileno())


def write_record(unit: str, record: Json) -> None:
    """Write exit.json once, atomically, into the space that was reserved for it."""
    path = os.path.join(unit, "exit.json")
    if os.path.exists(path):
        return
    data = json.dumps(record).encode("utf-8")
    temporary = path + ".tmp"
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    sync_folder(unit)


def memory_kills(root: str = "/sys/fs/cgroup") -> Optional[int]:
    """How many processes of this container the kernel has killed for want of memory; None where it does not say."""
    for path in ("memory.events", "memory/memory.oom_control"):  # cgroup 2 and 1
        try:
            with open(os.path.join(root, path), encoding="ascii") as handle:
                for line in handle:
                    name, _space, number = line.partition(" ")
                    if name == "oom_kill":
                        return int(number)
        except (OSError, ValueError):
            continue
    return None


def describe(code: Optional[int], number: Optional[int]) -> str:
    """An exit in words for a person."""
    if number is None:
        return "The command ended with exit code %s." % code
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "signal %d" % number
    hint = " The machine may have run out of memory." if number == signal.SIGKILL else ""
    return "The command was ended by %s.%s" % (name, hint)


def start_failure(program: str, error: OSError) -> str:
    """Why a command could not be started, in words for a person."""
    if error.errno == errno.ENOENT:
        return "%s could not be started: it was not found on the target." % program
    if error.errno == errno.EACCES:
        return "%s could not be started: the file may not be executed." % program
    if error.errno == errno.ENOEXEC:
        return "%s could not be started: it is no program, and has no first line like #!/bin/sh." % program
    return "%s could not be started: %s." % (program, error.strerror)


def failure_record(reason: str, message: str, attempt: int = 1) -> Json:
    now = time.time()
    record = {"code": None, "signal": None, "started": None, "ended": now, "reason": reason, "message": message}
    record["attempt"] = attempt
    return record
