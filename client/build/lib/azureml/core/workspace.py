"""``azureml.core.workspace``."""

from atelier.later import absent
from atelier.workspace import Workspace

__all__ = ["Workspace"]

__getattr__ = absent(__name__)
