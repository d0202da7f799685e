"""Upkeep: uploads that nobody went on with."""

from __future__ import annotations

from celery import shared_task

from studio.datasets.services import uploads


@shared_task(name="datasets.housekeeping")
def housekeeping() -> int:
    """How many uploads were dropped."""
    return uploads.sweep_stale()
