"""Events of a unit on their way into the database: by offset, in bulk, each exactly once."""

from __future__ import annotations

import json

from django.db import transaction

from compute import selectors
from compute.drivers.base import Driver, NotFound
from compute.drivers.unit_folder import STREAM_FILES, stream_sizes
from compute.models import Unit
from compute.signals import unit_events
from compute.spec import Handle
from studio.lib import storage

EVENTS = STREAM_FILES["events"]
PIECE = 4 << 20
LONGEST_LINE = 64 << 20
PIECES_PER_LOOK = 8  # so that one unit with much to say does not hold up the others


def ingest(unit: Unit, driver: Driver, size: int, *, final: bool = False) -> bool:
    """Hand on the new complete lines of events.jsonl, each exactly once; whether all of ``size`` bytes are in.

    ``final``: nobody writes any more, so a last line without its end is taken too when it is whole JSON.
    """
    handle = selectors.handle_of(unit)
    if not driver.shared:
        size = stream_sizes(storage.unit_directory(handle.key))["events"]  # what has been brought here
    limit = PIECE
    for _piece in range(PIECES_PER_LOOK):
        if unit.events_offset >= size:
            return True
        try:
            data = _read(driver, handle, unit.events_offset, limit)
        except NotFound:
            return True
        end = data.rfind(b"\n") + 1
        if not end:
            if len(data) >= limit and limit < LONGEST_LINE:
                limit *= 4
                continue
            if not final and len(data) < limit:
                return False
            end = len(data)  # the end of what was written, or a line beyond all measure: one bad line
        if not _hand_on(unit, data[:end], whole=final):
            return False
        limit = PIECE
    return unit.events_offset >= size


def _read(driver: Driver, handle: Handle, offset: int, limit: int) -> bytes:
    """From the target where the folder is shared, else from what was brought here: nothing is asked for twice."""
    if driver.shared:
        return driver.read(handle, EVENTS, offset, limit)
    with (storage.unit_directory(handle.key) / EVENTS).open("rb") as reader:
        reader.seek(offset)
        return reader.read(limit)


def _hand_on(unit: Unit, data: bytes, *, whole: bool) -> bool:
    """Move the offset and announce the lines, in one transaction. False when somebody else was first."""
    lines = data.split(b"\n")
    last = lines.pop()
    if last and not (whole and not _is_json(last)):
        lines.append(last)
    with transaction.atomic():
        moved = Unit.objects.filter(pk=unit.pk, events_offset=unit.events_offset).update(
            events_offset=unit.events_offset + len(data)
        )
        if not moved:
            unit.refresh_from_db(fields=["events_offset"])
            return False
        if lines:
            unit_events.send(Unit, unit=unit, lines=lines)
    unit.events_offset += len(data)
    return True


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
