"""Shapes that several routers share."""

from __future__ import annotations

from typing import Generic, TypeVar

from ninja import Field, Schema
from pydantic import ConfigDict

Item = TypeVar("Item")


class Input(Schema):
    """A body that people write: a field that nobody knows is a typo and is refused."""

    model_config = ConfigDict(extra="forbid")


class PageOf(Schema, Generic[Item]):
    """One page of a list. Ask for the next one with `?cursor=<next>`."""

    items: list[Item]
    next: str | None = Field(None, description="Cursor of the next page; null on the last one.")


class Problem(Schema):
    """An error (RFC 9457)."""

    type: str = Field(..., examples=["urn:atelier:problem:not-found"])
    title: str = Field(..., examples=["Not Found"])
    status: int = Field(..., examples=[404])
    detail: str = Field(..., description="What is wrong and the way out, for people.")
    errors: dict[str, list[str]] = Field(default_factory=dict, description="Messages for each field that is wrong.")
    instance: str = Field(..., description="The id of the request; the studio's log has it too.")
    hint: str = Field("", description="What to do, where the detail does not say it.")
    retry: bool = Field(False, description="Whether the same request may succeed later.")
    file: str = Field("", description="The file that could not be read.")
    line: int | None = Field(None, description="The line of that file.")


class Named(Schema):
    """A version of something that has a name."""

    name: str
    version: int


class Done(Schema):
    """Nothing more to say than that it is done."""

    ok: bool = True
