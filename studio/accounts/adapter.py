"""How allauth behaves here: nobody signs up by themselves; people come by invitation."""

from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Open only for someone who holds an invitation link (its page puts the id into the session)."""
        return bool(request.session.get("invitation"))
