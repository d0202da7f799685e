"""``azureml.data.abstract_datastore``."""

from atelier.datastore import AbstractDatastore
from atelier.later import absent

__all__ = ["AbstractDatastore"]

__getattr__ = absent(__name__)
