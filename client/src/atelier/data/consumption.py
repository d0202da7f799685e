"""A dataset as the named input of a run."""

from __future__ import annotations

import copy
import re
from typing import Any

from atelier.exceptions import UserErrorException

DIRECT, MOUNT, DOWNLOAD, HDFS = "direct", "mount", "download", "hdfs"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def name_check(name: Any, what: str = "input") -> str:
    """The name, which becomes an environment variable too. Raises UserErrorException."""
    if not isinstance(name, str) or not _NAME.match(name) or len(name) > 255:
        raise UserErrorException(
            f"{name!r} cannot be the name of an {what}: letters, digits and '_', not beginning with a digit."
        )
    return name


class DatasetConsumptionConfig:
    """A dataset, the name under which a run finds it, and how it gets there.

    ``mode``: direct (a tabular dataset: its id is the argument), mount, download, hdfs. In arguments, commands and
    environment variables the object stands for what the run will see there.
    """

    def __init__(
        self, name: str, dataset: Any, mode: str = DIRECT, path_on_compute: str | None = None, **_: Any
    ) -> None:
        if mode not in (DIRECT, MOUNT, DOWNLOAD, HDFS):
            raise UserErrorException(f"mode={mode!r}: an input is direct, mount, download or hdfs.")
        self._name = name_check(name)
        self.dataset = dataset
        self.mode = mode
        self.path_on_compute = path_on_compute

    @property
    def name(self) -> str:
        return self._name

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Its files as a folder that is there without a copy, where the target can do that. ``path_on_compute``: where
        the run sees them, a path relative to its working folder or an absolute one."""
        return self._with(MOUNT, path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Its files copied to the target before the run starts."""
        return self._with(DOWNLOAD, path_on_compute)

    def as_hdfs(self) -> DatasetConsumptionConfig:
        """A path that Spark can read."""
        return self._with(HDFS, None)

    def as_direct(self) -> DatasetConsumptionConfig:
        made = copy.copy(self)
        made.mode, made.path_on_compute = DIRECT, None
        return made

    def _with(self, mode: str, path: str | None) -> DatasetConsumptionConfig:
        if getattr(self.dataset, "_type", "file") == "tabular":
            raise UserErrorException(
                f"Input {self.name!r} is a tabular dataset: it has no files to {mode}. Leave the call out (the run "
                "gets the dataset's id), or make a file dataset of the same paths: Dataset.File.from_files."
            )
        made = copy.copy(self)
        made.mode, made.path_on_compute = mode, path
        return made

    def __str__(self) -> str:
        return f"${{{{inputs.{self.name}}}}}"

    def __repr__(self) -> str:
        return f"DatasetConsumptionConfig(name={self.name!r}, mode={self.mode!r}, dataset={self.dataset!r})"
