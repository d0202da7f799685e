"""``azureml.data.output_dataset_config``."""

from atelier.data.outputs import HDFSOutputDatasetConfig, OutputFileDatasetConfig, OutputTabularDatasetConfig
from atelier.later import absent

__all__ = ["HDFSOutputDatasetConfig", "OutputFileDatasetConfig", "OutputTabularDatasetConfig"]

__getattr__ = absent(__name__)
