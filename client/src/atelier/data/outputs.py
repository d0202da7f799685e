"""What a run leaves: outputs that become files of a datastore, and datasets."""

from __future__ import annotations

import copy
import uuid
from typing import Any, Mapping

from atelier.data.consumption import DIRECT, DOWNLOAD, HDFS, MOUNT, DatasetConsumptionConfig, name_check
from atelier.data.references import DataPath, inner_path
from atelier.exceptions import UserErrorException

UPLOAD = "upload"


class _Origin:
    """The run that made an output, known once it was submitted; shared by all copies of the output."""

    run: Any = None


class _Output:
    """The parts that all outputs share. In arguments, commands and environment variables the object stands for the
    local path that the run writes to."""

    _leaf = "folder"

    def __init__(self, name: str | None, destination: Any, mode: str) -> None:
        self._name = name_check(name or f"output_{uuid.uuid4().hex[:8]}", "output")
        self.destination = destination
        self._datastore, self._path = _destination(destination)
        self.mode = mode
        self._registered: dict[str, Any] | None = None
        self._reading: dict[str, Any] | None = None
        self._origin = _Origin()

    @property
    def name(self) -> str:
        return self._name

    @property
    def datastore_name(self) -> str | None:
        return self._datastore

    def _with(self, **changes: Any) -> Any:
        made = copy.copy(self)
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    def register_on_complete(self, name: str, description: str | None = None, tags: Any = None) -> Any:
        """Register what was written as a dataset, a new version of ``name``, when the run has completed. Gives a
        copy."""
        if not name:
            raise UserErrorException("register_on_complete needs the name of the dataset to register.")
        kept = {str(key): None if value is None else str(value) for key, value in (tags or {}).items()}
        return self._with(_registered={"name": name, "description": description or "", "tags": kept})

    def as_input(self, name: str | None = None) -> DatasetConsumptionConfig:
        """What the run wrote, as the input of another run. It can be submitted once the first run has completed."""
        tabular = self._reading is not None
        made = DatasetConsumptionConfig.__new__(DatasetConsumptionConfig)
        made._name = name_check(name or f"input_{self._name}")
        made.dataset, made.path_on_compute = Produced(self, tabular), None
        made.mode = DIRECT if tabular else MOUNT
        return made

    def _body(self) -> dict[str, Any]:
        """The output in the body of a submit."""
        return {
            "name": self._name,
            "mode": self.mode,
            "datastore": self._datastore,
            "path": self._path or None,
            "leaf": self._leaf,
            "register": self._registered,
            "type": "file" if self._reading is None else "tabular",
            "options": self._reading or {},
        }

    def __str__(self) -> str:
        return f"${{{{outputs.{self._name}}}}}"

    def __repr__(self) -> str:
        where = f"{self._datastore or 'the default datastore'}/{self._path or 'dataset/{run-id}/{output-name}'}"
        return f"{type(self).__name__}(name={self._name!r}, destination={where!r}, mode={self.mode!r})"


