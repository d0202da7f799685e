"""Typed environment variables. A value that cannot be read stops the start with the name of the setting."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_HOST = re.compile(r"(\*?\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.ASCII)


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


def places(name: str, entries: Sequence[str]) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    """Networks and host names of a list that holds both: 10.0.0.0/8, 10.1.2.3, ::1, example.org, *.example.org."""
    networks: list[Network] = []
    hosts: list[str] = []
    for entry in entries:
        plain = entry.strip().lower().strip("[]").rstrip(".")
        try:
            networks.append(ipaddress.ip_network(plain, strict=False))
        except ValueError:
            # What has digits only was meant as an address.
            if not _HOST.fullmatch(plain) or re.fullmatch(r"[0-9.]+", plain):
                raise ConfigurationError(
                    f"{name}: {entry!r} is neither a network (10.0.0.0/8), an address, nor a host name."
                ) from None
            hosts.append(plain)
    return tuple(networks), tuple(hosts)


def reach(name: str, *, environ: Mapping[str, str] | None = None) -> list[str]:
    """A comma-separated list of networks and host names."""
    found = words(name, environ=environ)
    places(name, found)
    return found


def folders(name: str, *, environ: Mapping[str, str] | None = None) -> list[str]:
    """Absolute paths with a colon between them."""
    found = [part.strip() for part in text(name, environ=environ).split(":") if part.strip()]
    for folder in found:
        if not folder.startswith("/"):
            raise ConfigurationError(f"{name}: {folder!r} is not an absolute path.")
    return found
