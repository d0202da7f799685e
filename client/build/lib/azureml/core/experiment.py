"""``azureml.core.experiment``."""

from atelier.experiment import Experiment
from atelier.later import absent

__all__ = ["Experiment"]

__getattr__ = absent(__name__)
