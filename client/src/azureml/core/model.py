"""``azureml.core.model``."""

from atelier.dataset import Dataset
from atelier.inference import InferenceConfig
from atelier.later import absent
from atelier.model import Model
from atelier.resource_configuration import ResourceConfiguration

__all__ = ["Dataset", "InferenceConfig", "Model", "ResourceConfiguration"]

__getattr__ = absent(__name__)
