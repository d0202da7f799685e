"""The units that are going on, for ``manage.py status``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from compute import states
from compute.models import Unit


class Command(BaseCommand):
    help = "List the units of work that have not ended."

    def handle(self, *args: Any, **options: Any) -> None:
        living = Unit.objects.filter(state__in=states.LIVE).select_related("workspace", "target").order_by("id")
        count = living.count()
        self.stdout.write(f"  {count or 'no'} unit{'' if count == 1 else 's'} of work under way")
        for unit in living[:20]:
            word = states.status(
                unit.state,
                cancel_requested=unit.cancel_requested_at is not None,
                unreachable=unit.unreachable_since is not None,
            )
            self.stdout.write(f"    {word:<15} {unit.kind:<8} {unit.workspace.name}/{unit.label or unit.key}")
        if count > 20:
            self.stdout.write(f"    and {count - 20} more")
