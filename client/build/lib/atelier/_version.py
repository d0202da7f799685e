"""Versions. ``V1_SURFACE`` is the release of the v1 SDK whose names this client answers to."""

VERSION = "0.1.0"
V1_SURFACE = "1.60.0"
