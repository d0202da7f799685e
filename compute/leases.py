"""A lease on a unit's row: who works on it just now. It runs out by itself when its holder is killed."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from compute.models import Unit

LEASE_S = 10.0


def _host() -> str:
    return socket.gethostname()[:30]


def _me() -> str:
    return f"{_host()}:{os.getpid()}:{threading.get_ident()}"[:64]


def drop_dead(units: Iterable[Unit]) -> None:
    """End the leases of processes of this machine that are gone, so that nobody waits for them to run out."""
    for unit in units:
        host, _, rest = unit.lease_owner.partition(":")
        if host != _host() or unit.lease_until is None:
            continue
        try:
            os.kill(int(rest.partition(":")[0]), 0)
        except ProcessLookupError:
            Unit.objects.filter(pk=unit.pk, lease_owner=unit.lease_owner).update(lease_until=None, lease_owner="")
        except (ValueError, PermissionError):
            continue


@contextmanager
def _kept(unit_id: int, me: str, seconds: float) -> Iterator[None]:
    """The lease is renewed while its holder is at work, however long that takes."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(seconds / 3):
            until = timezone.now() + timedelta(seconds=seconds)
            Unit.objects.filter(pk=unit_id, lease_owner=me).update(lease_until=until)
        connection.close()

    thread = threading.Thread(target=renew, name=f"lease-{unit_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def lease(unit_id: int, seconds: float = LEASE_S, *, keep: bool = False) -> Iterator[bool]:
    """Whether the lease was got. Two holders at once are unlikely and harmless: each change is conditional anyway.

    ``keep``: it is renewed until the block ends, for work across a network that may take long.
    """
    me, now = _me(), timezone.now()
    free = Q(lease_until=None) | Q(lease_until__lt=now)
    got = Unit.objects.filter(free, pk=unit_id).update(lease_until=now + timedelta(seconds=seconds), lease_owner=me)
    try:
        with _kept(unit_id, me, seconds) if got and keep else nullcontext():
            yield bool(got)
    finally:
        if got:
            Unit.objects.filter(pk=unit_id, lease_owner=me).update(lease_until=None, lease_owner="")
