"""Targets, environments and their builds, as they go over the wire."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

from ninja import Field, Schema

from studio.api.v1.schemas import Input


class CapacityOut(Schema):
    total: int | None = Field(None, description="Slots; null: without a limit of the studio's.")
    used: int = 0


class ProblemOut(Schema):
    code: str
    message: str
    hint: str = ""
    field: str = ""


class TargetOut(Schema):
    name: str = Field(..., examples=["local"])
    driver: str
    description: str
    state: str = Field(..., description="Creating, Succeeded or Failed.")
    problems: list[ProblemOut]
    capacity: CapacityOut | None = None
    checked_at: dt.datetime | None
    created_at: dt.datetime


class RecipeIn(Input):
    """What an environment is made of."""

    kind: Literal["system", "pip", "conda"] = Field("pip", description="system: this machine's own Python.")
    python: str | None = Field(None, examples=["3.11"])
    packages: list[str] | None = Field(
        None, description="Requirements of pip.", examples=[["scikit-learn==1.5.2", "pandas"]]
    )
    requirements: str | None = Field(None, description="The text of a requirements.txt, instead of packages.")
    conda: str | None = Field(None, description="The text of a conda_dependencies.yml, for the conda kind.")
    conda_packages: list[str] | None = None
    channels: list[str] | None = None
    strict: bool | None = Field(None, description="Refuse a Python other than the one named.")
    variables: dict[str, str] | None = Field(None, description="Environment variables of every run in it.")
    interpreter: str | None = Field(None, description="Path of an interpreter that exists on the target.")


class EnvironmentIn(Input):
    name: str = Field(..., examples=["sklearn"])
    recipe: RecipeIn
    description: str = ""
    tags: dict[str, str] = Field(default_factory=dict)


class CheckIn(Input):
    recipe: RecipeIn


class CheckOut(Schema):
    problems: list[ProblemOut] = Field(..., description="Each package that cannot be had, and whatever else is wrong.")
    warnings: list[str]
    python: str | None = Field(None, description="The version of Python that would be used.")


class PrepareIn(Input):
    version: int | None = Field(default=None, description="The newest where it is not given.")
    target: str = "local"
    rebuild: bool = Field(default=False, description="Build again although it is there.")


class BuildOut(Schema):
    content_hash: str
    target: str
    state: str = Field(..., description="building, ready or failed.")
    detail: dict[str, Any]
    size: int = Field(..., description="Bytes on disk.")
    log_stream: str | None = Field(None, description="Key of the unit that builds it; its output is the build's log.")
    created_at: dt.datetime
    ready_at: dt.datetime | None


class EnvironmentOut(Schema):
    name: str
    version: int
    recipe: dict[str, Any]
    content_hash: str
    curated: bool
    anonymous: bool
    description: str
    tags: dict[str, Any]
    created_at: dt.datetime
    created_by: str | None
    url: str


class EnvironmentDetail(EnvironmentOut):
    versions: list[int]
    builds: list[BuildOut]
