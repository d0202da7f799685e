"""Inputs into a unit's directory before its command starts, and outputs out of it after it has ended well.

What is only a link is made at once. Everything else is moved by another unit of work, the carrier, which takes no slot,
outlives the worker that started it, and wakes the waiting unit when it ends (``compute.data.receivers``). A unit has at
most one transfer of each direction, and a transfer at most one living carrier, whoever is killed in between.
"""

from __future__ import annotations

import json
import logging
import sys
import uuid
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compute import states
from compute.data import linking, places
from compute.drivers.unit_folder import write_atomic
from compute.models import Transfer, Unit, UnitKind
from compute.services.units import unit_create
from studio.datasets import programs
from studio.datasets.models import DatasetVersion
from studio.lib import secrets as locks
from studio.lib import storage
from studio.lib.errors import AtelierError

log = logging.getLogger(__name__)

IN, OUT = "in", "out"
WAITING, MOVING, DONE, FAILED = "waiting", "moving", "done", "failed"
ATTEMPTS = 3
GRACE_S = 5.0


class StagingFailed(AtelierError):
    """Data could not be brought. ``error`` is what the unit's own error is to be."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **{key: value for key, value in more.items() if value}}


def staged_inputs(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The inputs that have to lie in the unit's directory."""
    return [item for item in spec.get("inputs") or [] if item["mode"] != "direct"]


def stage_inputs(unit: Unit, spec: dict[str, Any]) -> dict[str, Any] | None:
    """``spec`` with the places of its inputs, once they are all there; None while a carrier brings them.

    Raises StagingFailed.
    """
    if not spec.get("inputs"):
        if spec.get("outputs"):
            _write_datasets(unit, spec, {}, {})
        return spec
    versions = _versions(unit, spec)
    stores = _stores(unit, spec, versions)
    transfer = Transfer.objects.filter(unit=unit, direction=IN).first()
    if transfer is not None and transfer.state == MOVING and orphaned(transfer):
        carrier_gone(transfer)
        transfer.refresh_from_db()
    if transfer is None or transfer.state == WAITING:
        transfer = _begin(unit, spec, transfer, versions, stores)
    if transfer.state == MOVING:
        return None
    if transfer.state == FAILED:
        raise StagingFailed(
            **(transfer.error or {"code": "InputFailed", "message": _("An input could not be brought.")})
        )
    values = {name: found["path"] for name, found in transfer.result.items()}
    ready = places.settle(spec, values)
    _write_datasets(unit, ready, versions, stores)
    return ready


def _versions(unit: Unit, spec: dict[str, Any]) -> dict[str, DatasetVersion]:
    ids = [item["version"] for item in spec["inputs"]]
    rows = DatasetVersion.objects.select_related("dataset", "workspace").in_bulk(ids)
    found = {str(pk): row for pk, row in rows.items() if row.workspace_id == unit.workspace_id}
    for item in spec["inputs"]:
        if item["version"] not in found:
            message = _("The dataset %(label)s, input %(name)s of this run, was deleted before the run began.")
            raise StagingFailed("InputFailed", message % {"label": item["label"], "name": item["name"]})
    return found


def _stores(unit: Unit, spec: dict[str, Any], versions: dict[str, DatasetVersion]) -> dict[str, Any]:
    """Version -> the stores that it names, with their secrets opened."""
    found = {}
    for item in spec["inputs"]:
        try:
            found[item["version"]] = programs.stores_of(unit.workspace, versions[item["version"]].definition)
        except AtelierError as error:
            raise StagingFailed("InputFailed", _input_message(item, error), input=item["name"]) from error
    return found


def _begin(
    unit: Unit,
    spec: dict[str, Any],
    transfer: Transfer | None,
    versions: dict[str, DatasetVersion],
    stores: dict[str, Any],
) -> Transfer:
    """Make the links, and start a carrier for what has to be moved."""
    folder = storage.unit_directory(unit.key)
    result: dict[str, Any] = {}
    plan = []
    for item in staged_inputs(spec):
        definition, its_stores = versions[item["version"]].definition, stores[item["version"]]
        try:
            local = linking.all_local(definition, its_stores)
            if local and item["mode"] != "download":
                found = linking.link_input(folder, item["name"], definition, its_stores)
                result[item["name"]] = {**found, "path": place_of(item, found["file"]), "how": "link"}
                continue
        except (AtelierError, OSError) as error:
            raise StagingFailed("InputFailed", _input_message(item, error), input=item["name"]) from error
        plan.append({"name": item["name"], "mode": item["mode"], "version": item["version"], "private": local})
    now = timezone.now()
    done = {"state": DONE, "result": result, "started_at": now, "ended_at": now}
    if transfer is None:  # one statement for what is only linked: a mount is to cost next to nothing
        transfer = _row(unit, {} if plan else done)
    if plan and transfer.state == WAITING:
        _start(transfer, plan, result, unit, versions)
    elif transfer.state == WAITING:
        Transfer.objects.filter(pk=transfer.pk, state=WAITING).update(**done)
        transfer.refresh_from_db()
    return transfer


def _row(unit: Unit, columns: dict[str, Any]) -> Transfer:
    try:
        with transaction.atomic():
            return Transfer.objects.create(unit=unit, direction=IN, **columns)
    except IntegrityError:  # another worker was first, and its row says how far it is
        return Transfer.objects.get(unit=unit, direction=IN)


