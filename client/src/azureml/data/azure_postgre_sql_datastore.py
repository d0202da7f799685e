"""``azureml.data.azure_postgre_sql_datastore``."""

from atelier.datastore import AzurePostgreSqlDatastore
from atelier.later import absent

__all__ = ["AzurePostgreSqlDatastore"]

__getattr__ = absent(__name__)
