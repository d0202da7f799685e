"""Outputs of a unit that ended well, on their way to their datastores.

To a folder on the same disk they are moved file by file, and links stay; everywhere else a carrier takes them. What
could not be sent stays in the unit's ``produced`` folder.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from compute import failpoints
from compute.data import carriers
from compute.models import Transfer, Unit
from studio.datasets.backends import registry
from studio.datasets.backends.base import Backend
from studio.datasets.jobs import laying
from studio.datasets.models import Datastore
from studio.datasets.services.datastores import opened
from studio.lib import storage
from studio.lib.errors import AtelierError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sent:
    """``moving``: not yet. ``error`` where something could not be sent; ``warnings`` in words for people."""

    moving: bool = False
    error: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)


NOTHING = Sent()


class _Unsent(AtelierError):
    """One output could not be moved."""

    def __init__(self, item: dict[str, Any], path: str, why: str) -> None:
        super().__init__(unsent_message(item, path, why))
        self.item = item
        self.path = path


def unsent_message(item: dict[str, Any], path: str, why: str) -> str:
    """What a run says of an output that is not where it should be."""
    what = _("Output %(name)s could not be saved to datastore %(store)s") if not path else _(
        "Output %(name)s could not be saved to datastore %(store)s, at %(path)s"
    )  # fmt: skip
    words = {"name": item["name"], "store": item["store"], "path": path}
    stays = _("What the run wrote is kept in its folder, in produced/%(name)s.") % words
    return f"{what % words}: {why.rstrip('.')}. {stays}"


def send_outputs(unit: Unit) -> Sent:
    """Send what is to be sent, as far as it goes now. Done again as often as it takes."""
    if not unit.spec.get("outputs"):
        return NOTHING
    transfer, _made = Transfer.objects.get_or_create(
        unit=unit, direction=carriers.OUT, defaults={"started_at": timezone.now()}
    )
    if transfer.state == carriers.MOVING and carriers.orphaned(transfer):
        carriers.take_over(transfer, again)
        transfer.refresh_from_db()
    if transfer.state == carriers.WAITING:
        _begin(unit, transfer)
        transfer.refresh_from_db()
    if transfer.state == carriers.MOVING:
        return Sent(moving=True)
    if transfer.state == carriers.FAILED:
        return Sent(error=transfer.error)
    return Sent(warnings=_warnings(transfer.result))


def _warnings(result: dict[str, Any]) -> list[str]:
    found = []
    for name, item in result.items():
        if not item["files"]:
            found.append(_("Output %(name)s is empty: the script wrote nothing there.") % {"name": name})
        if item.get("links"):
            words = {"name": name, "links": ", ".join(item["links"][:5])}
            found.append(
                _("Links in output %(name)s lead out of the run's folder and were not saved: %(links)s.") % words
            )
    return found


def _begin(unit: Unit, transfer: Transfer) -> None:
    folder = storage.unit_directory(unit.key)
    rows = {row.pk: row for row in Datastore.everything.filter(pk__in=[o["datastore"] for o in unit.spec["outputs"]])}
    result: dict[str, Any] = {}
    plan: list[dict[str, Any]] = []
    try:
        for item in unit.spec["outputs"]:
            store = rows.get(item["datastore"])
            if store is None or store.deleted_at is not None:
                raise _Unsent(item, "", _("the datastore was removed"))
            if (moved := _moved(folder, item, store)) is not None:
                result[item["name"]] = moved
            else:
                plan.append({"name": item["name"], "store": item["store"], "path": item["path"], "pk": store.pk})
        if plan:
            transfer.result = result
            start_sending(transfer, plan)
            return
        Transfer.objects.filter(pk=transfer.pk, state=carriers.WAITING).update(
            state=carriers.DONE, result=result, ended_at=timezone.now(),
            files_done=sum(item["files"] for item in result.values()),
            bytes_done=sum(item["bytes"] for item in result.values()),
        )  # fmt: skip
    except _Unsent as error:
        carriers.fail(transfer, error.detail, input=error.item["name"], store=error.item["store"], file=error.path)
    except Exception as error:
        # Whatever it was: a run must come to its end, and say why what it made is not where it should be.
        log.exception("the outputs of %s could not be sent", unit.key)
        why = error.detail if isinstance(error, AtelierError) else f"{type(error).__name__}: {error}"
        carriers.fail(transfer, unsent_message(unit.spec["outputs"][0], "", why))


def _moved(folder: Path, item: dict[str, Any], store: Datastore) -> dict[str, Any] | None:
    """The result of moving an output on this disk; None where a carrier has to take it."""
    try:
        backend = registry.make(**opened(store))
        home = backend.local_path(item["path"])
        near = home is not None and _same_disk(folder, home)
    except AtelierError as error:
        raise _Unsent(item, "", error.detail) from error
    except OSError as error:
        raise _Unsent(item, item["path"], error.strerror or str(error)) from error
    return _move(folder, item, backend, home) if home is not None and near else None


def start_sending(transfer: Transfer, plan: list[dict[str, Any]]) -> None:
    """A carrier for the outputs of a plan."""
    rows = Datastore.objects.in_bulk([item["pk"] for item in plan])
    stores = {}
    for item in plan:
        if item["pk"] not in rows:
            raise _Unsent(item, "", _("the datastore was removed"))
        stores[item["store"]] = opened(rows[item["pk"]])
    label = _("Outputs of %(unit)s") % {"unit": transfer.unit}
    carriers.start(transfer, plan, plan, stores, {}, label)


def again(transfer: Transfer) -> None:
    """Another carrier for what an earlier one did not send. Raises AtelierError."""
    start_sending(transfer, transfer.plan)


def _same_disk(unit: Path, home: Path) -> bool:
    place = home
    while not place.exists() and place != place.parent:
        place = place.parent
    return place.stat().st_dev == unit.stat().st_dev


def _move(unit: Path, item: dict[str, Any], backend: Backend, home: Path) -> dict[str, Any]:
    """Move one output to its folder on the same disk."""
    found = laying.produced(unit, item["name"], home)
    for relative, path in found.files:
        place = "/".join(part for part in (item["path"], relative) if part)
        try:
            target = backend.local_path(place)
            if target is None:
                raise _Unsent(item, place, _("it is no path in this datastore"))
            laying.hand_over(path, target)
        except OSError as error:
            why = (
                _("there is no room left on the disk") if error.errno == errno.ENOSPC else str(error.strerror or error)
            )
            raise _Unsent(item, place, why) from error
        except _Unsent:
            raise
        except AtelierError as error:
            raise _Unsent(item, place, error.detail) from error
        failpoints.reach(failpoints.OUTPUT_MOVED)
    return {"files": len(found.files), "bytes": found.bytes, "single": found.single, "links": found.links[:20]}
