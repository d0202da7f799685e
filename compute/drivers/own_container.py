"""Where the studio itself runs in a container: how the engine's machine names the studio's folders."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _
from docker import APIClient

from compute.drivers.base import NotFound, Refused
from compute.drivers.engine import asking

_ID = re.compile(r"/containers/([0-9a-f]{64})/")
_SHORT = re.compile(r"^[0-9a-f]{12}$")

_known: weakref.WeakKeyDictionary[APIClient, list[tuple[str, str]] | None] = weakref.WeakKeyDictionary()


def own_ids(table: str = "/proc/self/mountinfo", host: str = "") -> list[str]:
    """What the engine may call the container that this process runs in; empty where it seems to run in none."""
    found = []
    with contextlib.suppress(OSError):
        found = _ID.findall(Path(table).read_text(errors="replace"))[:1]
    host = host or socket.gethostname()
    if _SHORT.match(host) and host not in found:
        found.append(host)
    return found


def own_mounts(client: APIClient) -> list[tuple[str, str]] | None:
    """[(folder in our container, folder on the engine's machine)], deepest first; None when we are in no container of
    this engine. Asked once per client. Raises Unreachable."""
    if client not in _known:
        _known[client] = _ask(client)
    return _known[client]


def _ask(client: APIClient) -> list[tuple[str, str]] | None:
    for each in own_ids():
        try:
            with asking():
                details: dict[str, Any] = client.inspect_container(each)
        except NotFound:
            continue
        if not str(details.get("Id", "")).startswith(each):
            continue  # somebody's container is named as our host
        pairs = [
            (mount["Destination"], mount["Source"]) for mount in details.get("Mounts") or [] if mount.get("Source")
        ]
        return sorted(pairs, key=lambda pair: len(pair[0]), reverse=True)
    return None


def translator(mounts: Callable[[], list[tuple[str, str]] | None]) -> Callable[[str], str]:
    """A function from a path here to the path of the same on the engine's machine. It raises Refused for one that only
    our own container has."""

    def translate(path: str) -> str:
        pairs = mounts()
        if pairs is None:
            return path
        for inside, outside in pairs:
            if path == inside or path.startswith(inside.rstrip("/") + "/"):
                return os.path.normpath(outside + "/" + path[len(inside) :])
        raise Refused(
            _(
                "Atelier runs in a container, and %(path)s is in no volume of it, so other containers cannot have it. "
                "Mount a volume or a folder there."
            )
            % {"path": path}
        )

    return translate
