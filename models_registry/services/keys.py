"""The two keys of an endpoint: encrypted at rest, shown on demand and on the record, rotated without a restart."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _

from compute.models import Unit
from models_registry.models import Endpoint
from studio.accounts.models import User
from studio.accounts.services import audit
from studio.lib import secrets as locks
from studio.lib import storage
from studio.lib.errors import Invalid

WHICH = ("primary", "secondary")
FILE = "service-keys.json"


def new_keys() -> str:
    """Two fresh keys, encrypted."""
    return locks.encrypt(json.dumps({which: locks.new_token("atk") for which in WHICH}))


def read_keys(endpoint: Endpoint) -> dict[str, str]:
    """For the studio's own calls: nothing is written down."""
    return {which: str(key) for which, key in json.loads(locks.decrypt(endpoint.keys)).items()} if endpoint.keys else {}


def digests(endpoint: Endpoint) -> list[str]:
    return [locks.digest(key) for key in read_keys(endpoint).values()]


def keys(endpoint: Endpoint, *, user: User | None = None, request: HttpRequest | None = None) -> dict[str, str]:
    """{"primary", "secondary"} in the clear, for somebody who may write; on record when ``user`` is given."""
    found = read_keys(endpoint)
    if user is not None:
        audit(user, "endpoint.keys", workspace=endpoint.workspace, object=endpoint, request=request)
    return found


@transaction.atomic
def key_rotate(
    endpoint: Endpoint,
    which: str,
    *,
    user: User | None = None,
    key: str | None = None,
    request: HttpRequest | None = None,
) -> dict[str, str]:
    """A new key in place of one of the two; the service takes it, and refuses the old one, from its next request on."""
    if which.lower() not in WHICH:
        raise Invalid(_("There are two keys: primary and secondary."), field="key")
    locked = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
    found = read_keys(locked)
    found[which.lower()] = key or locks.new_token("atk")
    locked.keys = endpoint.keys = locks.encrypt(json.dumps(found))
    locked.save(update_fields=["keys", "updated_at"])
    if user is not None:
        audit(
            user, "endpoint.key-rotate", workspace=endpoint.workspace, object=endpoint,
            detail={"key": which.lower()}, request=request,
        )  # fmt: skip
    transaction.on_commit(lambda: publish_keys(locked))
    return found


def publish_keys(endpoint: Endpoint) -> None:
    """Into the folders of the endpoint's units, now; the beat does it again for a unit that is being made."""
    for deployment in endpoint.deployments.select_related("unit"):
        if deployment.unit is not None:
            write_digests(deployment.unit, digests(endpoint))


def write_digests(unit: Unit, wanted: list[str]) -> bool:
    """The keys file of a unit, replaced in one step when it says something else. False where nothing was to do."""
    folder = storage.unit_directory(unit.key)
    if not folder.is_dir():
        return False
    path = folder / FILE
    content = json.dumps({"digests": wanted})
    with contextlib.suppress(OSError):
        if path.read_text() == content:
            return False
    fresh = Path(f"{path}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(content)
    fresh.replace(path)
    return True
