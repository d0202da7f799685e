"""Datasets of a workspace: made of files, found by name or id."""

from __future__ import annotations

from typing import Any, Mapping

from atelier.data.factory import DataType, FileDatasetFactory, TabularDatasetFactory
from atelier.data.file_dataset import FileDataset
from atelier.data.tabular_dataset import TabularDataset
from atelier.exceptions import ServiceException, UserErrorException
from atelier.transport import segment


class Dataset:
    """``Dataset.Tabular.from_...`` and ``Dataset.File.from_files`` make one; these calls find one."""

    Tabular = TabularDatasetFactory
    File = FileDatasetFactory

    @staticmethod
    def get_by_name(workspace: Any, name: str, version: Any = "latest") -> Any:
        """A registered dataset. Raises UserErrorException when there is none of this name and version."""
        from atelier.data.abstract import from_row
        from atelier.data.unit_source import input_find

        own = input_find(workspace, name=name, version=version)
        if own is not None:
            return own
        try:
            row = workspace._call("GET", f"datasets/{segment(name)}/versions/{segment(version)}")
        except ServiceException as error:
            if error.status_code not in (404, 422):
                raise
            raise UserErrorException(f"{error} (workspace {workspace.name})") from error
        return from_row(workspace, row)

    @staticmethod
    def get_by_id(workspace: Any, id: str, **_: Any) -> Any:  # noqa: A002 - the v1 name
        """A version by its id; a run's own inputs are known without the network. Raises UserErrorException."""
        from atelier.data.abstract import from_row
        from atelier.data.unit_source import input_find

        own = input_find(workspace, id=id)
        if own is not None:
            return own
        try:
            row = workspace._call("GET", f"data/{segment(id)}")
        except ServiceException as error:
            if error.status_code not in (404, 422):
                raise
            raise UserErrorException(f"Workspace {workspace.name} has no dataset with the id {id!r}.") from error
        return from_row(workspace, row)

    @staticmethod
    def get_all(workspace: Any) -> Mapping[str, Any]:
        """The latest version of each registered dataset, by name; read when it is asked for."""
        return _Datasets(workspace)


class _Datasets(Mapping[str, Any]):
    """Names are listed once; a dataset is read when it is asked for."""

    def __init__(self, workspace: Any) -> None:
        self._workspace = workspace
        self._names: Any = None

    def _listed(self) -> Any:
        if self._names is None:
            self._names = [item["name"] for item in self._workspace._list("datasets")]
        return self._names

    def __getitem__(self, name: str) -> Any:
        try:
            return Dataset.get_by_name(self._workspace, name)
        except UserErrorException as error:
            raise KeyError(name) from error

    def __contains__(self, name: object) -> bool:
        return name in self._listed()

    def __iter__(self) -> Any:
        return iter(self._listed())

    def __len__(self) -> int:
        return len(self._listed())

    def __repr__(self) -> str:
        return f"{{{', '.join(self._listed())}}}"


__all__ = ["DataType", "Dataset", "FileDataset", "FileDatasetFactory", "TabularDataset", "TabularDatasetFactory"]
