"""What the run pages share: finding the run, its header, and when a page stops asking."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _l

from compute import selectors as compute_selectors
from compute import states
from compute.data.progress import transfer_notes
from compute.logs.store import LogFile
from compute.models import Unit
from compute.templatetags.logs import plain
from runs import selectors
from runs.models import Run
from runs.services import places
from studio.accounts.access import WorkspaceRequest
from studio.accounts.policy import Right, rights
from studio.lib.htmx import render_page

ENDED = frozenset({"Completed", "Failed", "Canceled"})
STATUSES = [
    "NotStarted", "Preparing", "Queued", "Starting", "Running", "Finalizing",
    "Completed", "Failed", "CancelRequested", "Canceled", "NotResponding",
]  # fmt: skip
TABS = [
    ("overview", "run-detail", _l("Overview")),
    ("metrics", "run-metrics", _l("Metrics")),
    ("outputs", "run-outputs", _l("Outputs + logs")),
    ("code", "run-code", _l("Code")),
    ("environment", "run-environment", _l("Environment")),
    ("details", "run-raw", _l("Details")),
]


def run_of(request: WorkspaceRequest, run_id: str) -> Run:
    """The run of this workspace; NotFound for every other id."""
    return selectors.run_get(request.workspace, run_id)


def can_write(request: WorkspaceRequest) -> bool:
    return Right.WRITE in rights(request.workspace_role)


def is_live(run: Run) -> bool:
    return run.status not in ENDED


def digest_of(*parts: Any) -> str:
    """A short word that changes when any of ``parts`` does; pages send it back so that nothing is drawn twice."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def duration_of(run: Run) -> dt.timedelta | None:
    """From the start to the end, or to now while it runs; None before it started."""
    if run.started_at is None:
        return None
    return (run.ended_at or timezone.now()) - run.started_at


# Whose fault it is and what to do next, by the code that compute gives an error.
NEXT_STEPS = {
    "UserError": _l("The script ended with an error. Its last lines:"),
    "EnvironmentBuildFailed": _l("The environment could not be made: its build log says at which package."),
    "Timeout": _l("The run reached its time limit. Resubmit it with a longer one."),
    "TimedOut": _l("The run reached its time limit. Resubmit it with a longer one."),
    "Refused": _l("The compute target refused it. Check the target, then resubmit."),
    "CannotStart": _l("It never started, so nothing of it ran. Put the cause right, then resubmit."),
    "InternalError": _l("The studio is at fault, not the script. Resubmit; if it comes again, tell whoever runs it."),
    "InputFailed": _l("An input could not be had, so nothing of the script ran. Put the cause right, then resubmit."),
    "OutputUploadFailed": _l(
        "The script ended well, but what it made is not where it should be. Nothing is lost: it is in the run's folder."
    ),
    "OutOfMemory": _l(
        "Nothing of the script is wrong as such: it needed more than it may have. Resubmit it with more memory under "
        "Resources, or let it hold less at once: smaller batches, fewer loader processes."
    ),
    "Lost": _l("Its machine or its process is gone. Nothing of the script is at fault. Resubmit it."),
}
TAIL_BYTES = 4096
TAIL_LINES = 8


def log_tail(run: Run) -> str:
    """The last lines of what the command printed, without colours; empty where there is nothing."""
    file = LogFile(run.key)
    size = file.size()
    lines = plain(file.read(max(0, size - TAIL_BYTES), TAIL_BYTES)).rstrip().splitlines()
    return "\n".join(lines[-TAIL_LINES:])


def error_of(run: Run) -> dict[str, Any] | None:
    """An error as the header shows it: what happened, whose fault it is, and the end of the output where that helps."""
    error = run.error
    if not error:
        return None
    nested = error.get("error")
    inner: dict[str, Any] = nested if isinstance(nested, dict) else error
    code = str(inner.get("code") or "")
    return {
        "message": inner.get("message") or inner.get("detail") or code or str(inner),
        "next": inner.get("hint") or NEXT_STEPS.get(code, ""),
        "tail": log_tail(run) if code == "UserError" and run.unit_id else "",
        "code": code,
        "log": _data_log(run, code),
    }


def _data_log(run: Run, code: str) -> str:
    """The name of the log of what could not move the run's data; "" where another log says more."""
    direction = {"InputFailed": "in", "OutputUploadFailed": "out"}.get(code, "")
    name = places.DATA_LOGS.get(direction, "")
    return name if name in places.data_logs(run) else ""


def stages_of(unit: Unit) -> list[dict[str, Any]]:
    """The unit's timeline with times as datetimes; the last stage carries the colour of how it ended."""
    stages = compute_selectors.unit_timeline(unit)
    notes = transfer_notes(unit)
    for stage in stages:
        if text := notes.get(stage["key"]):
            stage["note"] = f"{stage['note']} {text}".strip()
        started = stage["started_at"]
        stage["started_at"] = dt.datetime.fromtimestamp(started, dt.UTC) if started is not None else None
    if stages and unit.state in {states.FAILED, states.LOST, states.CANCELED}:
        stages[-1]["state"] = "canceled" if unit.state == states.CANCELED else "failed"
        stages[-1]["note"] = ""  # the box below says it
    return stages


def unreachable_of(run: Run) -> dict[str, Any] | None:
    """Since when the run's target gives no answer, and what its last test said of that; None while it answers.

    {"since", "target", "message", "hint", "changed": its host key is another one}
    """
    unit = run.unit
    if unit is None or unit.unreachable_since is None or not is_live(run):
        return None
    target = run.target
    problems = {problem["code"]: problem for problem in (target.problems if target else [])}
    said = problems.get("host-key-changed") or next((one for one in problems.values() if one.get("stops")), {})
    return {
        "since": unit.unreachable_since,
        "target": target,
        "message": said.get("message", ""),
        "hint": said.get("hint", ""),
        "changed": "host-key-changed" in problems,
    }


def header_context(request: WorkspaceRequest, run: Run) -> dict[str, Any]:
    """Name, state, stages and errors of a run: what ``runs/parts/header.html`` draws and asks for again."""
    unit = run.unit
    stages = stages_of(unit) if unit is not None else []
    queue = compute_selectors.queue_position(unit) if unit is not None and is_live(run) else None
    unreachable = unreachable_of(run)
    version = digest_of(
        run.status, run.name, run.error, run.warnings, run.archived_at, queue,
        [(stage["stage"], stage["state"], stage["note"]) for stage in stages], unreachable,
    )  # fmt: skip
    return {
        "run": run,
        "live": is_live(run),
        "stages": stages,
        "queue_position": queue,
        "duration": duration_of(run),
        "version": version,
        "error": error_of(run),
        "unreachable": unreachable,
        "cancelable": is_live(run),
        "cancel_requested": run.status == "CancelRequested",
    }


def run_page(
    request: WorkspaceRequest, run: Run, tab: str, context: dict[str, Any] | None = None, *, part: str | None = None
) -> HttpResponse:
    """A tab of the run's page, or the named part of it for htmx."""
    full = {"tab": tab, "tabs": TABS, **header_context(request, run), **(context or {})}
    return render_page(request, f"runs/tab_{tab}.html", full, part=part)


def unchanged() -> HttpResponse:
    """Nothing new: htmx leaves the page as it is and asks again."""
    return HttpResponse(status=204)
