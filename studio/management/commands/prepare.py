"""What ``manage.py up`` does before the services start: migrate, collect static files, make the first owner."""

from __future__ import annotations

import json
import secrets
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction

from studio.accounts.models import User, Workspace
from studio.accounts.services import workspace_create
from studio.accounts.tokens import token_create
from studio.lib import env

CLIENT = str(settings.BASE_DIR / "client" / "src")


class Command(BaseCommand):
    help = "Migrate the database, collect static files, and make the first owner and workspace where there are none."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--in-container", action="store_true", help="the image has the pages, and nobody's client to sign in"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0, interactive=False)
        if not options["in_container"]:
            call_command("collectstatic", verbosity=0, interactive=False, clear=False)
        self.stdout.write(json.dumps(self.first_owner(own_client=not options["in_container"])))

    @transaction.atomic
    def first_owner(self, *, own_client: bool) -> dict[str, str]:
        """The first owner's name, and the password when the owner was made just now."""
        owner = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
        password = ""
        if owner is None:
            name = env.text("ATELIER_OWNER", "owner")
            given = env.text("ATELIER_OWNER_PASSWORD")
            password = given or secrets.token_urlsafe(12)
            email = env.text("ATELIER_OWNER_EMAIL", f"{name}@localhost.localdomain")
            owner = User.objects.create_superuser(name, email, password)
        workspace = Workspace.objects.order_by("pk").first()
        made = workspace is None
        if workspace is None:
            workspace = workspace_create(name=env.text("ATELIER_WORKSPACE", "main"), title="", user=owner)
        if own_client:
            self.connect(owner, workspace, fresh=bool(password))
        return {
            "owner": owner.username,
            "password": password,
            "workspace": workspace.name,
            "sample": "wanted" if made else "",
        }

    def connect(self, owner: User, workspace: Workspace, *, fresh: bool) -> None:
        """Sign the client of this machine's user in, unless it is already: config.json beside a script is then enough.

        Whoever can read that user's files can read the studio's database too, so nothing is given away.
        """
        place = {
            "endpoint": settings.ATELIER_URL,
            "subscription_id": workspace.subscription_id,
            "resource_group": workspace.resource_group,
            "workspace_name": workspace.name,
        }
        settings.ATELIER_DATA.joinpath("config.json").write_text(json.dumps(place, indent=2) + "\n", encoding="utf-8")
        sys.path.insert(0, CLIENT)
        from atelier import config

        # A new installation replaces what an earlier one at this address left; otherwise what is there stays.
        if not fresh and config.endpoint_clean(settings.ATELIER_URL) in config.credentials_read()["endpoints"]:
            return
        _token, plain = token_create(user=owner, name="This machine (manage.py up)", days=None)
        config.credentials_save(settings.ATELIER_URL, plain, user=owner.username, workspace=workspace.name)
