"""``azureml.core.dataset``."""

from atelier.dataset import Dataset, FileDataset, TabularDataset
from atelier.later import absent

__all__ = ["Dataset", "FileDataset", "TabularDataset"]

__getattr__ = absent(__name__)
