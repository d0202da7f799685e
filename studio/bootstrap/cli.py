"""Which command does what, and with which interpreter. Standard library only until Django takes over."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from studio.bootstrap import packages
from studio.bootstrap.console import SetupError, fail

HELP = """Atelier: a machine-learning studio on your own machines.

  python3 manage.py up          set up what is missing, start everything, stay in front (Ctrl-C stops it)
  python3 manage.py up --detach the same, and return to the shell
  python3 manage.py down        stop everything; running units go on and are found again
  python3 manage.py status      what runs
  python3 manage.py test        everything this machine can check: style, types, layers, tests
  python3 manage.py bench       list the measurements; `bench NAME` runs one, `--json` prints one line

Everything else goes to Django: python3 manage.py help
"""


def _again_with(python: Path, argv: list[str]) -> None:
    """Replace this process by the right interpreter; returns when it is the right one already."""
    if Path(sys.executable).parent.resolve() == python.parent.resolve() and packages.django_importable():
        return
    os.environ["ATELIER_BOOTSTRAPPED"] = "1"
    os.execv(str(python), [str(python), *argv])  # noqa: S606 - our own interpreter with our own arguments


def run(argv: list[str]) -> None:
    """Set up what the command needs, then do it."""
    command = argv[1] if len(argv) > 1 else "help"
    if command in {"-h", "--help"} or (command == "help" and len(argv) == 2 and not packages.django_importable()):
        print(HELP)
        return
    try:
        development = command in {"test", "bench"}
        if not packages.django_importable() or packages.in_own_venv() or development:
            _again_with(packages.ensure_python(development=development), argv)
        if command in {"up", "test", "bench"}:
            packages.ensure_frontend(development=command == "test")
        if command in {"up", "down", "status"}:
            from studio.bootstrap import services

            sys.exit(getattr(services, command)(argv[2:]))
        if command == "test":
            from studio.bootstrap import testing

            sys.exit(testing.run(argv[2:]))
    except SetupError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader went away (`manage.py status | head`); closing standard output again must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    from django.core.management import execute_from_command_line

    execute_from_command_line(argv)
