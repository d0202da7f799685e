"""Parts of addresses that Django has no converter for."""

from __future__ import annotations

from django.urls import register_converter
from django.urls.converters import StringConverter


class FilePathConverter(StringConverter):
    """A path with everything that a file's name may hold. Django's ``path`` ends at a newline."""

    regex = r"[\s\S]+"


register_converter(FilePathConverter, "file")
