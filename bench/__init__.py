"""Measurements: each module has ``run(options)`` and says in its first line what it measures."""
