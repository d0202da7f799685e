"""What follows from the words and the end of a carrier, and from the end of a unit that data was moved for."""

from __future__ import annotations

import json
from typing import Any

from django.db import transaction
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext as _

from compute import states
from compute.data import carriers, inputs, linking, outputs
from compute.models import Transfer, Unit, UnitKind
from compute.publish import publish
from compute.signals import unit_changed, unit_events
from studio.lib import storage

RESULT_BYTES = 16 << 20
CANNOT = 2  # the exit code of a carrier that cannot do it, however often it is tried


@receiver(unit_events, dispatch_uid="compute.transfer_progress")
def transfer_progress(unit: Unit, lines: list[bytes], **_rest: Any) -> None:
    """The last word on how far it is goes to the row."""
    if unit.kind != UnitKind.TRANSFER:
        return
    for line in reversed(lines):
        try:
            event = json.loads(line)
            if event.get("k") != "progress":
                continue
            (files, files_total), (size, size_total) = event["files"], event["bytes"]
            columns: dict[str, Any] = {
                "files_done": int(files), "files_total": int(files_total), "bytes_done": int(size),
                "bytes_total": int(size_total), "cached_bytes": int(event["cached"]),
                "current": str(event["current"])[:1000], "note": str(event["note"])[:1000],
            }  # fmt: skip
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        moving = Transfer.objects.filter(carrier=unit, state=carriers.MOVING)
        if not columns["note"]:
            columns["noted_at"] = None
        else:
            moving.filter(noted_at=None).update(noted_at=timezone.now())
        moving.update(**columns)
        return


@receiver(unit_changed, dispatch_uid="compute.transfer_end")
def transfer_end(unit: Unit, old: str, **_rest: Any) -> None:
    """The end of a carrier is the end of its transfer, or the beginning of the next try; the waiting unit is woken."""
    if unit.kind == UnitKind.TRANSFER:
        if unit.state in states.TERMINAL and old not in states.TERMINAL:
            _carrier_ended(unit)
    elif unit.spec.get("inputs") or unit.spec.get("outputs"):
        _follow(unit, old)


def _follow(unit: Unit, old: str) -> None:
    """A unit that ended, or is asked to while its data moves, needs its carriers no more."""
    ended = unit.state in states.TERMINAL and old not in states.TERMINAL
    asked = unit.cancel_requested_at is not None and unit.state == states.FINALIZING
    if ended or asked:
        carriers.stop(unit)
        if asked:
            publish("compute.finish", unit.pk)
    if ended:
        outside = [item["path_on_compute"] for item in inputs.staged_inputs(unit.spec) if item.get("path_on_compute")]
        if absolute := [path for path in outside if path.startswith("/")]:
            transaction.on_commit(lambda: linking.drop_outside(absolute, unit.key))


def _carrier_ended(carrier: Unit) -> None:
    transfer = Transfer.objects.select_related("unit__target", "unit__workspace").filter(carrier=carrier).first()
    if transfer is None or transfer.state != carriers.MOVING:
        return
    result = _result(carrier)
    if carrier.state == states.COMPLETED and "items" in result:
        _done(transfer, result["items"])
    elif carrier.state == states.CANCELED:
        carriers.fail(transfer, str((carrier.error or {}).get("message") or _("It was canceled.")), code="Canceled")
    elif "error" in result and _is_last(transfer, carrier):
        _failed(transfer, result["error"])
    else:
        transfer.carrier = carrier
        carriers.take_over(transfer, inputs.again if transfer.direction == carriers.IN else outputs.again)
    task = "compute.advance" if transfer.direction == carriers.IN else "compute.finish"
    publish(task, transfer.unit_id)


def _is_last(transfer: Transfer, carrier: Unit) -> bool:
    """Whether what the carrier said of its failure is the last word."""
    return (carrier.exit or {}).get("code") == CANNOT or transfer.attempts >= carriers.ATTEMPTS


def _done(transfer: Transfer, items: dict[str, Any]) -> None:
    result = dict(transfer.result)
    asked = {item["name"]: item for item in transfer.unit.spec.get("inputs") or []}
    for name, found in items.items():
        if transfer.direction == carriers.IN:
            found = {**found, "path": inputs.place_of(asked[name], found.get("file")), "how": "download"}
        result[name] = found
    Transfer.objects.filter(pk=transfer.pk).update(
        state=carriers.DONE, result=result, ended_at=timezone.now(), note="", noted_at=None, current=""
    )


def _failed(transfer: Transfer, error: dict[str, Any]) -> None:
    asked = {item["name"]: item for item in transfer.unit.spec.get(f"{transfer.direction}puts") or []}
    item = asked.get(error.get("item") or "")
    message, file = str(error.get("message") or ""), str(error.get("file") or "")
    if item is not None and transfer.direction == carriers.OUT:
        message = outputs.unsent_message(item, file if file and file not in message else "", message)
    elif item is not None:
        words = {"name": item["name"], "label": item["label"], "why": message}
        message = _("Input %(name)s (%(label)s): %(why)s") % words
    carriers.fail(transfer, message, file=file, input=error.get("item"), store=error.get("store"))


def _result(carrier: Unit) -> dict[str, Any]:
    path = storage.unit_directory(carrier.key) / "outputs" / "result.json"
    try:
        if path.stat().st_size > RESULT_BYTES:
            return {}
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
