"""Bearer tokens of people and service principals. Only digests are stored; a token is shown once, when it is made."""

from __future__ import annotations

import datetime as dt
import hmac
import uuid

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from studio.accounts.models import Membership, Role, ServicePrincipal, Token, User, Workspace
from studio.accounts.services import audit
from studio.lib import secrets
from studio.lib.errors import Conflict, Invalid, NotAuthenticated, NotFound
from studio.lib.names import clean_name

ACCESS_TOKEN_SECONDS = 3600
MAX_TOKEN_DAYS = 366
# ``last_used_at`` is for people: a write per request would make every read a write.
_TOUCH_AFTER = dt.timedelta(minutes=5)


def token_create(
    *, user: User, name: str, days: int | None = 90, request: HttpRequest | None = None
) -> tuple[Token, str]:
    """A personal access token and its secret, which is never shown again. ``days`` None: until it is revoked."""
    name = clean_name(name)
    if not name:
        raise Invalid("Give the token a name that says where it is used.", field="name")
    if len(name) > 100:
        raise Invalid("The name is longer than 100 characters.", field="name")
    if days is not None and not 1 <= days <= MAX_TOKEN_DAYS:
        raise Invalid(f"{days} days is not possible: choose 1 to {MAX_TOKEN_DAYS}.", field="days")
    plain = secrets.new_token("atp")
    token = Token.objects.create(
        user=user,
        name=name,
        prefix=plain[:12],
        digest=secrets.digest(plain),
        expires_at=timezone.now() + dt.timedelta(days=days) if days is not None else None,
    )
    audit(user, "token.create", object=token, label=name, request=request)
    return token, plain


def token_revoke(*, user: User, token_id: int, request: HttpRequest | None = None) -> None:
    """Revokes one's own token; NotFound for anybody else's."""
    changed = Token.objects.filter(pk=token_id, user=user, revoked_at=None).update(revoked_at=timezone.now())
    if not changed:
        raise NotFound("There is no such token.")
    audit(user, "token.revoke", object=Token.objects.get(pk=token_id), request=request)


def user_from_token(plain: str) -> User | None:
    """Whose token it is, or None when it is unknown, expired, revoked, or its user may not sign in. One query."""
    token = Token.objects.select_related("user").filter(digest=secrets.digest(plain)).first()
    now = timezone.now()
    if token is None or token.revoked_at or (token.expires_at and token.expires_at <= now) or not token.user.is_active:
        return None
    if token.last_used_at is None or now - token.last_used_at > _TOUCH_AFTER:
        Token.objects.filter(pk=token.pk).update(last_used_at=now)
    return token.user


@transaction.atomic
def principal_create(
    *, workspace: Workspace, name: str, role: str, user: User, request: HttpRequest | None = None
) -> tuple[ServicePrincipal, str]:
    """A service principal with its secret, which is never shown again."""
    name = clean_name(name)
    if not name or len(name) > 100:
        raise Invalid("Give the service principal a name of at most 100 characters.", field="name")
    if role not in Role.values:
        raise Invalid(f"{role!r} is not a role. Use one of: {', '.join(Role.values)}.", field="role")
    if ServicePrincipal.objects.filter(workspace=workspace, name=name).exists():
        raise Conflict(f"A service principal named {name!r} exists already. Choose another name.", field="name")
    client_id = uuid.uuid4()
    shadow = User(username=f"sp-{client_id}", email=f"{client_id}@principal.invalid", is_service=True, first_name=name)
    shadow.set_unusable_password()
    shadow.save()
    Membership.objects.create(workspace=workspace, user=shadow, role=role)
    plain = secrets.new_token("ats")
    principal = ServicePrincipal.objects.create(
        workspace=workspace,
        user=shadow,
        name=name,
        client_id=client_id,
        secret_digest=secrets.digest(plain),
        created_by=user,
    )
    audit(user, "principal.create", workspace=workspace, object=principal, detail={"role": role}, request=request)
    return principal, plain


def principal_rotate(*, principal: ServicePrincipal, user: User, request: HttpRequest | None = None) -> str:
    """A fresh secret; the old one and the tokens issued for it end at once."""
    plain = secrets.new_token("ats")
    with transaction.atomic():
        principal.secret_digest = secrets.digest(plain)
        principal.save(update_fields=["secret_digest"])
        Token.objects.filter(user=principal.user).delete()
        audit(user, "principal.rotate", workspace=principal.workspace, object=principal, request=request)
    return plain


@transaction.atomic
def principal_delete(*, principal: ServicePrincipal, user: User, request: HttpRequest | None = None) -> None:
    """It can no longer sign in. Its shadow user stays as the author of what it made."""
    audit(user, "principal.delete", workspace=principal.workspace, object=principal, request=request)
    shadow = principal.user
    Token.objects.filter(user=shadow).delete()
    Membership.objects.filter(user=shadow).delete()
    principal.delete()
    User.objects.filter(pk=shadow.pk).update(is_active=False)


def token_exchange(client_id: str, client_secret: str) -> tuple[str, int]:
    """OAuth 2 client credentials: (access token, seconds it lives).

    Raises NotAuthenticated without saying which part is wrong.
    """
    refused = NotAuthenticated("The client id or the client secret is wrong, or the service principal is disabled.")
    try:
        identity = uuid.UUID(client_id)
    except ValueError:
        raise refused from None
    principal = ServicePrincipal.objects.select_related("user").filter(client_id=identity, disabled_at=None).first()
    stored = principal.secret_digest if principal else "0" * 64
    if (
        not hmac.compare_digest(stored, secrets.digest(client_secret))
        or principal is None
        or not principal.user.is_active
    ):
        raise refused
    plain = secrets.new_token("ata")
    now = timezone.now()
    Token.objects.filter(user=principal.user, expires_at__lt=now).delete()
    Token.objects.create(
        user=principal.user,
        prefix=plain[:12],
        digest=secrets.digest(plain),
        expires_at=now + dt.timedelta(seconds=ACCESS_TOKEN_SECONDS),
    )
    ServicePrincipal.objects.filter(pk=principal.pk).update(last_used_at=now)
    return plain, ACCESS_TOKEN_SECONDS
