"""The supervisor of one unit of work: ``python supervisor.py <unit directory>``.

Standard library only, Python 3.8 and later, nothing of the studio: it is copied to wherever units run.

Three processes. The launcher takes the unit's lock, starts the others and returns as soon as the first beat is on
disk. The supervisor runs the command in a process group of its own, copies its output into ``stdout.log``, watches
the clock and ``cancel.json``, beats, and writes ``exit.json`` once. The guard only waits for the supervisor: should it
die, the guard ends the command and writes the exit record in its place. None of them needs the studio to be there.

Reads ``spec.json`` (argv, env, python, lib, time_limit_s, grace_s, restart, attempt) and ``secrets.json`` (environment
variables that are secret; removed once read). A unit whose ``beat.json`` exists was started and is never started again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import select
import signal
import sys
import time

BEAT_S = 2.0
CHECK_S = 1.0  # how often cancel.json is looked for when nobody signals
LOOK_S = 0.25  # how often everything is looked at while output keeps coming
CHUNK = 65536
RECORD_BYTES = 8192  # kept free for exit.json, so that it can be written on a full disk
DISK_FULL_PATIENCE_S = 120.0
DRAIN_S = 0.5  # how long output is waited for after the command has ended and its children are gone
BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
HEALTHY_S = 60.0  # a service that lived this long starts its backoff afresh
SECRET_MIN = 6

RC_BUSY = 3  # another launcher or supervisor holds the lock
RC_STARTED = 4  # this unit was started before


def process_start_time(pid):
    """Field 22 of /proc/<pid>/stat, which with the pid names a process for good; "" where there is no /proc."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as handle:
            return handle.read().rsplit(b")", 1)[1].split()[19].decode("ascii")
    except (OSError, IndexError):
        return ""


def write_json(path, value, durable=False):
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


