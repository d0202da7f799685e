"""Parameters read from a command line. Pure: nothing is imported from the project."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_FLAG = re.compile(r"--?[A-Za-z][\w.\-]*\Z")
_FLAG_WITH_VALUE = re.compile(r"(--?[A-Za-z][\w.\-]*)=(.*)\Z", re.DOTALL)


def parse_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """``["--lr", "0.1", "--bias", "-v", "--size=3"]`` -> ``{"lr": "0.1", "bias": "True", "v": "True", "size": "3"}``.

    A word that starts with a dash and a letter is a name; what follows it is its value unless that is a name too
    (``-0.5`` is a value). Words after ``--`` and words without a name are no parameters. A name that comes again
    takes its last value; several values after one name are joined by a space.
    """
    found: dict[str, str] = {}
    name: str | None = None
    values: list[str] = []

    def close() -> None:
        if name is not None:
            found[name] = " ".join(values) if values else "True"

    for word in arguments:
        if word == "--":
            break
        pair = _FLAG_WITH_VALUE.match(word)
        if pair or _FLAG.match(word):
            close()
            name, values = (pair.group(1) if pair else word).lstrip("-")[:255], []
            if pair:
                values.append(pair.group(2))
                close()
                name = None
        elif name is not None:
            values.append(word)
    close()
    return found


def as_number(value: str) -> float | None:
    """The finite number that ``value`` spells, for sorting; None for anything else."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
