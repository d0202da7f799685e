"""The supervisor's own process: one unit's command from its start to its exit record.

Part of the shim: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import time
from typing import Any, List, Optional, Tuple

if not __package__:
    from command import command_environment, kill_rest, spawn
    from output import Log, Scrubber
    from records import (
        describe,
        failure_record,
        memory_kills,
        process_start_time,
        read_json,
        reserve_record,
        start_failure,
        write_json,
        write_record,
    )
else:
    from compute.shim.command import command_environment, kill_rest, spawn
    from compute.shim.output import Log, Scrubber
    from compute.shim.records import (
        describe,
        failure_record,
        memory_kills,
        process_start_time,
        read_json,
        reserve_record,
        start_failure,
        write_json,
        write_record,
    )

BEAT_S = 2.0
CHECK_S = 1.0  # how often cancel.json is looked for when nobody signals
LOOK_S = 0.25  # how often everything is looked at while output keeps coming
CHUNK = 65536
DISK_FULL_PATIENCE_S = 120.0
DRAIN_S = 0.5  # how long output is waited for after the command has ended and its children are gone
BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
HEALTHY_S = 60.0  # a service that lived this long starts its backoff afresh


class Supervisor:
    """Runs one unit's command to its end. One thread, one loop over output, signals and the clock."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.spec = read_json(os.path.join(unit, "spec.json")) or {}
        secrets_path = os.path.join(unit, "secrets.json")
        self.secrets = read_json(secrets_path) or {}
        self.environment = command_environment(self.spec, self.secrets, unit)
        self.start_time = process_start_time(os.getpid())
        self.attempt = self.spec.get("attempt", 1)
        self.child: Optional[int] = None
        self.status: Optional[int] = None
        self.restarts = 0
        self.first = os.getpid() == 1  # of a container: orphans are ours, and so is what the kernel kills
        self.started: Optional[float] = None
        self.began = 0.0  # monotonic start of the present command
        self.stopping: Optional[str] = None  # reason, once the command was asked to end
        self.message = ""
        self.kill_at: Optional[float] = None
        self.terminated = False
        self.wakeup = -1
        self.last_beat = self.last_look = 0.0
        self.log = Log(os.path.join(unit, "stdout.log"), Scrubber(self.secrets.values()))
        # The engine keeps by itself that a container was started, whatever happens to its machine.
        self.beat(durable=not self.first)
        with contextlib.suppress(OSError):
            os.unlink(secrets_path)

    def beat(self, durable: Optional[bool] = None) -> None:
        self.last_beat = time.monotonic()
        record = {
            "pid": os.getpid(),
            "start_time": self.start_time,
            "child": self.child,
            "at": time.time(),
            "attempt": self.attempt,
            "started": self.started,
            "restarts": self.restarts,
        }
        try:
            write_json(os.path.join(self.unit, "beat.json"), record, bool(durable))
        except OSError:
            if durable is not None:  # the first one
                raise

    def listen(self) -> None:
        """Turn signals into bytes that the loop reads."""
        reader, writer = os.pipe()
        for descriptor in (reader, writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        self.wakeup = reader

    def _on_terminate(self, number: int, frame: Any) -> None:
        self.terminated = True

    def stop(self, reason: str, message: str, grace: float) -> None:
        """Ask the command to end: SIGTERM to its group now, SIGKILL after the grace. A shorter grace wins."""
        first = self.stopping is None
        if first:
            self.stopping, self.message = reason, message
        kill_at = time.monotonic() + max(0.0, grace)
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)
        if first and self.child:
            with contextlib.suppress(OSError):
                os.killpg(self.child, signal.SIGTERM)

    def look(self) -> None:
        """Look at everything that can end the command, and beat when it is time."""
        now = self.last_look = time.monotonic()
        grace = float(self.spec.get("grace_s", 30.0))
        cancel = read_json(os.path.join(self.unit, "cancel.json"))
        if cancel is not None:
            self.stop("canceled", "Canceled.", float(cancel.get("grace_s", grace)))
        elif self.terminated and self.stopping is None:
            self.stop("terminated", "The machine told the run to stop.", min(grace, 10.0))
        limit = self.spec.get("time_limit_s")
        if limit and self.child and self.stopping is None and now - self.began >= limit:
            self.stop("timeout", "The command ran past its time limit of %g s." % limit, grace)
        full = self.log.full_since
        if full is not None and self.stopping is None and now - full > DISK_FULL_PATIENCE_S:
            self.stop("disk-full", "The disk is full: the command's output could not be kept.", grace)
        if self.kill_at is not None and now >= self.kill_at and self.child:
            with contextlib.suppress(OSError):
                os.killpg(self.child, signal.SIGKILL)
        if now - self.last_beat >= BEAT_S:
            self.beat()

    def pause(self) -> float:
        """How long the loop may sleep, in seconds."""
        now = time.monotonic()
        until = [now + CHECK_S, self.last_beat + BEAT_S]
        if self.kill_at is not None:
            until.append(max(self.kill_at, now + 0.05))
        limit = self.spec.get("time_limit_s")
        if limit and self.child and self.stopping is None:
            until.append(self.began + limit)
        return max(0.0, min(until) - now)

    def reap(self) -> bool:
        """Whether the command has ended."""
        if self.status is None and self.child is not None:
            with contextlib.suppress(ChildProcessError):
                while True:
                    pid, status = os.waitpid(-1 if self.first else self.child, os.WNOHANG)
                    if pid == self.child:
                        self.status = status
                    if not pid or not self.first:
                        break
        return self.status is not None

    def wait_events(self, output: Optional[int], timeout: float) -> Optional[bytes]:
        """Sleep until output, a signal or the timeout; the bytes read, None when there were none to read."""
        poller = select.poll()
        poller.register(self.wakeup, select.POLLIN)
        if output is not None and not self.log.pending:
            poller.register(output, select.POLLIN | select.POLLHUP)
        chunk = None
        for descriptor, _event in poller.poll(timeout * 1000):
            if descriptor == self.wakeup:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.wakeup, 4096)
            elif output is not None:
                chunk = os.read(output, CHUNK)
        return chunk

    def run_once(self, argv: List[str]) -> Tuple[Optional[int], Optional[int]]:
        """Run the command once; (exit code or None, signal or None)."""
        output, write_end = os.pipe()
        try:
            self.status, self.child = None, None
            self.child = spawn(argv, self.environment, os.path.join(self.unit, "code"), write_end)
        finally:
            os.close(write_end)
            if self.child is None:
                os.close(output)
        self.began = time.monotonic()
        self.started = self.started or time.time()
        self.beat()
        open_end = True
        while not self.reap():
            chunk = self.wait_events(output if open_end else None, self.pause())
            if chunk:
                self.log.feed(chunk)
            elif chunk == b"":
                open_end = False
            if self.log.pending:
                self.log.write(b"")
            if chunk is None or self.terminated or time.monotonic() - self.last_look >= LOOK_S:
                self.look()
        kill_rest(self.unit, self.child)
        self.drain(output, open_end)
        os.close(output)
        self.child = None
        status = self.status or 0
        if os.WIFSIGNALED(status):
            return None, os.WTERMSIG(status)
        return os.WEXITSTATUS(status), None

    def drain(self, output: int, open_end: bool) -> None:
        """What is left in the pipe, once nobody of the command's is there to write any more."""
        end = time.monotonic() + DRAIN_S
        full_end = time.monotonic() + DISK_FULL_PATIENCE_S
        while (open_end or self.log.pending) and time.monotonic() < (full_end if self.log.pending else end):
            if self.log.pending:
                time.sleep(0.2)
                self.log.write(b"")
                self.look()
                continue
            chunk = self.wait_events(output, 0.1)
            if chunk:
                end = time.monotonic() + DRAIN_S
                self.log.feed(chunk)
            elif chunk == b"":
                open_end = False

    def rest(self, seconds: float) -> None:
        """Wait between two lives of a service; a stop ends the wait."""
        end = time.monotonic() + seconds
        while self.stopping is None and time.monotonic() < end:
            self.wait_events(None, min(self.pause(), max(0.0, end - time.monotonic())))
            self.look()

    def run(self) -> Any:
        """The exit record."""
        words = {"{python}": self.spec.get("python") or sys.executable, "{unit}": self.unit}
        words["{lib}"] = self.spec.get("lib") or ""
        argv = []
        for word in self.spec.get("argv") or []:
            for name, value in words.items():
                word = word.replace(name, value)
            argv.append(word)
        self.look()
        if not argv:
            return self.record(None, None, "start-failed", "There is no command to run.")
        code = number = None
        lives = 0
        while self.stopping is None:
            try:
                code, number = self.run_once(argv)
            except OSError as error:
                return self.record(127, None, "start-failed", start_failure(argv[0], error))
            if self.stopping is not None or self.spec.get("restart") != "always":
                break
            lives = 0 if time.monotonic() - self.began >= HEALTHY_S else lives
            pause = BACKOFF_S[min(lives, len(BACKOFF_S) - 1)]
            lives += 1
            self.restarts += 1
            self.log.feed(("[atelier] %s Starting it again in %g s.\n" % (describe(code, number), pause)).encode())
            self.beat()
            self.rest(pause)
        if self.stopping is not None:
            return self.record(code, number, self.stopping, self.message)
        return self.record(code, number, "exited", describe(code, number))

    def record(self, code: Optional[int], number: Optional[int], reason: str, message: str) -> Any:
        record = {
            "code": code,
            "signal": number,
            "started": self.started,
            "ended": time.time(),
            "reason": reason,
            "message": message,
            "attempt": self.attempt,
            "restarts": self.restarts,
        }
        if self.first:
            record["oom_kills"] = memory_kills()
        return record


def supervise(unit: str, ready: Optional[int] = None) -> None:
    """The supervisor's process. Says "ok" to the launcher once the first beat is on disk."""
    supervisor = Supervisor(unit)
    supervisor.listen()
    reserve_record(unit)
    if ready is not None:
        os.write(ready, b"ok")
        os.close(ready)
    try:
        record = supervisor.run()
    except Exception as error:  # noqa: BLE001 - whatever it was, the unit needs its end
        if supervisor.child:
            kill_rest(unit, supervisor.child)
        message = "The supervisor failed: %s: %s" % (type(error).__name__, error)
        record = failure_record("supervisor-failed", message, supervisor.attempt)
    with contextlib.suppress(OSError):
        supervisor.log.close()
    while True:
        try:
            return write_record(unit, record)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            time.sleep(1.0)
