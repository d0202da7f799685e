"""The Azure ML v1 names, answered by Atelier's client: every name here is an object of ``atelier``."""

from atelier.azure_names import install

install()
