"""Places in a datastore: DataPath, DataReference, and the references of old run configurations."""

from __future__ import annotations

import copy
from typing import Any

from atelier.exceptions import UserErrorException


def inner_path(path: Any) -> str:
    """A path in a datastore: slashes, relative, nothing that leaves it. Raises UserErrorException."""
    text = str(path or "").replace("\\", "/").strip()
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UserErrorException(f"{path!r} leaves the datastore: a path in it has no '..'.")
    return "/".join(parts)


class DataPath:
    """A path (a file, a folder or a glob) in a datastore."""

    def __init__(self, datastore: Any = None, path_on_datastore: Any = None, name: str | None = None) -> None:
        self._datastore = datastore
        self._given = path_on_datastore
        self._name = name

    @property
    def datastore_name(self) -> str | None:
        return getattr(self._datastore, "name", self._datastore)

    @property
    def path_on_datastore(self) -> str:
        return inner_path(self._given)

    def create_data_reference(
        self, data_reference_name: str | None = None, datastore: Any = None, **options: Any
    ) -> DataReference:
        return DataReference(datastore or self._datastore, data_reference_name, self._given, **options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(datastore={self.datastore_name!r}, path_on_datastore={self.path_on_datastore!r})"


class DataReference(DataPath):
    """A path in a datastore that a run is given. In arguments and environment variables it becomes the local path.

    ``mode``: mount, download, or upload (the run writes there).
    """

    def __init__(
        self,
        datastore: Any,
        data_reference_name: str | None = None,
        path_on_datastore: Any = None,
        mode: str = "mount",
        path_on_compute: str | None = None,
        overwrite: bool = False,
    ) -> None:
        super().__init__(datastore, path_on_datastore)
        if mode not in ("mount", "download", "upload"):
            raise UserErrorException(f"mode={mode!r}: a data reference is mount, download or upload.")
        self.datastore = datastore
        self.data_reference_name = data_reference_name or self._name_made()
        self.mode = mode
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite

    def _name_made(self) -> str:
        import hashlib

        return "data_" + hashlib.sha256(f"{self.datastore_name}/{self.path_on_datastore}".encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        return self.data_reference_name

    def path(self, path: Any = None, data_reference_name: str | None = None) -> DataReference:
        """A place below this one."""
        below = "/".join(part for part in (self.path_on_datastore, inner_path(path)) if part)
        return DataReference(self.datastore, data_reference_name, below, self.mode, overwrite=self.overwrite)

    def as_mount(self) -> DataReference:
        return self._with(mode="mount")

    def as_download(self, path_on_compute: str | None = None, overwrite: bool = False) -> DataReference:
        return self._with(mode="download", path_on_compute=path_on_compute, overwrite=overwrite)

    def as_upload(self, path_on_compute: str | None = None, overwrite: bool = False) -> DataReference:
        return self._with(mode="upload", path_on_compute=path_on_compute, overwrite=overwrite)

    def _with(self, **changes: Any) -> DataReference:
        made = copy.copy(self)
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    def to_config(self) -> DataReferenceConfiguration:
        return DataReferenceConfiguration(
            self.datastore_name, self.mode, self.path_on_datastore, self.path_on_compute, self.overwrite
        )

    def __str__(self) -> str:
        side = "outputs" if self.mode == "upload" else "inputs"
        return f"${{{{{side}.{self.data_reference_name}}}}}"


class DataReferenceConfiguration:
    """A data reference as run configurations keep it, under its name in ``data_references``."""

    def __init__(
        self,
        datastore_name: str | None = None,
        mode: str = "mount",
        path_on_datastore: str | None = None,
        path_on_compute: str | None = None,
        overwrite: bool = False,
    ) -> None:
        self.datastore_name = datastore_name
        self.mode = (mode or "mount").lower()
        self.path_on_datastore = path_on_datastore
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite

    def to_dict(self) -> dict[str, Any]:
        return {
            "dataStoreName": self.datastore_name,
            "mode": self.mode,
            "pathOnDataStore": self.path_on_datastore,
            "pathOnCompute": self.path_on_compute,
            "overwrite": self.overwrite,
        }

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> DataReferenceConfiguration:
        lower = {str(key).lower(): value for key, value in found.items()}
        return cls(
            lower.get("datastorename"),
            lower.get("mode") or "mount",
            lower.get("pathondatastore"),
            lower.get("pathoncompute"),
            bool(lower.get("overwrite")),
        )

    def reference(self, name: str) -> DataReference:
        return DataReference(
            self.datastore_name, name, self.path_on_datastore, self.mode, self.path_on_compute, self.overwrite
        )
