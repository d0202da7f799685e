"""The Celery application. Tasks are short, take ids, and are published on commit."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")

app = Celery("atelier")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.beat_schedule = {
    # The reconciling beat: whatever is due is looked at again, so a lost broker message costs half a second, not a run.
    "compute.tick": {"task": "compute.tick", "schedule": 0.5, "options": {"expires": 5}},
    "compute.housekeeping": {"task": "compute.housekeeping", "schedule": 60.0, "options": {"expires": 55}},
    "models_registry.health": {"task": "models_registry.health", "schedule": 5.0, "options": {"expires": 5}},
}
