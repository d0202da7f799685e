"""``manage.py bench``: what Atelier measures of itself, side by side with what it is compared with."""

from __future__ import annotations

import importlib
import json
import pkgutil
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

import bench


def names() -> list[str]:
    """Modules of ``bench/`` that have a ``run``; helpers start with an underscore."""
    return sorted(m.name for m in pkgutil.iter_modules(bench.__path__) if not m.name.startswith("_"))


class Command(BaseCommand):
    help = "List the measurements, or run one: bench NAME [--json]."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?")
        parser.add_argument("--json", action="store_true", help="one line of JSON")
        parser.add_argument("--quick", action="store_true", help="smaller sizes, to see that it works")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        if name is None:
            for known in names():
                summary = (importlib.import_module(f"bench.{known}").__doc__ or "").strip().splitlines()[0]
                self.stdout.write(f"  {known:<10} {summary}")
            return
        if name not in names():
            raise CommandError(f"There is no bench named {name!r}. Known are: {', '.join(names())}.")
        result = importlib.import_module(f"bench.{name}").run(options)
        if options["json"]:
            self.stdout.write(json.dumps(result))
        else:
            self.table(result)

    def table(self, result: dict[str, Any]) -> None:
        """Figures beside what was to be reached and what they are compared with."""
        rows = [(key, value, result["reach"].get(key, "")) for key, value in result["figures"].items()]
        rows += [(f"compared: {key}", value, "") for key, value in result["compared_with"].items()]
        width = max(len(key) for key, _, _ in rows)
        self.stdout.write(f"{result['bench']} ({result['unit']})")
        for key, value, reach in rows:
            shown = f"{value:,.4g}" if isinstance(value, float) else str(value)
            self.stdout.write(f"  {key:<{width}}  {shown:>14}  {('reach ' + str(reach)) if reach != '' else ''}")
        self.stdout.write("  met" if result["met"] else "  NOT met")
