"""Where the files of a run lie, and under which names people see them.

``outputs/`` and ``logs/`` are the run's own folders, files uploaded under other names lie in ``artifacts/`` and keep
the names they were given. ``user_logs/std_log.txt`` is what the command printed; older names of it still answer.
``system_logs/`` holds what Atelier has to say: the build of the environment and the exit record.
"""

from __future__ import annotations

import os
from pathlib import Path

from django.utils.translation import gettext as _

from compute.models import EnvironmentBuild, Transfer
from runs.models import Run
from studio.lib import storage
from studio.lib.errors import Invalid, NotFound
from studio.lib.names import to_disk

STD_LOG = "user_logs/std_log.txt"
STD_LOG_ALIASES = frozenset({
    "azureml-logs/70_driver_log.txt", "logs/azureml/stdoutlogs.txt", "logs/azureml/driver/stdout",
    "logs/azureml/stdoutlogs", "user_logs/std_log_process_00.txt",
})  # fmt: skip
BUILD_LOG = "system_logs/environment_build.log"
EXIT_RECORD = "system_logs/exit.json"
DATA_LOGS = {"in": "system_logs/data_inputs.log", "out": "system_logs/data_outputs.log"}
AREAS = ("outputs", "logs", "artifacts")
# Names that Atelier answers for itself; nobody uploads under them.
OWN = ("user_logs", "system_logs", "azureml-logs")
# Names in the directory of a run: an upload under one of them would look like the real thing.
RESERVED = frozenset({
    "spec.json", "secrets.json", "beat.json", "exit.json", "events.jsonl", "stdout.log", "code", "inputs", "lock",
    "artifacts", "produced", "mounts", "mounts.json", "datasets.json", *OWN,
})  # fmt: skip


def directory(run: Run) -> Path:
    return storage.unit_directory(run.key)


def area(run: Run, name: str) -> Path:
    """One of the run's folders. A link in its place leads nowhere: what runs in a container sees less of this machine
    than the studio, and could have it read by such a link what it may not see itself."""
    folder = directory(run) / name
    return folder.with_name(f".{name}-is-a-link") if folder.is_symlink() else folder


def build_log(run: Run) -> Path | None:
    """The log of the build of the run's environment on its target, None where nothing was built."""
    if run.environment_id is None or run.target_id is None or run.environment is None:
        return None
    key = (
        EnvironmentBuild.objects.filter(content_hash=run.environment.content_hash, target_id=run.target_id)
        .values_list("unit__key", flat=True)
        .first()
    )
    return storage.unit_directory(key) / "stdout.log" if key else None


def data_logs(run: Run) -> dict[str, Path]:
    """The logs of what moved the run's inputs and outputs."""
    if run.unit_id is None:
        return {}
    rows = Transfer.objects.filter(unit=run.unit_id).exclude(carrier=None).values_list("direction", "carrier__key")
    return {DATA_LOGS[direction]: storage.unit_directory(key) / "stdout.log" for direction, key in rows}


def own_files(run: Run) -> dict[str, Path]:
    """Name -> file of what is not in one of the run's folders, of those that exist."""
    candidates = {STD_LOG: directory(run) / "stdout.log", EXIT_RECORD: directory(run) / "exit.json"}
    if built := build_log(run):
        candidates[BUILD_LOG] = built
    candidates.update(data_logs(run))
    return {name: path for name, path in candidates.items() if path.is_file() and not path.is_symlink()}


def place(run: Run, raw: str) -> tuple[Path, str]:
    """(root, path below it) of a name in one of the run's folders, there or not; Invalid for Atelier's own names."""
    name = storage.clean_relative(raw)
    head, _slash, rest = name.partition("/")
    if head in ("outputs", "logs") and rest:
        return area(run, head), rest
    if head in OWN:
        raise Invalid(_("%(head)s/ is kept by Atelier: choose another name.") % {"head": head}, field="path")
    return area(run, "artifacts"), name


def check_upload(raw: str) -> None:
    """Raises Invalid for a name that nobody may upload a file under."""
    name = storage.clean_relative(raw)
    head = name.partition("/")[0]
    if head in RESERVED:
        raise Invalid(
            _("%(head)s is a name that Atelier keeps for itself: upload under another one, like outputs/%(name)s.")
            % {"head": head, "name": name},
            field="path",
        )
    if name in ("outputs", "logs"):
        raise Invalid(_("%(name)s is a folder: give the file a name below it.") % {"name": name}, field="path")


def on_disk(root: Path, name: str) -> Path:
    """The file or folder that is listed as ``name`` below ``root``; Invalid for a link that leads out."""
    path = storage.safe_join(root, name)
    given = to_disk(name)
    if given == name or path.exists():
        return path
    path = root / given
    if not inside(str(path), os.path.realpath(root)):
        raise Invalid(_("%(name)s leaves its folder.") % {"name": name}, field="path")
    return path


def find(run: Run, raw: str) -> Path:
    """The file or folder of that name; raises NotFound, also for a link that leads out of the run's folder."""
    name = storage.clean_relative(raw)
    if name.split("/", 1)[0] not in OWN:
        if name in ("outputs", "logs"):
            path = area(run, name)
        else:
            root, rest = place(run, name)
            try:
                path = on_disk(root, rest)
            except Invalid:
                raise NotFound(_("%(name)s is a link that leads out of the run's files.") % {"name": name}) from None
        if path.exists():
            return path
    if name in STD_LOG_ALIASES:
        name = STD_LOG
    if found := own_files(run).get(name):
        return found
    raise NotFound(_("The run has no file %(name)s.") % {"name": name})


def inside(path: str, real_root: str) -> bool:
    """Whether ``path`` with all links followed lies below ``real_root``."""
    return os.path.realpath(path).startswith(real_root + os.sep)


def tree_bytes(root: Path) -> int:
    """Bytes of the plain files below ``root``, without following links; 0 where there is none. Iterative: any depth."""
    total, waiting = 0, [str(root)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif not entry.is_symlink():
                        total += entry.stat(follow_symlinks=False).st_size
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
    return total
