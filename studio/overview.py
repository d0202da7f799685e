"""What the home page of a workspace gathers from all apps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from compute import selectors as compute_selectors
from compute.models import Target
from models_registry import selectors as model_selectors
from runs import selectors as run_selectors
from runs.models import Run
from studio.accounts.models import Membership, Token, User, Workspace

RUNNING = ("Starting", "Running", "Finalizing", "CancelRequested", "NotResponding")
WAITING = ("NotStarted", "Preparing", "Queued")
RECENT, LISTED = 8, 5
FEW_RUNS = 10  # below this many the first steps are offered


@dataclass(frozen=True)
class Step:
    """One line of the list of first steps."""

    title: str | Promise
    text: str | Promise
    href: str
    done: bool


def activity(workspace: Workspace) -> dict[str, Any]:
    """What moves: runs by state, those at work now, the latest. Read again every few seconds; eight queries or so."""
    by_status = dict(
        Run.objects.filter(workspace=workspace).order_by().values_list("status").annotate(count=Count("pk"))
    )
    active = run_selectors.runs_page(workspace, status=[*RUNNING, *WAITING], sort="-created", limit=LISTED, parent=...)
    recent = run_selectors.runs_page(workspace, sort="-created", limit=RECENT)
    return {
        "total": sum(by_status.values()),
        "running": sum(by_status.get(status, 0) for status in RUNNING),
        "waiting": sum(by_status.get(status, 0) for status in WAITING),
        "completed": by_status.get("Completed", 0),
        "failed": by_status.get("Failed", 0),
        "active": [row.run for row in active.items],
        "recent": [_line(row.run) for row in recent.items],
        "targets": [(target, compute_selectors.capacity(target)) for target in _targets(workspace)],
    }


def _line(run: Run) -> dict[str, Any]:
    seconds = (run.ended_at - run.started_at).total_seconds() if run.started_at and run.ended_at else None
    return {"run": run, "seconds": seconds}


def _targets(workspace: Workspace) -> list[Target]:
    return list(Target.objects.filter(workspace=workspace).order_by("name")[:LISTED])


def assets(workspace: Workspace) -> dict[str, Any]:
    """The models that changed last, and the endpoints with their health."""
    return {
        "models": model_selectors.models_page(workspace, limit=LISTED).items,
        "endpoints": model_selectors.endpoints_page(workspace, limit=LISTED).items,
    }


def first_steps(
    workspace: Workspace, user: User, *, runs: int, owner: bool, writer: bool, found: dict[str, Any]
) -> list[Step]:
    """What a newcomer does first; empty once there are many runs, or everything is done."""
    if runs >= FEW_RUNS:
        return []

    root = workspace.get_absolute_url()
    own = Run.objects.filter(workspace=workspace, created_by=user).count()
    steps = []
    if writer:
        steps += [
            Step(
                _("Start a run"),
                _("Upload a folder or paste a script; watch every line as it is printed."),
                root + "runs/new/",
                own > 1,
            ),
            Step(
                _("Register a model"),
                _("Keep what a run made, with a version and where it came from."),
                root + "models/",
                bool(found["models"]),
            ),
            Step(
                _("Deploy it"),
                _("A scikit-learn model needs no code to become a service."),
                root + "endpoints/",
                bool(found["endpoints"]),
            ),
        ]
    tokens = Token.objects.filter(user=user, revoked_at=None).exists()
    steps.append(
        Step(
            _("Connect Python"),
            _("A token lets scripts and notebooks in under your name."),
            reverse("token-list"),
            tokens,
        )
    )
    if owner:
        team = Membership.objects.filter(workspace=workspace).count() > 1
        steps.append(
            Step(_("Invite your team"), _("By a link, as owner, contributor or reader."), root + "members/", team)
        )
    return [] if all(step.done for step in steps) else steps
