"""Ways to sign in. Each gives ``token(endpoint)``; ``get_authentication_header()`` gives a dictionary for
``requests``."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, Callable

from atelier import config
from atelier.exceptions import AuthenticationException, ServiceException
from atelier.transport import Transport

TOKEN_PATH = "/api/v1/token"  # noqa: S105 - an address, not a secret
_EARLY = 60.0  # seconds before its end that a token is renewed


class AbstractAuthentication:
    """An identity. ``endpoint`` is set by the workspace that uses it."""

    endpoint: str = ""

    def token(self, endpoint: str) -> str:
        """A bearer token for ``endpoint``. Raises AuthenticationException with the way out."""
        raise NotImplementedError

    def get_token(self, *scopes: str, **_: Any) -> str:
        return self.token(self.endpoint or config.endpoint_resolve())

    def get_authentication_header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.get_token()}"}


class InteractiveLoginAuthentication(AbstractAuthentication):
    """The token of `atelier login`, of ATELIER_TOKEN or of the run itself; asks for one on a terminal where there is
    none."""

    def __init__(self, force: bool = False, tenant_id: str | None = None, cloud: str | None = None) -> None:
        self._force = force

    def token(self, endpoint: str) -> str:
        found = None if self._force else config.token_find(endpoint)
        if found:
            return found
        if not (sys.stdin and sys.stdin.isatty()):
            raise AuthenticationException(
                f"Nobody is signed in to {endpoint}. Run `atelier login --endpoint {endpoint}`, or set ATELIER_TOKEN "
                f"to a token from {endpoint}/account/tokens/."
            )
        self._force = False
        return login(endpoint)


class AzureCliAuthentication(InteractiveLoginAuthentication):
    """The same sign-in as `atelier login` left behind."""


class TokenAuthentication(AbstractAuthentication):
    """A token from elsewhere. ``get_token`` is called for each request, with the audience where it takes one."""

    def __init__(self, get_token: Callable[..., str]) -> None:
        self._get_token = get_token

    def token(self, endpoint: str) -> str:
        try:
            return self._get_token()
        except TypeError:
            return self._get_token("atelier")


class ServicePrincipalAuthentication(AbstractAuthentication):
    """A client id and secret, exchanged for a token that expires and is renewed in time. ``tenant_id`` is not used."""

    def __init__(
        self,
        tenant_id: str | None = None,
        service_principal_id: str = "",
        service_principal_password: str = "",
        cloud: str | None = None,
        _enable_caching: bool = True,
    ) -> None:
        self.tenant_id = tenant_id
        self.service_principal_id = service_principal_id
        self._password = service_principal_password
        self._lock = threading.Lock()
        self._held: dict[str, tuple[str, float]] = {}

    def token(self, endpoint: str) -> str:
        with self._lock:
            token, until = self._held.get(endpoint, ("", 0.0))
            if time.monotonic() < until:
                return token
            answer = self._exchange(endpoint)
            life = float(answer.get("expires_in") or 3600)
            token = answer["access_token"]
            self._held[endpoint] = (token, time.monotonic() + max(life - _EARLY, life / 2))
            return token

    def _exchange(self, endpoint: str) -> dict[str, Any]:
        asked = {
            "grant_type": "client_credentials",
            "client_id": self.service_principal_id,
            "client_secret": self._password,
        }
        try:
            return Transport(endpoint).request("POST", TOKEN_PATH, data=asked).json()
        except (AuthenticationException, ServiceException) as error:
            if getattr(error, "status_code", 401) not in (400, 401, 403, 422):
                raise
            raise AuthenticationException(
                f"{endpoint} does not accept service principal {self.service_principal_id!r}: {error}"
            ) from error


class UserPassCredentials(AbstractAuthentication):
    """A user name and password. The studio signs people in by pages (with a second factor), so scripts use a token:
    the password is taken as a personal access token."""

    def __init__(self, username: str, password: str) -> None:
        self.username = username
        self._password = password

    def token(self, endpoint: str) -> str:
        return self._password


def login(endpoint: str) -> str:
    """Ask for a token on the terminal, try it, and keep it. Raises AuthenticationException when it is not accepted."""
    import getpass

    sys.stderr.write(f"Make a token at {endpoint}/account/tokens/ and paste it here.\n")
    token = getpass.getpass("Token: ").strip()
    config.credentials_save(endpoint, token, user_of(endpoint, token))
    return token


def user_of(endpoint: str, token: str) -> str:
    """Whose token this is. Raises AuthenticationException when the studio does not accept it."""
    me = Transport(endpoint, lambda: token).request("GET", "/api/v1/me").json() or {}
    user = me.get("user") or {}
    return str(me.get("email") or user.get("username") or "")
