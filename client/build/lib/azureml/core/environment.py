"""``azureml.core.environment``."""

from atelier.conda_dependencies import CondaDependencies
from atelier.environment import DockerSection, Environment, PythonSection, SparkSection
from atelier.later import absent

__all__ = ["CondaDependencies", "DockerSection", "Environment", "PythonSection", "SparkSection"]

__getattr__ = absent(__name__)
