"""Celery's application must exist before tasks are declared; bootstrap runs without it (nothing is installed yet)."""

try:
    from studio.celery import app as celery_app
except ModuleNotFoundError as missing:
    if missing.name not in {"celery", "django"}:
        raise
else:
    __all__ = ["celery_app"]
