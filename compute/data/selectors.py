"""What is to be known about data on its way into and out of units."""

from __future__ import annotations

from typing import Any

from compute.models import Transfer, Unit


def transfer_of(unit: Unit, direction: str) -> Transfer | None:
    return Transfer.objects.filter(unit=unit, direction=direction).first()


def transfer_result(unit: Unit, direction: str) -> dict[str, Any]:
    """name -> {"files", "bytes", "cached_bytes", "single"}; empty before the transfer has ended."""
    found = transfer_of(unit, direction)
    return found.result if found is not None else {}


def is_moving(unit: Unit, direction: str) -> bool:
    return Transfer.objects.filter(unit=unit, direction=direction, state="moving").exists()
