"""``azureml.core.webservice``."""

from atelier.exceptions import WebserviceException
from atelier.later import absent
from atelier.webservice import AciWebservice, AksWebservice, LocalWebservice, Webservice

__all__ = ["AciWebservice", "AksWebservice", "LocalWebservice", "Webservice", "WebserviceException"]

__getattr__ = absent(__name__)
