"""Servers that datastores of the tests lie on."""

from tests.gear.fixtures import azurite, resolving, s3_open, s3_server, webhdfs

__all__ = ["azurite", "resolving", "s3_open", "s3_server", "webhdfs"]
