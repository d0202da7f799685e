"""How a unit ended, from its exit record and from what the engine knows of its container. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from compute.drivers.containers import NEVER, PYTHON, amount, ever_started

OUT_OF_MEMORY = "out-of-memory"
KILLED = 9
KILLED_CODES = (137, -9)


def moment(text: Any) -> float | None:
    """Seconds since 1970 of a time as engines write it; None for one that never was."""
    raw = str(text or NEVER)
    if raw.startswith(NEVER):
        return None
    try:
        return datetime.datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", raw).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def was_killed(record: Mapping[str, Any]) -> bool:
    """Whether an exit record may be that of a command which the kernel killed for want of memory."""
    return record.get("reason") == "exited" and (record.get("signal") == KILLED or record.get("code") in KILLED_CODES)


def asks_engine(record: Mapping[str, Any]) -> bool:
    """Whether the engine has to say why: the command failed, and nobody in the container could count what the kernel
    killed."""
    if record.get("reason") != "exited" or (record.get("code") == 0 and not record.get("signal")):
        return False
    kills = record.get("oom_kills")
    return kills is None or kills > 0


def amended(record: Mapping[str, Any], details: Mapping[str, Any] | None) -> dict[str, Any]:
    """An exit record with what the engine knows. ``details``: the container as inspected, None when it is gone."""
    state = (details or {}).get("State") or {}
    short = bool(state.get("OOMKilled")) or (record.get("oom_kills") or 0) > 0
    found = dict(record)
    if not short or found.get("reason") != "exited" or (found.get("code") == 0 and not found.get("signal")):
        return found
    if was_killed(found):
        return {**found, "reason": OUT_OF_MEMORY, "message": out_of_memory(details)}
    child = _("A process of it was killed because the container's memory was used up: %(why)s")
    found["message"] = f"{found.get('message') or ''} {child % {'why': out_of_memory(details)}}".strip()
    return found


def out_of_memory(details: Mapping[str, Any] | None) -> str:
    limit = int((((details or {}).get("HostConfig") or {}).get("Memory")) or 0)
    if limit:
        return _(
            "The run needed more memory than its limit of %(limit)s, so it was ended. Ask for more memory, or let it "
            "need less."
        ) % {"limit": amount("memory", limit)}
    return _("The machine ran out of memory, so the run was ended. No limit was set.")


def without_record(details: Mapping[str, Any], beat: Mapping[str, Any] | None, log: str) -> dict[str, Any]:
    """The exit record of a container whose supervisor wrote none. ``log``: the last lines that it wrote itself."""
    state = details.get("State") or {}
    code = state.get("ExitCode")
    reason, message = _why(details, state, beat, log)
    killed = code in KILLED_CODES
    return {
        "code": None if killed else code,
        "signal": KILLED if killed else None,
        "started": (beat or {}).get("started") or moment(state.get("StartedAt")),
        "ended": moment(state.get("FinishedAt")),
        "reason": reason,
        "message": message,
        "attempt": (beat or {}).get("attempt", 1),
    }


def _why(
    details: Mapping[str, Any], state: Mapping[str, Any], beat: Mapping[str, Any] | None, log: str
) -> tuple[str, str]:
    if state.get("OOMKilled"):
        return OUT_OF_MEMORY, out_of_memory(details)
    said = str(state.get("Error") or "") or log.strip()
    if beat is None and not (state.get("ExitCode") in KILLED_CODES and not said):
        return "start-failed", start_failed(details, said)
    words = {
        "code": state.get("ExitCode"),
        "why": said or _("the engine or the machine was restarted under it, or somebody ended it by hand"),
    }
    return "supervisor-killed", _(
        "The run's container ended without an exit record, with code %(code)s: %(why)s."
    ) % words


def start_failed(details: Mapping[str, Any], said: str) -> str:
    """Why a container's supervisor never came to its first beat."""
    config = details.get("Config") or {}
    python = (config.get("Entrypoint") or [PYTHON])[0]
    words = {"image": config.get("Image") or "?", "python": python, "why": said[-1000:] or _("it said nothing")}
    if re.search(r"SyntaxError|ImportError|ModuleNotFoundError", said):
        return (
            _(
                "The Python of the image %(image)s, %(python)s, cannot run the supervisor of Atelier: it has to "
                "be Python 3.8 or later with its standard library. It said: %(why)s"
            )
            % words
        )
    if not ever_started(state := details.get("State") or {}) and state.get("Error"):
        return _("The container could not be started from the image %(image)s: %(why)s") % words
    return _("The run could not be started in the image %(image)s with %(python)s: %(why)s") % words
