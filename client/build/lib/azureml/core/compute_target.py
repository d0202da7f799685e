"""``azureml.core.compute_target``."""

from atelier.compute import ComputeTarget, LocalTarget
from atelier.exceptions import ComputeTargetException
from atelier.later import absent

__all__ = ["ComputeTarget", "ComputeTargetException", "LocalTarget"]

__getattr__ = absent(__name__)
