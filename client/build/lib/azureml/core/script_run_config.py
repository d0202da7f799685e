"""``azureml.core.script_run_config``."""

from atelier.later import absent
from atelier.script_run_config import ScriptRunConfig

__all__ = ["ScriptRunConfig"]

__getattr__ = absent(__name__)
