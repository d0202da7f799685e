"""``azureml.core.datastore``."""

from atelier.datastore import Datastore
from atelier.later import absent

__all__ = ["Datastore"]

__getattr__ = absent(__name__)
