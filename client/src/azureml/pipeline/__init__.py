"""``azureml.pipeline``: of its names ``core.PipelineData`` is in this client."""

from atelier.later import absent

__getattr__ = absent(__name__)
