"""``azureml.data.dataset_factory``."""

from atelier.data.factory import DataType, FileDatasetFactory, TabularDatasetFactory
from atelier.later import absent

__all__ = ["DataType", "FileDatasetFactory", "TabularDatasetFactory"]

__getattr__ = absent(__name__)
