"""What the pages of a target say of it, as plain values: a template would call a driver's class."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.utils.translation import gettext as _

from compute import host_keys
from compute.drivers import registry
from compute.models import Target
from studio.templatetags.atelier import filesize

ICONS = {"local": "device-desktop", "docker": "brand-docker", "remotedocker": "server-bolt"}


def kind_of(name: str) -> dict[str, Any]:
    """What a kind says of itself."""
    driver = registry.driver_class(name)
    return {
        "name": name,
        "title": driver.title,
        "summary": driver.summary,
        "icon": ICONS.get(name, "server"),
        "containers": driver.containers,
        "secrets": any(field.secret for field in driver.fields),
    }


def kinds() -> list[dict[str, Any]]:
    """What can be attached."""
    return [kind_of(name) for name in registry.DRIVERS]


def settings_of(target: Target) -> list[tuple[Any, Any]]:
    """(label, value) of the settings that were given; secrets are never among them."""
    fields = registry.driver_class(target.driver).fields
    said = [(field.label, target.config.get(field.name)) for field in fields if not field.secret]
    return [(label, value) for label, value in said if value not in (None, "")]


def facts_of(target: Target) -> list[tuple[str, str]]:
    """(label, text) of what the target said of itself at its last test."""
    facts = target.facts
    gpus = facts.get("gpus")
    said: list[tuple[str, Any]] = [
        (_("Engine"), facts.get("engine")),
        (_("System"), facts.get("system")),
        (_("Architecture"), facts.get("architecture")),
        (_("Processors"), facts.get("cpus")),
        (_("Memory"), filesize(facts["memory_bytes"]) if facts.get("memory_bytes") else None),
        (_("GPUs"), (", ".join(map(str, gpus)) or _("none")) if isinstance(gpus, list) else gpus),
        (_("Disk free"), filesize(facts["disk_free_bytes"]) if facts.get("disk_free_bytes") is not None else None),
        (_("Runs as"), facts.get("user")),
    ]
    return [(label, str(value)) for label, value in said if value not in (None, "")]


def _key(line: str) -> dict[str, str]:
    return {"type": host_keys.key_type(line), "fingerprint": host_keys.fingerprint(line)}


def host_key_of(target: Target) -> dict[str, Any]:
    """``state``: "" where there is nothing to decide, "new" or "changed"; ``pinned`` and ``offered``: {type,
    fingerprint} or None."""
    pinned, offered = target.host_key, target.offered_key
    if not host_keys.fingerprint(offered):  # before the first test it may be what somebody expects to be shown
        offered = ""
    asked = any(problem.get("code") == "host-key" for problem in target.problems)
    state = "changed" if pinned and offered and offered != pinned else "new" if offered and asked else ""
    return {
        "state": state,
        "pinned": _key(pinned) if pinned else None,
        "offered": _key(offered) if offered else None,
        "file": f"/etc/ssh/ssh_host_{_file_word(offered)}_key.pub" if offered else "",
    }


def _file_word(line: str) -> str:
    """The word in the name of the file that sshd keeps a key in: ed25519, rsa, ecdsa."""
    kind = host_keys.key_type(line).lower()
    return next((word for word in ("ed25519", "rsa", "ecdsa", "dsa") if word in kind), "ed25519")


def version_of(target: Target) -> str:
    """A short word that changes with anything that the page says of the target itself."""
    parts = [target.state, target.problems, target.facts, target.host_key, target.offered_key, str(target.checked_at)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def snippets_of(target: Target) -> dict[str, str]:
    """How scripts and the command line name the target."""
    python = (
        "from azureml.core import ComputeTarget, Experiment, ScriptRunConfig\n\n"
        f'target = ComputeTarget(ws, "{target.name}")\n'
        'config = ScriptRunConfig(".", script="train.py", compute_target=target)\n'
        'run = Experiment(ws, "my-experiment").submit(config)'
    )
    shell = f"atelier experiment submit -c {target.name} train.py"
    return {"python": python, "shell": shell}
