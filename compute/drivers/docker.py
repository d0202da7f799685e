"""Docker on this machine: units are containers that see their folder at the path that it has in the studio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.utils.translation import gettext_lazy

from compute.drivers import container_fields
from compute.drivers.local import LocalDriver
from compute.spec import FormField


class DockerDriver(LocalDriver):
    """Runs units in containers of the engine on this machine."""

    name: ClassVar[str] = "docker"
    title: ClassVar[Any] = gettext_lazy("Docker on this machine")
    summary: ClassVar[Any] = gettext_lazy("Runs are containers on the machine that Atelier runs on.")
    containers: ClassVar[bool] = True
    shared: ClassVar[bool] = True
    checks: ClassVar[Sequence[tuple[str, Any]]] = container_fields.CHECKS
    fields: ClassVar[Sequence[FormField]] = (
        container_fields.SLOTS,
        *container_fields.LIMITS,
        container_fields.VOLUMES,
    )
