"""``azureml.core.conda_dependencies``."""

from atelier.conda_dependencies import CondaDependencies
from atelier.later import absent

__all__ = ["CondaDependencies"]

__getattr__ = absent(__name__)
