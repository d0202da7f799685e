"""``azureml.core.run``."""

from atelier.later import absent
from atelier.offline import _OfflineRun
from atelier.run import Run, get_run

__all__ = ["Run", "_OfflineRun", "get_run"]

__getattr__ = absent(__name__)
