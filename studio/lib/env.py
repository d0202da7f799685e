"""Typed environment variables. A value that cannot be read stops the start with the name of the setting."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping


class ConfigurationError(Exception):
    """A setting holds a value that cannot be used; the message names the setting, the value and the way out."""


def text(name: str, default: str = "", *, environ: Mapping[str, str] | None = None) -> str:
    return (environ if environ is not None else os.environ).get(name, default).strip()


def flag(name: str, default: bool = False, *, environ: Mapping[str, str] | None = None) -> bool:
    raw = text(name, environ=environ).lower()
    if not raw:
        return default
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off"}:
        return False
    raise ConfigurationError(f"{name}={raw!r} is not a yes or a no. Use one of: 1, true, yes, on, 0, false, no, off.")


def integer(name: str, default: int, *, minimum: int | None = None, environ: Mapping[str, str] | None = None) -> int:
    raw = text(name, environ=environ)
    if not raw:
        return default
    try:
        value = int(raw)
    except ValueError:
        raise ConfigurationError(f"{name}={raw!r} is not a whole number.") from None
    if minimum is not None and value < minimum:
        raise ConfigurationError(f"{name}={value} is too small: it must be at least {minimum}.")
    return value


def words(name: str, default: str = "", *, environ: Mapping[str, str] | None = None) -> list[str]:
    """A comma-separated list; empty entries are dropped."""
    return [part.strip() for part in text(name, default, environ=environ).split(",") if part.strip()]


def memory(name: str, default: str, *, environ: Mapping[str, str] | None = None) -> str:
    """An amount of memory as DuckDB writes it: 512MB, 2GB."""
    raw = text(name, environ=environ) or default
    if not re.fullmatch(r"[1-9][0-9]*(MB|GB)", raw):
        raise ConfigurationError(f"{name}={raw!r} is not an amount of memory. Write it like 512MB or 2GB.")
    return raw
