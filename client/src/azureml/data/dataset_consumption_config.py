"""``azureml.data.dataset_consumption_config``."""

from atelier.data.consumption import DatasetConsumptionConfig
from atelier.later import absent

__all__ = ["DatasetConsumptionConfig"]

__getattr__ = absent(__name__)
