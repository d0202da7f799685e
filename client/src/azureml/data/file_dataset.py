"""``azureml.data.file_dataset``."""

from atelier.data.file_dataset import FileDataset
from atelier.later import absent

__all__ = ["FileDataset"]

__getattr__ = absent(__name__)
