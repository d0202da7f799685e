"""``azureml.core.authentication``."""

from atelier.auth import (
    AbstractAuthentication,
    AzureCliAuthentication,
    InteractiveLoginAuthentication,
    ServicePrincipalAuthentication,
    TokenAuthentication,
    UserPassCredentials,
)
from atelier.later import absent

__all__ = [
    "AbstractAuthentication",
    "AzureCliAuthentication",
    "InteractiveLoginAuthentication",
    "ServicePrincipalAuthentication",
    "TokenAuthentication",
    "UserPassCredentials",
]

__getattr__ = absent(__name__)
