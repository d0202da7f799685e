#!/usr/bin/env python3
"""Atelier's command line. `python3 manage.py up` sets everything up and starts it; `--help` lists the rest."""

import os
import sys


def main():
    # Plain syntax up to here: an old Python must still be able to say what it lacks.
    if sys.version_info < (3, 11):
        sys.exit(
            "Atelier needs Python 3.11 or later; this is %d.%d. Install a newer one and start manage.py with it, "
            "for example: python3.11 manage.py up" % sys.version_info[:2]
        )
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")
    from studio.bootstrap.cli import run

    run(sys.argv)


if __name__ == "__main__":
    main()
