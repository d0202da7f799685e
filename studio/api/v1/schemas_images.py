"""Container registries and images, as they go over the wire."""

from __future__ import annotations

import datetime as dt

from ninja import Field, Schema

from studio.api.v1.schemas import Input
from studio.api.v1.schemas_compute import ProblemOut


class RegistryIn(Input):
    address: str = Field(
        ...,
        description="What stands before an image's name: host, with a port or prefix.",
        examples=["example.org:5000"],
    )
    username: str = ""
    password: str = Field("", description="Or a token. Encrypted; never given back.")
    push: bool = Field(
        False, description="Images are looked for here before they are built, and sent here after. At most one has it."
    )
    check: bool = Field(True, description="Try it first, and refuse one that does not answer or take the password.")


class RegistryPatch(Input):
    username: str | None = None
    password: str | None = Field(None, description="Empty: none. Has to be given again with another user name.")
    push: bool | None = None


class RegistryOut(Schema):
    id: int
    address: str
    username: str
    has_password: bool
    push: bool
    created_by: str | None
    created_at: dt.datetime


class RegistryCheck(Schema):
    problems: list[ProblemOut] = Field(..., description="Empty: it answers and takes the credentials.")


class ImageOut(Schema):
    tag: str = Field(..., examples=["atelier-env:5f0c1a2b3c4d5e6f7a8b9c0d"])
    id: str
    bytes: int = Field(..., description="Of the whole image, layers that it shares with others among them.")
    own_bytes: int = Field(..., description="Of what no other image on the engine has.")
    created_at: dt.datetime | None
    last_used_at: dt.datetime | None
    environments: list[str] = Field(..., description="Of this workspace, as name:version.")
    in_use: str = Field("", description="Why it cannot be deleted now; empty where it can.")


class PruneIn(Input):
    preview: bool = Field(True, description="Say what would go, and delete nothing.")
    unused_days: float | None = Field(None, ge=0, description="Only what no run has used for so many days.")
    tags: list[str] | None = Field(None, description="Only these.")


class PruneOut(Schema):
    images: list[ImageOut]
    bytes: int = Field(
        ..., description="What the engine gets back: a layer that another image has too counts for nothing."
    )
    deleted: bool
    failed: list[str] = Field(default_factory=list, description="What the engine did not let go, with its reason.")
