"""``azureml.core.compute``."""

from atelier.compute import ComputeTarget, DockerTarget, LocalTarget, RemoteCompute
from atelier.exceptions import ComputeTargetException
from atelier.later import absent

__all__ = ["ComputeTarget", "ComputeTargetException", "DockerTarget", "LocalTarget", "RemoteCompute"]

__getattr__ = absent(__name__)
