"""``azureml.data.abstract_dataset``."""

from atelier.data.abstract import AbstractDataset
from atelier.later import absent

__all__ = ["AbstractDataset"]

__getattr__ = absent(__name__)
