from django.apps import AppConfig


class StudioConfig(AppConfig):
    name = "studio"

    def ready(self) -> None:
        # Celery's application must be the current one before any task is published.
        from studio import celery, checks  # noqa: F401 - imported for what they connect
        from studio.lib import converters  # noqa: F401 - the addresses of files need it
