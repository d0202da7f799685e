"""``azureml.data.data_reference``."""

from atelier.data.references import DataReference
from atelier.later import absent

__all__ = ["DataReference"]

__getattr__ = absent(__name__)
