"""Images between an engine and registries: pulling and pushing, with what the engine says as lines of the log."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

from docker import APIClient
from docker.errors import APIError, ImageNotFound

from compute.images.words import human, say, scrub

HUB = "docker.io"
EVERY_S = 5.0


class TransportFailed(Exception):
    """A pull or push that did not work. ``code``: absent, refused, unreachable, disk-full or failed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def split(reference: str) -> tuple[str, str]:
    """(repository, tag or digest) of an image's name; ``latest`` where it names none."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    head, colon, tail = reference.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (reference, "latest")


def host(reference: str) -> str:
    """The registry that an image's name leads to."""
    first, slash, _rest = reference.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else HUB


def credentials(reference: str, registries: Iterable[dict[str, Any]]) -> dict[str, str] | None:
    """What to sign in with for an image; of two registries that both fit, the longer address."""
    named = reference if host(reference) != HUB or reference.startswith(HUB) else f"{HUB}/{reference}"
    fitting = [one for one in registries if f"{named}/".startswith(f"{_plain(one['address'])}/")]
    if not fitting:
        return None
    best = max(fitting, key=lambda one: len(one["address"]))
    if not best.get("username"):
        return None
    return {"username": best["username"], "password": best.get("password") or ""}


def _plain(address: str) -> str:
    return HUB if address in ("index.docker.io", "registry-1.docker.io") else address


def configs(registries: Iterable[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """For the images that a Dockerfile names itself: {host: {"username", "password"}}."""
    found = {}
    for one in registries:
        if one.get("username"):
            address = one["address"].split("/")[0]
            key = "https://index.docker.io/v1/" if _plain(address) == HUB else address
            found[key] = {"username": one["username"], "password": one.get("password") or "", "serveraddress": key}
    return found


def present(client: APIClient, reference: str) -> dict[str, Any] | None:
    """What the engine knows of an image that it has; None when it has it not."""
    try:
        found: dict[str, Any] = client.inspect_image(reference)
    except ImageNotFound:
        return None
    return found


def pull(client: APIClient, reference: str, registries: list[dict[str, Any]]) -> None:
    """Raises TransportFailed with the engine's reason."""
    repository, tag = split(reference)
    _stream(
        lambda: client.pull(
            repository, tag=tag, stream=True, decode=True, auth_config=credentials(reference, registries)
        )
    )


def push(client: APIClient, reference: str, registries: list[dict[str, Any]]) -> None:
    """Raises TransportFailed with the engine's reason."""
    repository, tag = split(reference)
    _stream(
        lambda: client.push(
            repository, tag=tag, stream=True, decode=True, auth_config=credentials(reference, registries)
        )
    )


def _stream(begin: Any) -> None:
    try:
        for line in progress(begin()):
            say("  " + line)
    except APIError as error:
        raise failure(str(error.explanation or error)) from error


def failure(said: str) -> TransportFailed:
    text = scrub(" ".join(said.split()))
    if re.search(r"no space left|disk quota", text, re.I):
        return TransportFailed("disk-full", text)
    if re.search(r"unauthorized|denied|authentication|no basic auth|forbidden", text, re.I):
        return TransportFailed("refused", text)
    if re.search(r"not found|manifest unknown|does not exist|no such|name unknown", text, re.I) and not re.search(
        r"no such host|server misbehaving", text, re.I
    ):
        return TransportFailed("absent", text)
    if re.search(
        r"no such host|timeout|timed out|refused|unreachable|EOF|reset|server misbehaving|TLS|x509", text, re.I
    ):
        return TransportFailed("unreachable", text)
    return TransportFailed("failed", text)


def progress(events: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Lines for people out of the engine's words: what is done, and every few seconds how far the rest is.

    Raises TransportFailed at an error.
    """
    course: dict[str, tuple[int, int]] = {}
    shown = time.monotonic()
    for event in events:
        if "error" in event:
            raise failure(str(event["error"]))
        status, layer = str(event.get("status") or ""), str(event.get("id") or "")
        detail = event.get("progressDetail") or {}
        if detail.get("total"):
            course[layer] = (int(detail.get("current") or 0), int(detail["total"]))
        if status in {"Pull complete", "Pushed", "Already exists", "Layer already exists"}:
            if layer in course:
                course[layer] = (course[layer][1], course[layer][1])
            yield f"{layer}: {status}"
        elif not layer and status:
            yield status
        if course and time.monotonic() - shown > EVERY_S:
            shown = time.monotonic()
            done, total = (sum(part) for part in zip(*course.values(), strict=True))
            yield f"{human(done)} of {human(total)}"
