"""Carriers: units of work that move the data of another unit. They take no slot, outlive the worker that started them,
and wake the waiting unit when they end (``compute.data.receivers``).

A unit has at most one transfer of each direction, and a transfer at most one living carrier, whoever is killed in
between.
"""

from __future__ import annotations

import json
import logging
import sys
import uuid
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compute import states
from compute.drivers.unit_folder import write_atomic
from compute.models import Transfer, Unit, UnitKind
from compute.services.targets import LOCAL, ensure_local_target
from compute.services.units import unit_cancel, unit_create
from studio.datasets import programs
from studio.lib import storage
from studio.lib.errors import AtelierError

log = logging.getLogger(__name__)

IN, OUT = "in", "out"
WAITING, MOVING, DONE, FAILED = "waiting", "moving", "done", "failed"
CODES = {IN: "InputFailed", OUT: "OutputUploadFailed"}
ATTEMPTS = 3
GRACE_S = 5.0


def start(
    transfer: Transfer,
    plan: list[dict[str, Any]],
    items: list[dict[str, Any]],
    stores: dict[str, Any],
    signatures: dict[str, Any],
    label: str,
    *,
    result: dict[str, Any] | None = None,
) -> bool:
    """A carrier for ``items``, if nobody was first. Its plan lies in its folder before it exists, so that no start
    can miss it."""
    key, unit = uuid.uuid4().hex, transfer.unit
    code = storage.unit_directory(key) / "code"
    code.mkdir(parents=True)
    folder = str(storage.unit_directory(unit.key).resolve())
    write_atomic(code / "plan.json", {"direction": transfer.direction, "unit": folder, "label": label, "items": items})
    secrets = {"ATELIER_STORES": json.dumps(stores), "ATELIER_SIGNATURES": json.dumps(signatures)}
    inner = [value for store in stores.values() for value in store["secrets"].values()]
    inner += [query for queries in signatures.values() for query in queries.values()]
    # Each on its own too: what the carrier prints is scrubbed of the values of its secrets.
    secrets.update({f"ATELIER_HIDDEN_{index}": str(value) for index, value in enumerate(inner) if value})
    with transaction.atomic():
        claimed = Transfer.objects.filter(pk=transfer.pk, state=transfer.state, carrier=transfer.carrier).update(
            state=MOVING, attempts=transfer.attempts + 1, started_at=transfer.started_at or timezone.now(),
            plan=plan, result=result if result is not None else transfer.result, note="", noted_at=None,
            files_done=0, bytes_done=0, cached_bytes=0, files_total=None, bytes_total=None,
        )  # fmt: skip
        if not claimed:
            return False
        carrier, _token = unit_create(
            key=key,
            workspace=unit.workspace,
            # The studio's own program, which knows the stores' secrets: it never runs on anybody else's machine.
            target=unit.target if unit.target.driver == LOCAL else ensure_local_target(unit.workspace),
            kind=UnitKind.TRANSFER,
            spec={
                "argv": [sys.executable, "-u", "-m", "studio.datasets.jobs.transfer"],
                "env": programs.studio_environment(),
                "grace_s": GRACE_S,
                "resources": {"slots": 0},
            },
            secrets=secrets,
            label=label,
        )
        Transfer.objects.filter(pk=transfer.pk).update(carrier=carrier)
    transfer.refresh_from_db()
    return True


def orphaned(transfer: Transfer) -> bool:
    """Whether nobody will ever say that this transfer has ended."""
    return transfer.carrier is None or transfer.carrier.state in states.TERMINAL


def take_over(transfer: Transfer, again: Callable[[Transfer], None]) -> None:
    """A carrier ended without a result that counts: ``again`` starts another one, as often as ATTEMPTS says."""
    unit = transfer.unit
    wanted = unit.state in (states.PREPARING, states.FINALIZING) and unit.cancel_requested_at is None
    if not wanted or transfer.attempts >= ATTEMPTS:
        carrier = transfer.carrier
        why = (carrier.error or {}).get("message") if carrier is not None else ""
        fail(transfer, str(why or _("The program that moves data was ended.")))
        return
    try:
        again(transfer)
    except AtelierError as error:
        fail(transfer, error.detail)
    except Exception as error:
        log.exception("data of %s could not be moved again", unit.key)
        fail(transfer, f"{type(error).__name__}: {error}")


def fail(transfer: Transfer, message: str, *, code: str = "", **more: Any) -> None:
    """End a transfer that cannot be done; what it was to move stays where it is."""
    error = {"code": code or CODES[transfer.direction], "message": message}
    error.update({key: value for key, value in more.items() if value})
    Transfer.objects.filter(pk=transfer.pk).update(
        state=FAILED, error=error, ended_at=timezone.now(), note="", noted_at=None
    )


def stop(unit: Unit) -> None:
    """End the living carriers of a unit that nobody waits for any more."""
    moving = Transfer.objects.filter(unit=unit, state__in=[MOVING, WAITING]).select_related("carrier")
    for transfer in moving:
        fail(transfer, _("It was canceled."), code="Canceled")
        if transfer.carrier is not None and transfer.carrier.state not in states.TERMINAL:
            unit_cancel(transfer.carrier)
