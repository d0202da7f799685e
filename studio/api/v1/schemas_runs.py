"""Snapshots, runs, metrics, files and experiments, as they go over the wire."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ninja import Field, Schema

from studio.api.v1.schemas import Input, Named
from studio.api.v1.schemas_compute import RecipeIn

Scalar = str | int | float | bool


class FileEntry(Input):
    path: str = Field(..., examples=["train.py"])
    sha256: str = Field(..., description="Of the content, in hexadecimal.", min_length=64, max_length=64)
    size: int = Field(..., ge=0, le=1 << 53, description="Bytes.")
    mode: int = Field(0o644, ge=0, le=0o177777, description="Permission bits; only whether it is executable is kept.")


class FileList(Input):
    files: list[FileEntry]


class MissingOut(Schema):
    missing: list[str] = Field(..., description="SHA-256 of the contents that must be sent with PUT blobs/<sha256>.")


class BlobOut(Schema):
    sha256: str
    size: int


class SnapshotOut(Schema):
    id: str = Field(..., description="Digest of the list of files: the same folder is one snapshot.")
    size: int
    count: int


class SnapshotFile(Schema):
    path: str
    sha256: str
    size: int
    mode: int


class SnapshotDetail(SnapshotOut):
    files: list[SnapshotFile]
    created_at: dt.datetime


class EnvironmentRef(Input):
    """A registered environment by name (and version), or a recipe to make one of."""

    name: str | None = None
    version: int | None = None
    recipe: RecipeIn | None = None


class InputIn(Input):
    """A dataset that a run is given. Exactly one of `definition`, `dataset_id` and `dataset`."""

    name: str = Field(
        ...,
        description="Letters, digits and underscores. Also an environment variable of the run; arguments, command and "
        "variables name it as `${{inputs.<name>}}`.",
        examples=["training"],
    )
    mode: str = Field(
        "direct",
        description="direct: the argument is the dataset's id. For file datasets also mount and download (a path on "
        "the compute target) and hdfs (the same as a file:// address).",
    )
    definition: dict[str, Any] | None = Field(None, description="A definition, which is saved without a name.")
    dataset_id: str | None = Field(None, description="Id of a dataset version.")
    dataset: str | None = Field(None, description="Name, or name:version.", examples=["iris:2"])
    path_on_compute: str | None = Field(None, description="Where it is to be found: below the code's folder, or an "
                                        "absolute path.")  # fmt: skip


class RegisterIn(Input):
    name: str
    description: str = ""
    tags: dict[str, str | None] = Field(default_factory=dict)


class OutputIn(Input):
    """A place that a run writes to, and that is taken to a datastore once its command has ended well."""

    name: str = Field(..., description="As for an input; `${{outputs.<name>}}` names it.", examples=["prepared"])
    mode: str = Field("upload", description="upload, mount or hdfs.")
    datastore: str | None = Field(None, description="Null: the workspace's default datastore.")
    path: str | None = Field(
        None,
        description="Folder in the datastore; {run-id} and {output-name} are filled in. Null: "
        "dataset/{run-id}/{output-name}.",
    )
    leaf: str = Field("folder", description="folder: it is made before the start. parent: only what it lies in is.")
    register_as: RegisterIn | None = Field(
        None, alias="register", description="Register it as a dataset when the run completes."
    )
    type: str = Field("file", description="file or tabular: what it is registered as.")
    options: dict[str, Any] = Field(default_factory=dict, description="How a tabular one is read.")


class ResourcesIn(Input):
    """What a run asks of its container; what is not given is as its target has it."""

    cpus: float | str | None = Field(None, description="Processors.", examples=[2, 0.5])
    memory: int | str | None = Field(
        None, description="At most so much: bytes, or with a unit. A run that needs more is ended.", examples=["8g"]
    )
    shm_size: int | str | None = Field(None, description="Of /dev/shm.", examples=["2g"])
    gpus: int | str | None = Field(None, description="How many; all; none.", examples=[1, "all"])
    pids: int | str | None = Field(None, description="Processes and threads.", examples=[4096])


class ResourcesOut(Schema):
    cpus: float | None = None
    memory: int | None = Field(None, description="Bytes.")
    shm_size: int | None = Field(None, description="Bytes.")
    gpus: int | str | None = None
    pids: int | None = None


class RunIn(Input):
    experiment: str = Field(..., examples=["iris"])
    script: str = Field("", description="Path of the script in the snapshot.", examples=["train.py"])
    arguments: list[Scalar] = Field(default_factory=list, examples=[["--C", 0.5]])
    command: list[Scalar] | None = Field(None, description="A command instead of a script.")
    snapshot: str | None = Field(None, description="Digest of a snapshot; or give `files`.")
    files: dict[str, str] | None = Field(
        None, description="Path -> text, for small sources.", examples=[{"train.py": "print('hi')"}]
    )
    target: str = Field("local", description="Name of a compute target.")
    environment: EnvironmentRef | None = Field(None, description="Null: this machine's own Python.")
    environment_variables: dict[str, str] = Field(default_factory=dict)
    tags: dict[str, str | None] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict, description="Written once; cannot be changed.")
    time_limit_s: int | None = Field(
        None,
        description="1 to 31,536,000 (365 days): seconds of running after which the run is ended. "
        "It is Failed then, its error's code Timeout. Null: no limit.",
    )
    name: str = ""
    inputs: list[InputIn] = Field(default_factory=list, description="Datasets that the run is given.")
    outputs: list[OutputIn] = Field(default_factory=list, description="What the run makes, and where it goes.")
    resources: ResourcesIn | None = Field(
        None, description="Limits of the run's container, on targets that have containers."
    )
    interactive: bool = Field(False, description="No command is started: the caller reports the run itself.")
    parent: str | None = Field(None, description="Id of the run that this one is a child of.")


class RunChanges(Input):
    """What a resubmit changes; what is not named stays as it was."""

    experiment: str | None = None
    script: str | None = None
    arguments: list[Scalar] | None = None
    command: list[Scalar] | None = None
    snapshot: str | None = None
    target: str | None = None
    environment: EnvironmentRef | None = None
    environment_variables: dict[str, str] | None = None
    tags: dict[str, str | None] | None = None
    properties: dict[str, str] | None = None
    time_limit_s: int | None = None
    name: str | None = None
    inputs: list[InputIn] | None = None
    outputs: list[OutputIn] | None = None
    resources: ResourcesIn | None = None


class RunPatch(Input):
    name: str | None = Field(None, max_length=255)
    notes: str | None = None
    tags: dict[str, str | None] | None = Field(None, description="Tags to set.")
    tags_remove: list[str] | None = Field(None, description="Tags to take off.")
    properties: dict[str, str] | None = Field(
        None, description="Properties to add. One that is there already is refused."
    )
    archived: bool | None = None


class CancelIn(Input):
    force: bool = Field(False, description="SIGKILL at once instead of SIGTERM and a grace.")


class FailIn(Input):
    error: str | dict[str, Any] | None = Field(None, description="Text, or an object with `message`.")


class ChildrenIn(Input):
    count: int = Field(1, description="How many.")
    name: str = ""
    tags: dict[str, str | None] = Field(default_factory=dict)


class RunDataset(Schema):
    id: str
    name: str | None = Field(None, description="Null for one that nobody named.")
    version: int | None = None
    label: str = Field("", description="What people see: name:version, or what an unnamed one reads.")


class RunDataOut(Schema):
    """An input or output of a run."""

    name: str
    mode: str
    dataset: RunDataset | None = Field(None, description="Of an output: once the run has completed.")
    value: str | None = Field(None, description="What the argument and the variable say; null until that is known.")
    datastore: str | None = Field(None, description="Where an output goes.")
    path: str | None = None
    state: str = Field(..., description="waiting, moving, done or failed.")


class RunOut(Schema):
    id: str = Field(..., examples=["iris_1760000000_0a1b2c3d"])
    number: int
    name: str
    experiment: str
    status: str = Field(
        ...,
        description="NotStarted, Preparing, Queued, Starting, Running, Finalizing, Completed, Failed, CancelRequested, "
        "Canceled or NotResponding.",
    )
    type: str = Field(..., description="script or interactive.")
    parent: str | None
    target: str | None
    environment: Named | None
    script: str
    arguments: list[str]
    command: list[str]
    tags: dict[str, str | None]
    properties: dict[str, str]
    parameters: dict[str, str]
    inputs: list[RunDataOut]
    outputs: list[RunDataOut]
    resources: ResourcesOut = Field(..., description="What it asked of its container; null: as its target has it.")
    metrics: dict[str, float | str | None] = Field(..., description="Last value of each scalar metric.")
    notes: str
    error: dict[str, Any] | None
    warnings: list[str]
    snapshot: str | None
    created_by: str | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    archived: bool
    url: str = Field(..., description="Its page in the studio.")
    queue_position: int | None = Field(None, description="1 is next; only for one run at a time.")
    log_stream: str | None = Field(None, description="Key of the live output's stream.")
    output_bytes: int


class PreviewOut(Schema):
    runs: list[str]
    bytes: int = Field(..., description="Bytes of outputs and logs that would be freed.")
    snapshot_bytes: int = Field(..., description="Bytes of source folders that nothing else uses.")
    blockers: list[str] = Field(..., description="Why some of them cannot be deleted now.")


class EventsAccepted(Schema):
    accepted: int = Field(..., description="Events that were written.")
    refused: int = Field(0, description="Lines or objects that could not be used.")


class FileOut(Schema):
    path: str
    size: int
    modified: float | None = Field(None, description="Unix seconds.")
    kind: str = Field("binary", description="text, image, csv, json, notebook or binary.")


class UploadState(Schema):
    path: str
    offset: int = Field(..., description="Bytes that are here: the next chunk starts there.")
    complete: bool


class SearchHit(Schema):
    line: int
    offset: int
    text: str


class SearchOut(Schema):
    hits: list[SearchHit]
    next: int | None = Field(None, description="Search on from here with `after`.")
    scanned: int = Field(..., description="Bytes that were looked at.")


class ExperimentOut(Schema):
    name: str
    description: str
    tags: dict[str, Any]
    run_count: int
    last_run_at: dt.datetime | None
    created_at: dt.datetime
    archived: bool
    url: str


class ExperimentPatch(Input):
    archived: bool | None = None
    description: str | None = None
    tags: dict[str, str | None] | None = None
