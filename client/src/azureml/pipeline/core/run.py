"""``azureml.pipeline.core.run``: not in this client yet."""

from atelier.later import refuse

refuse(__name__)
