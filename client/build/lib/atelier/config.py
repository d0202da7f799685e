"""Where the studio is and who we are: ``config.json``, the environment, ``~/.atelier/credentials``."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from atelier.exceptions import AuthenticationException, ProjectSystemException, UserErrorException

CONFIG_PLACES = ("config.json", ".azureml/config.json", "aml_config/config.json")


def home() -> Path:
    return Path(os.environ.get("ATELIER_HOME") or Path.home() / ".atelier")


def config_find(path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> Path:
    """The workspace's configuration file: at ``path``, or in the folder ``path`` (the working folder) and its parents.

    Raises UserErrorException with the places that were looked at.
    """
    start = Path(path) if path is not None else Path.cwd()
    if start.is_file():
        return start
    if not start.is_dir():
        raise UserErrorException(f"There is no file or folder {start}.")
    start = start.resolve()
    places = [file_name, f".azureml/{file_name}", f"aml_config/{file_name}"] if file_name else CONFIG_PLACES
    for folder in (start, *start.parents):
        for place in places:
            if (folder / place).is_file():
                return folder / place
    raise UserErrorException(
        f"No workspace configuration was found: neither {', '.join(str(p) for p in places[:-1])} nor {places[-1]} in "
        f"{start} or its parents. Download config.json from the workspace's page, or run `atelier workspace use NAME`."
    )


def config_read(path: Path) -> dict[str, Any]:
    """Keys ``subscription_id``, ``resource_group``, ``workspace_name``, ``endpoint``. Raises ProjectSystemException."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ProjectSystemException(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict) or not found.get("workspace_name"):
        raise ProjectSystemException(f"{path} does not name a workspace: it has no workspace_name.")
    return found


def credentials_read() -> dict[str, Any]:
    """``{"default": endpoint, "endpoints": {endpoint: {"token", "user"}}}``; empty when nobody has signed in."""
    try:
        found = json.loads((home() / "credentials").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"endpoints": {}}
    except (OSError, ValueError) as error:
        raise AuthenticationException(f"{home() / 'credentials'} cannot be read: {error}") from error
    found.setdefault("endpoints", {})
    return found


def credentials_save(endpoint: str, token: str, user: str = "", workspace: str = "") -> Path:
    """Keep a token for ``endpoint`` and make it the default one. The file is for its owner's eyes only (0600)."""
    found = credentials_read()
    entry = {"token": token, "user": user}
    if workspace:
        entry["workspace"] = workspace
    found["endpoints"][endpoint_clean(endpoint)] = entry
    found["default"] = endpoint_clean(endpoint)
    return _write(found)


def credentials_workspace(endpoint: str, workspace: str) -> Path:
    """Remember the workspace that the command line works in."""
    found = credentials_read()
    found["endpoints"].setdefault(endpoint_clean(endpoint), {})["workspace"] = workspace
    return _write(found)


def _write(found: dict[str, Any]) -> Path:
    folder = home()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=str(folder))  # made with 0600
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=2)
    target = folder / "credentials"
    Path(name).replace(target)
    return target


def endpoint_clean(endpoint: str) -> str:
    endpoint = endpoint.strip().rstrip("/")
    return endpoint if "//" in endpoint else "http://" + endpoint


def endpoint_resolve(configured: str | None = None) -> str:
    """The studio's address: ATELIER_ENDPOINT, else the configuration's, else the run's own studio, else the last
    login's."""
    found = (
        os.environ.get("ATELIER_ENDPOINT")
        or configured
        or os.environ.get("AZUREML_SERVICE_ENDPOINT")
        or credentials_read().get("default")
    )
    if not found:
        raise UserErrorException(
            'The studio\'s address is not known. Add "endpoint" to config.json, set ATELIER_ENDPOINT, '
            "or run `atelier login --endpoint http://...`."
        )
    return endpoint_clean(found)


def token_find(endpoint: str) -> str | None:
    """The token for ``endpoint``: ATELIER_TOKEN, the run's own token for its own studio, or that of the last login
    there."""
    given = os.environ.get("ATELIER_TOKEN")
    if given:
        return given
    own = os.environ.get("AZUREML_RUN_TOKEN")
    if own and endpoint_clean(os.environ.get("AZUREML_SERVICE_ENDPOINT", "")) == endpoint:
        return own
    entry = credentials_read()["endpoints"].get(endpoint)
    return entry.get("token") if entry else None
