"""Files as they are."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from atelier.data.abstract import AbstractDataset, no_partitions
from atelier.exceptions import UserErrorException


class FileDataset(AbstractDataset):
    """Files of datastores and addresses; ``take`` and the like work on whole files."""

    _type = "file"
    _place: str | None = None  # where a run has it: its folder, or its one file
    _done = 0  # steps that were taken before the files came to that place

    def __fspath__(self) -> str:
        """Where the run has it, so that ``os.path.join(run.input_datasets['x'], ...)`` works."""
        if self._place is None:
            raise TypeError(f"{self!r} has no place on this machine: download() or mount() it.")
        return self._place

    def __str__(self) -> str:
        return self._place or repr(self)

    def _at(self, place: str, source: Any) -> FileDataset:
        """This dataset as it lies at ``place``."""
        made = type(self)(self._definition, self._workspace, row=self._row, origin=self._origin, source=source)
        made._place, made._done = place, len(self._definition["steps"])
        return made

    def _changed(self, **changes: Any) -> Any:
        made = super()._changed(**changes)
        made._done = self._done
        return made

    def _to_do(self) -> Any:
        """The definition without the steps that were taken already."""
        return {**self._definition, "steps": self._definition["steps"][self._done :]}

    def as_mount(self, path_on_compute: str | None = None) -> Any:
        """As the input of a run, without a name of its own: see DatasetConsumptionConfig.as_mount."""
        return self._unnamed_input().as_mount(path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> Any:
        return self._unnamed_input().as_download(path_on_compute)

    def as_hdfs(self) -> Any:
        return self._unnamed_input().as_hdfs()

    # -- reading --------------------------------------------------------------------------------------------------

    def to_path(self) -> list[str]:
        """The paths of its files, each beginning with '/', relative to where the dataset begins."""
        from atelier.data import engine

        return list(engine.to_path(self._to_do(), self._bytes()))

    def files(self) -> Any:
        """Its files with their sizes, as ``DataFile`` objects."""
        from atelier.data import engine

        return list(engine.files(self._to_do(), self._bytes()))

    def download(
        self, target_path: Any = None, overwrite: bool = False, ignore_not_found: bool = False, **_: Any
    ) -> list[str]:
        """Copy its files below ``target_path`` (a new temporary folder); gives their paths there. Raises
        UserErrorException when one is there already, unless ``overwrite``."""
        from atelier.data import engine
        from atelier.data.copies import copy_files

        base = os.fspath(target_path) if target_path else tempfile.mkdtemp(prefix="atelier-data-")
        source = self._bytes()
        if not ignore_not_found:
            return list(engine.download(self._to_do(), source, base, overwrite))
        paths: list[str] = []
        for file in engine.files(self._to_do(), source):
            try:
                paths += copy_files([file], source, base, overwrite, None)
            except UserErrorException as error:
                if getattr(error, "kind", "") != "no-such-file":
                    raise
        return paths

    def mount(self, mount_point: Any = None, **_: Any) -> MountContext:
        """Its files below a folder, for a ``with`` block: local files as links to where they lie, others are brought
        here first."""
        return MountContext(self, mount_point)

    def _distinct(self) -> Any:
        """The files, names made different where two sources have the same."""
        import dataclasses

        taken, found = set(), []
        for file in self.files():
            name, number = file.name, 1
            while name in taken:
                stem, dot, ending = file.name.rpartition(".")
                name = f"{stem or ending}_{number}{dot}{ending if stem else ''}"
                number += 1
            taken.add(name)
            found.append(file if name == file.name else dataclasses.replace(file, name=name))
        return found

    def to_pandas_dataframe(self, *_arguments: Any, **_options: Any) -> Any:
        """Refused: see the message."""
        raise UserErrorException(
            "A file dataset has no rows. Read its files (to_path, download, mount), or make a tabular dataset of the "
            "same paths: Dataset.Tabular.from_delimited_files."
        )

    partition_by = staticmethod(no_partitions)
    partition_keys = property(lambda self: [])


class MountContext:
    """``mount_point`` is the folder; ``start`` and ``stop`` without a ``with`` block."""

    def __init__(self, dataset: FileDataset, mount_point: Any) -> None:
        self._dataset = dataset
        self._given = mount_point is not None
        self.mount_point = os.fspath(mount_point) if mount_point else tempfile.mkdtemp(prefix="atelier-mount-")
        self._started = False

    def start(self) -> MountContext:
        """Put the files there. Raises UserErrorException when the folder has something in it."""
        from atelier.data import store_files

        if self._started:
            return self
        base = Path(self.mount_point)
        base.mkdir(parents=True, exist_ok=True)
        if any(base.iterdir()):
            raise UserErrorException(f"{base} is not empty: mount a dataset in an empty folder.")
        self._started = True
        source = self._dataset._bytes()

        def link(file: Any) -> None:
            target = base / _inside(file.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(file.local or source.fetch(file)).resolve())

        try:
            store_files.in_parallel(link, self._dataset._distinct())
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Take the links away; the files stay where they lie."""
        if not self._started:
            return
        self._started = False
        for path in sorted(Path(self.mount_point).rglob("*"), reverse=True):
            if path.is_symlink():
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if not self._given:
            shutil.rmtree(self.mount_point, ignore_errors=True)

    def __enter__(self) -> MountContext:
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.stop()


def _inside(name: str) -> str:
    """The name as a path below a folder, never out of it."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "file"
