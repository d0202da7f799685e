"""Container registries of a workspace: their credentials, whether they answer, and to which of them images are sent."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from urllib3.exceptions import HTTPError

from compute.images import dockerfile
from compute.models import ContainerRegistry
from studio.accounts.models import User, Workspace
from studio.accounts.services import audit
from studio.datasets.backends import guard
from studio.lib import secrets as locks
from studio.lib.errors import Conflict, Invalid
from studio.lib.fields import Problem

HUB = "docker.io"
TIMEOUT_S = 10.0
MOST_BYTES = 1 << 20  # of a token
_ADDRESS = re.compile(
    r"^[A-Za-z0-9.-]+(?::\d{1,5})?(?:/[a-z0-9]+(?:[._/-][a-z0-9]+)*)?$|^\[[0-9a-fA-F:]+\](?::\d{1,5})?$"
)
_LOOPBACK = re.compile(r"^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$")
_PAIR = re.compile(r'(\w+)="([^"]*)"')


def clean_address(raw: str) -> str:
    """Host with a port or a prefix: what stands before an image's own name. Raises Invalid."""
    text = raw.strip().rstrip("/")
    if re.match(r"^https?://", text):
        raise Invalid(
            _("Leave out %(scheme)s: an image's name begins with the host itself, as in example.org:5000/team.")
            % {"scheme": text.split("//")[0] + "//"},
            field="address",
        )
    if text in ("index.docker.io", "registry-1.docker.io", "hub.docker.com"):
        return HUB
    host = text.split("/")[0]
    if not _ADDRESS.match(text) or len(text) > 255 or not ("." in host or ":" in host or host == "localhost"):
        raise Invalid(
            _("%(value)r is not the address of a registry. Write a host, with its port or a prefix: example.org:5000.")
            % {"value": raw[:100]},
            field="address",
        )
    return text


def registry_create(
    *,
    workspace: Workspace,
    user: User | None,
    address: str,
    username: str = "",
    password: str = "",
    push: bool = False,
    request: HttpRequest | None = None,
) -> ContainerRegistry:
    """Add a registry. Where ``push``, any other one stops being the one that images are sent to.

    Raises Invalid with the field, Conflict for an address that is there already.
    """
    place, name = clean_address(address), username.strip()
    if password and not name:
        raise Invalid(_("A password needs the user name that it belongs to."), field="username")
    try:
        with transaction.atomic():
            if push:
                ContainerRegistry.objects.filter(workspace=workspace, push=True).update(push=False)
            made = ContainerRegistry.objects.create(
                workspace=workspace,
                address=place,
                username=name,
                password=locks.encrypt(password) if password else "",
                push=push,
                created_by=user,
            )
            audit(user, "registry.create", workspace=workspace, object=made, detail={"push": push}, request=request)
    except IntegrityError:
        raise Conflict(_("The registry %(address)s is there already.") % {"address": place}, field="address") from None
    return made


def registry_update(
    registry: ContainerRegistry,
    *,
    user: User | None,
    username: str | None = None,
    password: str | None = None,
    push: bool | None = None,
    request: HttpRequest | None = None,
) -> ContainerRegistry:
    """Change what is given. An empty password is none; another user name needs its password again."""
    if username is not None and username.strip() != registry.username and password is None:
        registry.password = ""
    if username is not None:
        registry.username = username.strip()
    if password is not None:
        registry.password = locks.encrypt(password) if password else ""
    if registry.password and not registry.username:
        raise Invalid(_("A password needs the user name that it belongs to."), field="username")
    with transaction.atomic():
        if push is not None:
            if push:
                others = ContainerRegistry.objects.filter(workspace=registry.workspace, push=True)
                others.exclude(pk=registry.pk).update(push=False)
            registry.push = push
        registry.save(update_fields=["username", "password", "push"])
        audit(user, "registry.update", workspace=registry.workspace, object=registry, request=request)
    return registry


@transaction.atomic
def registry_delete(registry: ContainerRegistry, *, user: User | None, request: HttpRequest | None = None) -> None:
    """Forget a registry and its password. What lies there stays."""
    audit(user, "registry.delete", workspace=registry.workspace, object=registry, request=request)
    registry.delete()


