"""``azureml.core.resource_configuration``."""

from atelier.later import absent
from atelier.resource_configuration import ResourceConfiguration

__all__ = ["ResourceConfiguration"]

__getattr__ = absent(__name__)
