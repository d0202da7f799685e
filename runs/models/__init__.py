from runs.models.artifact import Blob, Snapshot
from runs.models.data import RunData
from runs.models.experiment import Experiment
from runs.models.metric import MetricChunk, MetricRecord, MetricSeries
from runs.models.run import Run, RunParameter, RunProperty, RunTag

__all__ = [
    "Blob",
    "Experiment",
    "MetricChunk",
    "MetricRecord",
    "MetricSeries",
    "Run",
    "RunData",
    "RunParameter",
    "RunProperty",
    "RunTag",
    "Snapshot",
]
