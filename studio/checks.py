"""System checks of Atelier's own: what would make an installation unsafe or lose data."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register


@register(Tags.security, deploy=True)
def keys_are_private(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The key file opens every stored secret: only its owner may read it."""
    path = Path(settings.ATELIER_KEYS_FILE)
    if path.is_file() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        hint = f"chmod 600 {path.name}"
        return [
            Error(f"{path.name} can be read by others; it opens every stored secret.", hint=hint, id="atelier.E001")
        ]
    return []


@register(Tags.security, deploy=True)
def address_is_https(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Served to other machines without TLS, passwords and tokens travel in the open."""
    if not settings.ATELIER_URL.startswith("https://"):
        hint = "Put a proxy with TLS in front and set ATELIER_URL to its https:// address."
        return [Warning("ATELIER_URL is not https.", hint=hint, id="atelier.W001")]
    return []
