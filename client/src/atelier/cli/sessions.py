"""login, token, version, workspace."""

from __future__ import annotations

import argparse
import getpass
import sys
from typing import Any

from atelier import auth, config
from atelier._version import V1_SURFACE, VERSION
from atelier.cli.output import show_fields, show_json, show_table
from atelier.exceptions import AuthenticationException, UserErrorException
from atelier.workspace import Workspace


def workspace_of(arguments: argparse.Namespace) -> Workspace:
    """The workspace to work in: --workspace, else config.json of this folder, else the one of `workspace use`."""
    if arguments.workspace:
        return Workspace(workspace_name=arguments.workspace, endpoint=_endpoint(arguments), _disable_service_check=True)
    try:
        found = config.config_read(config.config_find())
    except UserErrorException:
        endpoint = _endpoint(arguments)
        kept = (config.credentials_read()["endpoints"].get(endpoint) or {}).get("workspace")
        if not kept:
            raise UserErrorException(
                "Which workspace? Say --workspace NAME, or `atelier workspace use NAME`."
            ) from None
        return Workspace(workspace_name=kept, endpoint=endpoint, _disable_service_check=True)
    endpoint = arguments.endpoint or config.endpoint_resolve(found.get("endpoint"))
    return Workspace(workspace_name=found["workspace_name"], endpoint=endpoint, _disable_service_check=True)


def _endpoint(arguments: argparse.Namespace) -> str:
    if arguments.endpoint:
        return config.endpoint_clean(arguments.endpoint)
    try:
        configured = config.config_read(config.config_find()).get("endpoint")
    except UserErrorException:
        configured = None
    return config.endpoint_resolve(configured)


def login(arguments: argparse.Namespace) -> None:
    endpoint = _endpoint(arguments)
    token = arguments.token
    if not token:
        print(f"Make a token at {endpoint}/account/tokens/ and paste it here.", file=sys.stderr)
        whom = f" of {arguments.username}" if arguments.username else ""
        token = getpass.getpass(f"Token{whom}: ").strip() if sys.stdin.isatty() else sys.stdin.readline().strip()
    if not token:
        raise AuthenticationException("No token was given.")
    user = auth.user_of(endpoint, token)
    kept = config.credentials_save(endpoint, token, user)
    if arguments.json:
        show_json({"endpoint": endpoint, "user": user, "credentials": str(kept)})
    else:
        print(f"Signed in to {endpoint} as {user}.")


def token(arguments: argparse.Namespace) -> None:
    endpoint = _endpoint(arguments)
    found = auth.InteractiveLoginAuthentication().token(endpoint)
    show_json({"endpoint": endpoint, "token": found}) if arguments.json else print(found)


def version(arguments: argparse.Namespace) -> None:
    show_json({"client": VERSION, "v1": V1_SURFACE}) if arguments.json else print(f"atelier {VERSION}")


def workspace_list(arguments: argparse.Namespace) -> None:
    base = Workspace(workspace_name="-", endpoint=_endpoint(arguments), _disable_service_check=True)
    items: list[dict[str, Any]] = list(base._pages("/api/v1/workspaces", {}))
    if arguments.json:
        return show_json(items)
    columns = [
        ("NAME", lambda i: i["name"]),
        ("TITLE", lambda i: i.get("title")),
        ("ROLE", lambda i: i.get("role")),
        ("SUBSCRIPTION", lambda i: i.get("subscription_id")),
    ]
    return show_table(items, columns, "You are a member of no workspace.")


def workspace_show(arguments: argparse.Namespace) -> None:
    found = workspace_of(arguments)
    details = {"endpoint": found.endpoint, **found.get_details()}
    fields = ["name", "title", "role", "endpoint", "subscription_id", "resource_group"]
    show_json(details) if arguments.json else show_fields(details, fields)


def workspace_use(arguments: argparse.Namespace) -> None:
    endpoint = _endpoint(arguments)
    found = Workspace(workspace_name=arguments.name, endpoint=endpoint)
    config.credentials_workspace(endpoint, found.name)
    if arguments.write_config:
        found.write_config()
    show_json(found.get_details()) if arguments.json else print(f"Commands work in {found.name} of {endpoint} now.")