def _input_message(item: dict[str, Any], error: Exception) -> str:
    why = error.detail if isinstance(error, AtelierError) else f"{error.__class__.__name__}: {error}"
    return _("Input %(name)s (%(label)s): %(why)s") % {"name": item["name"], "label": item["label"], "why": why}


def place_of(item: dict[str, Any], file: str | None) -> str:
    """Where a staged input is found by its command: a folder, or the one file that it is."""
    wanted = item.get("path_on_compute")
    if not wanted:
        root = f"{{unit}}/{places.INPUTS}/{item['name']}"
    else:
        root = wanted if wanted.startswith("/") else f"{{unit}}/code/{wanted}"
    return f"{root}/{file}" if file else root


def _start(
    transfer: Transfer,
    plan: list[dict[str, Any]],
    result: dict[str, Any],
    unit: Unit,
    versions: dict[str, DatasetVersion],
) -> bool:
    items, stores, signatures = [], {}, {}
    for item in plan:
        version = versions[item["version"]]
        stores.update(programs.stores_of(unit.workspace, version.definition))
        if version.secrets:
            signatures[item["name"]] = json.loads(locks.decrypt(version.secrets))
        items.append({**item, "definition": version.definition})
    label = _("Inputs of %(unit)s") % {"unit": unit}
    return start_carrier(transfer, plan, items, stores, signatures, label, result=result)


def start_carrier(
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
            target=unit.target,
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


def carrier_gone(transfer: Transfer) -> None:
    """A carrier ended without a result that counts: another one takes over, as often as ATTEMPTS says."""
    unit = transfer.unit
    wanted = unit.state in (states.PREPARING, states.FINALIZING) and unit.cancel_requested_at is None
    if wanted and transfer.attempts < ATTEMPTS:
        try:
            if transfer.direction == IN:
                versions = _versions(unit, unit.spec)
                _start(transfer, transfer.plan, transfer.result, unit, versions)
            else:
                from compute.data.sending import start_sending

                start_sending(transfer, transfer.plan)
            return
        except AtelierError as error:
            fail(transfer, error.detail)
            return
        except Exception as error:
            log.exception("data of %s could not be moved again", unit.key)
            fail(transfer, f"{type(error).__name__}: {error}")
            return
    carrier = transfer.carrier
    why = (carrier.error or {}).get("message") if carrier is not None else ""
    fail(transfer, str(why or _("The program that moves data was ended.")))


CODES = {IN: "InputFailed", OUT: "OutputUploadFailed"}


def fail(transfer: Transfer, message: str, *, code: str = "", **more: Any) -> None:
    """End a transfer that cannot be done; what it was to move stays where it is."""
    error = {"code": code or CODES[transfer.direction], "message": message}
    error.update({key: value for key, value in more.items() if value})
    Transfer.objects.filter(pk=transfer.pk).update(
        state=FAILED, error=error, ended_at=timezone.now(), note="", noted_at=None
    )


def place_links(unit: Unit, spec: dict[str, Any]) -> None:
    """Links where the inputs' own ``path_on_compute`` wants them. After the code is laid out. Raises StagingFailed."""
    folder = storage.unit_directory(unit.key)
    for item in staged_inputs(spec):
        if wanted := item.get("path_on_compute"):
            source = folder.resolve() / places.INPUTS / item["name"]
            try:
                if wanted.startswith("/"):
                    linking.link_outside(Path(wanted), source, unit.key)
                else:
                    linking.link_inside(folder / "code", wanted, source)
            except (AtelierError, OSError) as error:
                raise StagingFailed("InputFailed", _input_message(item, error), input=item["name"]) from error


def _write_datasets(
    unit: Unit, spec: dict[str, Any], versions: dict[str, DatasetVersion], stores: dict[str, Any]
) -> None:
    """``datasets.json``: what the client answers with inside the run, without the network. Holds no secrets."""
    folder = storage.unit_directory(unit.key)
    folder.mkdir(parents=True, exist_ok=True)
    real = str(folder.resolve())
    inputs: dict[str, Any] = {}
    roots: dict[str, Any] = {}
    for item in spec.get("inputs") or []:
        version = versions[item["version"]]
        value = str(item.get("value") or "").replace("{unit}", real)
        inputs[item["name"]] = {
            "id": str(version.pk), "name": version.dataset.name if version.dataset else None,
            "version": version.version if version.dataset else None, "type": version.type,
            "definition": version.definition, "mode": item["mode"], "value": value,
            "path": value.removeprefix("file://") if item["mode"] != "direct" else None,
        }  # fmt: skip
        for name, store in stores[item["version"]].items():
            if (root := linking.local_root(store)) is not None:
                roots[name] = {"root": str(root)}
    outputs = {}
    for item in spec.get("outputs") or []:
        value = str(item["value"]).replace("{unit}", real)
        outputs[item["name"]] = {
            "path": value.removeprefix("file://"), "mode": item["mode"], "value": value,
            "datastore": item["store"], "destination": item["path"],
        }  # fmt: skip
    write_atomic(folder / places.DATASETS_FILE, {"inputs": inputs, "outputs": outputs, "stores": roots}, mode=0o644)