def base_image_set(workspace: Workspace, image: str, *, user: User | None, request: HttpRequest | None = None) -> None:
    """The image below the workspace's environments; empty for the studio's own. Raises Invalid."""
    text = image.strip()
    if text and not dockerfile.is_reference(text):
        raise Invalid(
            _("%(value)r is not the name of an image. Write it like python:3.11 or example.org/team/base:1.")
            % {"value": text[:100]},
            field="base_image",
        )
    with transaction.atomic():
        held = Workspace.objects.select_for_update().get(pk=workspace.pk)
        held.preferences = {**held.preferences, "base_image": text}
        if not text:
            held.preferences.pop("base_image")
        held.save(update_fields=["preferences"])
        workspace.preferences = held.preferences
        audit(user, "workspace.base_image", workspace=workspace, detail={"base_image": text}, request=request)


# The test.


def registry_check(registry: ContainerRegistry) -> list[Problem]:
    """Whether the registry answers and takes the credentials. Takes at most some seconds; the password may be sent to
    the registry and to the address that it names for signing in, nowhere else. Empty: all is well."""
    try:
        password = locks.decrypt(registry.password) if registry.password else ""
    except locks.SecretUnreadable as error:
        return [Problem("secret", str(error), field="password")]
    return check(registry.address, registry.username, password)


def check(address: str, username: str, password: str) -> list[Problem]:
    """``registry_check`` of credentials that are stored nowhere."""
    host = address.split("/")[0]
    server = "registry-1.docker.io" if host == HUB else host
    # An engine speaks plain HTTP to loopback alone, unless its own settings name a registry as insecure.
    schemes = ("https", "http") if _LOOPBACK.match(server) else ("https",)
    why = ""
    with guard.requests_session() as session:
        for scheme in schemes:
            try:
                return _ask(session, f"{scheme}://{server}/v2/", username, password)
            except requests.exceptions.SSLError as error:
                why = _("its certificate is not trusted: %(error)s") % {"error": _short(error)}
            except requests.RequestException as error:
                refused = guard.refusal(error)
                why = str(refused) if refused else _short(error)
    text = _("%(address)s does not answer: %(why)s.") % {"address": address, "why": why.rstrip(".")}
    return [Problem("unreachable", text, _("Check the address and the port."), "address")]


def _short(error: Exception) -> str:
    found = re.search(
        r"(Connection refused|Name or service not known|timed out|No address associated[^')]*)", str(error)
    )
    return found.group(1) if found else str(error)[:200]


def _get(session: Any, url: str, **options: Any) -> Any:
    """An answer whose body nobody has read: it may have no end. Raises RequestException."""
    return session.get(url, timeout=TIMEOUT_S, allow_redirects=False, stream=True, **options)


def _ask(session: Any, url: str, username: str, password: str) -> list[Problem]:
    """The problems of a server that answers. Raises RequestException."""
    answer = _get(session, url)
    if answer.status_code == 401:
        answer = _signed_in(session, url, answer, username, password)
    if answer.status_code == 200:
        return []
    if answer.status_code in (401, 403):
        text = _("The registry does not take this user name and password.") if username else _("It wants a user name.")
        return [Problem("credentials", text, _("Give a user name and a password or token."), "password")]
    if answer.status_code == 404:
        text = _("What answers there is no registry of images: it has no /v2/.")
        return [Problem("no-registry", text, _("Check the address: leave out paths of web pages."), "address")]
    text = _("The registry answered %(code)s.") % {"code": answer.status_code}
    return [Problem("unreachable", text, "", "address")]


def _signed_in(session: Any, url: str, refused: Any, username: str, password: str) -> Any:
    """The same request with credentials: plain ones, or a token from where the registry says."""
    challenge = refused.headers.get("WWW-Authenticate", "")
    kind, _space, rest = challenge.partition(" ")
    auth = (username, password) if username else None
    if kind.lower() != "bearer":
        return _get(session, url, auth=auth) if auth else refused
    words = dict(_PAIR.findall(rest))
    try:
        realm = urlsplit(words.get("realm", ""))
    except ValueError:
        return refused
    if realm.scheme not in ("http", "https") or (realm.scheme == "http" and url.startswith("https:")):
        return refused  # a password goes nowhere less safe than the registry itself
    query = {name: words[name] for name in ("service", "scope") if name in words}
    query.update({"account": username} if username else {})
    address = f"{realm.scheme}://{realm.netloc}{realm.path}?{'&'.join(filter(None, [realm.query, urlencode(query)]))}"
    given = _get(session, address, auth=auth)
    if given.status_code != 200:
        return given if given.status_code in (401, 403) else refused
    try:
        body = json.loads(given.raw.read(MOST_BYTES, decode_content=True))
        token = body.get("token") or body.get("access_token") or ""
    except (ValueError, AttributeError, RecursionError, HTTPError):
        return refused
    return _get(session, url, headers={"Authorization": f"Bearer {token}"})
