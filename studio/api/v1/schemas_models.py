"""Models and endpoints, as they go over the wire."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ninja import Field, Schema

from studio.api.v1.schemas import Input


class ModelFile(Schema):
    path: str
    size: int
    sha256: str | None = None


class ModelVersionOut(Schema):
    id: str = Field(..., examples=["iris:3"])
    name: str
    version: int
    framework: str
    framework_version: str
    description: str
    tags: dict[str, Any]
    properties: dict[str, Any]
    resource_configuration: dict[str, Any]
    sample_input: Any = None
    run_id: str | None
    size: int = Field(..., description="Bytes.")
    files: list[ModelFile]
    created_at: dt.datetime
    created_by: str | None
    archived: bool
    url: str


class ModelOut(Schema):
    name: str
    description: str
    tags: dict[str, Any]
    latest: int = Field(..., description="The newest version.")
    archived: bool
    created_at: dt.datetime
    updated_at: dt.datetime
    url: str


class ModelDetail(ModelOut):
    versions: list[ModelVersionOut]


class ResourceConfiguration(Input):
    cpu: float | None = None
    memory_in_gb: float | None = None
    gpu: int | None = None


class ModelIn(Input):
    """Register files of a run's outputs as the next version of a model."""

    name: str = Field(..., examples=["iris"])
    run_id: str
    path: str = Field(..., description="File or folder among the run's files.", examples=["outputs/model.pkl"])
    description: str = ""
    tags: dict[str, str | None] = Field(default_factory=dict)
    properties: dict[str, str | None] = Field(default_factory=dict)
    framework: str = Field("", description="ScikitLearn, Onnx, TensorFlow or Custom; found out where it is not given.")
    framework_version: str = ""
    resource_configuration: ResourceConfiguration | None = None
    sample_input: Any = Field(None, description='A body for the Test tab, such as {"data": [[1, 2]]}.')


class ModelChange(Input):
    archived: bool | None = None
    description: str | None = None
    tags: dict[str, str | None] | None = Field(None, description="In the place of those that are there.")


class VersionChange(Input):
    description: str | None = None
    tags: dict[str, str | None] | None = Field(None, description="In the place of those that are there.")
    properties: dict[str, str | None] | None = Field(None, description="To add. Those that are there stay as they are.")
    framework: str | None = None
    framework_version: str | None = None
    resource_configuration: ResourceConfiguration | None = None
    sample_input: Any = None


class EndpointIn(Input):
    name: str = Field(..., examples=["iris-service"])
    model: str = Field(..., description="name:version, or a name for its newest version.", examples=["iris:1"])
    target: str | None = None
    auth_enabled: bool = True
    overwrite: bool = Field(False, description="Put the model behind an endpoint that exists.")
    description: str = ""
    tags: dict[str, str | None] = Field(default_factory=dict)


class EndpointOut(Schema):
    name: str
    state: str = Field(..., description="Transitioning, Healthy, Unhealthy, Failed or Stopped.")
    scoring_uri: str
    swagger_uri: str
    model: str | None
    auth_enabled: bool
    description: str
    tags: dict[str, Any]
    error: dict[str, Any] | None
    warnings: list[str]
    created_at: dt.datetime
    updated_at: dt.datetime
    restarts: int
    url: str
    log_stream: str | None


class KeysOut(Schema):
    primary: str
    secondary: str


class RotateIn(Input):
    which: str = Field("primary", description="primary or secondary.", examples=["secondary"])
