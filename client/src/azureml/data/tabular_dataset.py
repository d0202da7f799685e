"""``azureml.data.tabular_dataset``."""

from atelier.data.tabular_dataset import TabularDataset
from atelier.later import absent

__all__ = ["TabularDataset"]

__getattr__ = absent(__name__)
