from django.apps import AppConfig


class ComputeConfig(AppConfig):
    name = "compute"

    def ready(self) -> None:
        from compute import env_receivers, profiles, receivers  # noqa: F401 - importing connects them
        from compute.data import receivers as data_receivers  # noqa: F401
