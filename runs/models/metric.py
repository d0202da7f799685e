from __future__ import annotations

from typing import Any

from django.db import models

from runs.models.experiment import Experiment
from runs.models.run import Run
from studio.accounts.models import Workspace


class MetricSeries(models.Model):
    """One metric of one run, with what lists and cards need. ``kind``: scalar, list, row, table, image,
    confusion_matrix, accuracy_table, predictions, residuals.

    ``last``, ``minimum`` and ``maximum`` are of scalar series; NaN and infinities are not counted in the extremes.
    workspace and experiment are repeated from the run so that sorting 100,000 runs by a metric reads one index.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="metrics")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=255)
    kind = models.CharField(max_length=24, default="scalar")
    description = models.TextField(blank=True)
    count = models.PositiveBigIntegerField(default=0)
    last = models.FloatField(null=True, blank=True)
    minimum = models.FloatField(null=True, blank=True)
    maximum = models.FloatField(null=True, blank=True)
    last_step = models.FloatField(null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="series_once")]
        indexes = [
            models.Index(fields=["workspace", "name", "last", "run"], name="series_ws_sort"),
            models.Index(fields=["experiment", "name", "last", "run"], name="series_exp_sort"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.run_id}"


class MetricChunk(models.Model):
    """Up to 4,096 points of a scalar series, packed: three runs of little-endian float64, first all steps, then all
    times (unix seconds), then all values. A point without a step has its index as step.

    A row per point would cost a million rows for a chart of a million points; packed, the chart reads 250 rows.
    """

    series = models.ForeignKey(MetricSeries, on_delete=models.CASCADE, related_name="chunks")
    first = models.PositiveBigIntegerField()  # index of its first point in the series
    count = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["series", "first"], name="chunk_once")]

    def __str__(self) -> str:
        return f"{self.count} points from {self.first}"


class MetricRecord(models.Model):
    """One entry of a series that is not scalar: a row, a table, a text, an image's artifact path, a matrix."""

    series = models.ForeignKey(MetricSeries, on_delete=models.CASCADE, related_name="records")
    index = models.PositiveBigIntegerField()
    step = models.FloatField(null=True, blank=True)
    at = models.FloatField()  # unix seconds
    payload: models.JSONField[Any, Any] = models.JSONField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["series", "index"], name="record_once")]

    def __str__(self) -> str:
        return f"entry {self.index} of {self.series}"
