"""The supervisor of one unit of work: ``python supervisor.py <unit directory>``.

Standard library only, Python 3.8 and later, nothing of the studio: it is copied to wherever units run, with the
files in FILES beside it.

Three processes. The launcher takes the unit's lock, starts the others and returns as soon as the first beat is on
disk. The supervisor runs the command in a process group of its own, copies its output into ``stdout.log``, watches
the clock and ``cancel.json``, beats, and writes ``exit.json`` once. The guard only waits for the supervisor: should it
die, the guard ends the command and writes the exit record in its place. None of them needs the studio to be there.

``python supervisor.py --foreground <unit directory>`` is the supervisor alone, as the first process of a container:
it stays until the command's end, takes in orphans, and leaves with 0 once the exit record is written. Whoever watches
the container is its guard.

Reads ``spec.json`` (argv, env, python, lib, time_limit_s, grace_s, restart, attempt) and ``secrets.json`` (environment
variables that are secret; removed once read). A unit whose ``beat.json`` exists was started and is never started again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time

if not __package__:  # run as a script, from wherever it was copied to together with the files beside it
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from command import kill_rest
    from loop import supervise
    from records import failure_record, read_json, write_record
else:
    from compute.shim.command import kill_rest
    from compute.shim.loop import supervise
    from compute.shim.records import failure_record, read_json, write_record

FILES = ("supervisor.py", "loop.py", "command.py", "mounts.py", "output.py", "records.py")

RC_BUSY = 3  # another launcher or supervisor holds the lock
RC_STARTED = 4  # this unit was started before


def guard(unit: str, supervisor: int) -> None:
    """Wait for the supervisor; if it was killed, end its command and write the exit record in its place."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.waitpid(supervisor, 0)
    if os.path.exists(os.path.join(unit, "exit.json")):
        return
    beat = read_json(os.path.join(unit, "beat.json")) or {}
    kill_rest(unit, beat.get("child"))
    message = "The supervisor of this run was killed, so the run was ended. The machine may have run out of memory."
    record = failure_record("supervisor-killed", message, beat.get("attempt", 1))
    record["started"] = beat.get("started")
    write_record(unit, record)


def detach(unit: str, ready: int) -> None:
    """Leave the launcher's session; become the guard, with the supervisor as its child."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    os.chdir(unit)
    supervisor = os.fork()
    if supervisor == 0:
        try:
            supervise(unit, ready)
        except BaseException as error:  # noqa: BLE001 - told to the launcher, which tells the driver
            with contextlib.suppress(OSError):
                os.write(ready, ("%s: %s" % (type(error).__name__, error)).encode("utf-8", "replace"))
            os._exit(1)
        os._exit(0)
    os.close(ready)
    guard(unit, supervisor)


def take(lock: int) -> bool:
    """Lock the unit. Somebody who only looks holds it for an instant, so a few tries are made."""
    for _ in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.02)
    return False


def claim(unit: str) -> int:
    """0 when the unit is ours to start: locked until this process and those that it forks have ended, and never
    started before."""
    lock = os.open(os.path.join(unit, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    if not take(lock):
        return RC_BUSY
    for name in ("beat.json", "exit.json"):
        if os.path.exists(os.path.join(unit, name)):
            return RC_STARTED
    return 0


def foreground(unit: str) -> int:
    """Run the unit here, to its end, unless it was started before."""
    try:
        refused = claim(unit)
        if refused:
            return refused
        os.chdir(unit)
        supervise(unit)
    except OSError as error:
        sys.stderr.write("The unit's folder %s cannot be used: %s\n" % (unit, error))
        return 1
    return 0


def launch(unit: str) -> int:
    """Start the unit unless it was started before. Returns when its first beat is on disk."""
    refused = claim(unit)
    if refused:
        return refused
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        try:
            detach(unit, writer)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as handle:
        answer = handle.read()
    if answer == b"ok":
        return 0
    sys.stderr.write(answer.decode("utf-8", "replace") or "the supervisor ended before its first beat")
    return 1


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--foreground"]
    if len(words) != 1:
        sys.stderr.write("usage: supervisor.py [--foreground] <unit directory>\n")
        sys.exit(2)
    sys.exit((foreground if "--foreground" in sys.argv else launch)(os.path.realpath(words[0])))
