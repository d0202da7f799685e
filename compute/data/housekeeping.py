"""Keeping house: the cache within its size; carriers whose transfers, and profiles whose datasets, are gone."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from compute import states
from compute.data.places import PINS_FILE
from compute.models import Unit, UnitKind
from compute.services.units import unit_cancel, unit_delete
from studio.datasets import cache
from studio.datasets.models import DatasetProfile
from studio.lib import storage

CARRIERS_KEPT = timedelta(hours=1)
AT_ONCE = 200


def pinned() -> set[str]:
    """What living units link to in the cache."""
    found: set[str] = set()
    for key in Unit.objects.filter(state__in=list(states.LIVE), kind=UnitKind.COMMAND).values_list("key", flat=True):
        try:
            found.update((storage.unit_directory(key) / PINS_FILE).read_text(encoding="ascii").split())
        except OSError:
            continue
    return found


def housekeeping() -> None:
    """Once a minute."""
    cache.sweep(settings.ATELIER_CACHE_BYTES, pinned)
    left = Unit.objects.filter(
        kind=UnitKind.TRANSFER,
        state__in=list(states.TERMINAL),
        transfer_carried=None,
        ended_at__lt=timezone.now() - CARRIERS_KEPT,
    )
    profiles = Unit.objects.filter(kind=UnitKind.PROFILE).exclude(key__in=DatasetProfile.objects.values("unit_key"))
    profiles = profiles.filter(created_at__lt=timezone.now() - CARRIERS_KEPT)
    for unit in profiles.exclude(state__in=list(states.TERMINAL)).filter(cancel_requested_at=None)[:AT_ONCE]:
        unit_cancel(unit)  # nobody will ever see its figures
    ended = profiles.filter(state__in=list(states.TERMINAL))
    for unit in [*left[:AT_ONCE], *ended[:AT_ONCE]]:
        with transaction.atomic():
            unit_delete(unit)
