"""Who is calling: a person or service principal by bearer token, a unit by its own token, or a browser's session.

A unit's token acts as whoever submitted its run, on that run and its children alone. Operations refuse it unless they
are declared with ``auth=UNITS_TOO``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from ninja.security import APIKeyCookie, HttpBearer
from ninja.utils import check_csrf

from compute.models import Unit
from runs.models import Run
from studio.accounts.models import User
from studio.accounts.tokens import user_from_token
from studio.lib.errors import Forbidden, NotAuthenticated

_OWN_RUN = gettext_lazy("The token of a running unit is good for its own run alone.")


@dataclass(frozen=True)
class Actor:
    """Who acts. ``unit`` and ``run`` are set when a unit's token was sent: nothing but that run may be touched."""

    user: User
    unit: Unit | None = None
    run: Run | None = None


def _unit_actor(token: str) -> Actor | None:
    from compute.services import unit_by_token

    unit = unit_by_token(token)
    if unit is None:
        return None
    run = Run.objects.select_related("workspace", "created_by", "experiment").filter(unit=unit).first()
    if run is None or run.created_by is None or not run.created_by.is_active:
        return None
    return Actor(user=run.created_by, unit=unit, run=run)


class BearerToken(HttpBearer):
    """`Authorization: Bearer <token>`: a personal token, or one that a service principal exchanged its secret for."""

    units = False

    def __init__(self, refusal: Any = _OWN_RUN) -> None:
        super().__init__()
        self.refusal = refusal  # said to a unit's token

    def authenticate(self, request: HttpRequest, token: str) -> Actor:
        token = token.strip()
        user = user_from_token(token) if token else None
        actor = Actor(user=user) if user is not None else (_unit_actor(token) if token else None)
        if actor is None:
            raise NotAuthenticated(_("The token is unknown, has expired or was revoked."))
        if actor.unit is not None and not self.units:
            raise Forbidden(str(self.refusal))
        request.user = actor.user
        return actor


class UnitToken(BearerToken):
    """Like a bearer token; the token that a run finds in its environment is accepted too, for that run alone."""

    units = True


class Session(APIKeyCookie):
    """The session cookie of a signed-in browser. Writing needs the `X-CSRFToken` header as well."""

    param_name = settings.SESSION_COOKIE_NAME

    def __call__(self, request: HttpRequest) -> Any:
        return self.authenticate(request, None)

    def authenticate(self, request: HttpRequest, key: str | None) -> Actor | None:
        # A request that names a token stands or falls with it: the cookie must not lend it another identity.
        if request.headers.get("Authorization") or not request.user.is_authenticated:
            return None
        if check_csrf(request) is not None:
            raise Forbidden(_("The CSRF token is missing or wrong: send it in the header X-CSRFToken."))
        return Actor(user=request.user)


PEOPLE = [BearerToken(), Session()]
UNITS_TOO = [UnitToken(), Session()]
# Of data, whose other operations units may call.
STORE_PEOPLE = [
    BearerToken(
        gettext_lazy(
            "The token of a run may read datastores and upload to them; it may not register, change, test or remove "
            "datastores, nor delete their files."
        )
    ),
    Session(),
]
DATA_PEOPLE = [
    BearerToken(
        gettext_lazy("The token of a run may read and register datasets; it may not change, archive or delete them.")
    ),
    Session(),
]


def actor_of(request: HttpRequest) -> Actor:
    return request.auth  # type: ignore[attr-defined]  # set by Ninja
