"""What set-up says when it cannot go on: every failure gives a sentence that helps."""

from __future__ import annotations

import errno
import os

import pytest

from studio.bootstrap import console, packages, processes
from studio.bootstrap.console import SetupError


@pytest.mark.parametrize(
    ("output", "what", "do"),
    [
        ("error: Failed to fetch: dns error: failed to lookup address", "cannot be reached", "HTTPS_PROXY"),
        ("npm error code ENOTFOUND", "cannot be reached", "proxy"),
        ("OSError: [Errno 28] No space left on device", "disk is full", "Free some space"),
        ("error: command 'gcc' failed: No such file or directory", "no compiler", "build-essential"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES", "not the one that was pinned", "Try again"),
    ],
)
def test_known_failures_are_explained(output, what, do):
    error = console.explain("Installing", output)
    assert what in error.what
    assert do in error.do
    assert output.splitlines()[-1] in error.do


def test_an_unknown_failure_keeps_its_last_words():
    error = console.explain("Installing", "one\ntwo\nsomething odd")
    assert error.what == "Installing failed."
    assert "something odd" in error.do


def test_a_full_disk_while_working_is_named(capsys):
    with pytest.raises(SetupError, match="disk is full"), console.step("Doing"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/file")


def test_too_little_space_is_found_before_anything_is_done(tmp_path):
    with pytest.raises(SetupError, match="MB free"):
        console.disk_check(str(tmp_path / "not" / "there"), 2**60)
    console.disk_check(str(tmp_path), 1)


def test_a_missing_command_is_named():
    with pytest.raises(SetupError, match="no-such-program cannot be started"):
        packages._run("Trying", ["no-such-program"])


def test_a_process_is_not_taken_for_a_later_one_with_its_number():
    mine = processes.Process("me", os.getpid(), processes.born(os.getpid()))
    assert mine.alive
    assert not processes.Process("other", os.getpid(), mine.born + 1).alive


def test_the_state_file_survives_rubbish(tmp_path):
    path = tmp_path / "run" / "services.json"
    assert processes.load(path) == ([], {})
    processes.save(path, [processes.Process("web", 1, 2)], url="http://x")
    assert processes.load(path) == ([processes.Process("web", 1, 2)], {"url": "http://x"})
    path.write_text("{half")
    assert processes.load(path) == ([], {})
