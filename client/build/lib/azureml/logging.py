"""``azureml.logging``, of scripts from 2017."""

from atelier.later import absent
from atelier.run2017 import get_azureml_logger

__all__ = ["get_azureml_logger"]

__getattr__ = absent(__name__)
