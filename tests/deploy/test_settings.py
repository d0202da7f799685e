"""What compose.yaml passes on, held against the settings that docs/operations.md lists."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Set by the image, or without a meaning inside it.
INSIDE = {
    "ATELIER_DATA",
    "ATELIER_HOST",
    "ATELIER_PORT",
    "ATELIER_HOME",
    "ATELIER_SERVICE_PORTS",
    "ATELIER_DOCKER_SOCKET",
    "ATELIER_DEBUG",
}
FIRST_START = {"ATELIER_OWNER", "ATELIER_OWNER_PASSWORD", "ATELIER_OWNER_EMAIL", "ATELIER_WORKSPACE"}


def _listed() -> set[str]:
    """Names in the settings table, `_PORT` and the like joined to the name before them."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.split("\n## Settings\n")[1].split("\n## ")[0]
    names: set[str] = set()
    for line in table.splitlines():
        if not line.startswith("| `"):
            continue
        found = re.findall(r"`([A-Z_]+)`", line.split("|")[1])
        stem = found[0].rsplit("_", 1)[0]
        names |= {stem + name if name.startswith("_") else name for name in found}
    return names


def test_every_setting_reaches_the_containers() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for name in ("web", "worker", "beat", "migrate"):
        passed = set(services[name]["environment"])
        wanted = _listed() - INSIDE - (set() if name == "migrate" else FIRST_START)
        assert not wanted - passed, f"{name} does not get {sorted(wanted - passed)}"


def test_passwords_of_the_first_owner_and_the_server_stay_where_they_are_needed() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for name in ("web", "worker", "beat"):
        assert not {"ATELIER_OWNER_PASSWORD", "POSTGRES_PASSWORD"} & set(services[name]["environment"])
