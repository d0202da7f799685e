"""What set-up says: steps with their time, and sentences that help when one fails. Standard library only."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class SetupError(Exception):
    """Set-up cannot go on. ``what`` happened and what to ``do`` about it, each a sentence."""

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(what)
        self.what, self.do = what, do


def say(text: str = "") -> None:
    print(text, flush=True)


def fail(error: SetupError) -> None:
    """Print the error as two sentences and leave with status 1."""
    print(f"\n  {error.what}", file=sys.stderr)
    if error.do:
        print(f"  {error.do}", file=sys.stderr)
    sys.exit(1)


@contextmanager
def step(text: str) -> Iterator[None]:
    """One line per step: what is being done, then how long it took. A full disk is named as such."""
    started = time.monotonic()
    interactive = sys.stdout.isatty()
    if interactive:
        print(f"  ... {text}", end="\r", flush=True)
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SetupError(
                f"The disk is full: {error.filename or 'a file'} could not be written.",
                "Free some space, or set ATELIER_DATA to a folder on a larger disk, then start again.",
            ) from error
        raise
    took = time.monotonic() - started
    print(f"  ok  {text}" + (f" ({took:.0f} s)" if took >= 1 else "") + "   ", flush=True)


_REASONS = (
    (
        ("no space left on device", "disk quota exceeded"),
        "The disk is full.",
        "Free some space (about 1 GB is needed) and start again.",
    ),
    (
        ("dns error", "could not resolve", "name or service not known", "temporary failure in name resolution",
         "connection refused", "network is unreachable", "timed out", "timeout", "connecterror", "enotfound",
         "econnrefused", "eai_again", "error sending request",
         "failed to fetch", "connection error", "max retries", "(from versions: none)"),
        "The package index cannot be reached.",
        "Check the network. Behind a proxy set HTTPS_PROXY; with a mirror of your own set UV_INDEX_URL and "
        "PIP_INDEX_URL (and npm's registry setting). What was done so far is kept.",
    ),
    (
        ("gcc", "g++", "clang", "unable to find a compiler", "c compiler", "python.h", "rustc", "cargo"),
        "A package has no ready-made build for this machine, and there is no compiler to build it.",
        "Install one (Debian and Ubuntu: apt-get install build-essential python3-dev; "
        "Fedora: dnf install gcc python3-devel; macOS: xcode-select --install) and start again.",
    ),
    (
        ("hash", "sha256"),
        "A downloaded package is not the one that was pinned.",
        "Try again; if it stays so, the package index in between changes packages and should not be trusted.",
    ),
)  # fmt: skip


def explain(doing: str, output: str) -> SetupError:
    """The failed command's own words turned into what is wrong and what to do; the last lines stay visible."""
    lowered = output.lower()
    tail = "\n      ".join(line for line in output.strip().splitlines()[-8:])
    for words, what, do in _REASONS:
        if any(word in lowered for word in words):
            return SetupError(f"{doing} failed: {what}", f"{do}\n\n  Its last words:\n      {tail}")
    return SetupError(f"{doing} failed.", f"Its last words:\n      {tail}")


def disk_check(folder: str, needed_bytes: int) -> None:
    """Raises SetupError when the disk of ``folder`` has less than ``needed_bytes`` free."""
    existing = folder
    while not os.path.exists(existing):  # noqa: PTH110 - os.path alone keeps this importable before anything is set up
        existing = os.path.dirname(existing) or "/"  # noqa: PTH120 - text
    stat = os.statvfs(existing)
    free = stat.f_bavail * stat.f_frsize
    if free < needed_bytes:
        raise SetupError(
            f"The disk that holds {folder} has {free // 2**20} MB free; {needed_bytes // 2**20} MB are needed.",
            "Free some space, or set ATELIER_DATA to a folder on a larger disk, then start again.",
        )
