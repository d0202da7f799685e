"""What a pluggable kind (of compute, of datastore) says of itself: its form's fields, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: whose fault, what, and the way out."""

    code: str
    message: str
    hint: str = ""
    field: str = ""


@dataclass(frozen=True)
class FormField:
    """A field of a kind's form. ``kind``: text, number, select, textarea, checkbox, password."""

    name: str
    label: str
    kind: str = "text"
    help: str = ""
    required: bool = False
    secret: bool = False
    default: Any = None
    choices: list[tuple[str, str]] = field(default_factory=list)
    minimum: int | None = None
    maximum: int | None = None
