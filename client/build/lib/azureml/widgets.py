"""``azureml.widgets``."""

from atelier.later import absent
from atelier.widgets import RunDetails

__all__ = ["RunDetails"]

__getattr__ = absent(__name__)