class OutputFileDatasetConfig(_Output):
    """A folder that the run writes, kept at ``destination``: ``(datastore, path)``, with ``{run-id}`` and
    ``{output-name}`` filled in. Without one it is ``dataset/{run-id}/{output-name}`` on the default datastore."""

    def __init__(
        self,
        name: str | None = None,
        destination: Any = None,
        source: str | None = None,
        partition_format: str | None = None,
    ) -> None:
        if source is not None:
            raise UserErrorException(
                f"source={source!r}: the run is told the path to write to; pass the output itself as an argument."
            )
        if partition_format is not None:
            raise UserErrorException("partition_format is not read from the paths of outputs.")
        super().__init__(name, destination, MOUNT)

    def as_upload(self, overwrite: bool = False, source_globs: Any = None, **_: Any) -> OutputFileDatasetConfig:
        """Send the files after the run. Files that are there already are replaced, whatever ``overwrite`` says."""
        if source_globs is not None:
            raise UserErrorException("source_globs: all files that the run writes into the output are kept.")
        made: OutputFileDatasetConfig = self._with(mode=UPLOAD)
        return made

    def as_mount(self, disable_metadata_cache: bool = False) -> OutputFileDatasetConfig:
        """Written straight to a local datastore; other datastores get the files after the run."""
        made: OutputFileDatasetConfig = self._with(mode=MOUNT)
        return made

    def read_delimited_files(
        self,
        include_path: bool = False,
        separator: str = ",",
        header: Any = True,
        partition_format: str | None = None,
        path_glob: str | None = None,
        set_column_types: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> OutputTabularDatasetConfig:
        """A copy whose dataset is tabular: the files are read as delimited text."""
        options: dict[str, Any] = {"kind": "delimited", "separator": separator, "header": has_header(header)}
        options.update(_table_options(include_path, partition_format, path_glob, set_column_types))
        return self._read_as_table(options)

    def read_parquet_files(
        self,
        include_path: bool = False,
        partition_format: str | None = None,
        path_glob: str | None = None,
        set_column_types: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> OutputTabularDatasetConfig:
        """A copy whose dataset is tabular: the files are read as Parquet."""
        options = _table_options(include_path, partition_format, path_glob, set_column_types)
        return self._read_as_table({"kind": "parquet", **options})

    def _read_as_table(self, options: dict[str, Any]) -> OutputTabularDatasetConfig:
        made = OutputTabularDatasetConfig.__new__(OutputTabularDatasetConfig)
        made.__dict__.update(self.__dict__, _reading=options)
        return made


def _table_options(include_path: bool, partition: str | None, glob: str | None, types: Any) -> dict[str, Any]:
    """What both ways to read an output as a table have in common, as the definition names it."""
    if types:
        raise UserErrorException("set_column_types: the columns of an output are known when it is read; set them then.")
    options: dict[str, Any] = {"include_path": include_path, "partition_format": partition}
    if glob:
        options["glob"] = inner_path(glob)
    return options


class OutputTabularDatasetConfig(OutputFileDatasetConfig):
    """An output whose dataset is tabular."""


class HDFSOutputDatasetConfig(_Output):
    """An output of a Spark job: the argument is a path that Spark can write to."""

    _leaf = "parent"  # Spark makes the folder itself, and refuses one that is there
    read_delimited_files = OutputFileDatasetConfig.read_delimited_files
    read_parquet_files = OutputFileDatasetConfig.read_parquet_files

    def __init__(self, name: str | None = None, destination: Any = None) -> None:
        super().__init__(name, destination, HDFS)

    def _read_as_table(self, options: dict[str, Any]) -> HDFSOutputDatasetConfig:
        made: HDFSOutputDatasetConfig = self._with(_reading=options)
        return made


class PipelineData(_Output):
    """An output by its name, used as the input of a later run."""

    _leaf = "parent"  # scripts make a folder of it, or write it as a file

    def __init__(
        self,
        name: str,
        datastore: Any = None,
        output_name: str | None = None,
        output_mode: str = MOUNT,
        output_path_on_compute: str | None = None,
        output_overwrite: bool | None = None,
        data_type: Any = None,
        is_directory: bool | None = None,
        pipeline_output_name: str | None = None,
        training_output: Any = None,
    ) -> None:
        if output_mode not in (MOUNT, UPLOAD):
            raise UserErrorException(f"output_mode={output_mode!r}: mount or upload.")
        super().__init__(output_name or name, None, output_mode)
        self.datastore = datastore
        self._datastore = getattr(datastore, "name", datastore)
        self.data_type = data_type
        self.pipeline_output_name = pipeline_output_name
        if is_directory:
            self._leaf = "folder"

    def as_dataset(self) -> PipelineData:
        return self

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        return self.as_input(name)

    def as_mount(self) -> DatasetConsumptionConfig:
        return self.as_input()

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return self.as_input().as_download(path_on_compute)


class Produced:
    """The dataset that a run makes, before and after it did. ``_input`` gives its id, and says what is missing."""

    def __init__(self, output: _Output, tabular: bool) -> None:
        self._output = output
        self._type = "tabular" if tabular else "file"

    def _input(self) -> dict[str, Any]:
        name, run = self._output.name, self._output._origin.run
        if run is None:
            raise UserErrorException(
                f"The input is output {name!r} of a run that was not submitted: submit that run first, with the output "
                "among its arguments."
            )
        status = run.get_status()
        for output in run._load().get("outputs") or ():
            if output["name"] == name and output.get("dataset"):
                return {"dataset_id": output["dataset"]["id"]}
        raise UserErrorException(
            f"The input is output {name!r} of run {run.id}, which has left no dataset: its status is {status}. Wait "
            "for it to complete: run.wait_for_completion()."
        )

    def __repr__(self) -> str:
        run = self._output._origin.run
        return f"output {self._output.name!r} of {f'run {run.id}' if run is not None else 'a run to be submitted'}"


def has_header(header: Any) -> bool:
    """v1's header choices as one word: whether the first row has the names."""
    if isinstance(header, bool):
        return header
    if header is None:
        return False
    word = str(getattr(header, "name", header)).rpartition(".")[2].upper()
    if word in ("NO_HEADERS", "NONE", "FALSE"):
        return False
    if word in (
        "ALL_FILES_HAVE_SAME_HEADERS",
        "ALL_FILES_SAME_HEADERS",
        "ONLY_FIRST_FILE_HAS_HEADERS",
        "TRUE",
        "UNGROUPED",
        "CONSTANTGROUPED",
        "GROUPED",
    ):
        return True
    if word in ("ALL_FILES_HAVE_DIFFERENT_HEADERS", "ALL_FILES_DIFFERENT_HEADERS"):
        return True
    raise UserErrorException(f"header={header!r}: True where the first row has the names, else False.")


def _destination(destination: Any) -> Any:
    """``(datastore name or None, path or "")``."""
    if destination is None:
        return None, ""
    if isinstance(destination, DataPath):
        return destination.datastore_name, destination.path_on_datastore
    if isinstance(destination, (tuple, list)) and len(destination) == 2:
        datastore, path = destination
        return getattr(datastore, "name", datastore), inner_path(path)
    if hasattr(destination, "name"):  # a datastore alone
        return destination.name, ""
    raise UserErrorException(f"destination={destination!r}: give (datastore, 'path').")


__all__ = [
    "DOWNLOAD",
    "HDFSOutputDatasetConfig",
    "OutputFileDatasetConfig",
    "OutputTabularDatasetConfig",
    "PipelineData",
]
