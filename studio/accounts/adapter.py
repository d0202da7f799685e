"""How allauth behaves here: nobody signs up by themselves; people come by invitation."""

from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.http import HttpRequest
from django.utils import timezone

from studio.accounts.models import Invitation
from studio.lib import env, secrets


def _invited(request: HttpRequest) -> bool:
    """The invitation that this browser opened (its page puts the id into the session) can still be used."""
    return Invitation.objects.filter(
        pk=request.session.get("invitation") or 0, accepted_at=None, revoked_at=None, expires_at__gt=timezone.now()
    ).exists()


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return _invited(request)


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest, sociallogin: object) -> bool:
        """By invitation, or everybody whom the company's identity provider knows when the administrator says so."""
        return env.flag("ATELIER_OIDC_SIGNUP") or _invited(request)


class MFAAdapter(DefaultMFAAdapter):
    """Second-factor seeds are secrets like any other: encrypted at rest."""

    def encrypt(self, text: str) -> str:
        return secrets.encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return secrets.decrypt(encrypted_text)
