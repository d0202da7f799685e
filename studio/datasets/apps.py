from django.apps import AppConfig


class DatasetsConfig(AppConfig):
    name = "studio.datasets"
    label = "datasets"

    def ready(self) -> None:
        from studio.datasets import receivers  # noqa: F401 - importing connects them
