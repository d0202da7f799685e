from __future__ import annotations

from typing import Any

from django.db import models

from runs.models.run import Run
from studio.datasets.models import DatasetVersion


class RunData(models.Model):
    """A named input or output of a run; with its dataset versions it is the graph of what came from what.

    ``mode``: direct, mount, download, hdfs for inputs; upload, mount, hdfs for outputs. An output has its
    ``version`` once the run has completed. ``settings`` is what was asked: {"path_on_compute", "datastore", "path",
    "register": {"name", "description", "tags"}, "kind": "folder"|"parent"}; ``value`` is what the script's argument
    and environment variable say.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="data")
    direction = models.CharField(max_length=3)  # in, out
    name = models.CharField(max_length=255)
    mode = models.CharField(max_length=16)
    version = models.ForeignKey(
        DatasetVersion, null=True, blank=True, on_delete=models.SET_NULL, related_name="run_data"
    )
    label = models.CharField(max_length=300, blank=True)  # the dataset as it was called, should it be deleted
    settings: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(default=dict, blank=True)
    value = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "direction", "name"], name="run_data_once")]

    def __str__(self) -> str:
        return f"{self.direction} {self.name} of {self.run}"
