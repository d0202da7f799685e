"""``azureml.pipeline.core.schedule``: not in this client yet."""

from atelier.later import refuse

refuse(__name__)
