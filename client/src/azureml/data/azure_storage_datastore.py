"""``azureml.data.azure_storage_datastore``."""

from atelier.datastore import AzureBlobDatastore, AzureFileDatastore
from atelier.later import absent

__all__ = ["AzureBlobDatastore", "AzureFileDatastore"]

__getattr__ = absent(__name__)
