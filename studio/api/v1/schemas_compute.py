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


class TargetField(Schema):
    """A setting of a kind of compute: it goes into `config`, or into `secrets` where it is secret."""

    name: str
    label: str
    kind: str = Field(..., description="text, number, select, textarea, checkbox or password.")
    help: str
    required: bool
    secret: bool
    default: Any = None
    choices: list[list[str]] = Field(default_factory=list, description="[value, label].")


class TargetKind(Schema):
    name: str = Field(..., examples=["remotedocker"])
    title: str
    summary: str
    containers: bool = Field(..., description="Runs are containers there, and environments images.")
    fields: list[TargetField]


class TargetIn(Input):
    name: str = Field(..., description="Up to 64 letters, digits, hyphens and underscores.", examples=["remotevm"])
    driver: str = Field(..., description="A kind of `targets/kinds`.", examples=["remotedocker"])
    description: str = ""
    config: dict[str, Any] = Field(
        default_factory=dict, examples=[{"address": "10.0.0.4", "username": "azureuser", "memory": "8g"}]
    )
    secrets: dict[str, str] = Field(default_factory=dict, description="Encrypted; never given back.")
    host_key: str | None = Field(
        None,
        description="Of a machine behind SSH, where it is known beforehand: the fingerprint (SHA256:...), or the "
        "public key. Without it the key that the machine shows has to be confirmed.",
    )


class TargetPatch(Input):
    config: dict[str, Any] | None = Field(
        None, description="Settings to change; null takes one back to its default. Those not named stay."
    )
    secrets: dict[str, str] | None = Field(
        None, description="Secrets to change. They have to be given again where the address changes."
    )
    description: str | None = None


class HostKeyIn(Input):
    fingerprint: str = Field(..., description="Of the key that the machine shows, as it was looked at: SHA256:...")


class HostKeyOut(Schema):
    type: str = Field(..., examples=["ssh-ed25519"])
    fingerprint: str = Field(..., examples=["SHA256:..."])
    confirmed: bool = Field(..., description="False: nothing is sent to the machine until somebody confirms it.")
    before: str = Field("", description="The confirmed one, where the machine shows another.")


class TargetCheck(Schema):
    code: str
    label: str
    state: str = Field(..., description="ok, bad, or unknown: not looked at.")
    message: str = ""
    hint: str = ""


class TargetOut(Schema):
    name: str = Field(..., examples=["local"])
    driver: str
    description: str
    containers: bool = Field(..., description="Runs are containers there, and environments images.")
    state: str = Field(..., description="Creating, Succeeded, Failed or Detaching.")
    problems: list[ProblemOut]
    checks: list[TargetCheck] = Field(..., description="What the test looks at, in its order.")
    capacity: CapacityOut | None = None
    config: dict[str, Any] = Field(..., description="The settings without secrets.")
    secrets: list[str] = Field(..., description="Names of the secrets that it has; never their values.")
    facts: dict[str, Any] = Field(..., description="What it said of itself at its last test.")
    host_key: HostKeyOut | None = Field(None, description="Of a machine behind SSH.")
    url: str = Field(..., description="Its page in the studio.")
    checked_at: dt.datetime | None
    created_at: dt.datetime


class RecipeIn(Input):
    """What an environment is made of."""

    kind: Literal["system", "pip", "conda", "dockerfile"] = Field(
        "pip", description="system: the Python of the machine, or of the image, as it is."
    )
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
    base_image: str | None = Field(
        None, description="Of targets with containers; null: the workspace's.", examples=["python:3.11-slim"]
    )
    dockerfile: str | None = Field(None, description="The text of a Dockerfile, for the dockerfile kind.")


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