def sync_folder(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot
    finally:
        os.close(descriptor)


def read_json(path):
    """The file's content, or None when it is not there or not whole."""
    try:
        with open(path, encoding="utf-8") as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return None


def reserve_record(unit):
    """Take the space of the exit record while there is some."""
    with contextlib.suppress(OSError), open(os.path.join(unit, "exit.json.tmp"), "wb") as handle:
        handle.write(b" " * RECORD_BYTES)
        handle.flush()
        os.fsync(handle.fileno())


def write_record(unit, record):
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


class Scrubber:
    """Takes secret values out of a stream of bytes, across the borders of chunks.

    Bytes are held back only while they could be the beginning of a secret.
    """

    def __init__(self, values):
        raw = {value.encode("utf-8") for value in values if len(value) >= SECRET_MIN}
        self.values = sorted(raw, key=len, reverse=True)
        self.pattern = re.compile(b"|".join(re.escape(value) for value in self.values)) if raw else None
        self.held = b""

    def _open_end(self, data, start):
        """Where the longest suffix of ``data`` from ``start`` begins that could grow into a secret, else len(data)."""
        best = len(data)
        for value in self.values:
            at = data.find(value[:1], max(start, len(data) - len(value) + 1))
            while at != -1 and at < best:
                if value.startswith(data[at:]):
                    best = at
                    break
                at = data.find(value[:1], at + 1)
        return best

    def feed(self, chunk):
        """The bytes that may be written now."""
        if self.pattern is None:
            return chunk
        data = self.held + chunk
        done, out = 0, []
        end = self._open_end(data, 0)
        for match in self.pattern.finditer(data):
            if match.start() >= end:
                break
            out += [data[done : match.start()], b"***"]
            done = match.end()
            if done > end:
                end = self._open_end(data, done)
        out.append(data[done:end])
        self.held = data[end:]
        return b"".join(out)

    def finish(self):
        """What was held back, scrubbed."""
        data, self.held = self.held, b""
        return self.pattern.sub(b"***", data) if self.pattern is not None else data


class Log:
    """The append-only ``stdout.log``. Keeps what a full disk refused and says since when."""

    def __init__(self, path, scrubber):
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.scrubber = scrubber
        self.pending = b""
        self.full_since = None

    def write(self, data):
        self.pending += data
        while self.pending:
            try:
                written = os.write(self.descriptor, self.pending)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self.full_since = self.full_since or time.monotonic()
                return
            self.pending = self.pending[written:]
            self.full_since = None

    def feed(self, chunk):
        self.write(self.scrubber.feed(chunk))

    def close(self):
        self.write(self.scrubber.finish())
        with contextlib.suppress(OSError):
            os.fsync(self.descriptor)
        os.close(self.descriptor)


def marked_processes(unit):
    """The processes that carry this unit's mark in their environment, wherever they have moved to."""
    mark = b"ATELIER_UNIT_DIR=" + os.fsencode(unit)
    own = {os.getpid(), os.getppid()}
    found = []
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


def kill_rest(unit, group):
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


def command_environment(spec, secrets, unit):
    """The command's environment: the target's, the unit's own, its secrets, and where the client library lies."""
    environment = dict(os.environ)
    python = spec.get("python")
    if python:
        folder = os.path.dirname(python)
        environment["PATH"] = folder + os.pathsep + environment.get("PATH", os.defpath)
        if os.path.exists(os.path.join(os.path.dirname(folder), "pyvenv.cfg")):
            environment["VIRTUAL_ENV"] = os.path.dirname(folder)
    environment.update(spec.get("env") or {})
    environment.update(secrets)
    environment["ATELIER_UNIT_DIR"] = unit
    environment["PYTHONUNBUFFERED"] = "1"
    lib = spec.get("lib")
    if lib:
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = lib + os.pathsep + before if before else lib
    return environment


def spawn(argv, environment, folder, output):
    """Start the command as the leader of a new process group; its pid. Raises OSError when it cannot be started."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
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


def describe(code, number):
    """An exit in words for a person."""
    if number is None:
        return "The command ended with exit code %d." % code
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "signal %d" % number
    hint = " The machine may have run out of memory." if number == signal.SIGKILL else ""
    return "The command was ended by %s.%s" % (name, hint)


class Supervisor:
    """Runs one unit's command to its end. One thread, one loop over output, signals and the clock."""

    def __init__(self, unit):
        self.unit = unit
        self.spec = read_json(os.path.join(unit, "spec.json")) or {}
        secrets_path = os.path.join(unit, "secrets.json")
        self.secrets = read_json(secrets_path) or {}
        self.environment = command_environment(self.spec, self.secrets, unit)
        self.start_time = process_start_time(os.getpid())
        self.attempt = self.spec.get("attempt", 1)
        self.child = None
        self.status = None
        self.restarts = 0
        self.started = None
        self.began = 0.0  # monotonic start of the present command
        self.stopping = None  # reason, once the command was asked to end
        self.message = ""
        self.kill_at = None
        self.terminated = False
        self.last_beat = self.last_look = 0.0
        self.log = Log(os.path.join(unit, "stdout.log"), Scrubber(self.secrets.values()))
        self.beat(durable=True)
        with contextlib.suppress(OSError):
            os.unlink(secrets_path)

    def beat(self, durable=False):
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
            write_json(os.path.join(self.unit, "beat.json"), record, durable)
        except OSError:
            if durable:
                raise

    def listen(self):
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

    def _on_terminate(self, number, frame):
        self.terminated = True

    def stop(self, reason, message, grace):
        """Ask the command to end: SIGTERM to its group now, SIGKILL after the grace. A shorter grace wins."""
        first = self.stopping is None
        if first:
            self.stopping, self.message = reason, message
        kill_at = time.monotonic() + max(0.0, grace)
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)
        if first and self.child:
            with contextlib.suppress(OSError):
                os.killpg(self.child, signal.SIGTERM)

    def look(self):
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

    def pause(self):
        """How long the loop may sleep, in seconds."""
        now = time.monotonic()
        until = [now + CHECK_S, self.last_beat + BEAT_S]
        if self.kill_at is not None:
            until.append(max(self.kill_at, now + 0.05))
        limit = self.spec.get("time_limit_s")
        if limit and self.child and self.stopping is None:
            until.append(self.began + limit)
        return max(0.0, min(until) - now)

    def reap(self):
        """Whether the command has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.child, os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    def wait_events(self, output, timeout):
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
            else:
                chunk = os.read(output, CHUNK)
        return chunk

    def run_once(self, argv):
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
        if os.WIFSIGNALED(self.status):
            return None, os.WTERMSIG(self.status)
        return os.WEXITSTATUS(self.status), None

    def drain(self, output, open_end):
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

    def rest(self, seconds):
        """Wait between two lives of a service; a stop ends the wait."""
        end = time.monotonic() + seconds
        while self.stopping is None and time.monotonic() < end:
            self.wait_events(None, min(self.pause(), max(0.0, end - time.monotonic())))
            self.look()

    def run(self):
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

    def record(self, code, number, reason, message):
        return {
            "code": code,
            "signal": number,
            "started": self.started,
            "ended": time.time(),
            "reason": reason,
            "message": message,
            "attempt": self.attempt,
            "restarts": self.restarts,
        }


def start_failure(program, error):
    """Why a command could not be started, in words for a person."""
    if error.errno == errno.ENOENT:
        return "%s could not be started: it was not found on the target." % program
    if error.errno == errno.EACCES:
        return "%s could not be started: the file may not be executed." % program
    if error.errno == errno.ENOEXEC:
        return "%s could not be started: it is no program, and has no first line like #!/bin/sh." % program
    return "%s could not be started: %s." % (program, os.strerror(error.errno))


def failure_record(reason, message, attempt=1):
    now = time.time()
    record = {"code": None, "signal": None, "started": None, "ended": now, "reason": reason, "message": message}
    record["attempt"] = attempt
    return record


def supervise(unit, ready):
    """The supervisor's process. Says "ok" to the launcher once the first beat is on disk."""
    supervisor = Supervisor(unit)
    supervisor.listen()
    reserve_record(unit)
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


def guard(unit, supervisor):
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


def detach(unit, ready):
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


def take(lock):
    """Lock the unit. Somebody who only looks holds it for an instant, so a few tries are made."""
    for _ in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.02)
    return False


def launch(unit):
    """Start the unit unless it was started before. Returns when its first beat is on disk."""
    lock = os.open(os.path.join(unit, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    if not take(lock):
        return RC_BUSY
    for name in ("beat.json", "exit.json"):
        if os.path.exists(os.path.join(unit, name)):
            return RC_STARTED
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
    if len(sys.argv) != 2:
        sys.stderr.write("usage: supervisor.py <unit directory>\n")
        sys.exit(2)
    sys.exit(launch(os.path.realpath(sys.argv[1])))
