from django.apps import AppConfig


class ModelsRegistryConfig(AppConfig):
    name = "models_registry"

    def ready(self) -> None:
        from models_registry import receivers  # noqa: F401 - imported for what they connect
