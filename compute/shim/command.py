"""The command itself: its environment, its start, and the end of what it leaves behind.

Part of the shim: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any, Dict, List, Optional

if not __package__:
    from mounts import Shield
else:
    from compute.shim.mounts import Shield

DATA_PLACES = ("inputs/", "produced/", "code/")


def marked_processes(unit: str) -> List[int]:
    """The processes that carry this unit's mark in their environment, wherever they have moved to."""
    mark = b"ATELIER_UNIT_DIR=" + os.fsencode(unit)
    own = {os.getpid(), os.getppid()}
    found: List[int] = []
    try:
        names = os.listdir("/proc")
    except OSError:
        return found
    for name in names:
        if name.isdigit() and int(name) not in own:
            with contextlib.suppress(OSError), open("/proc/%s/environ" % name, "rb") as handle:
                if mark in handle.read().split(b"\0"):
                    found.append(int(name))
    return found


def kill_rest(unit: str, group: Optional[int]) -> None:
    """End what the command left behind: its process group, and children that left the group."""
    if group:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    for _ in range(3):  # a process may fork while the list is read
        found = marked_processes(unit)
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.02)


def command_environment(spec: Dict[str, Any], secrets: Dict[str, str], unit: str) -> Dict[str, str]:
    """The command's environment: the target's, the unit's own, its secrets, and where the client library lies."""
    environment = dict(os.environ)
    python = spec.get("python")
    if python and os.path.isabs(python):  # else it is a name that is looked for on the PATH as it is
        folder = os.path.dirname(python)
        environment["PATH"] = folder + os.pathsep + environment.get("PATH", os.defpath)
        if os.path.exists(os.path.join(os.path.dirname(folder), "pyvenv.cfg")):
            environment["VIRTUAL_ENV"] = os.path.dirname(folder)
    for name, value in (spec.get("env") or {}).items():
        # Paths of inputs and outputs; the same letters in a variable of the user's own mean nothing.
        for place in DATA_PLACES:
            value = value.replace("{unit}/" + place, unit + "/" + place)
        environment[name] = value
    environment.update(secrets)
    environment["ATELIER_UNIT_DIR"] = unit
    environment["PYTHONUNBUFFERED"] = "1"
    lib = spec.get("lib")
    if lib:
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = lib + os.pathsep + before if before else lib
    return environment


def spawn(argv: List[str], environment: Dict[str, str], folder: str, output: int) -> int:
    """Start the command as the leader of a new process group; its pid. Raises OSError when it cannot be started.

    ``folder``: the unit's ``code``. What the unit mounted is read-only for the command where that may be done.
    """
    shield = Shield.of(os.path.dirname(folder))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            if shield is not None:
                shield.put_up()
            os.chdir(folder)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.execvpe(argv[0], argv, environment)
        except OSError as error:
            os.write(writer, str(error.errno).encode("ascii"))
        finally:
            os._exit(127)
    os.close(writer)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    with open(reader, "rb") as handle:
        failed = handle.read()
    if failed:
        os.waitpid(pid, 0)
        raise OSError(int(failed), os.strerror(int(failed)))
    return pid
