"""A new first key for stored secrets, and every stored secret encrypted again with it."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand
from django.db import transaction

from studio.lib import secrets

# Every column that holds what studio.lib.secrets.encrypt returned.
ENCRYPTED = (
    ("compute", "Target", "secrets"),
    ("compute", "Unit", "secrets"),
    ("compute", "ContainerRegistry", "password"),
    ("datasets", "Datastore", "secrets"),
    ("datasets", "DatasetVersion", "secrets"),
    ("datasets", "DatasetDraft", "state"),
    ("models_registry", "Endpoint", "keys"),
)
SEEDS = ("secret", "seed")  # of an authenticator app and of recovery codes


class Command(BaseCommand):
    help = "Put a new key first in the key file and encrypt every stored secret with it. The old keys stay readable."

    def handle(self, *args: Any, **options: Any) -> None:
        secrets.add_key()
        changed = 0
        for app, model_name, column in ENCRYPTED:
            model = apps.get_model(app, model_name)
            with transaction.atomic():
                for row in model._default_manager.exclude(**{column: ""}).only("pk", column).iterator(chunk_size=500):
                    fresh = secrets.reencrypt(getattr(row, column))
                    changed += model._default_manager.filter(pk=row.pk).update(**{column: fresh})
        changed += self._second_factors()
        self.stdout.write(f"{changed} stored secrets are encrypted with the new key.")

    def _second_factors(self) -> int:
        """Seeds of second factors, which allauth keeps inside a JSON column; how many there were."""
        from allauth.mfa.models import Authenticator

        changed = 0
        with transaction.atomic():
            # Locked: a recovery code that is used meanwhile is marked in the same column.
            for row in Authenticator.objects.select_for_update().iterator(chunk_size=500):
                sealed = {name: secrets.reencrypt(row.data[name]) for name in SEEDS if row.data.get(name)}
                changed += Authenticator.objects.filter(pk=row.pk).update(data={**row.data, **sealed}) if sealed else 0
        return changed
