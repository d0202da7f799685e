"""Inputs into a unit's directory before its command starts.

What is only a link is made at once, everything else is moved by a carrier (``compute.data.carriers``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from compute.data import carriers, linking, places
from compute.data.carriers import DONE, FAILED, IN, MOVING, WAITING, orphaned, take_over
from compute.drivers.unit_folder import write_atomic
from compute.models import Transfer, Unit
from studio.datasets import programs
from studio.datasets.models import DatasetVersion
from studio.lib import secrets as locks
from studio.lib import storage
from studio.lib.errors import AtelierError


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
        take_over(transfer, again)
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
) -> None:
    items, stores, signatures = [], {}, {}
    for item in plan:
        version = versions[item["version"]]
        stores.update(programs.stores_of(unit.workspace, version.definition))
        if version.secrets:
            signatures[item["name"]] = json.loads(locks.decrypt(version.secrets))
        items.append({**item, "definition": version.definition})
    label = _("Inputs of %(unit)s") % {"unit": unit}
    carriers.start(transfer, plan, items, stores, signatures, label, result=result)


def again(transfer: Transfer) -> None:
    """Another carrier for what an earlier one did not bring. Raises AtelierError."""
    unit = transfer.unit
    _start(transfer, transfer.plan, transfer.result, unit, _versions(unit, unit.spec))


def place_links(unit: Unit, spec: dict[str, Any], *, outside: bool = True) -> None:
    """Links where the inputs' own ``path_on_compute`` wants them. After the code is laid out. Raises StagingFailed.

    ``outside``: also those outside the unit's folder; a container has them mounted instead.
    """
    folder = storage.unit_directory(unit.key)
    for item in staged_inputs(spec):
        if wanted := item.get("path_on_compute"):
            source = folder.resolve() / places.INPUTS / item["name"]
            try:
                if wanted.startswith("/"):
                    if not outside:
                        continue
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
