"""What targets with containers declare: the fields of their limits, and what their check looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.utils.translation import gettext_lazy as _

from compute.resources import LABELS
from compute.spec import FormField

DEFAULT_PIDS = 4096
DEFAULT_SHM = "1g"
LOW_DISK_BYTES = 1 << 30  # where less is free, the check says so

SLOTS = FormField(
    name="slots",
    label=_("Runs at the same time"),
    kind="number",
    help=_("Empty: one per processor of the machine that Atelier runs on."),
    minimum=1,
    maximum=1024,
    address=False,
)

# Each is what a run gets that asks for nothing, and the most that one may ask for.
LIMITS: Sequence[FormField] = (
    FormField(
        name="cpus",
        label=LABELS["cpus"],
        help=_("Of one run, at most, such as 2 or 0.5. Empty: no limit."),
        address=False,
    ),
    FormField(
        name="memory",
        label=LABELS["memory"],
        help=_("Of one run, at most, such as 8g or 512m. A run that needs more is ended. Empty: no limit."),
        address=False,
    ),
    FormField(
        name="pids",
        label=LABELS["pids"],
        kind="number",
        help=_("Of one run, at most, threads counted too."),
        default=DEFAULT_PIDS,
        minimum=16,
        maximum=4_194_304,
        address=False,
    ),
    FormField(
        name="shm_size",
        label=LABELS["shm_size"],
        help=_("Size of /dev/shm, which data loaders with several processes use, such as 1g."),
        default=DEFAULT_SHM,
        address=False,
    ),
    FormField(
        name="gpus",
        label=LABELS["gpus"],
        help=_("none, all, or how many a run gets."),
        default="none",
        address=False,
    ),
)

VOLUMES = FormField(
    name="volumes",
    label=_("Folders of the machine"),
    kind="textarea",
    help=_("One on each line: /folder/of/the/machine:/folder/in/the/container, with :ro at the end for reading only."),
    address=False,
)

CHECKS: Sequence[tuple[str, Any]] = (
    ("engine", _("The Docker engine answers")),
    ("system", _("It runs Linux containers")),
    ("version", _("It is new enough")),
    ("data-folder", _("It sees the folders of runs")),
    ("disk", _("Room on the disk")),
    ("limits", _("The machine has what the limits say")),
    ("gpus", _("GPUs")),
    ("volumes", _("Folders of the machine may be used")),
)
