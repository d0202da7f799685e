"""People, workspaces, tokens and the audit log, as they go over the wire."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

from ninja import Field, Schema

from studio.api.v1.schemas import Input

RoleName = Literal["owner", "contributor", "reader"]


class UserOut(Schema):
    id: int
    username: str
    label: str = Field(..., description="The name to show.")
    is_service: bool = Field(False, description="True for a service principal.")


class WorkspaceOut(Schema):
    name: str = Field(..., examples=["main"])
    title: str
    description: str
    subscription_id: str
    resource_group: str
    preferences: dict[str, Any] = Field(..., description="strict_python, snapshot_max_bytes, snapshot_max_files.")
    role: str | None = Field(None, description="The caller's role.")
    created_at: dt.datetime
    url: str = Field(..., description="Its page in the studio.")


class MeOut(Schema):
    user: UserOut
    email: str
    is_superuser: bool
    workspaces: list[WorkspaceOut]


class WorkspaceIn(Input):
    name: str = Field(
        ..., description="2 to 63 lower-case letters, digits and hyphens, a letter first.", examples=["vision"]
    )
    title: str = Field("", max_length=200)


class WorkspaceChange(Input):
    title: str | None = Field(None, max_length=200)
    description: str | None = None
    preferences: dict[str, Any] | None = Field(
        None, description="What is named is changed; null goes back to the default."
    )


class TokenRequest(Input):
    """OAuth 2 client credentials, as JSON or as a form."""

    grant_type: Literal["client_credentials"] = "client_credentials"
    client_id: str
    client_secret: str


class TokenAnswer(Schema):
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the name of a scheme
    expires_in: int = Field(..., description="Seconds that the token lives.")


class TokenOut(Schema):
    id: int
    name: str
    prefix: str = Field(..., description="Its first characters, to tell tokens apart.")
    created_at: dt.datetime
    expires_at: dt.datetime | None
    last_used_at: dt.datetime | None
    revoked_at: dt.datetime | None


class TokenIn(Input):
    name: str = Field(..., description="Says where the token is used.", examples=["laptop"])
    days: int | None = Field(90, description="Days that it lives; null: until it is revoked.")


class TokenMade(TokenOut):
    token: str = Field(..., description="The token itself. It is shown this once.")


class MemberOut(Schema):
    user: UserOut
    role: RoleName
    created_at: dt.datetime


class RoleIn(Input):
    role: RoleName


class InvitationIn(Input):
    role: RoleName
    email: str = Field("", description="Only this address may use the link; empty: whoever has it.")
    days: int = Field(14, description="Days that the link works, 1 to 90.")


class InvitationOut(Schema):
    id: int
    role: RoleName
    email: str
    created_at: dt.datetime
    expires_at: dt.datetime
    accepted_at: dt.datetime | None
    revoked_at: dt.datetime | None


class InvitationMade(InvitationOut):
    link: str = Field(..., description="The address to send on. It is shown this once.")


class PrincipalIn(Input):
    name: str = Field(..., examples=["nightly-training"])
    role: RoleName = "contributor"


class PrincipalOut(Schema):
    name: str
    client_id: str
    role: RoleName | None
    created_at: dt.datetime
    last_used_at: dt.datetime | None
    disabled_at: dt.datetime | None


class PrincipalMade(PrincipalOut):
    client_secret: str = Field(..., description="The secret. It is shown this once.")


class AuditOut(Schema):
    id: int
    at: dt.datetime
    actor: str
    action: str = Field(..., examples=["run.submit"])
    object_type: str
    object_label: str
    detail: dict[str, Any]
    address: str | None
