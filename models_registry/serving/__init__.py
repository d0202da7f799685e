"""The scoring process. Standard library only, Python 3.8 and later, nothing of ours: the package is copied
into the unit as ``serving`` and runs in the environment that the model was trained in."""
