"""``azureml.data.datapath``."""

from atelier.data.references import DataPath
from atelier.later import absent

__all__ = ["DataPath"]

__getattr__ = absent(__name__)
