"""``azureml.telemetry``: this client sends no diagnostics."""

from atelier.later import absent
from atelier.widgets import set_diagnostics_collection

__all__ = ["set_diagnostics_collection"]

__getattr__ = absent(__name__)
