"""A small OpenID Connect provider on loopback, as strict as a real one about who asks, and who signs in as told.

    with Provider() as provider:
        provider.person = Person("u-1", "ada@example.test", verified=True, username="ada")
        ...                                 # provider.url is the issuer; its discovery document lies where it belongs

It hands out a code once, for one redirect address and one PKCE challenge, and only to the client that it knows.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT_ID = "atelier-test"
CLIENT_SECRET = "a secret of the test's own"  # noqa: S105 - known to this provider alone


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Person:
    """Who signs in at the provider. ``refuses``: presses Cancel there."""

    sub: str
    email: str
    verified: bool
    username: str
    refuses: bool = False


@dataclass
class Grant:
    """What a code stands for, until it is exchanged."""

    person: Person
    redirect_uri: str
    challenge: str
    nonce: str


class Provider:
    """``asked`` is every request as (method, path); ``refused`` why the token endpoint said no, one line each.

    ``front`` is the origin where people sign in. ``broken``: "client", it no longer knows the client; "away", it
    answers 503 to everything.
    """

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.person = Person("nobody", "nobody@example.test", verified=False, username="nobody")
        self.grants: dict[str, Grant] = {}
        self.tokens: dict[str, Person] = {}
        self.asked: list[tuple[str, str]] = []
        self.refused: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"provider": self}))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.front = self.url
        self.broken = ""

    def __enter__(self) -> Provider:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environ(self, **more: str) -> dict[str, str]:
        """The settings with which the studio knows this provider."""
        return {
            "ATELIER_OIDC_SERVER": self.url,
            "ATELIER_OIDC_CLIENT_ID": CLIENT_ID,
            "ATELIER_OIDC_CLIENT_SECRET": CLIENT_SECRET,
            "ATELIER_OIDC_NAME": "Works & Co sign-in",
            **more,
        }

    # What the endpoints answer.

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.front}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "code_challenge_methods_supported": ["S256"],
        }

    def jwks(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        return {
            "keys": [
                {
                    "kty": "RSA",
                    "use": "sig",
                    "alg": "RS256",
                    "kid": "one",
                    "n": _b64(numbers.n.to_bytes(256, "big")),
                    "e": _b64(numbers.e.to_bytes(3, "big")),
                }
            ]
        }

    def authorize(self, query: dict[str, str]) -> str:
        """The address to send the browser back to."""
        assert query["client_id"] == CLIENT_ID, query
        assert query["response_type"] == "code", query
        assert "openid" in query["scope"].split(), query
        assert query["code_challenge_method"] == "S256", query
        back = query["redirect_uri"]
        if self.person.refuses:
            return f"{back}?{urlencode({'error': 'access_denied', 'state': query['state']})}"
        code = secrets.token_urlsafe(16)
        self.grants[code] = Grant(self.person, back, query["code_challenge"], query.get("nonce", ""))
        return f"{back}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        name, secret = form.get("client_id", ""), form.get("client_secret", "")
        if authorization.startswith("Basic "):
            name, _, secret = base64.b64decode(authorization[6:]).decode().partition(":")
        grant = self.grants.pop(form.get("code", ""), None)
        verifier = _b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        problem = ""
        if (name, secret) != (CLIENT_ID, CLIENT_SECRET) or self.broken == "client":
            problem = "invalid_client"
        elif grant is None or (form.get("grant_type"), form.get("redirect_uri"), verifier) != (
            "authorization_code",
            grant.redirect_uri,
            grant.challenge,
        ):
            problem = "invalid_grant"
        if problem or grant is None:
            self.refused.append(problem)
            return 401 if problem == "invalid_client" else 400, {"error": problem}
        access = secrets.token_urlsafe(16)
        self.tokens[access] = grant.person
        return 200, {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": 300,
            "id_token": self._id_token(grant),
        }

    def userinfo(self, authorization: str) -> tuple[int, dict[str, Any]]:
        person = self.tokens.get(authorization.removeprefix("Bearer "))
        return (200, self._claims(person)) if person else (401, {"error": "invalid_token"})

    def _claims(self, person: Person) -> dict[str, Any]:
        return {
            "sub": person.sub,
            "email": person.email,
            "email_verified": person.verified,
            "preferred_username": person.username,
            "name": person.username.title(),
        }

    def _id_token(self, grant: Grant) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, **self._claims(grant.person)}
        if grant.nonce:
            claims["nonce"] = grant.nonce
        head = _b64(json.dumps({"alg": "RS256", "typ": "JWT", "kid": "one"}).encode())
        signed = f"{head}.{_b64(json.dumps(claims).encode())}"
        return f"{signed}.{_b64(self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class _Handler(BaseHTTPRequestHandler):
    provider: Provider
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: Any) -> None:
        """Nothing: the tests look at what was asked."""

    def _json(self, status: int, value: dict[str, Any]) -> None:
        if self.provider.broken == "away":
            status, value = 503, {"error": "temporarily_unavailable"}
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        self.provider.asked.append(("GET", address.path))
        if address.path == "/.well-known/openid-configuration":
            self._json(200, self.provider.discovery())
        elif address.path == "/jwks":
            self._json(200, self.provider.jwks())
        elif address.path == "/userinfo":
            self._json(*self.provider.userinfo(self.headers.get("Authorization", "")))
        elif address.path == "/authorize":
            self.send_response(302)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            self.send_header("Location", self.provider.authorize(query))
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._json(404, {"error": "not_found"})

    def do_POST(self) -> None:
        self.provider.asked.append(("POST", self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if self.path == "/token":
            self._json(*self.provider.token(form, self.headers.get("Authorization", "")))
        else:
            self._json(404, {"error": "not_found"})
