"""What the account pages read."""

from __future__ import annotations

from django.db.models import Q
from django.utils import timezone

from studio.accounts.models import AuditEntry, Invitation, Token, User, Workspace
from studio.lib.paging import Page, decode_cursor, encode_cursor


def open_invitations(workspace: Workspace) -> list[Invitation]:
    """Neither used, taken back nor expired; the newest first. One query."""
    rows = Invitation.objects.filter(
        workspace=workspace, accepted_at=None, revoked_at=None, expires_at__gt=timezone.now()
    ).select_related("created_by")
    return list(rows.order_by("-id"))


def tokens_of(user: User) -> list[Token]:
    """Tokens that still exist for their owner, the newest first; revoked ones are left out. One query."""
    return list(Token.objects.filter(user=user, revoked_at=None).order_by("-id"))


def audit_page(
    workspace: Workspace, *, search: str = "", cursor: str | None = None, limit: int = 50
) -> Page[AuditEntry]:
    """The newest entries first. ``search`` looks into actor, action and object. One query."""
    rows = AuditEntry.objects.filter(workspace=workspace)
    for word in search.split()[:8]:
        rows = rows.filter(Q(actor_label__icontains=word) | Q(action__icontains=word) | Q(object_label__icontains=word))
    if cursor:
        (last,) = decode_cursor(cursor, 1)
        rows = rows.filter(pk__lt=int(last)) if str(last).isdigit() else rows.none()
    found = list(rows.order_by("-id")[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    return Page(found, encode_cursor([found[-1].pk]) if more else None)
