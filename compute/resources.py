"""What a run asks of its container: processors, memory, shared memory, GPUs, processes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from studio.lib.errors import Invalid

# The names that runs, targets and REST give them, and what people read.
LABELS: dict[str, Any] = {
    "cpus": gettext_lazy("Processors"),
    "memory": gettext_lazy("Memory"),
    "shm_size": gettext_lazy("Shared memory"),
    "gpus": gettext_lazy("GPUs"),
    "pids": gettext_lazy("Processes"),
}
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?\s*$", re.IGNORECASE)
LEAST_MEMORY = 6 << 20  # Docker takes no less


def bytes_of(value: Any) -> int:
    """``2g``, ``512m``, ``1.5 GiB`` or a number of bytes. Raises ValueError with a sentence for a person."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _SIZE.match(str(value))
    found = int(float(match.group(1)) * _UNITS[match.group(2).lower()]) if match and len(match.group(1)) < 30 else 0
    if found <= 0:
        raise ValueError(_("%(value)r is not a size. Write 512m or 8g.") % {"value": value})
    return found


def _cpus(value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = 0.0
    if not 0 < found <= 4096:
        raise ValueError(_("%(value)r is not a number of processors. Write 2 or 0.5.") % {"value": value})
    return found


def _memory(value: Any) -> int:
    found = bytes_of(value)
    if found < LEAST_MEMORY:
        raise ValueError(_("%(value)r is too little: 6m is the least.") % {"value": value})
    return found


def _gpus(value: Any) -> int | str:
    if str(value).strip().lower() == "all":
        return "all"
    if str(value).strip().lower() in ("", "none", "0", "false"):
        return 0
    if re.match(r"^\d{1,3}$", str(value).strip()):
        return int(str(value))
    raise ValueError(_("%(value)r is not a number of GPUs. Write 1, all or none.") % {"value": value})


def _pids(value: Any) -> int:
    if re.match(r"^\d{1,8}$", str(value)) and int(value) >= 16:
        return int(value)
    raise ValueError(_("%(value)r is not a number of processes: 16 is the least.") % {"value": value})


_READ = {"cpus": _cpus, "memory": _memory, "shm_size": bytes_of, "gpus": _gpus, "pids": _pids}


def parse(asked: Mapping[str, Any] | None) -> dict[str, Any]:
    """{"cpus": float, "memory": bytes, "shm_size": bytes, "gpus": int or "all", "pids": int}; what was not asked for is
    not there. Raises Invalid with every wrong one, as ``resources.<name>``."""
    found: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for name, value in (asked or {}).items():
        if value is None or value == "":
            continue
        if name not in _READ:
            known = ", ".join(LABELS)
            errors[f"resources.{name}"] = [_("There is no such resource. There are: %(known)s.") % {"known": known}]
            continue
        try:
            found[name] = _READ[name](value)
        except ValueError as error:
            errors[f"resources.{name}"] = [str(error)]
    if errors:
        raise Invalid(_("Some resources cannot be used."), errors=errors)
    return found


def words(name: str, value: Any) -> str:
    """A parsed resource as it is typed, bytes as ``8g`` or ``512m``. ``parse`` reads it back."""
    if name in ("memory", "shm_size"):
        unit = next((unit for unit in ("t", "g", "m", "k") if value % _UNITS[unit] == 0), "")
        return f"{value // _UNITS[unit]}{unit}"
    return f"{value:g}" if isinstance(value, float) else str(value)
