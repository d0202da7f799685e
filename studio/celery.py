"""The Celery application. Tasks are short, take ids, and are published on commit."""

import os
from pathlib import Path

from celery import Celery
from celery.signals import beat_init, worker_ready
from kombu.transport.redis import QoS

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")
# The checks import every page, which a worker never needs; migrate and the web process run them.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

# When a connection is lost, Kombu hands back the tasks in hand over that very connection, fails, and takes the whole
# worker down with it. They come back by themselves (``visibility_timeout``), and the beat finds their work before that.
QoS.restore_at_shutdown = False

app = Celery("atelier")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.beat_schedule = {
    # The reconciling beat: whatever is due is looked at again, so a lost broker message costs half a second, not a run.
    "compute.tick": {"task": "compute.tick", "schedule": 0.5, "options": {"expires": 5}},
    "compute.housekeeping": {"task": "compute.housekeeping", "schedule": 60.0, "options": {"expires": 55}},
    "runs.housekeeping": {"task": "runs.housekeeping", "schedule": 24 * 3600.0},
    "datasets.housekeeping": {"task": "datasets.housekeeping", "schedule": 24 * 3600.0},
    "models_registry.housekeeping": {
        "task": "models_registry.housekeeping",
        "schedule": 3600.0,
        "options": {"expires": 600},
    },
    "models_registry.health": {"task": "models_registry.health", "schedule": 5.0, "options": {"expires": 5}},
}

if os.environ.get("ATELIER_CONTAINER"):
    from studio.in_container import equip

    equip(app)


def _answer(name: str) -> None:
    """``manage.py up`` waits for this file: the process has connected to the broker and takes work."""
    from django.conf import settings

    folder = Path(settings.ATELIER_DATA, "run")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.ready").touch()


@worker_ready.connect
def _worker_answers(**kwargs: object) -> None:
    _answer("worker")


@beat_init.connect
def _beat_answers(**kwargs: object) -> None:
    _answer("beat")
