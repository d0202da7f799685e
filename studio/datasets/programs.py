"""Starting the programs of ``studio.datasets.jobs``: their environment, and the stores that they are given."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from studio.accounts.models import Workspace
from studio.datasets.services.datastores import datastores_in, opened
from studio.lib import secrets as locks
from studio.lib.errors import Invalid

# What a program needs of the studio's own environment; the rest holds secrets that are none of its business.
PASSED = (  # noqa: SIM905 - a list of words reads better as words
    "PATH HOME LANG LC_ALL LC_CTYPE TZ TMPDIR LD_LIBRARY_PATH HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy "
    "no_proxy REQUESTS_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE"
).split()
RULES = ("ATELIER_DATA_DENY", "ATELIER_DATA_ALLOW", "ATELIER_LOCAL_DATA")


def studio_environment() -> dict[str, str]:
    """The variables that a program of the studio gets on top of its target's own: where the studio's code and data
    are, and which addresses and folders an administrator allows."""
    rules = {name: text for name in RULES if (text := _rule(name))}
    places = {"ATELIER_DATA": str(settings.ATELIER_DATA), "ATELIER_KEYS_FILE": str(settings.ATELIER_KEYS_FILE)}
    return {"PYTHONPATH": str(settings.BASE_DIR), **places, **rules}


def _rule(name: str) -> str:
    """A rule as an environment variable says it: of the settings, else of this process's environment."""
    value = getattr(settings, name, None)
    if value is None:
        return os.environ.get(name, "")
    separator = ":" if name == "ATELIER_LOCAL_DATA" else ","
    return value if isinstance(value, str) else separator.join(map(str, value))


def process_environment() -> dict[str, str]:
    """The whole environment of a program that this process starts itself."""
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    # Few threads: each reserves memory for its stack, and the first rows need no more.
    few = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1", "ATELIER_THREADS": "2"}
    return {**passed, **studio_environment(), **few}


def stores_of(workspace: Workspace, definition: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{name: {"kind", "config", "secrets"}} of the datastores that a definition names, secrets opened.

    Raises Invalid for a datastore that the workspace does not have, or whose secrets cannot be opened.
    """
    try:
        return {name: opened(row) for name, row in datastores_in(workspace, definition).items()}
    except locks.SecretUnreadable as error:
        raise Invalid(
            f"{error} {_('Or edit the datastore and give its secrets again.')}", field="definition"
        ) from error
