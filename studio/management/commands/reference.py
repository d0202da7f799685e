"""``manage.py reference``: docs/rest.md from the OpenAPI document, docs/client.md from the client's own source."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from studio.management.client_reference import client
from studio.management.rest_reference import rest


def documents() -> dict[str, str]:
    """File name below docs/ -> the text that the code asks for."""
    from studio.api.urls import api

    source = settings.BASE_DIR / "client" / "src"
    if str(source) not in sys.path:
        sys.path.append(str(source))  # the command line is read from its own parser
    return {"rest.md": rest(api.get_openapi_schema()), "client.md": client(source / "atelier")}


class Command(BaseCommand):
    help = "Write docs/rest.md and docs/client.md from the code, or with --check say whether they are current."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="write nothing; fail when a document is not current")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = settings.BASE_DIR / "docs"
        stale = []
        for name, text in documents().items():
            path = folder / name
            if not options["check"]:
                path.write_text(text, encoding="utf-8")
            elif not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(f"docs/{name}")
        if stale:
            raise CommandError(f"Not what the code says: {', '.join(stale)}. Run manage.py reference.")
