"""What beat asks of the registry."""

from __future__ import annotations

from celery import shared_task

from models_registry import services


@shared_task(name="models_registry.health")
def health() -> None:
    services.health_tick()


@shared_task(name="models_registry.housekeeping")
def housekeeping() -> None:
    services.remove_orphans()
