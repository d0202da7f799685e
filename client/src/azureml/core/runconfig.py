"""``azureml.core.runconfig``."""

from atelier.conda_dependencies import CondaDependencies
from atelier.later import absent
from atelier.runconfig import (
    DEFAULT_SECONDS,
    DataReferenceConfiguration,
    DockerConfiguration,
    DockerSection,
    Environment,
    HdiConfiguration,
    HistoryConfiguration,
    PythonSection,
    RunConfiguration,
    SparkConfiguration,
    SparkSection,
)

__all__ = [
    "CondaDependencies",
    "DEFAULT_SECONDS",
    "DataReferenceConfiguration",
    "DockerConfiguration",
    "DockerSection",
    "Environment",
    "HdiConfiguration",
    "HistoryConfiguration",
    "PythonSection",
    "RunConfiguration",
    "SparkConfiguration",
    "SparkSection",
]

__getattr__ = absent(__name__)

# Names of ready-made images that old scripts put into an environment; targets without images do not use them.
DEFAULT_CPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"
DEFAULT_GPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.6-cudnn8-ubuntu20.04"
