"""``azureml.pipeline.core``."""

from atelier.data.outputs import PipelineData
from atelier.later import absent

__all__ = ["PipelineData"]

__getattr__ = absent(__name__)
