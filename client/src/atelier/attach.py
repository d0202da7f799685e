"""Attaching compute targets: what is asked for, one that is there already, and the host key of a machine behind SSH."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from atelier.exceptions import ComputeTargetException, ServiceException, UserErrorException
from atelier.transport import segment

if TYPE_CHECKING:
    from atelier.workspace import Workspace

HOST_KEY_VARIABLE = "ATELIER_HOST_KEY"


class AttachConfiguration:
    """What ``ComputeTarget.attach`` is given: the kind of target with its settings. ``host_key``: the fingerprint
    (``SHA256:...``) that the machine is expected to show."""

    def __init__(
        self, driver: str, config: dict[str, Any], secrets: dict[str, str] | None = None, host_key: str | None = None
    ) -> None:
        self.driver = driver
        self.config = {name: value for name, value in config.items() if value not in (None, "")}
        self.secrets = {name: value for name, value in (secrets or {}).items() if value}
        self.host_key = host_key

    def __repr__(self) -> str:
        return f"AttachConfiguration(driver={self.driver!r}, config={self.config!r})"


def private_key_text(path: str | os.PathLike[str] | None) -> str:
    """The private key in a file; empty for none. Raises UserErrorException."""
    if not path:
        return ""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserErrorException(f"There is no private key file {file}.")
    text = file.read_text(encoding="utf-8", errors="replace")
    if "PRIVATE KEY" not in text:
        half = ": it is the public half" if text.startswith(("ssh-", "ecdsa-")) else ""
        raise UserErrorException(f"{file} is no private key{half}.")
    return text


def volumes_text(volumes: Any) -> str:
    """``{"/data": "/data"}``, a list of ``/a:/b[:ro]``, or that as a text, one on each line."""
    if isinstance(volumes, dict):
        return "\n".join(f"{source}:{place}" for source, place in volumes.items())
    return "\n".join(volumes) if isinstance(volumes, (list, tuple)) else volumes or ""


def attach(workspace: Workspace, name: str, asked: AttachConfiguration) -> tuple[dict[str, Any], bool]:
    """(the target, whether it was there already). One of the same name and settings is adopted, and its secrets are
    renewed. Raises ComputeTargetException."""
    existing = _existing(workspace, name)
    host_key = asked.host_key or os.environ.get(HOST_KEY_VARIABLE) or ""
    try:
        if existing is not None:
            return _adopt(workspace, existing, asked, host_key), True
        body = {"name": name, "driver": asked.driver, "config": asked.config, "secrets": asked.secrets}
        if host_key:
            body["host_key"] = host_key
        return dict(workspace._call("POST", "targets", data=body)), False
    except ServiceException as error:
        if error.status_code == 403:
            raise ComputeTargetException(
                f"{error} Owners of {workspace.name} attach targets; ask one, or see ws.compute_targets for those that "
                "are there."
            ) from error
        if error.status_code in (409, 422):
            raise ComputeTargetException(str(error)) from error
        raise


def _existing(workspace: Workspace, name: str) -> dict[str, Any] | None:
    try:
        return dict(workspace._call("GET", f"targets/{segment(name)}"))
    except ServiceException as error:
        if error.status_code != 404:
            raise
        return None


def _adopt(workspace: Workspace, existing: dict[str, Any], asked: AttachConfiguration, host_key: str) -> dict[str, Any]:
    name, have = existing["name"], existing.get("config") or {}
    if existing["state"] == "Detaching":
        raise ComputeTargetException(f"{name} is just being detached: wait until what runs there has ended.")
    other = []
    if existing["driver"] != asked.driver:
        other.append(f"it is of the kind {existing['driver']}, and not {asked.driver}")
    else:
        other += [
            f"its {key} is {have.get(key) if have.get(key) not in (None, '') else 'not set'}, and not {value}"
            for key, value in asked.config.items()
            if str(have.get(key) if have.get(key) is not None else "") != str(value)
        ]
    if other:
        raise ComputeTargetException(
            f"There is a target {name} already, and {'; '.join(other)}. Detach it first (atelier computetarget detach "
            f"{name}), change it on its page ({existing.get('url')}), or choose another name."
        )
    found = existing
    if asked.secrets:
        try:
            found = workspace._call("PATCH", f"targets/{segment(name)}", data={"secrets": asked.secrets})
        except ServiceException as error:
            if error.status_code != 403:
                raise  # who may not change it may still use it
    shown = unconfirmed(found)
    if shown and host_key and same_key(shown["fingerprint"], host_key):
        found = confirm(workspace, name, shown["fingerprint"])
    return dict(found)


def unconfirmed(data: dict[str, Any]) -> dict[str, Any] | None:
    """The host key that waits for somebody to confirm it: {"type", "fingerprint", "before"}."""
    key = data.get("host_key")
    return dict(key) if key and not key["confirmed"] else None


def same_key(fingerprint: str, given: str) -> bool:
    return fingerprint.split(":", 1)[-1].rstrip("=") == given.strip().split(":", 1)[-1].rstrip("=")


def confirm(workspace: Workspace, name: str, fingerprint: str) -> dict[str, Any]:
    """Trust the host key that the machine shows. Raises ComputeTargetException."""
    path = f"targets/{segment(name)}/host-key"
    try:
        return dict(workspace._call("POST", path, data={"fingerprint": fingerprint}))
    except ServiceException as error:
        if error.status_code not in (403, 422):
            raise
        raise ComputeTargetException(str(error)) from error


def key_words(data: dict[str, Any], key: dict[str, Any]) -> str:
    """What is to be known before a host key is confirmed."""
    address = (data.get("config") or {}).get("address") or data["name"]
    problem: dict[str, Any] = next(
        (one for one in data.get("problems") or () if one["code"].startswith("host-key")), {}
    )
    lines = [
        f"{address} shows the host key",
        f"    {key['type']} {key['fingerprint']}",
    ]
    if key.get("before"):
        lines += ["and another one was confirmed:", f"    {key['before']}"]
    if problem.get("hint"):
        lines.append(problem["hint"])
    kind = key["type"].replace("ssh-", "").split("-")[0]
    lines.append(f"On the machine: ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub")
    return "\n".join(lines)


def settle_key(
    workspace: Workspace,
    data: dict[str, Any],
    expected: str | None = None,
    ask: Callable[[str], str] | None = None,
    way_out: str = "",
) -> dict[str, Any]:
    """Have the host key confirmed that the machine shows: asked for at a terminal, else ComputeTargetException says how
    it can be done (``way_out``, where the caller knows better). Where another key was ``expected``, or confirmed
    before, nobody is asked."""
    key = unconfirmed(data)
    if key is None:
        return data
    name = data["name"]
    words = key_words(data, key)
    expected = expected or os.environ.get(HOST_KEY_VARIABLE) or ""
    if expected and same_key(key["fingerprint"], expected):
        return confirm(workspace, name, key["fingerprint"])
    if expected:
        raise ComputeTargetException(
            f"{words}\nThe key {expected} was expected: nothing was sent to the machine. Somebody may stand between, "
            "or the key that you know is an old one."
        )
    interactive = ask is not None or (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty())
    if interactive and not key.get("before"):
        print(words, file=sys.stderr)
        answer = (ask or _ask)("Is that the machine's own key? [y/N] ")
        if answer.strip().lower() in ("y", "yes"):
            return confirm(workspace, name, key["fingerprint"])
        raise ComputeTargetException("The host key was not confirmed, and nothing was sent to the machine.")
    if way_out:
        raise ComputeTargetException(f"{words}\n{way_out % key}")
    raise ComputeTargetException(
        f"{words}\nCompare them. Nothing is sent to the machine before the key is confirmed: on {data.get('url')}, "
        f"with `atelier computetarget confirm {name} --host-key {key['fingerprint']}`, or beforehand with "
        f'attach_configuration(..., host_key="SHA256:...") or the environment variable {HOST_KEY_VARIABLE}.'
    )


def _ask(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()
